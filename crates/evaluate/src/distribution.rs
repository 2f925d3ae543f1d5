//! One position's logits as a distribution: how surprising a token is, and how far two distributions lie apart.
//!
//! Logits are f32 and exponentials are taken in f32; what is subtracted or summed is f64. Two close models differ in
//! the log-probabilities by d, the divergence is about d^2 / 2, and the f32 rounding of the weights (6e-8 of each)
//! disturbs it by 6e-8 d only.

use crate::error::Error;

/// What one position says about two models.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Kullback-Leibler divergence KL(reference || tested) in nats: the sum over tokens of p ln(p / q), where p is
    /// the reference's probability and q the tested model's. Never negative but for rounding; infinite where the
    /// tested model rules out what the reference allows.
    pub kl: f64,
    /// Whether both models have the same likeliest token (the first, where several are equal).
    pub same_top: bool,
}

/// Compares one position's logits of the `reference` with those of the `tested` model. Both have one value a token.
///
/// # Errors
/// [`Error::RowLength`] if the lengths differ, [`Error::NotFinite`] if either is no distribution.
pub fn compare_logits(reference: &[f32], tested: &[f32]) -> Result<Divergence, Error> {
    if reference.len() != tested.len() {
        return Err(Error::RowLength { tested: tested.len(), reference: reference.len() });
    }
    let reference_sum = Normaliser::of(reference).ok_or(Error::NotFinite { whose: "reference" })?;
    let tested_sum = Normaliser::of(tested).ok_or(Error::NotFinite { whose: "tested" })?;
    let log_probabilities = reference.iter().map(|&logit| reference_sum.log_probability(logit));
    Ok(Divergence {
        kl: divergence(log_probabilities, tested, tested_sum),
        same_top: reference_sum.top == tested_sum.top,
    })
}

/// The negative log-probability of `token` in nats under `logits`.
///
/// # Errors
/// [`Error::Token`] if it is not in the vocabulary, [`Error::NotFinite`] if the logits are no distribution.
pub fn surprise(logits: &[f32], token: u32) -> Result<f64, Error> {
    let logit = logit_of(logits, token)?;
    let normaliser = Normaliser::of(logits).ok_or(Error::NotFinite { whose: "tested" })?;
    Ok(-normaliser.log_probability(logit))
}

pub(crate) fn logit_of(logits: &[f32], token: u32) -> Result<f32, Error> {
    logits.get(token as usize).copied().ok_or(Error::Token { token, vocabulary: logits.len() })
}

/// The first token with the largest value, and that value; `None` if it is not finite. NaN is passed over.
pub(crate) fn top(values: &[f32]) -> Option<(usize, f32)> {
    let mut top = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > top.1 {
            top = (index, value);
        }
    }
    top.1.is_finite().then_some(top)
}

/// What turns the logits of one row into log-probabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normaliser {
    /// The log of the sum of exponentials.
    log_sum: f64,
    /// The first token with the largest logit.
    pub(crate) top: usize,
}

impl Normaliser {
    /// `None` if a value is NaN or the largest is not finite.
    pub(crate) fn of(logits: &[f32]) -> Option<Normaliser> {
        let (top, max) = top(logits)?;
        // A NaN among the logits makes the sum NaN.
        let sum: f64 = logits.iter().map(|&logit| f64::from((logit - max).exp())).sum();
        (!sum.is_nan()).then(|| Normaliser { log_sum: f64::from(max) + sum.ln(), top })
    }

    pub(crate) fn log_probability(&self, logit: f32) -> f64 {
        f64::from(logit) - self.log_sum
    }
}

