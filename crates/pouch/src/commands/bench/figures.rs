//! What is told of the measurements: medians over the rounds, as one object or as lines.

use serde::Serialize;

use super::measure::{Measured, ModelMeasured, Phase, Round};
use super::peer::Introduction;
use crate::errors::Failure;
use crate::memory::Told;
use crate::printer::Printer;
use crate::units;
use device::machine::{Machine, Memory};

#[derive(Serialize)]
pub(super) struct Output {
    pub(super) machine: Machine,
    pub(super) isa: &'static str,
    pub(super) kv: &'static str,
    pub(super) rounds: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) against: Option<Introduction>,
    pub(super) models: Vec<Model>,
}

/// One model with one number of threads.
#[derive(Serialize)]
pub(super) struct Model {
    model: String,
    threads: usize,
    /// Bytes a second, in 10^9.
    read_bandwidth_gb_s: f64,
    /// 8-bit multiplications with addition a second, in 10^9.
    int8_peak_gmac_s: f64,
    weights_bytes: usize,
    time_to_first_token_ms: f64,
    memory: Option<AtContext>,
    residency: Told,
    prefill: Vec<Prefill>,
    decode: Vec<Decode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verify: Vec<Verify>,
}

#[derive(Serialize)]
struct AtContext {
    context: usize,
    #[serde(flatten)]
    memory: Memory,
}

#[derive(Serialize)]
struct Prefill {
    tokens: usize,
    prefill_tok_s: f64,
    #[serde(flatten)]
    speeds: Speeds,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

#[derive(Serialize)]
struct Decode {
    at_context: usize,
    tokens: usize,
    decode_tok_s: f64,
    #[serde(flatten)]
    speeds: Speeds,
    percent_of_bandwidth: f64,
    weights_and_kv_gb_s: f64,
    percent_of_bandwidth_with_kv: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

/// A pass that checks drafted tokens.
#[derive(Serialize)]
struct Verify {
    at_context: usize,
    tokens: usize,
    pass_ms: f64,
    /// By the time of one decoded token in the same round; `None` if none was.
    times_one_token: Option<f64>,
}

/// What both phases have.
#[derive(Serialize)]
struct Speeds {
    ms_per_token: f64,
    weights_gb_s: f64,
    gmac_s: f64,
    percent_of_int8_peak: f64,
    joules_per_token: Option<f64>,
}

/// The other engine in the same rounds.
#[derive(Serialize)]
struct Against {
    tok_s: f64,
    /// Our speed by theirs: of each round, then the median and the extremes.
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
}

impl Measured {
    pub(super) fn tok_s(&self, round: &Round) -> f64 {
        self.test.tokens as f64 / round.seconds
    }

    pub(super) fn weights_gb_s(&self, round: &Round) -> f64 {
        self.work.weight_bytes / round.seconds / 1e9
    }

    pub(super) fn weights_and_kv_gb_s(&self, round: &Round) -> f64 {
        (self.work.weight_bytes + self.work.kv_bytes) / round.seconds / 1e9
    }

    pub(super) fn gmac_s(&self, round: &Round) -> f64 {
        self.work.macs / round.seconds / 1e9
    }

    pub(super) fn joules_per_token(&self, round: &Round) -> Option<f64> {
        Some(round.joules? / self.test.tokens as f64)
    }

    /// Of a figure that each round has.
    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().map(figure).collect())
    }

    fn speeds(&self) -> Speeds {
        let joules: Option<Vec<f64>> = self.rounds.iter().map(|round| self.joules_per_token(round)).collect();
        Speeds {
            ms_per_token: self.median(|round| 1e3 / self.tok_s(round)),
            weights_gb_s: self.median(|round| self.weights_gb_s(round)),
            gmac_s: self.median(|round| self.gmac_s(round)),
            percent_of_int8_peak: self.median(|round| 1e11 * self.gmac_s(round) / round.limits.int8_peak),
            joules_per_token: joules.map(median),
        }
    }

