//! Penalties on tokens that occurred recently: repetition (multiplicative), frequency and presence (additive).

use super::SamplerOptions;

/// The three penalties and the window they look at.
#[derive(Clone, Debug)]
pub(super) struct Penalties {
    repeat: f32,
    frequency: f32,
    presence: f32,
    /// Tokens of the history that count; 0 where all penalties are off.
    last_n: usize,
    /// Copy of the window, sorted so that equal tokens stand together. A table of counts over the vocabulary would need
    /// no sort, but 600 KB a session; the window usually has 64 tokens.
    window: Vec<u32>,
}

impl Penalties {
    pub(super) fn new(options: &SamplerOptions) -> Penalties {
        let off = options.repeat_penalty == 1.0
            && options.frequency_penalty == 0.0
            && options.presence_penalty == 0.0;
        Penalties {
            repeat: options.repeat_penalty,
            frequency: options.frequency_penalty,
            presence: options.presence_penalty,
            last_n: if off { 0 } else { options.repeat_last_n },
            window: Vec::new(),
        }
    }

    /// Makes room for histories of up to `context` tokens.
    pub(super) fn reserve(&mut self, context: usize) {
        self.window.clear();
        self.window.reserve_exact(self.last_n.min(context));
    }

    /// Lowers the logits of the tokens in the last part of `history`; ids beyond the vocabulary are ignored.
    pub(super) fn apply(&mut self, logits: &mut [f32], history: &[u32]) {
        if self.last_n == 0 {
            return;
        }
        self.window.clear();
        self.window.extend_from_slice(&history[history.len().saturating_sub(self.last_n)..]);
        self.window.sort_unstable();
        for equal in self.window.chunk_by(|a, b| a == b) {
            let Some(logit) = logits.get_mut(equal[0] as usize) else { continue };
            // Dividing a negative logit would make the token likelier.
            *logit = if *logit > 0.0 { *logit / self.repeat } else { *logit * self.repeat };
            *logit -= equal.len() as f32 * self.frequency + self.presence;
        }
    }
}
