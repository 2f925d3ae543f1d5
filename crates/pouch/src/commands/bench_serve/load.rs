//! What is asked, and when: arrivals fixed before anything runs (an open loop), so that a server that is slow does not
//! get less to do.

use std::time::Duration;

use engine::{Class, Random};

/// A request that will arrive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arrival {
    /// Seconds after the start.
    pub(super) at: f64,
    pub(super) class: Class,
    /// Words of its prompt.
    pub(super) prompt: usize,
    /// Tokens of its answer.
    pub(super) answer: usize,
    /// Whether its end is waited for; the others are there to keep the machine busy.
    pub(super) is_awaited: bool,
    /// What its prompt is made from: no two begin alike, so that no cache can help.
    pub(super) seed: u64,
}

/// Arrivals that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) arrivals: Vec<Arrival>,
    /// Goes on for so long after the last awaited one has ended.
    pub(super) linger: Duration,
}

/// How large the loads are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Questions while nothing else runs, and while the background is busy.
    pub(super) questions: usize,
    /// Seconds from one to the next, on average.
    pub(super) every: f64,
    /// Seconds of mixed arrivals; 0 leaves them out.
    pub(super) mixed: f64,
    /// Seconds in which the background's speed is measured, before and after a burst of questions.
    pub(super) window: f64,
    pub(super) seed: u64,
}

impl Size {
    /// When the background of a burst has the machine alone before it, in seconds.
    pub(super) fn before_burst(&self) -> (f64, f64) {
        (HEAD_START, HEAD_START + self.window)
    }
}

/// A question as somebody types it, and a short answer.
const QUESTION: (usize, usize) = (128, 32);

/// Background work: a long document, and answers in the making.
const DOCUMENT: usize = 8000;
const DECODERS: usize = 4;

/// An answer that outlasts the measurement.
const ENDLESS: usize = 8000;

/// Seconds that the background has before the first question.
const HEAD_START: f64 = 2.0;

/// Questions of a burst, and seconds between them.
const BURST: (usize, f64) = (6, 0.25);

/// The mix: class, prompt, answer, and its share of the arrivals.
const MIX: [(Class, usize, usize, f64); 3] = [
    (Class::Interactive, 128, 32, 0.6),
    (Class::Normal, 512, 64, 0.25),
    (Class::Background, 1024, 128, 0.15),
];

/// Where the burst is among the loads.
pub(super) const BURST_LOAD: usize = 2;

/// The loads of a run, in order.
pub(super) fn loads(size: Size) -> Vec<Load> {
    let mut random = Random::new(size.seed);
    let mut loads = vec![idle(size, &mut random), busy(size, &mut random), burst(size, &mut random)];
    if size.mixed > 0.0 {
        loads.push(mixed(size, &mut random));
    }
    loads
}

/// Questions alone.
fn idle(size: Size, random: &mut Random) -> Load {
    Load { name: "idle", arrivals: questions(size, 0.0, random), linger: Duration::ZERO }
}

/// The same, while a long prompt is computed and several answers are being made in the background.
fn busy(size: Size, random: &mut Random) -> Load {
    let mut arrivals = background(random);
    arrivals.push(Arrival { prompt: DOCUMENT, answer: 64, ..background_work(random) });
    arrivals.extend(questions(size, HEAD_START, random));
    Load { name: "busy", arrivals, linger: Duration::ZERO }
}

/// Answers being made in the background, a burst of questions, and the time after.
fn burst(size: Size, random: &mut Random) -> Load {
    let (mut arrivals, (_, start)) = (background(random), size.before_burst());
    arrivals.extend((0..BURST.0).map(|i| question(start + i as f64 * BURST.1, random)));
    Load { name: "burst", arrivals, linger: Duration::from_secs_f64(size.window) }
}

