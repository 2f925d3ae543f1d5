//! Answers put together from their events.

use engine::Figures;

use super::answer::Answer;
use super::pump::{End, Event, Token, What};
use crate::api_error::ApiError;

/// One answer as far as it has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    pub(crate) text: String,
    /// What the model thought before it.
    pub(crate) thoughts: String,
    pub(crate) tokens: Vec<Token>,
    pub(crate) calls: Vec<Call>,
    pub(crate) end: Option<End>,
}

/// A function call that the model makes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON text.
    pub(crate) arguments: String,
}

/// All answers of a request, and its prompt.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) choices: Vec<Choice>,
    pub(crate) usage: Usage,
}

/// Tokens of a request and its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    /// Of the prompt, how many were found computed.
    pub(crate) cached: usize,
    pub(crate) completion: usize,
    /// Of these, how many were thoughts.
    pub(crate) thoughts: usize,
    /// Of the last choice that ended.
    pub(crate) figures: Figures,
}

impl Choice {
    pub(crate) fn apply(&mut self, what: &What) {
        match what {
            What::Text { text, tokens } => {
                self.text.push_str(text);
                self.tokens.extend_from_slice(tokens);
            }
            What::Thought(thought) => self.thoughts.push_str(thought),
            What::CallStart { id, name, .. } => {
                self.calls.push(Call { id: id.clone(), name: name.clone(), arguments: String::new() });
            }
            What::CallArguments { index, delta } => {
                if let Some(call) = self.calls.get_mut(*index) {
                    call.arguments.push_str(delta);
                }
            }
            What::End(end) => self.end = Some(end.clone()),
            What::Failed(_) => {}
        }
    }
}

impl Usage {
    /// Of a prompt that nothing has been answered to.
    pub(crate) fn of_prompt(prompt: usize) -> Usage {
        Usage { prompt, ..Usage::default() }
    }

    /// Takes an answer that ended into account.
    pub(crate) fn add(&mut self, end: &End) {
        self.cached = self.cached.max(end.figures.reused_tokens.min(self.prompt));
        self.completion += end.figures.generated_tokens;
        self.thoughts += end.thought_tokens;
        self.figures = end.figures;
    }
}

impl Collected {
    /// Waits for all answers.
    ///
    /// # Errors
    /// What one of them failed with.
    pub(crate) async fn of(mut answer: Answer) -> Result<Collected, ApiError> {
        let mut collected = Collected {
            choices: vec![Choice::default(); answer.choices],
            usage: Usage::of_prompt(answer.prompt_tokens),
        };
        while let Some(Event { choice, what }) = answer.next().await {
            match &what {
                What::Failed(error) => return Err(error.clone()),
                What::End(end) => collected.usage.add(end),
                _ => {}
            }
            collected.choices[choice].apply(&what);
        }
        Ok(collected)
    }
}
