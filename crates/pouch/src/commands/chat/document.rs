//! A conversation as the server keeps it, in the form that the web page has for it (`crates/server/page/conversation.js`).

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};

/// Characters of a title.
const TITLE: usize = 60;

/// The document. What it has beyond what is known here stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document(Map<String, Value>);

impl Document {
    /// A conversation in which nothing has been said.
    pub(super) fn new(model: &str, settings: &Map<String, Value>) -> Document {
        let fields = [
            ("id", server::new_id("").into()),
            ("title", "".into()),
            ("model", model.into()),
            ("settings", settings.clone().into()),
            ("messages", json!([])),
            ("updated", 0.into()),
        ];
        Document(fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
    }

    /// One that the server had; `None` if it is none.
    pub(super) fn of(value: Value) -> Option<Document> {
        let Value::Object(mut fields) = value else { return None };
        if !fields.get("messages").is_some_and(Value::is_array)
            || !fields.get("id").is_some_and(Value::is_string)
        {
            return None;
        }
        if !fields.get("settings").is_some_and(Value::is_object) {
            fields.insert("settings".to_owned(), json!({}));
        }
        Some(Document(fields))
    }

    pub(super) fn to_json(&self) -> Value {
        Value::Object(self.0.clone())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.text("id")
    }

    pub(super) fn title(&self) -> &str {
        self.text("title")
    }

    pub(super) fn model(&self) -> &str {
        self.text("model")
    }

    pub(super) fn set_model(&mut self, model: &str) {
        self.0.insert("model".to_owned(), model.into());
    }

    pub(super) fn settings(&self) -> &Map<String, Value> {
        self.0["settings"].as_object().expect("made sure of by `new` and `of`")
    }

    /// Changes what is said here and leaves the rest.
    pub(super) fn set(&mut self, settings: &Map<String, Value>) {
        let old = self.0["settings"].as_object_mut().expect("made sure of by `new` and `of`");
        old.extend(settings.clone());
    }

    pub(super) fn messages(&self) -> &[Value] {
        self.0["messages"].as_array().expect("made sure of by `new` and `of`")
    }

    /// Puts what was done here since `base` together with what others made of it, `theirs`. Where both changed a field ours holds; of
    /// the messages nothing is lost, and what was said here stands last.
    pub(super) fn merge(&mut self, base: Option<&Document>, theirs: Document) {
        let nothing = Document(Map::new());
        let base = base.unwrap_or(&nothing);
        let before = base.0.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let same = self.messages().iter().zip(before).take_while(|(ours, before)| ours == before).count();
        let lasts = |old: &Value| self.messages().iter().any(|message| is_same(message, old));
        // An answer to come may have got its name meanwhile.
        let named = self.messages().get(same).filter(|message| message["role"] == "assistant");
        let named = usize::from(named.is_some() && before.get(same).is_some_and(|old| old["id"].is_null()));
        let gone: Vec<&Value> = before.iter().skip(same + named).filter(|old| !lasts(old)).collect();
        // An answer goes with its question.
        let from = match self.messages().get(same) {
            Some(message) if message["role"] == "assistant" => same.saturating_sub(1),
            _ => same,
        };
        let ours = &self.messages()[from..];

        let mut messages: Vec<Value> = theirs
            .messages()
            .iter()
            .filter(|message| !gone.iter().any(|old| is_same(message, old)))
            .cloned()
            .collect();
        let name = ours.last().and_then(|answer| answer["id"].as_str());
        match messages.iter_mut().find(|message| name.is_some() && message["id"].as_str() == name) {
            Some(answer) => ours.last().into_iter().for_each(|ours| *answer = ours.clone()),
            None => {
                // The question may be there, with an answer to come that had no name yet.
                let is_open = |message: &Value| message["state"] != "done" && message["id"].is_null();
                if let [.., question, answer] = messages.as_slice()
                    && is_open(answer)
                    && ours.first() == Some(question)
                {
                    messages.truncate(messages.len() - 2);
                }
                messages.extend_from_slice(ours);
            }
        }
        for (name, value) in theirs.0 {
            if self.0.get(&name) == base.0.get(&name) {
                self.0.insert(name, value);
            }
        }
        self.0.insert("messages".to_owned(), messages.into());
    }

    fn messages_mut(&mut self) -> &mut Vec<Value> {
        self.0["messages"].as_array_mut().expect("made sure of by `new` and `of`")
    }

    /// Adds a message as it is.
    pub(super) fn add(&mut self, role: &str, content: &str) {
        if self.messages().is_empty() && self.title().is_empty() {
            self.0.insert("title".to_owned(), title_of(content).into());
        }
        let mut message = json!({"role": role, "content": content});
        if role == "assistant" {
            message["state"] = "done".into();
        }
        self.messages_mut().push(message);
        let now = UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_millis() as f64 / 1e3);
        self.0.insert("updated".to_owned(), now.into());
    }

    /// Adds what the user says and the answer to come.
    pub(super) fn ask(&mut self, line: &str) {
        self.add("user", line);
        self.messages_mut().push(json!({"role": "assistant", "content": "", "state": "writing"}));
    }

    /// The last message, which is an answer to come or one that came.
    pub(super) fn answer(&mut self) -> &mut Value {
        self.messages_mut().last_mut().expect("asked for when something was said")
    }

    /// The name by which the server knows the answer that is still being written, or was when its asker went away.
    pub(super) fn unfinished(&self) -> Option<&str> {
        self.messages().last().filter(|last| last["state"] == "writing")?["id"].as_str()
    }

