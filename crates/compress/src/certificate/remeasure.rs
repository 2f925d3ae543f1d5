//! A second measurement beside the certified one.

use std::fmt;

use evaluate::{Comparison, Perplexity};

use crate::certificate::{Certificate, Figure, Quality};

/// A figure that was measured again.
#[derive(Clone, Debug, PartialEq)]
pub struct Deviation {
    /// Which figure.
    pub what: &'static str,
    /// As it is certified.
    pub certified: Figure,
    /// As it is now.
    pub measured: Figure,
}

impl Deviation {
    /// Whether both agree within the certified standard error. On the same text the same file gives the same figure but for
    /// the order of sums, so that this is generous; yet it keeps small what a false certificate could claim.
    pub fn agrees(&self) -> bool {
        // Not `>`: a figure that is no number agrees with nothing.
        (self.measured.value - self.certified.value).abs() <= self.certified.stderr.max(LEAST_ERROR)
    }
}

/// Where the certified standard error is none at all, a little more than the spread of sums over other vector registers.
const LEAST_ERROR: f64 = 1e-4;

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deviation { what, certified, measured } = self;
        let verdict = if self.agrees() { "agrees with" } else { "differs from" };
        write!(
            f,
            "{what} {:.6} {verdict} the certified {:.6} +/- {:.6}",
            measured.value, certified.value, certified.stderr
        )
    }
}

/// A measurement of the packed file on the certified text beside the certified figures: its perplexity, and what needs the
/// original where that was at hand.
pub fn deviations(
    certificate: &Certificate,
    perplexity: &Perplexity,
    comparison: Option<&Comparison>,
) -> Vec<Deviation> {
    let certified = &certificate.quality;
    let measured = Figure { value: perplexity.perplexity, stderr: perplexity.perplexity_stderr };
    let mut all = vec![Deviation { what: "perplexity", certified: certified.perplexity_after, measured }];
    if let Some(comparison) = comparison {
        let measured = Quality::of(comparison);
        all.push(Deviation {
            what: "perplexity of the original",
            certified: certified.perplexity_before,
            measured: measured.perplexity_before,
        });
        all.push(Deviation {
            what: "mean KL divergence",
            certified: certified.kl_mean,
            measured: measured.kl_mean,
        });
        all.push(Deviation {
            what: "top-1 agreement",
            certified: certified.top1_agreement,
            measured: measured.top1_agreement,
        });
    }
    all
}
