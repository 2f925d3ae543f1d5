//! What a foreground request waits while the background is busy: time to first token, idle and under load.
//! `cargo run --release -p engine --example foreground -- MODEL.gguf [requests] [fair]`
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use engine::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which model?")?;
    let count: usize = std::env::args().nth(2).map_or(Ok(20), |n| n.parse())?;
    let team = kernels::Team::new(2);
    let cache = std::env::var_os("POUCH_CACHE").map(std::path::PathBuf::from);
    let options = model::Options { cache_folder: cache.as_deref(), team: Some(&team), progress: None };
    let model = Arc::new(model::Model::open(path.as_ref(), &options)?);
    drop(team);
    let mut service_options = ServiceOptions::default();
    if std::env::args().any(|a| a == "fair") {
        service_options.policy.sharing = Sharing::Fair;
    }
    let service = Service::start(service_options)?;
    let prompt = |n: usize, seed: u32| -> Vec<u32> {
        (0..n as u32).map(|i| 1000 + (i * 7919 + seed * 104729) % 50000).collect()
    };
    let ask = |n: usize, answer: usize, seed: u32, class: Class| {
        let (sender, receiver) = mpsc::channel();
        let request = Request {
            model: Arc::clone(&model),
            prompt: prompt(n, seed),
            options: SessionOptions {
                limits: Limits { max_tokens: Some(answer), ignore_end: true, ..Limits::default() },
                sampler: SamplerOptions::greedy(),
                ..SessionOptions::default()
            },
            class,
            deadline: None,
            constraint: None,
            logprobs: None,
        };
        let id = service.submit(request, Box::new(move |u| drop(sender.send((Instant::now(), u))))).unwrap();
        (id, receiver)
    };
    let foreground = |seed: u32| -> (f64, f64) {
        let start = Instant::now();
        let (_, updates) = ask(128, 8, seed, Class::Interactive);
        let mut first = None;
        for (at, update) in updates {
            match update {
                Update::Tokens { .. } if first.is_none() => first = Some(at - start),
                Update::End { .. } => return (first.unwrap().as_secs_f64(), (at - start).as_secs_f64()),
                Update::Failed(e) => panic!("{e}"),
                _ => {}
            }
        }
        unreachable!()
    };
    let tell = |name: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |q: f64| times[((times.len() - 1) as f64 * q).ceil() as usize] * 1e3;
        println!(
            "{name}: p50 {:.0} ms, p90 {:.0}, p99 {:.0}, max {:.0}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
        at(0.99)
    };
    foreground(99);
    let idle: Vec<f64> = (0..count).map(|i| foreground(i as u32).0).collect();
    let idle = tell("idle", idle);
    let work: Vec<_> = (0..4)
        .map(|i| ask(64, 4000, 500 + i, Class::Background))
        .chain([ask(8000, 200, 77, Class::Background)])
        .collect();
    std::thread::sleep(Duration::from_millis(1500));
    let before = service.figures();
    let busy: Vec<f64> = (0..count)
        .map(|i| {
            std::thread::sleep(Duration::from_millis(300));
            foreground(1000 + i as u32).0
        })
        .collect();
    let after = service.figures();
    let busy = tell("busy", busy);
    println!(
        "ratio of p99 {:.3}; preempted {}; prefilled {} decoded {}; longest layer {:.1} ms; {:?}",
        busy / idle,
        after.preempted - before.preempted,
        after.prefilled_tokens - before.prefilled_tokens,
        after.decoded_tokens - before.decoded_tokens,
        after.longest_layer_seconds * 1e3,
        after
    );
    for (id, _) in &work {
        service.cancel(*id);
    }
    service.shutdown();
    Ok(())
}
