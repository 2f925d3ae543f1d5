//! The table of phones: what models of several sizes do on each.

use device::predict::Fit;
use device::profile::{Profile, catalogue};
use device::{Setting, plan};
use kernels::ops::attention::KvType;

use super::shapes;

/// The models, by what people call their size: llama.cpp's Q4_K_M, as most are fetched.
const MODELS: [(&str, &str); 5] = [
    ("0.6B", "qwen3-0.6b"),
    ("1.5B", "qwen2.5-1.5b"),
    ("3B", "llama-3.2-3b"),
    ("8B", "qwen3-8b"),
    ("30B-A3B", "qwen3-30b-a3b"),
];

/// Tokens of the context that there shall be room for.
pub(super) const CONTEXT: usize = 4096;

/// Devices by the speed of the largest model, then of the smaller ones.
pub(super) fn table() -> Result<String, String> {
    let shapes = MODELS
        .into_iter()
        .map(|(_, name)| shapes::shape(name, "Q4_K_M", "Q6_K"))
        .collect::<Result<Vec<_>, String>>()?;
    let profiles = catalogue::all().map_err(|error| error.to_string())?;
    let mut rows: Vec<(Vec<f64>, String)> = profiles
        .iter()
        .map(|(id, profile)| {
            let cells: Vec<(f64, String)> = shapes.iter().map(|shape| cell(profile, shape)).collect();
            let rank = cells.iter().rev().map(|(rank, _)| *rank).collect();
            let texts: Vec<&str> = cells.iter().map(|(_, text)| text.as_str()).collect();
            let memory = format!(
                "{:.0}, {:.1} free",
                profile.memory.total_gb.value / 1.0737,
                profile.memory.free_gb.value
            );
            let row = format!(
                "| {} (`{id}`) | {} | {memory} | {} |\n",
                profile.name,
                profile.chip,
                texts.join(" | ")
            );
            (rank, row)
        })
        .collect();
    rows.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal));
    let names = MODELS.map(|(name, _)| name).join(" | ");
    let head =
        format!("| device | chip | memory, GB | {names} |\n|---|---|---|{}\n", "---|".repeat(MODELS.len()));
    Ok(head + &rows.into_iter().map(|(_, row)| row).collect::<String>())
}

/// What devices are ranked by, and what the table says.
fn cell(profile: &Profile, shape: &device::Shape) -> (f64, String) {
    let setting = Setting {
        context: CONTEXT,
        kv_type: KvType::F16,
        batch: 256,
        prompt: 512,
        at_context: 512,
        threads: None,
    };
    let plan = plan(profile, shape, &setting);
    let tok_s = plan.decode.map_or(0.0, |speed| speed.tok_s);
    let speed = format!("{tok_s:.*}", usize::from(tok_s < 10.0));
    match plan.verdict.fit {
        Fit::Fits => (1e6 + tok_s, format!("**{speed}**")),
        Fit::Streams { .. } => (tok_s, format!("streams, {speed}")),
        Fit::Killed => (0.0, "no".to_owned()),
    }
}
