//! Two models on one text: how far the tested one's probabilities lie from the reference's.
//!
//! Throughout, the *tested* model is the one under judgement (usually quantized) and the *reference* is what it should
//! have said (usually the original). The divergence is KL(reference || tested): p is the reference's probability, q the
//! tested model's, so it weighs each token by how much the reference means it.

use std::io::Read;

use kernels::Team;
use model::{KvType, Model};

use crate::distribution::{Normaliser, divergence, logit_of, top};
use crate::error::Error;
use crate::logits_file::{CLAMPED, LogitsFile};
use crate::perplexity::Perplexity;
use crate::runner::{Runner, piece_rows, score_rows};
use crate::statistics::{Mean, quantile};
use crate::windows::Windows;
use crate::{Options, Progress};

/// The shares of positions at which [`Comparison::kl_quantiles`] are taken.
pub const KL_FRACTIONS: [f64; 15] =
    [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0];

/// How a tested model compares with a reference on one text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Mean KL(reference || tested) over the scored positions, in nats.
    pub kl_mean: f64,
    /// The standard error of that mean.
    pub kl_stderr: f64,
    /// The median divergence.
    pub kl_median: f64,
    /// The divergence that 99 % of the positions stay below.
    pub kl_p99: f64,
    /// The largest divergence.
    pub kl_max: f64,
    /// The divergences that the shares [`KL_FRACTIONS`] of the positions stay below.
    pub kl_quantiles: [f64; KL_FRACTIONS.len()],
    /// The share of positions at which both models have the same likeliest token, 0 to 1.
    pub top1_agreement: f64,
    /// Its standard error.
    pub top1_stderr: f64,
    /// The tested model's perplexity.
    pub tested: Perplexity,
    /// The reference's perplexity.
    pub reference: Perplexity,
}

