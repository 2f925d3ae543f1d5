//! What is told of the loads: how long requests waited, and what the background kept.

use device::machine::Machine;
use engine::Class;
use serde::Serialize;

use super::drive::Played;
use super::load::Size;
use super::servers::Server;
use crate::errors::Failure;
use crate::printer::Printer;

#[derive(Serialize)]
pub(super) struct Output {
    pub(super) machine: Machine,
    pub(super) isa: &'static str,
    pub(super) model: String,
    pub(super) threads: usize,
    pub(super) rounds: u16,
    pub(super) seed: u64,
    pub(super) servers: Vec<Server>,
    pub(super) loads: Vec<LoadFigures>,
    pub(super) ratios: Vec<Ratios>,
}

/// A load on one server, all rounds together.
#[derive(Serialize)]
pub(super) struct LoadFigures {
    pub(super) load: &'static str,
    pub(super) server: String,
    pub(super) classes: Vec<ClassFigures>,
}

/// The awaited requests of a class.
#[derive(Serialize)]
pub(super) struct ClassFigures {
    pub(super) class: Class,
    pub(super) asked: usize,
    /// Those that ended before patience did.
    pub(super) ended: usize,
    /// From the arrival; who had none when patience ended counts with the wait until then.
    pub(super) first_token_ms: Spread,
    pub(super) next_token_ms: Spread,
}

/// Percentiles: the smallest value that at least so many percent do not exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// What a busy background costs a question, and questions the background.
#[derive(Serialize)]
pub(super) struct Ratios {
    pub(super) server: String,
    /// Time to the first token while the background is busy, by that without: at p50, and at p99.
    pub(super) busy_by_idle_p50: f64,
    pub(super) busy_by_idle_p99: f64,
    /// Tokens of the background after a burst of questions, by those before it in the same time: the median of the rounds.
    pub(super) background_after_burst: f64,
}

impl Spread {
    /// Of seconds, in milliseconds.
    fn of(mut seconds: Vec<f64>) -> Spread {
        seconds.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (seconds.len() * percent).div_ceil(100).max(1);
            seconds.get(rank - 1).map_or(0.0, |seconds| 1e3 * seconds)
        };
        Spread { p50: at(50), p95: at(95), p99: at(99), max: at(100) }
    }
}

impl LoadFigures {
    /// Of all rounds of a load.
    pub(super) fn of(load: &'static str, server: &Server, rounds: &[Played]) -> LoadFigures {
        let classes = Class::ALL.iter().rev().filter_map(|&class| ClassFigures::of(class, rounds)).collect();
        LoadFigures { load, server: server.name.clone(), classes }
    }
}

impl ClassFigures {
    fn of(class: Class, rounds: &[Played]) -> Option<ClassFigures> {
        let samples = rounds.iter().flat_map(|round| round.samples.iter().map(move |sample| (round, sample)));
        let samples: Vec<_> =
            samples.filter(|(_, sample)| sample.is_awaited && sample.class == class).collect();
        let first = samples
            .iter()
            .map(|(round, sample)| sample.first_token().unwrap_or((round.end - sample.at).max(0.0)));
        (!samples.is_empty()).then(|| ClassFigures {
            class,
            asked: samples.len(),
            ended: samples.iter().filter(|(_, sample)| sample.has_ended).count(),
            first_token_ms: Spread::of(first.collect()),
            next_token_ms: Spread::of(samples.iter().flat_map(|(_, sample)| sample.gaps()).collect()),
        })
    }
}

/// Pieces of background answers in the window after a burst, by those in the window before it.
pub(super) fn background_after_burst(size: Size, round: &Played) -> f64 {
    let pieces = |(from, to): (f64, f64)| {
        let work = round.samples.iter().filter(|sample| !sample.is_awaited);
        work.flat_map(|sample| &sample.pieces).filter(|&&at| at >= from && at < to).count() as f64
    };
    pieces((round.end, round.end + size.window)) / pieces(size.before_burst()).max(1.0)
}

pub(super) fn print(output: &Output, printer: &Printer) -> Result<(), Failure> {
    let Output { machine, isa, model, threads, .. } = output;
    printer.line(&format!("{}, {} cores, {isa}; {model}, {threads} threads", machine.cpu, machine.cores))?;
    for server in &output.servers {
        printer.line(&format!("{}: {}", server.name, server.flags.join(" ")))?;
    }
    printer.heading(
        "load   server        class        ended      first token, ms (p50 p95 p99)   next token, ms",
    )?;
    for figures in &output.loads {
        for class in &figures.classes {
            let ended = format!("{}/{}", class.ended, class.asked);
            let Spread { p50, p95, p99, .. } = class.first_token_ms;
            let next = class.next_token_ms;
            printer.line(&format!(
                "{:6} {:13} {:12} {ended:>9}  {p50:8.0} {p95:8.0} {p99:8.0}      {:6.0} {:6.0} {:6.0}",
                figures.load, figures.server, class.class, next.p50, next.p95, next.p99
            ))?;
        }
    }
    for ratios in &output.ratios {
        printer.line(&format!(
            "{}: a busy background makes the first token {:.2}x as late (p99 {:.2}x); after a burst of questions the \
             background has {:.0} % of its speed before",
            ratios.server,
            ratios.busy_by_idle_p50,
            ratios.busy_by_idle_p99,
            100.0 * ratios.background_after_burst
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::drive::Sample;
    use super::*;

    fn sample(class: Class, is_awaited: bool, at: f64, pieces: &[f64]) -> Sample {
        let has_ended = !pieces.is_empty();
        Sample {
            class,
            is_awaited,
            at,
            pieces: pieces.to_vec(),
            has_ended,
            prompt_tokens: None,
            problem: None,
        }
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let spread = Spread::of((1..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { p50: 50e3, p95: 95e3, p99: 99e3, max: 100e3 });
        assert_eq!(Spread::of(vec![2.0]), Spread { p50: 2e3, p95: 2e3, p99: 2e3, max: 2e3 });
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }

    #[test]
    fn waiting_counts_from_the_arrival_and_without_an_answer_to_the_end() {
        let samples = vec![
            sample(Class::Interactive, true, 1.0, &[1.25, 1.5, 2.0]),
            sample(Class::Interactive, true, 2.0, &[]),
            sample(Class::Background, false, 0.0, &[0.5]),
        ];
        let figures = ClassFigures::of(Class::Interactive, &[Played { samples, end: 10.0 }]).unwrap();
        assert_eq!((figures.asked, figures.ended), (2, 1));
        assert_eq!((figures.first_token_ms.p50, figures.first_token_ms.max), (250.0, 8000.0));
        assert_eq!((figures.next_token_ms.p50, figures.next_token_ms.max), (250.0, 500.0));
        let played = Played { samples: vec![sample(Class::Background, false, 0.0, &[1.0])], end: 2.0 };
        assert!(ClassFigures::of(Class::Background, &[played]).is_none());
    }

    #[test]
    fn the_background_is_compared_in_windows_of_one_length() {
        let size = Size { questions: 1, every: 1.0, mixed: 0.0, window: 4.0, seed: 0 };
        let (from, to) = size.before_burst();
        let pieces = [from, from + 1.0, to - 0.1, to + 0.1, 20.0, 21.0, 24.1];
        let samples = vec![sample(Class::Background, false, 0.0, &pieces)];
        let kept = background_after_burst(size, &Played { samples, end: 20.0 });
        assert!((kept - 2.0 / 3.0).abs() < 1e-12, "{kept}");
    }
}
