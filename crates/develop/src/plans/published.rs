//! Predictions for phones beside what other engines were published to do on them: the nearest to a test on a phone that can be
//! had without one. They are other engines, so a prediction that is right for this one may differ; how far is the point.

use device::profile::catalogue;
use device::{Setting, plan};
use kernels::ops::attention::KvType;

use super::shapes;

/// What an engine was published to do.
struct Published {
    profile: String,
    shape: String,
    layers: String,
    head: String,
    prompt: usize,
    prefill: Option<f64>,
    decode: Option<f64>,
    memory: Option<f64>,
    engine: String,
}

/// The table of all lines of the record.
pub(super) fn table(record: &str) -> Result<String, String> {
    let mut out = String::from(
        "| device | model | engine | prefill: published, predicted | decode: published, predicted | memory: published, predicted |\n\
         |---|---|---|---|---|---|\n",
    );
    for line in record.lines().skip(1) {
        let published = Published::parse(line).ok_or_else(|| format!("no published result: {line}"))?;
        out += &published.row()?;
    }
    Ok(out)
}

impl Published {
    fn parse(line: &str) -> Option<Published> {
        let cells: Vec<&str> = line.splitn(10, ',').collect();
        let [profile, shape, layers, head, prompt, prefill, decode, memory, engine, _source] = cells[..]
        else {
            return None;
        };
        Some(Published {
            profile: profile.to_owned(),
            shape: shape.to_owned(),
            layers: layers.to_owned(),
            head: head.to_owned(),
            prompt: prompt.parse().ok()?,
            prefill: prefill.parse().ok(),
            decode: decode.parse().ok(),
            memory: memory.parse().ok(),
            engine: engine.to_owned(),
        })
    }

    fn row(&self) -> Result<String, String> {
        let profile = catalogue::find(&self.profile).map_err(|error| error.to_string())?;
        let setting = Setting {
            context: 2048,
            kv_type: KvType::F16,
            batch: 256,
            prompt: self.prompt,
            at_context: self.prompt,
            threads: None,
        };
        let plan = plan(&profile, &shapes::shape(&self.shape, &self.layers, &self.head)?, &setting);
        let pair = |published: Option<f64>, predicted: Option<f64>| match published.zip(predicted) {
            Some((published, predicted)) => format!(
                "{published:.*}, {predicted:.*} ({:+.0} %)",
                usize::from(published < 100.0),
                usize::from(published < 100.0),
                (predicted / published - 1.0) * 100.0
            ),
            None => String::new(),
        };
        Ok(format!(
            "| {} | {}, {} | {} | {} | {} | {} |\n",
            profile.name,
            self.shape,
            self.layers,
            self.engine,
            pair(self.prefill, plan.prefill.map(|speed| speed.tok_s)),
            pair(self.decode, plan.decode.map(|speed| speed.tok_s)),
            pair(self.memory.map(|mb| mb / 1e3), Some(plan.memory.resident_bytes() as f64 / 1e9)),
        ))
    }
}