    fn against(&self) -> Option<Against> {
        let theirs = self.rounds.iter().map(|round| round.peer_tok_s).collect::<Option<Vec<f64>>>()?;
        let ratios: Vec<f64> =
            self.rounds.iter().zip(&theirs).map(|(round, theirs)| self.tok_s(round) / theirs).collect();
        Some(Against {
            tok_s: median(theirs),
            ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratio_max: ratios.iter().copied().fold(0.0, f64::max),
            ratio: median(ratios),
        })
    }
}

impl Model {
    pub(super) fn of(measured: &ModelMeasured) -> Model {
        let tests = |phase| measured.tests.iter().filter(move |measured| measured.test.phase == phase);
        let rounds = || measured.tests.iter().flat_map(|measured| &measured.rounds);
        Model {
            model: measured.name.clone(),
            threads: measured.threads,
            read_bandwidth_gb_s: median(rounds().map(|round| round.limits.bandwidth / 1e9).collect()),
            int8_peak_gmac_s: median(rounds().map(|round| round.limits.int8_peak / 1e9).collect()),
            weights_bytes: measured.weight_bytes,
            time_to_first_token_ms: 1e3 * measured.first_token_seconds,
            memory: measured.memory.map(|(memory, context)| AtContext { context, memory }),
            residency: measured.residency,
            prefill: tests(Phase::Prefill)
                .map(|measured| Prefill {
                    tokens: measured.test.tokens,
                    prefill_tok_s: measured.median(|round| measured.tok_s(round)),
                    speeds: measured.speeds(),
                    against: measured.against(),
                })
                .collect(),
            decode: tests(Phase::Decode)
                .map(|measured| Decode {
                    at_context: measured.test.at_context,
                    tokens: measured.test.tokens,
                    decode_tok_s: measured.median(|round| measured.tok_s(round)),
                    speeds: measured.speeds(),
                    percent_of_bandwidth: measured
                        .median(|round| 1e11 * measured.weights_gb_s(round) / round.limits.bandwidth),
                    weights_and_kv_gb_s: measured.median(|round| measured.weights_and_kv_gb_s(round)),
                    percent_of_bandwidth_with_kv: measured
                        .median(|round| 1e11 * measured.weights_and_kv_gb_s(round) / round.limits.bandwidth),
                    against: measured.against(),
                })
                .collect(),
            verify: tests(Phase::Verify)
                .map(|measured| Verify {
                    at_context: measured.test.at_context,
                    tokens: measured.test.tokens,
                    pass_ms: measured.median(|round| 1e3 * round.seconds),
                    times_one_token: tests(Phase::Decode)
                        .find(|decode| decode.test.at_context == measured.test.at_context)
                        .map(|decode| {
                            let both = measured.rounds.iter().zip(&decode.rounds);
                            median(both.map(|(pass, one)| pass.seconds * decode.tok_s(one)).collect())
                        }),
                })
                .collect(),
        }
    }
}

/// The middle one, or the mean of the two in the middle; 0 of none.
pub(in crate::commands) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

