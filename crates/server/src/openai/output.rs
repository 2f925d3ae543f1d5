//! The output of a response: messages and calls, and the events that tell how they grow.

use serde_json::{Value, json};

use super::chat_types::TokenBody;
use crate::generation::{Call, Choice, Token, What};
use crate::ids;

/// A part of the output.
#[derive(Clone, Debug)]
enum Item {
    Reasoning { id: String, text: String },
    Message { id: String, text: String, tokens: Vec<Token> },
    Call { id: String, call: Call },
}

/// The output as far as it has come. Only its last item can still grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    items: Vec<Item>,
    /// Whether the last item is complete.
    closed: bool,
}

impl Output {
    /// Takes an event of the answer, and appends what it means to `out`: objects with their `type`.
    pub(super) fn apply(&mut self, what: &What, out: &mut Vec<Value>) {
        match what {
            What::Thought(thought) => {
                if !matches!((self.items.last(), self.closed), (Some(Item::Reasoning { .. }), false)) {
                    self.close(out);
                    self.open(Item::Reasoning { id: ids::new("rs_"), text: String::new() }, out);
                }
                let index = self.items.len() - 1;
                let Some(Item::Reasoning { id, text }) = self.items.last_mut() else { return };
                text.push_str(thought);
                out.push(json!({
                    "type": "response.reasoning_text.delta", "item_id": id, "output_index": index,
                    "content_index": 0, "delta": thought,
                }));
            }
            What::Text { text, tokens } => {
                self.open_message(out);
                let index = self.items.len() - 1;
                let Some(Item::Message { id, text: whole, tokens: all }) = self.items.last_mut() else {
                    return;
                };
                whole.push_str(text);
                all.extend_from_slice(tokens);
                out.push(json!({
                    "type": "response.output_text.delta", "item_id": id, "output_index": index,
                    "content_index": 0, "delta": text, "logprobs": logprobs(tokens),
                }));
            }
            What::CallStart { id, name, .. } => {
                self.close(out);
                let call = Call { id: id.clone(), name: name.clone(), arguments: String::new() };
                self.open(Item::Call { id: ids::new("fc_"), call }, out);
            }
            What::CallArguments { delta, .. } => {
                let index = self.items.len().saturating_sub(1);
                let Some(Item::Call { id, call }) = self.items.last_mut() else { return };
                call.arguments.push_str(delta);
                out.push(json!({
                    "type": "response.function_call_arguments.delta", "item_id": id, "output_index": index,
                    "delta": delta,
                }));
            }
            What::End(_) => {
                if self.items.is_empty() {
                    self.open_message(out);
                }
                self.close(out);
            }
            What::Failed(_) => self.close(out),
        }
    }

    fn open_message(&mut self, out: &mut Vec<Value>) {
        if let (Some(Item::Message { .. }), false) = (self.items.last(), self.closed) {
            return;
        }
        self.close(out);
        let id = ids::new("msg_");
        self.open(Item::Message { id: id.clone(), text: String::new(), tokens: Vec::new() }, out);
        out.push(json!({
            "type": "response.content_part.added", "item_id": id, "output_index": self.items.len() - 1,
            "content_index": 0, "part": part("", &[]),
        }));
    }

    fn open(&mut self, item: Item, out: &mut Vec<Value>) {
        let index = self.items.len();
        out.push(json!({
            "type": "response.output_item.added", "output_index": index,
            "item": item_body(&item, "in_progress"),
        }));
        self.items.push(item);
        self.closed = false;
    }

    /// Completes the last item.
    fn close(&mut self, out: &mut Vec<Value>) {
        let (Some(item), false) = (self.items.last(), self.closed) else { return };
        let index = self.items.len() - 1;
        match item {
            Item::Reasoning { id, text } => out.push(json!({
                "type": "response.reasoning_text.done", "item_id": id, "output_index": index,
                "content_index": 0, "text": text,
            })),
            Item::Message { id, text, tokens } => {
                out.push(json!({
                    "type": "response.output_text.done", "item_id": id, "output_index": index,
                    "content_index": 0, "text": text, "logprobs": logprobs(tokens),
                }));
                out.push(json!({
                    "type": "response.content_part.done", "item_id": id, "output_index": index,
                    "content_index": 0, "part": part(text, tokens),
                }));
            }
            Item::Call { id, call } => out.push(json!({
                "type": "response.function_call_arguments.done", "item_id": id, "output_index": index,
                "name": call.name, "arguments": call.arguments,
            })),
        }
        out.push(json!({
            "type": "response.output_item.done", "output_index": index,
            "item": item_body(item, "completed"),
        }));
        self.closed = true;
    }

    /// The output of a response object.
    pub(super) fn body(&self) -> Value {
        let last = self.items.len().wrapping_sub(1);
        let status = |index| if index == last && !self.closed { "in_progress" } else { "completed" };
        self.items.iter().enumerate().map(|(index, item)| item_body(item, status(index))).collect()
    }

    /// What the answer is as a message: its text and its calls.
    pub(super) fn choice(&self) -> Choice {
        let mut choice = Choice::default();
        for item in &self.items {
            match item {
                Item::Reasoning { text, .. } => choice.thoughts.push_str(text),
                Item::Message { text, .. } => choice.text.push_str(text),
                Item::Call { call, .. } => choice.calls.push(call.clone()),
            }
        }
        choice
    }
}

fn item_body(item: &Item, status: &str) -> Value {
    match item {
        Item::Reasoning { id, text } => json!({
            "type": "reasoning", "id": id, "status": status, "summary": [],
            "content": [{"type": "reasoning_text", "text": text}],
        }),
        Item::Message { id, text, tokens } => {
            let content = match (text.as_str(), status) {
                ("", "in_progress") => json!([]),
                _ => json!([part(text, tokens)]),
            };
            json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content})
        }
        Item::Call { id, call } => json!({
            "type": "function_call", "id": id, "status": status, "call_id": call.id, "name": call.name,
            "arguments": call.arguments,
        }),
    }
}

fn part(text: &str, tokens: &[Token]) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs(tokens)})
}

fn logprobs(tokens: &[Token]) -> Vec<TokenBody> {
    tokens.iter().map(TokenBody::from).collect()
}
