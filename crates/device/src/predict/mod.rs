//! What a model will do on a device: a pure function of the device's profile and the model's shape.

mod energy;
mod memory;
mod recommend;
#[cfg(test)]
mod tests;
mod time;
mod verdict;

use kernels::ops::attention::KvType;
use serde::Serialize;

use crate::{Profile, Residency, Shape, Speeds};
pub use energy::Energy;
pub use memory::MemoryTable;
pub use recommend::{Recommendation, SizeBudget, size_budget};
pub use time::{Parts, Speed};
pub use verdict::{Fit, Verdict};

/// What the model is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Tokens that there shall be room for.
    pub context: usize,
    /// How keys and values are kept.
    pub kv_type: KvType,
    /// Tokens of a prompt that are computed together.
    pub batch: usize,
    /// Tokens of the prompt whose first answer token is waited for.
    pub prompt: usize,
    /// Tokens in the context when decoding is timed.
    pub at_context: usize,
    /// Threads; those with the best speed if `None`.
    pub threads: Option<usize>,
}

/// Everything that is known beforehand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Whether it fits.
    pub verdict: Verdict,
    /// Bytes by what they are for; of layers that are streamed only what is in memory at once.
    pub memory: MemoryTable,
    /// Bytes that the system counts as the program's own.
    pub counted_bytes: u64,
    /// A prompt of [`Setting::prompt`] tokens; `None` where the model cannot run.
    pub prefill: Option<Speed>,
    /// One token after [`Setting::at_context`] others.
    pub decode: Option<Speed>,
    /// From starting the program to the first token of the answer, when the weights are in memory already, in seconds.
    pub first_token_warm_s: Option<f64>,
    /// The same when they have to be read from storage.
    pub first_token_cold_s: Option<f64>,
    /// Energy of a token; `None` where the profile does not say what its cores take.
    pub energy: Option<Energy>,
    /// How to use the device best.
    pub recommendation: Recommendation,
}

/// Predicts what the model of this `shape` does on the device of this `profile`.
pub fn plan(profile: &Profile, shape: &Shape, setting: &Setting) -> Plan {
    let timed = Timed::new(profile, shape, setting);
    let recommendation = recommend::recommend(profile, shape, setting, &timed);
    let Timed { memory, verdict, prefill, decode, .. } = timed;
    let start = decode.as_ref().map(|_| time::start_seconds(shape, profile));
    let prompt = prefill.as_ref().map(|speed| setting.prompt as f64 / speed.tok_s);
    let warm = start.zip(prompt).map(|(start, prompt)| start + prompt);
    let mapped = memory.mapped_bytes() as f64;
    let reading = profile.storage.as_ref().map(|storage| mapped / (storage.read_gb_s.value * 1e9));
    // What streams is read during the prompt already.
    let cold = warm.zip(reading).map(|(warm, reading)| match verdict.fit {
        Fit::Streams { .. } => warm,
        _ => warm + reading,
    });
    Plan {
        counted_bytes: memory.counted_bytes(profile.system),
        energy: energy::energy(profile, shape, setting, prefill.as_ref(), decode.as_ref()),
        verdict,
        memory,
        prefill,
        decode,
        first_token_warm_s: warm,
        first_token_cold_s: cold,
        recommendation,
    }
}

/// Memory, verdict and speeds: what recommendations are chosen by.
struct Timed {
    memory: MemoryTable,
    verdict: Verdict,
    /// Tokens of a prompt that are computed together.
    batch: usize,
    prefill: Option<Speed>,
    decode: Option<Speed>,
}

impl Timed {
    fn new(profile: &Profile, shape: &Shape, setting: &Setting) -> Timed {
        let choices = match setting.threads {
            Some(threads) => vec![threads],
            None => Speeds::choices(profile),
        };
        let most = choices.iter().copied().max().unwrap_or(1);
        let (verdict, found) = Verdict::of(profile, shape, setting, most);
        let Some(Residency { memory, batch, resident, .. }) = found else {
            let (memory, batch) = (MemoryTable::of(shape, setting, most), setting.batch);
            return Timed { memory, verdict, batch, prefill: None, decode: None };
        };
        let setting = &Setting { batch, ..*setting };
        let speeds: Vec<Speeds> =
            choices.iter().filter_map(|&threads| Speeds::of(profile, threads)).collect();
        let streamed = |tokens| verdict::streamed_seconds(profile, shape, resident, tokens);
        let (many, one) = (streamed(batch), streamed(1));
        let prefill = speeds.iter().map(|speeds| time::prefill(shape, setting, speeds, many));
        let decode = speeds.iter().map(|speeds| time::decode(shape, setting, speeds, one));
        Timed { prefill: time::best(prefill), decode: time::best(decode), memory, verdict, batch }
    }
}
