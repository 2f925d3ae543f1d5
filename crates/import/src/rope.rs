//! Rotary position parameters: from the many spellings of `config.json` to GGUF's keys and factor tables.
//!
//! Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters`, which may hold one set for full
//! and one for sliding attention. How each scaling works:
//! linear <https://arxiv.org/abs/2306.15595>, YaRN <https://arxiv.org/abs/2309.00071>,
//! LongRoPE <https://arxiv.org/abs/2402.13753>; `llama3` is described in the Llama 3.1 model code.

use crate::Error;
use crate::arch::Keys;
use crate::config::{self, Config, Dimensions};
use crate::plan::Plan;
use serde_json::{Map, Value};

/// The rotary parameters of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Rope {
    parameters: Map<String, Value>,
    /// Base of the angles' geometric row.
    pub(crate) base: Option<f64>,
    /// The same for layers with sliding attention, where it differs.
    pub(crate) sliding_base: Option<f64>,
    /// The part of each head that is rotated.
    pub(crate) rotated_part: f64,
}

impl Rope {
    pub(crate) fn read(config: &Config) -> Result<Rope, Error> {
        let object = |key: &str| match config.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object.clone())),
            Some(other) => Err(config::wrong(key, "an object".to_owned(), other)),
        };
        let mut parameters = object("rope_parameters")?.or(object("rope_scaling")?).unwrap_or_default();
        let mut sliding_base = config.number("rope_local_base_freq")?;
        if let Some(Value::Object(sliding)) = parameters.get("sliding_attention") {
            sliding_base =
                sliding.get("rope_theta").map(|base| config::number("rope_theta", base)).transpose()?;
        }
        if let Some(Value::Object(full)) = parameters.get("full_attention") {
            parameters = full.clone();
        }
        let inner = |key: &str| parameters.get(key).filter(|value| !value.is_null());
        let base = match inner("rope_theta") {
            Some(base) => Some(config::number("rope_theta", base)?),
            None => config.number("rope_theta")?,
        };
        let rotated_part = match inner("partial_rotary_factor") {
            Some(part) => config::number("partial_rotary_factor", part)?,
            None => config.number("partial_rotary_factor")?.unwrap_or(1.0),
        };
        Ok(Rope { parameters, base, sliding_base, rotated_part })
    }

    /// The kind of scaling, in lower case; `default` where there is none.
    fn kind(&self) -> String {
        let kind = self.parameters.get("rope_type").or_else(|| self.parameters.get("type"));
        kind.and_then(Value::as_str).unwrap_or("default").to_ascii_lowercase()
    }

    /// Values of a head that are rotated.
    pub(crate) fn rotated(&self, dimensions: &Dimensions) -> Result<u64, Error> {
        let rotated = (self.rotated_part * dimensions.head as f64) as u64;
        if self.rotated_part <= 0.0 || rotated == 0 || rotated > dimensions.head || !rotated.is_multiple_of(2)
        {
            let got = Value::from(self.rotated_part);
            return Err(config::wrong("partial_rotary_factor", "above 0 and at most 1".to_owned(), &got));
        }
        Ok(rotated)
    }

    /// Writes the keys that every architecture has, and the table of `llama3` scaling.
    pub(crate) fn describe(
        &self,
        config: &Config,
        dimensions: &Dimensions,
        keys: &mut Keys<'_>,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let rotated = self.rotated(dimensions)?;
        keys.set("rope.dimension_count", rotated as u32);
        if let Some(base) = self.base {
            keys.set("rope.freq_base", base as f32);
        }
        match self.kind().as_str() {
            "default" => {}
            "linear" => {
                keys.set("rope.scaling.type", "linear");
                keys.set("rope.scaling.factor", config::required_number(&self.parameters, "factor")? as f32);
            }
            "yarn" => self.describe_yarn(config, keys)?,
            "llama3" => plan.add_values("rope_freqs.weight", self.llama3_factors(rotated)?),
            "su" | "longrope" => self.describe_long(config, dimensions, rotated, keys, plan)?,
            other => return Err(Error::Unsupported { what: format!("rope scaling of the kind '{other}'") }),
        }
        Ok(())
    }

    fn describe_yarn(&self, config: &Config, keys: &mut Keys<'_>) -> Result<(), Error> {
        keys.set("rope.scaling.type", "yarn");
        keys.set("rope.scaling.factor", config::required_number(&self.parameters, "factor")? as f32);
        keys.set("rope.scaling.original_context_length", self.original_context(config)? as u32);
        for (key, names) in [
            ("rope.scaling.yarn_ext_factor", &["extrapolation_factor"][..]),
            ("rope.scaling.yarn_attn_factor", &["attention_factor", "attn_factor"]),
            ("rope.scaling.yarn_beta_fast", &["beta_fast"]),
            ("rope.scaling.yarn_beta_slow", &["beta_slow"]),
        ] {
            let found =
                names.iter().find_map(|name| self.parameters.get(*name)).filter(|value| !value.is_null());
            if let Some(value) = found {
                keys.set(key, config::number(key, value)? as f32);
            }
        }
        Ok(())
    }

    /// Positions of the training before the context was extended.
    fn original_context(&self, config: &Config) -> Result<u64, Error> {
        let key = "original_max_position_embeddings";
        match self.parameters.get(key).filter(|value| !value.is_null()) {
            Some(value) => {
                let context = value.as_u64().filter(|&context| (2..1 << 31).contains(&context));
                context.ok_or_else(|| config::wrong(key, "a whole number".to_owned(), value))
            }
            None => config.required_size(key),
        }
    }

    /// What each angle is divided by: nothing for fast angles, the factor for slow ones, and in between a blend.
    fn llama3_factors(&self, rotated: u64) -> Result<Vec<f32>, Error> {
        let parameter = |key: &str, default: f64| match self.parameters.get(key) {
            Some(value) => config::number(key, value),
            None => Ok(default),
        };
        let base = self.base.unwrap_or(10_000.0);
        let factor = parameter("factor", 8.0)?;
        let (low, high) = (parameter("low_freq_factor", 1.0)?, parameter("high_freq_factor", 4.0)?);
        let context = parameter("original_max_position_embeddings", 8192.0)?;
        let positive = [base, factor, low, high, context].into_iter().all(|value| value > 0.0);
        if !positive || low >= high {
            return Err(Error::Unsupported {
                what: "llama3 rope scaling with impossible factors".to_owned(),
            });
        }
        let one = |pair: u64| {
            // Angles are computed in F32 by the models themselves.
            let angle = 1.0 / (base as f32).powf((2 * pair) as f32 / rotated as f32);
            let wavelength = 2.0 * std::f64::consts::PI / f64::from(angle);
            if wavelength < context / high {
                1.0
            } else if wavelength > context / low {
                factor as f32
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            }
        };
        Ok((0..rotated / 2).map(one).collect())
    }

    /// LongRoPE: a table of divisors for short and one for long texts.
    fn describe_long(
        &self,
        config: &Config,
        dimensions: &Dimensions,
        rotated: u64,
        keys: &mut Keys<'_>,
        plan: &mut Plan,
    ) -> Result<(), Error> {
        let table = |key: &str| -> Result<Vec<f32>, Error> {
            let value = self.parameters.get(key).unwrap_or(&Value::Null);
            let expected = || format!("a list of {} numbers", rotated / 2);
            let list = value.as_array().filter(|list| list.len() as u64 == rotated / 2);
            let list = list.ok_or_else(|| config::wrong(key, expected(), value))?;
            list.iter().map(|entry| Ok(config::number(key, entry)? as f32)).collect()
        };
        let original = self.original_context(config)?;
        let scale = dimensions.context as f64 / original as f64;
        let attention = if scale > 1.0 { (1.0 + scale.ln() / (original as f64).ln()).sqrt() } else { 1.0 };
        keys.set("rope.scaling.original_context_length", original as u32);
        keys.set("rope.scaling.attn_factor", attention as f32);
        plan.add_values("rope_factors_long.weight", table("long_factor")?);
        plan.add_values("rope_factors_short.weight", table("short_factor")?);
        Ok(())
    }
}
