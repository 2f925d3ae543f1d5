//! Lets a load arrive at a server and notes when what came back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use engine::Class;
use serde_json::{Value, json};

use super::load::{Arrival, Load, words};

/// How often the end of the load is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// What became of a request. Times are seconds after the load's start.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) class: Class,
    pub(super) is_awaited: bool,
    /// When it was to arrive: waiting for anything counts from there.
    pub(super) at: f64,
    /// When each piece of text came.
    pub(super) pieces: Vec<f64>,
    pub(super) has_ended: bool,
    /// Tokens of its prompt, as the server counted.
    pub(super) prompt_tokens: Option<u64>,
    pub(super) problem: Option<String>,
}

impl Sample {
    /// Seconds to the first token.
    pub(super) fn first_token(&self) -> Option<f64> {
        Some(self.pieces.first()? - self.at)
    }

    /// Seconds from token to token.
    pub(super) fn gaps(&self) -> impl Iterator<Item = f64> {
        self.pieces.windows(2).map(|pair| pair[1] - pair[0])
    }
}

/// A load as it went.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) samples: Vec<Sample>,
    /// When the last awaited request had ended, or patience had, in seconds.
    pub(super) end: f64,
}

/// Plays the load. `end` is called when it is over and must make the server end what is still running; an awaited request
/// that has not ended within `patience` after the last arrival is given up.
pub(super) fn play(client: &Client, load: &Load, patience: Duration, end: impl FnOnce()) -> Played {
    let awaited = AtomicUsize::new(load.arrivals.iter().filter(|arrival| arrival.is_awaited).count());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let mut arrivals: Vec<&Arrival> = load.arrivals.iter().collect();
        arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
        let mut asked = Vec::new();
        for arrival in arrivals {
            // Made before its time, which it must not cost.
            let body = body(arrival);
            let wait = Duration::from_secs_f64(arrival.at).saturating_sub(start.elapsed());
            std::thread::sleep(wait);
            let awaited = &awaited;
            asked.push(scope.spawn(move || {
                let sample = ask(client, arrival, &body, start);
                if arrival.is_awaited {
                    awaited.fetch_sub(1, Ordering::Relaxed);
                }
                sample
            }));
        }
        let last = Instant::now();
        while awaited.load(Ordering::Relaxed) > 0 && last.elapsed() < patience {
            std::thread::sleep(LOOK);
        }
        let ended = start.elapsed().as_secs_f64();
        std::thread::sleep(load.linger);
        end();
        let samples = asked.into_iter().filter_map(|asked| asked.join().ok()).collect();
        Played { samples, end: ended }
    })
}

/// The request, for any server that speaks OpenAI's API; who does not know a field leaves it alone.
fn body(arrival: &Arrival) -> Value {
    json!({
        "prompt": words(arrival.prompt, arrival.seed),
        "max_tokens": arrival.answer,
        "temperature": 0,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
        "pouch": {"priority": arrival.class},
    })
}

fn ask(client: &Client, arrival: &Arrival, body: &Value, start: Instant) -> Sample {
    let mut sample = Sample {
        class: arrival.class,
        is_awaited: arrival.is_awaited,
        at: arrival.at,
        pieces: Vec::new(),
        has_ended: false,
        prompt_tokens: None,
        problem: None,
    };
    if let Err(error) = listen(client, body, start, &mut sample) {
        sample.problem = Some(error.to_string());
    }
    sample
}

fn listen(client: &Client, body: &Value, start: Instant, sample: &mut Sample) -> Result<(), client::Error> {
    for event in client.stream("/v1/completions", body)? {
        let event = event?;
        let choice = &event["choices"][0];
        if choice["text"].as_str().is_some_and(|text| !text.is_empty()) {
            sample.pieces.push(start.elapsed().as_secs_f64());
        }
        sample.prompt_tokens = event["usage"]["prompt_tokens"].as_u64().or(sample.prompt_tokens);
        sample.has_ended |= choice["finish_reason"].is_string();
    }
    Ok(())
}