/// KL of a reference given by its log-probabilities (minus infinity for what it rules out) against tested logits.
pub(crate) fn divergence(
    reference: impl Iterator<Item = f64>,
    tested: &[f32],
    tested_sum: Normaliser,
) -> f64 {
    reference
        .zip(tested)
        .filter(|(log_p, _)| *log_p > f64::NEG_INFINITY)
        .map(|(log_p, &logit)| {
            let p = f64::from((log_p as f32).exp());
            // A token too unlikely for f32 weighs nothing, whatever the other model says of it.
            if p == 0.0 { 0.0 } else { p * (log_p - tested_sum.log_probability(logit)) }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// On paper: p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 + 1/4 ln 1/2 = 1/4 ln 2, symmetric here.
    #[test]
    fn divergence_on_paper() {
        let ln = |x: f32| x.ln();
        let p = [ln(0.5), ln(0.25), ln(0.25)];
        let q = [ln(0.25) + 3.0, ln(0.5) + 3.0, ln(0.25) + 3.0]; // a shift of all logits changes nothing
        let got = compare_logits(&p, &q).unwrap();
        assert!((got.kl - 0.25 * 2f64.ln()).abs() < 1e-6, "{got:?}");
        assert!(!got.same_top);
    }

    /// On paper, and not symmetric: p = (3/4, 1/4), q = (1/2, 1/2): KL(p||q) = 3/4 ln 3/2 + 1/4 ln 1/2 = 0.130812,
    /// KL(q||p) = 1/2 ln 2/3 + 1/2 ln 2 = 0.143841.
    #[test]
    fn the_reference_is_p() {
        let p = [3f32.ln(), 0.0];
        let q = [0.0f32, 0.0];
        let forward = compare_logits(&p, &q).unwrap();
        assert!((forward.kl - 0.130812).abs() < 1e-6);
        assert!(forward.same_top, "the first of equal tokens counts");
        assert!((compare_logits(&q, &p).unwrap().kl - 0.143841).abs() < 1e-6);
    }

    #[test]
    fn what_is_ruled_out() {
        let infinity = f32::INFINITY;
        let both = compare_logits(&[0.0, -infinity], &[0.0, -infinity]).unwrap();
        assert_eq!(both, Divergence { kl: 0.0, same_top: true });
        let missing = compare_logits(&[0.0, 0.0], &[0.0, -infinity]).unwrap();
        assert_eq!(missing.kl, f64::INFINITY);
        let spare = compare_logits(&[0.0, -infinity], &[0.0, 0.0]).unwrap();
        assert!((spare.kl - 2f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn refuses_what_is_no_distribution() {
        assert!(matches!(
            compare_logits(&[0.0], &[0.0, 1.0]),
            Err(Error::RowLength { tested: 2, reference: 1 })
        ));
        assert!(matches!(
            compare_logits(&[f32::NAN, 0.0], &[0.0; 2]),
            Err(Error::NotFinite { whose: "reference" })
        ));
        assert!(matches!(
            compare_logits(&[0.0; 2], &[f32::INFINITY, 0.0]),
            Err(Error::NotFinite { whose: "tested" })
        ));
        assert!(matches!(compare_logits(&[], &[]), Err(Error::NotFinite { .. })));
        assert!(matches!(surprise(&[0.0, 1.0], 2), Err(Error::Token { token: 2, vocabulary: 2 })));
    }

    #[test]
    fn surprise_on_paper() {
        assert!((surprise(&[1000.0, 1000.0, 1000.0, 1000.0], 3).unwrap() - 4f64.ln()).abs() < 1e-12);
        assert!((surprise(&[0.0, 3f32.ln()], 1).unwrap() - (4f64 / 3.0).ln()).abs() < 1e-7);
    }

    proptest! {
        /// Gibbs' inequality, and zero for equal rows.
        #[test]
        fn never_negative(rows in prop::collection::vec((-20.0f32..20.0, -20.0f32..20.0), 1..200)) {
            let (p, q): (Vec<f32>, Vec<f32>) = rows.into_iter().unzip();
            prop_assert!(compare_logits(&p, &q).unwrap().kl > -1e-6);
            prop_assert_eq!(compare_logits(&p, &p).unwrap(), Divergence { kl: 0.0, same_top: true });
        }
    }
}