/// Compares `tested` with `reference` on `text`. Both models run window by window side by side, so that only the logits of
/// a piece of one window are held at a time.
///
/// # Errors
/// [`Error::Vocabulary`] if the models' tokens differ; otherwise as [`crate::perplexity`].
pub fn against(
    tested: &Model,
    reference: &Model,
    team: &Team,
    text: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison, Error> {
    let found = against_each(&[(tested, options.kv_type)], reference, team, text, options, progress)?;
    Ok(found[0])
}

/// The same for several models, or for one with its keys and values kept in several formats, which take the place of that of
/// `options`: the reference runs once for all of them. Progress tells of the first.
///
/// # Errors
/// As [`against`].
///
/// # Panics
/// If there is nothing to test.
pub fn against_each(
    tested: &[(&Model, KvType)],
    reference: &Model,
    team: &Team,
    text: &str,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Comparison>, Error> {
    for (tested, _) in tested {
        same_vocabulary(tested, reference)?;
    }
    let windows = Windows::of_text(&tested[0].0.tokenizer, text, options)?;
    let vocabulary = reference.config.vocabulary;
    // What a coarser cache costs must not hide in a reference that has it too.
    let exact = Options { kv_type: KvType::F16, ..*options };
    let mut runner = Runner::new(reference, team, windows.context(), &exact)?;
    let mut rows = Vec::new();
    compare(tested, team, &windows, options, progress, &mut |piece, tested_logits| {
        if piece.is_new {
            if piece.starts_window {
                runner.start(piece.before)?;
            }
            rows.clear();
            rows.extend_from_slice(runner.logits(piece.tokens)?);
        }
        score_rows(team, piece.next.len(), |row| {
            let logits = &rows[row * vocabulary..][..vocabulary];
            let sum = Normaliser::of(logits).ok_or(Error::NotFinite { whose: "reference" })?;
            let target = sum.log_probability(logit_of(logits, piece.next[row])?);
            let log_probabilities = logits.iter().map(|&logit| sum.log_probability(logit));
            let tested = &tested_logits[row * vocabulary..][..vocabulary];
            Score::of(log_probabilities, sum.top, target, tested, piece.next[row])
        })
    })
}

/// Compares `tested` with saved logits of a reference, on the text they were computed from; of `options` only the number of
/// windows and the cache's format count, the context is the file's. If `text` is given, it must give the file's tokens.
///
/// # Errors
/// [`Error::Vocabulary`], [`Error::Text`] and [`Error::TextEnds`] where file and model do not belong together; the errors of [`LogitsFile`];
/// [`Error::NotFinite`], [`Error::Model`].
pub fn against_file<R: Read>(
    tested: &Model,
    reference: &mut LogitsFile<R>,
    team: &Team,
    text: Option<&str>,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Comparison, Error> {
    let vocabulary = tested.config.vocabulary;
    if reference.vocabulary() != vocabulary {
        let (tested, reference) = (vocabulary, reference.vocabulary());
        return Err(Error::Vocabulary { tested, reference, detail: String::new() });
    }
    if let Some(text) = text {
        let encode = text::Encode { add_special: true, parse_special: false };
        let here = tested.tokenizer.encode(text, encode);
        same_tokens(&here, reference.tokens())?;
    }
    let (tokens, context) = (reference.tokens().to_vec(), reference.context());
    let windows = Windows::of_tokens(&tested.tokenizer, tokens, context, options.windows);
    let mut rows = Vec::new();
    let tested = [(tested, options.kv_type)];
    let found = compare(&tested, team, &windows, options, progress, &mut |piece, tested_logits| {
        rows.resize(piece.next.len() * vocabulary, 0.0);
        for row in rows.chunks_exact_mut(vocabulary) {
            reference.next_row(row)?;
        }
        score_rows(team, piece.next.len(), |row| {
            let logs = &rows[row * vocabulary..][..vocabulary];
            let (top, _) = top(logs).ok_or(Error::NotFinite { whose: "reference" })?;
            let target = logit_of(logs, piece.next[row])?;
            let tested = &tested_logits[row * vocabulary..][..vocabulary];
            // The saved values are log-probabilities already; what their 16 bits lost is not spread over the rest.
            let kept = logs.iter().map(|&log| if log > CLAMPED { log.into() } else { f64::NEG_INFINITY });
            Score::of(kept, top, target.into(), tested, piece.next[row])
        })
    })?;
    Ok(found[0])
}

/// One scored position.
struct Score {
    kl: f64,
    same_top: bool,
    tested_nll: f64,
    reference_nll: f64,
}

impl Score {
    fn of(
        reference: impl Iterator<Item = f64>,
        reference_top: usize,
        reference_target: f64,
        tested: &[f32],
        next: u32,
    ) -> Result<Score, Error> {
        let sum = Normaliser::of(tested).ok_or(Error::NotFinite { whose: "tested" })?;
        Ok(Score {
            kl: divergence(reference, tested, sum),
            same_top: sum.top == reference_top,
            tested_nll: -sum.log_probability(logit_of(tested, next)?),
            reference_nll: -reference_target,
        })
    }
}

/// A run of scored positions within one window.
struct Piece<'a> {
    /// Whether nobody has been scored at these positions yet.
    is_new: bool,
    starts_window: bool,
    /// The window's tokens before its first scored position.
    before: &'a [u32],
    /// The tokens at the piece's positions.
    tokens: &'a [u32],
    /// The tokens after them, to be predicted.
    next: &'a [u32],
}

type ScorePiece<'a> = dyn FnMut(&Piece<'_>, &[f32]) -> Result<Vec<Score>, Error> + 'a;

/// Runs the tested models over the windows and gathers what `score` finds in each piece beside the reference.
fn compare(
    tested: &[(&Model, KvType)],
    team: &Team,
    windows: &Windows,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
    score: &mut ScorePiece<'_>,
) -> Result<Vec<Comparison>, Error> {
    let mut runners = Vec::with_capacity(tested.len());
    for &(model, kv_type) in tested {
        let options = Options { kv_type, ..*options };
        runners.push((Runner::new(model, team, windows.context(), &options)?, Totals::default()));
    }
    let rows = tested.iter().map(|(model, _)| piece_rows(model.config.vocabulary)).min().unwrap_or(1);
    let mut tokens = Vec::new();
    for window in 0..windows.count() {
        windows.fill(window, &mut tokens);
        let scored = windows.scored();
        let before = &tokens[..scored.start];
        for (runner, _) in &mut runners {
            runner.start(before)?;
        }
        for first in scored.clone().step_by(rows) {
            let last = scored.end.min(first + rows);
            for (index, (runner, totals)) in runners.iter_mut().enumerate() {
                let piece = Piece {
                    is_new: index == 0,
                    starts_window: first == scored.start,
                    before,
                    tokens: &tokens[first..last],
                    next: &tokens[first + 1..=last],
                };
                let logits = runner.logits(piece.tokens)?;
                score(&piece, logits)?.into_iter().for_each(|score| totals.add(&score));
            }
        }
        let (_, totals) = &runners[0];
        progress(Progress {
            done: window + 1,
            windows: windows.count(),
            perplexity: totals.tested.mean().exp(),
            kl_mean: Some(totals.kl.mean()),
        });
    }
    Ok(runners.into_iter().map(|(_, totals)| totals.finish(windows)).collect())
}

#[derive(Default)]
struct Totals {
    kl: Mean,
    kl_values: Vec<f64>,
    agreements: u64,
    tested: Mean,
    reference: Mean,
}

impl Totals {
    fn add(&mut self, score: &Score) {
        self.kl.add(score.kl);
        self.kl_values.push(score.kl);
        self.agreements += u64::from(score.same_top);
        self.tested.add(score.tested_nll);
        self.reference.add(score.reference_nll);
    }

    fn finish(mut self, windows: &Windows) -> Comparison {
        self.kl_values.sort_unstable_by(f64::total_cmp);
        let count = self.kl.count() as f64;
        let agreement = if count > 0.0 { self.agreements as f64 / count } else { 0.0 };
        let spread = agreement * (1.0 - agreement) / (count - 1.0);
        Comparison {
            kl_mean: self.kl.mean(),
            kl_stderr: self.kl.standard_error(),
            kl_median: quantile(&self.kl_values, 0.5),
            kl_p99: quantile(&self.kl_values, 0.99),
            kl_max: quantile(&self.kl_values, 1.0),
            kl_quantiles: KL_FRACTIONS.map(|fraction| quantile(&self.kl_values, fraction)),
            top1_agreement: agreement,
            top1_stderr: if count > 1.0 { spread.sqrt() } else { 0.0 },
            tested: Perplexity::of(&self.tested, windows),
            reference: Perplexity::of(&self.reference, windows),
        }
    }
}

/// Checks that two models mean the same by every token.
fn same_vocabulary(tested: &Model, reference: &Model) -> Result<(), Error> {
    let counts = (tested.config.vocabulary, reference.config.vocabulary);
    let differs = |detail| Error::Vocabulary { tested: counts.0, reference: counts.1, detail };
    if counts.0 != counts.1 {
        return Err(differs(String::new()));
    }
    for id in 0..counts.0 as u32 {
        let (here, there) = (tested.tokenizer.piece(id), reference.tokenizer.piece(id));
        if here != there {
            return Err(differs(format!("; token {id} is {here:?} in the one and {there:?} in the other")));
        }
    }
    Ok(())
}

/// Checks that a text's tokens start with the reference's: the file leaves out what filled no window.
fn same_tokens(here: &[u32], reference: &[u32]) -> Result<(), Error> {
    if let Some(position) = here.iter().zip(reference).position(|(a, b)| a != b) {
        return Err(Error::Text { position, tested: here[position], reference: reference[position] });
    }
    if here.len() < reference.len() {
        return Err(Error::TextEnds { got: here.len(), needed: reference.len() });
    }
    Ok(())
}