/// Everybody at random moments.
fn mixed(size: Size, random: &mut Random) -> Load {
    let mut arrivals = Vec::new();
    let mut at = 0.0;
    loop {
        // The gaps of a Poisson process.
        at += -size.every * (1.0 - random.next_f64()).ln();
        if at > size.mixed {
            return Load { name: "mixed", arrivals, linger: Duration::ZERO };
        }
        let mut share = random.next_f64();
        let (class, prompt, answer, _) = MIX
            .into_iter()
            .find(|(.., part)| {
                share -= part;
                share < 0.0
            })
            .unwrap_or(MIX[0]);
        arrivals.push(Arrival { at, class, prompt, answer, is_awaited: true, seed: random.next_u64() });
    }
}

fn questions(size: Size, start: f64, random: &mut Random) -> Vec<Arrival> {
    let times: Vec<f64> =
        (0..size.questions).map(|i| start + size.every * (i as f64 + 0.5 * random.next_f64())).collect();
    times.into_iter().map(|at| question(at, random)).collect()
}

fn question(at: f64, random: &mut Random) -> Arrival {
    let (prompt, answer) = QUESTION;
    Arrival { at, class: Class::Interactive, prompt, answer, is_awaited: true, seed: random.next_u64() }
}

/// Answers that are made all the while.
fn background(random: &mut Random) -> Vec<Arrival> {
    (0..DECODERS).map(|_| background_work(random)).collect()
}

fn background_work(random: &mut Random) -> Arrival {
    let (at, class) = (0.0, Class::Background);
    Arrival { at, class, prompt: 64, answer: ENDLESS, is_awaited: false, seed: random.next_u64() }
}

/// Words that are one token in most vocabularies.
const WORDS: [&str; 64] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not",
    "he", "his", "but", "at", "are", "this", "have", "from", "or", "had", "an", "they", "which", "one",
    "you", "were", "all", "her", "she", "there", "would", "their", "we", "him", "been", "has", "when", "who",
    "will", "no", "more", "if", "out", "so", "up", "said", "what", "its", "about", "than", "into", "them",
    "can", "only", "other", "time", "new", "some",
];

/// A prompt: words at random.
pub(super) fn words(count: usize, seed: u64) -> String {
    let mut random = Random::new(seed);
    (0..count).map(|_| WORDS[(random.next_u64() >> 58) as usize]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { questions: 20, every: 2.0, mixed: 4000.0, window: 8.0, seed: 7 };

    #[test]
    fn the_same_seed_gives_the_same_arrivals_and_no_two_prompts() {
        assert_eq!(loads(SIZE), loads(SIZE));
        assert_ne!(loads(SIZE), loads(Size { seed: 8, ..SIZE }));
        let loads = loads(SIZE);
        let mut seeds: Vec<u64> =
            loads.iter().flat_map(|load| &load.arrivals).map(|arrival| arrival.seed).collect();
        let count = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), count);
        assert_eq!(words(500, seeds[0]).split(' ').count(), 500);
        assert_ne!(words(16, seeds[0]), words(16, seeds[1]));
    }

    #[test]
    fn mixed_arrivals_come_as_often_as_they_should_in_their_shares() {
        let loads = loads(SIZE);
        let arrivals = &loads.last().unwrap().arrivals;
        let count = arrivals.len() as f64;
        assert!((count - 2000.0).abs() < 150.0, "{count}");
        for (class, .., share) in MIX {
            let part = arrivals.iter().filter(|arrival| arrival.class == class).count() as f64 / count;
            assert!((part - share).abs() < 0.05, "{class}: {part}");
        }
        assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
    }

    #[test]
    fn a_busy_background_is_there_before_the_questions() {
        let loads = loads(SIZE);
        let (questions, work): (Vec<&Arrival>, Vec<&Arrival>) =
            loads[1].arrivals.iter().partition(|arrival| arrival.is_awaited);
        assert_eq!((questions.len(), work.len()), (20, 5));
        assert!(questions.iter().all(|question| question.at >= HEAD_START));
        assert!(work.iter().any(|work| work.prompt == DOCUMENT));
    }
}