pub(super) fn print(output: &Output, printer: &Printer) -> Result<(), Failure> {
    printer.line(&format!("{}, {} cores, {}", output.machine.cpu, output.machine.cores, output.isa))?;
    if let Some(peer) = &output.against {
        printer.line(&format!("against {} {}: {}", peer.name, peer.version, peer.flags))?;
    }
    for model in &output.models {
        let threads = if model.threads == 1 { "thread" } else { "threads" };
        printer.heading(&format!("{}, {} {threads}", model.model, model.threads))?;
        printer.line(&format!(
            "  the machine reads {:.1} GB/s and multiplies {:.0} GMAC/s in 8 bits",
            model.read_bandwidth_gb_s, model.int8_peak_gmac_s
        ))?;
        for prefill in &model.prefill {
            let Speeds { ms_per_token, gmac_s, percent_of_int8_peak, .. } = prefill.speeds;
            printer.line(&format!(
                "  prefill {:5} tokens         {:8.1} tok/s  {ms_per_token:7.2} ms  {gmac_s:6.1} GMAC/s  \
                 {percent_of_int8_peak:3.0} % of the 8-bit peak",
                prefill.tokens, prefill.prefill_tok_s,
            ))?;
            details(&prefill.speeds, prefill.against.as_ref(), printer)?;
        }
        for decode in &model.decode {
            let Speeds { ms_per_token, weights_gb_s, .. } = decode.speeds;
            printer.line(&format!(
                "  decode  {:5} tokens at {:5} {:8.1} tok/s  {ms_per_token:7.2} ms  {weights_gb_s:6.1} GB/s    \
                 {:3.0} % of the bandwidth, {:.0} % with keys and values",
                decode.tokens,
                decode.at_context,
                decode.decode_tok_s,
                decode.percent_of_bandwidth,
                decode.percent_of_bandwidth_with_kv
            ))?;
            details(&decode.speeds, decode.against.as_ref(), printer)?;
        }
        for verify in &model.verify {
            let times = verify.times_one_token.map(|times| format!(", {times:.2} times one token"));
            printer.line(&format!(
                "  verify  {:5} tokens at {:5} {:8.2} ms a pass{}",
                verify.tokens,
                verify.at_context,
                verify.pass_ms,
                times.unwrap_or_default()
            ))?;
        }
        printer.line(&format!("  first token {:.0} ms after a warm start", model.time_to_first_token_ms))?;
        if let Some(AtContext { context, memory }) = &model.memory {
            printer.line(&format!(
                "  memory at {context} tokens: {} anonymous, {} resident with mapped files",
                units::bytes(memory.anonymous_bytes),
                units::bytes(memory.resident_bytes)
            ))?;
        }
    }
    Ok(())
}

/// What not every machine and call has.
fn details(speeds: &Speeds, against: Option<&Against>, printer: &Printer) -> Result<(), Failure> {
    if let Some(joules) = speeds.joules_per_token {
        printer.line(&format!("          {:.1} mJ a token", 1e3 * joules))?;
    }
    if let Some(Against { tok_s, ratio, ratio_min, ratio_max }) = against {
        printer.line(&format!(
            "          against {tok_s:8.1} tok/s: {ratio:.2}x ({ratio_min:.2} to {ratio_max:.2})"
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::measure::{Limits, Test, Work};
    use super::*;

    #[test]
    fn figures_are_medians_of_rounds_and_ratios_are_taken_within_a_round() {
        let round = |seconds, bandwidth, theirs| Round {
            limits: Limits { bandwidth, int8_peak: 100e9 },
            seconds,
            joules: Some(4.0),
            peer_tok_s: Some(theirs),
        };
        let measured = Measured {
            test: Test { phase: Phase::Decode, tokens: 10, at_context: 0 },
            work: Work { macs: 20e9, weight_bytes: 10e9, kv_bytes: 2e9 },
            // 10, 5 and 2.5 tokens a second, on a machine that changes.
            rounds: vec![round(1.0, 40e9, 2.0), round(2.0, 10e9, 5.0), round(4.0, 10e9, 2.5)],
        };
        let limits = measured.median(|round| 1e11 * measured.weights_gb_s(round) / round.limits.bandwidth);
        // 10, 5 and 2.5 GB/s of 40, 10 and 10.
        assert_eq!(limits, 25.0);
        let speeds = measured.speeds();
        assert_eq!((speeds.ms_per_token, speeds.gmac_s, speeds.percent_of_int8_peak), (200.0, 10.0, 10.0));
        assert_eq!((speeds.weights_gb_s, speeds.joules_per_token), (5.0, Some(0.4)));
        assert_eq!(measured.median(|round| measured.weights_and_kv_gb_s(round)), 6.0);
        let against = measured.against().unwrap();
        assert_eq!((against.tok_s, against.ratio), (2.5, 1.0));
        assert_eq!((against.ratio_min, against.ratio_max), (1.0, 5.0));
    }

    #[test]
    fn a_median_of_an_even_count_lies_between() {
        assert_eq!(median(vec![3.0, 1.0, 2.0, 10.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }
}
