//! Perplexity: how surprised a model is by a text, as the number of equally likely tokens that would surprise as much.

use kernels::Team;
use model::Model;

use crate::distribution::surprise;
use crate::error::Error;
use crate::runner::{Runner, piece_rows, score_rows};
use crate::statistics::Mean;
use crate::windows::Windows;
use crate::{Options, Progress};

/// A model's perplexity on a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    /// The exponential of the mean negative log-probability of the scored tokens; 1 is certainty, lower is better.
    pub perplexity: f64,
    /// Its standard error, by propagation: the perplexity times the standard error of the mean below it.
    pub perplexity_stderr: f64,
    /// The mean negative log-probability, in nats.
    pub mean_nll: f64,
    /// The standard error of that mean over the scored tokens.
    pub mean_nll_stderr: f64,
    /// Tokens that were scored.
    pub scored: u64,
    /// Windows that were run.
    pub windows: usize,
    /// Tokens in a window.
    pub context: usize,
    /// Tokens in the whole text.
    pub tokens: usize,
}

impl Perplexity {
    pub(crate) fn of(nll: &Mean, windows: &Windows) -> Perplexity {
        let perplexity = nll.mean().exp();
        Perplexity {
            perplexity,
            perplexity_stderr: perplexity * nll.standard_error(),
            mean_nll: nll.mean(),
            mean_nll_stderr: nll.standard_error(),
            scored: nll.count(),
            windows: windows.count(),
            context: windows.context(),
            tokens: windows.tokens().len(),
        }
    }
}

/// Measures the perplexity of `model` on `text`, telling `progress` after each window.
///
/// # Errors
/// [`Error::TextTooShort`] under two windows of tokens, [`Error::ContextTooSmall`], [`Error::NotFinite`] for a model that
/// gives no distribution, [`Error::Model`].
pub fn perplexity(
    model: &Model,
    team: &Team,
    text: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Perplexity, Error> {
    let windows = Windows::of_text(&model.tokenizer, text, options)?;
    let vocabulary = model.config.vocabulary;
    let mut runner = Runner::new(model, team, windows.context(), options)?;
    let mut nll = Mean::default();
    let mut tokens = Vec::new();
    for window in 0..windows.count() {
        windows.fill(window, &mut tokens);
        let scored = windows.scored();
        runner.start(&tokens[..scored.start])?;
        for first in scored.clone().step_by(piece_rows(vocabulary)) {
            let last = scored.end.min(first + piece_rows(vocabulary));
            let logits = runner.logits(&tokens[first..last])?;
            let next = &tokens[first + 1..=last];
            let scores = score_rows(team, next.len(), |row| {
                surprise(&logits[row * vocabulary..][..vocabulary], next[row])
            })?;
            scores.into_iter().for_each(|score| nll.add(score));
        }
        progress(Progress {
            done: window + 1,
            windows: windows.count(),
            perplexity: nll.mean().exp(),
            kl_mean: None,
        });
    }
    Ok(Perplexity::of(&nll, &windows))
}