    /// The request for the answer to come. `defaults` hold where the conversation's settings say nothing.
    pub(super) fn request(&self, defaults: &Map<String, Value>) -> Value {
        let mut request = defaults.clone();
        request.extend(self.settings().clone());
        let system =
            request.remove("system").filter(|system| system.as_str().is_some_and(|text| !text.is_empty()));
        let system = system.map(|system| json!({"role": "system", "content": system}));
        let said = self.messages().iter().rev().skip(1).rev();
        // A failed answer of which nothing came would be an empty turn.
        let said = said.filter(|message| message["content"] != "");
        let said = said.map(|message| json!({"role": message["role"], "content": message["content"]}));
        request.insert("messages".to_owned(), system.into_iter().chain(said).collect());
        request.insert("model".to_owned(), self.model().into());
        request.insert("stream".to_owned(), true.into());
        request.insert("stream_options".to_owned(), json!({"include_usage": true}));
        request.insert("store".to_owned(), true.into());
        request.insert("pouch".to_owned(), json!({"priority": "interactive"}));
        Value::Object(request)
    }
}

/// Whether two messages are one: by what they say, or by the name that the server has for an answer.
fn is_same(one: &Value, other: &Value) -> bool {
    one == other || !one["id"].is_null() && one["id"] == other["id"]
}

/// The first line, cut at a word.
fn title_of(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(TITLE) {
        None => line.to_owned(),
        Some((end, _)) => {
            let middle = line.char_indices().nth(TITLE / 2).map_or(0, |(at, _)| at);
            let cut = line[..end].rfind(' ').filter(|space| *space > middle).unwrap_or(middle);
            format!("{}…", &line[..cut])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_first_lines_cut_at_words() {
        assert_eq!(title_of("  Hello there \nand more"), "Hello there");
        assert_eq!(title_of(&"word ".repeat(20)), format!("{}…", "word ".repeat(11) + "word"));
        assert_eq!(title_of(&"界".repeat(70)), format!("{}…", "界".repeat(30)));
    }

    #[test]
    fn the_request_is_what_was_said_under_the_settings() {
        let settings = json!({"system": "Be brief.", "temperature": 0.5}).as_object().unwrap().clone();
        let defaults = json!({"temperature": 0.6, "max_tokens": 512}).as_object().unwrap().clone();
        let mut document = Document::new("tiny", &settings);
        document.ask("one");
        document.answer()["state"] = "failed".into();
        document.ask("two");
        let request = document.request(&defaults);
        assert_eq!(
            request["messages"],
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "one"},
                {"role": "user", "content": "two"},
            ])
        );
        assert_eq!((&request["temperature"], &request["max_tokens"]), (&json!(0.5), &json!(512)));
        assert_eq!((&request["system"], &request["model"]), (&Value::Null, &json!("tiny")));
        assert_eq!(document.title(), "one");
    }

    #[test]
    fn what_two_did_to_a_conversation_is_put_together() {
        let conversation = |title: &str, said: &[(&str, &str, &str)]| {
            let messages = said.iter().flat_map(|(question, name, answer)| {
                let state = if answer.is_empty() { "writing" } else { "done" };
                let mut answer = json!({"role": "assistant", "content": answer, "state": state});
                if !name.is_empty() {
                    answer["id"] = (*name).into();
                }
                [json!({"role": "user", "content": question}), answer]
            });
            let messages: Vec<Value> = messages.collect();
            Document::of(json!({"id": "a", "title": title, "messages": messages})).unwrap()
        };
        let (one, two) = (("one", "1", "1."), ("two", "2", "2."));
        let ours = |name, answer| ("ours", name, answer);
        for (base, mine, theirs, merged) in [
            // Both went on.
            (&[one][..], &[one, ours("", "")][..], &[one, two][..], &[one, two, ours("", "")][..]),
            (
                &[one, ours("3", "")],
                &[one, ours("3", "3.")],
                &[one, ours("3", ""), two],
                &[one, ours("3", "3."), two],
            ),
            // They wrote what they had read before our question was kept, or named.
            (&[one, ours("3", "")], &[one, ours("3", "3.")], &[one, two], &[one, two, ours("3", "3.")]),
            (&[one, ours("", "")], &[one, ours("3", "3.")], &[one, ours("", "")], &[one, ours("3", "3.")]),
            // We took our question back.
            (&[one, ours("", "")], &[one], &[one, ours("", ""), two], &[one, two]),
            // They went back to before.
            (&[one, two], &[one, two, ours("3", "3.")], &[one], &[one, ours("3", "3.")]),
            (&[], &[ours("", "")], &[two], &[two, ours("", "")]),
            (&[one], &[one], &[one, two], &[one, two]),
        ] {
            let mut document = conversation("t", mine);
            document.merge(Some(&conversation("t", base)), conversation("theirs", theirs));
            assert_eq!(document, conversation("theirs", merged), "{mine:?} {theirs:?}");
        }
        let mut renamed = conversation("ours", &[one]);
        renamed.merge(Some(&conversation("t", &[one])), conversation("theirs", &[one]));
        assert_eq!(renamed.title(), "ours");
        let mut new = conversation("ours", &[one]);
        new.merge(None, conversation("theirs", &[two]));
        assert_eq!(new, conversation("ours", &[two, one]));
    }

    #[test]
    fn what_is_no_conversation_is_told_apart() {
        for value in [json!([]), json!({}), json!({"id": "a"}), json!({"id": 1, "messages": []})] {
            assert_eq!(Document::of(value), None);
        }
        assert!(Document::of(json!({"id": "a", "messages": [], "settings": null})).is_some());
    }
}
