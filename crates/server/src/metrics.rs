//! What the server has done and how long it took, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::{Class, Figures};

/// Upper bounds of the histograms' buckets, in seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// The priority classes, in the order of their figures here.
const CLASSES: [Class; 3] = [Class::Interactive, Class::Normal, Class::Background];

/// Status codes are counted by their first digit.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Everything counted.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: [AtomicU64; 5],
    prompt_tokens: AtomicU64,
    reused_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    ended: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
    first_token: [Histogram; 3],
    between_tokens: [Histogram; 3],
}

/// Times, counted by size.
#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts `count` times of `time`.
    fn record(&self, time: Duration, count: u64) {
        let seconds = time.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        self.sum_us.fetch_add(time.as_micros() as u64 * count, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, class: Class) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = BOUNDS.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{class=\"{class}\",le=\"{bound}\"}} {count}");
        }
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{{class=\"{class}\"}} {sum}");
        let _ = writeln!(out, "{name}_count{{class=\"{class}\"}} {count}");
    }
}

impl Metrics {
    /// An HTTP request was answered.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.requests[class].fetch_add(1, Ordering::Relaxed);
    }

    /// A prompt was handed to the engine.
    pub(crate) fn accepted(&self, prompt_tokens: usize) {
        self.prompt_tokens.fetch_add(prompt_tokens as u64, Ordering::Relaxed);
    }

    /// Appends everything to `out`.
    pub(crate) fn write(&self, out: &mut String) {
        family(out, "pouch_http_requests_total", "counter", "HTTP requests by the class of their status.");
        for (class, count) in STATUS_CLASSES.iter().zip(&self.requests) {
            let _ = writeln!(
                out,
                "pouch_http_requests_total{{status=\"{class}\"}} {}",
                count.load(Ordering::Relaxed)
            );
        }
        let counters = [
            ("pouch_prompt_tokens_total", "Tokens of prompts.", &self.prompt_tokens),
            ("pouch_reused_tokens_total", "Tokens of prompts that were found computed.", &self.reused_tokens),
            ("pouch_generated_tokens_total", "Tokens of answers.", &self.generated_tokens),
            ("pouch_answers_ended_total", "Answers that came to their end.", &self.ended),
            ("pouch_answers_cancelled_total", "Answers that were cancelled.", &self.cancelled),
            ("pouch_answers_failed_total", "Answers that failed.", &self.failed),
        ];
        for (name, help, count) in counters {
            value(out, name, "counter", help, count.load(Ordering::Relaxed) as f64);
        }
        let histograms = [
            ("pouch_time_to_first_token_seconds", "From a request to its first token.", &self.first_token),
            ("pouch_time_between_tokens_seconds", "Between two tokens of an answer.", &self.between_tokens),
        ];
        for (name, help, histograms) in histograms {
            family(out, name, "histogram", help);
            for (class, histogram) in CLASSES.into_iter().zip(histograms) {
                histogram.write(out, name, class);
            }
        }
    }
}

/// Heads the lines of one figure.
fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A figure that is one number.
pub(crate) fn value(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    family(out, name, kind, help);
    let _ = writeln!(out, "{name} {value}");
}

/// Measures one answer.
pub(crate) struct Timer {
    metrics: Arc<Metrics>,
    class: usize,
    last: Instant,
    begun: bool,
}

impl Timer {
    pub(crate) fn start(metrics: Arc<Metrics>, class: Class) -> Timer {
        let class = CLASSES.iter().position(|known| *known == class).unwrap_or(0);
        Timer { metrics, class, last: Instant::now(), begun: false }
    }

    /// So many tokens came at once.
    pub(crate) fn tokens(&mut self, count: usize) {
        let Some(more) = count.checked_sub(1) else { return };
        let now = Instant::now();
        let time = now - self.last;
        match self.begun {
            false => {
                self.metrics.first_token[self.class].record(time, 1);
                self.metrics.between_tokens[self.class].record(Duration::ZERO, more as u64);
            }
            true => self.metrics.between_tokens[self.class].record(time / count as u32, count as u64),
        }
        (self.begun, self.last) = (true, now);
    }

    pub(crate) fn end(&self, figures: &Figures, is_cancelled: bool) {
        let metrics = &self.metrics;
        metrics.generated_tokens.fetch_add(figures.generated_tokens as u64, Ordering::Relaxed);
        metrics.reused_tokens.fetch_add(figures.reused_tokens as u64, Ordering::Relaxed);
        let count = if is_cancelled { &metrics.cancelled } else { &metrics.ended };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.metrics.failed.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_count_each_bucket_with_those_below() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(3), 2);
        histogram.record(Duration::from_millis(30), 1);
        histogram.record(Duration::from_secs(1000), 1);
        let mut out = String::new();
        histogram.write(&mut out, "x", Class::Normal);
        assert!(out.contains("x_bucket{class=\"normal\",le=\"0.005\"} 2\n"), "{out}");
        assert!(out.contains("x_bucket{class=\"normal\",le=\"0.05\"} 3\n"), "{out}");
        assert!(out.contains("x_bucket{class=\"normal\",le=\"120\"} 3\n"), "{out}");
        assert!(out.contains("x_bucket{class=\"normal\",le=\"+Inf\"} 4\n"), "{out}");
        assert!(out.contains("x_sum{class=\"normal\"} 1000.036\n"), "{out}");
        assert!(out.contains("x_count{class=\"normal\"} 4\n"), "{out}");
    }
}
