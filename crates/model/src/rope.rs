//! Rotary position embedding: which angle each pair of a head turns by at each position.
//!
//! Every scaling method in use (linear, YaRN, longrope, llama 3's frequency factors) leaves the angle proportional to
//! the position, so all of it folds into one list of frequencies when the model is opened.
//!
//! Sources: RoFormer (arXiv 2104.09864), YaRN (arXiv 2309.00071), LongRoPE (arXiv 2402.13753).

use crate::error::Error;
use crate::keys::Keys;

/// Which two values of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// `2i` and `2i + 1`.
    Adjacent,
    /// `i` and `i + dimensions / 2`.
    Halves,
}

/// A rotation, as the metadata describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Which values form a pair.
    pub style: RopeStyle,
    /// Leading values of a head that are rotated; the others pass unchanged. Even.
    pub dimensions: usize,
    /// Pair `i` turns by `base ^ (-2i / dimensions)` radians a position, before scaling.
    pub base: f32,
    /// Factor on the angles where positions are interpolated: 1 / context extension.
    pub interpolation: f32,
    /// How much of YaRN's ramp from interpolated to unscaled angles applies; 0 for every other method.
    pub extrapolation: f32,
    /// Full turns within the original context above which YaRN leaves a pair unscaled.
    pub beta_fast: f32,
    /// Full turns within the original context below which YaRN interpolates a pair fully.
    pub beta_slow: f32,
    /// Factor on the rotated values.
    pub magnitude: f32,
    /// Positions that the model knew before its context was extended.
    pub original_context: usize,
}

impl Rope {
    /// Reads `rope.*`; pairs are adjacent unless the architecture says otherwise.
    ///
    /// # Errors
    /// [`Error::BadValue`] for an unknown scaling method or values that make no rotation.
    pub fn from_keys(keys: &Keys<'_>, head_dim: usize, context: usize) -> Result<Rope, Error> {
        let dimensions = keys.count_or("rope.dimension_count", head_dim, head_dim)?;
        keys.check("rope.dimension_count", dimensions.is_multiple_of(2), dimensions, || {
            "an even number".into()
        })?;
        let base = keys.positive("rope.freq_base")?.unwrap_or(10_000.0);
        keys.check("rope.freq_base", base > 1.0, base, || "more than 1".into())?;
        let factor = match keys.positive("rope.scaling.factor")? {
            Some(factor) => factor,
            None => keys.positive("rope.scale_linear")?.unwrap_or(1.0),
        };
        let method = keys.string("rope.scaling.type")?.unwrap_or("linear");
        let mut rope = Rope {
            style: RopeStyle::Adjacent,
            dimensions,
            base,
            interpolation: 1.0 / factor,
            extrapolation: 0.0,
            beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            magnitude: keys.positive("rope.scaling.attn_factor")?.unwrap_or(1.0),
            original_context: keys.count_or("rope.scaling.original_context_length", context, usize::MAX)?,
        };
        match method {
            "none" => rope.interpolation = 1.0,
            "linear" | "longrope" | "su" => {}
            "yarn" => {
                rope.extrapolation = keys.f32("rope.scaling.yarn_ext_factor")?.unwrap_or(1.0);
                // The paper's temperature: longer contexts need sharper attention.
                rope.magnitude *= keys.positive("rope.scaling.yarn_attn_factor")?.unwrap_or(1.0)
                    * if factor > 1.0 { 1.0 + 0.1 * factor.ln() } else { 1.0 };
            }
            other => {
                keys.check("rope.scaling.type", false, other, || "none, linear, yarn or longrope".into())?
            }
        }
        Ok(rope)
    }

    /// Radians a position, for each pair: `[dimensions / 2]`. `factors` divide the unscaled angles, one a pair.
    pub fn frequencies(&self, factors: Option<&[f32]>) -> Vec<f64> {
        let (low, high) = self.ramp_ends();
        let interpolation = f64::from(self.interpolation);
        (0..self.dimensions / 2)
            .map(|pair| {
                let exponent = -2.0 * pair as f64 / self.dimensions as f64;
                let factor = factors.map_or(1.0, |factors| f64::from(factors[pair]));
                let unscaled = f64::from(self.base).powf(exponent) / factor;
                let ramp = 1.0 - ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                let unscaled_share = ramp * f64::from(self.extrapolation);
                unscaled * (interpolation * (1.0 - unscaled_share) + unscaled_share)
            })
            .collect()
    }

    /// The pairs between which YaRN's ramp falls from unscaled to interpolated.
    fn ramp_ends(&self) -> (f64, f64) {
        let dimensions = self.dimensions as f64;
        // The pair that makes `turns` full turns within the original context.
        let pair = |turns: f32| {
            let wavelength = self.original_context as f64 / (f64::from(turns) * std::f64::consts::TAU);
            dimensions * wavelength.ln() / (2.0 * f64::from(self.base).ln())
        };
        (pair(self.beta_fast).floor().max(0.0), pair(self.beta_slow).ceil().min(dimensions - 1.0))
    }
}

/// A rotation with its frequencies worked out.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Which values form a pair.
    pub style: RopeStyle,
    /// Leading values of a head that are rotated.
    pub dimensions: usize,
    magnitude: f64,
    original_context: usize,
    short: Vec<f64>,
    long: Option<Vec<f64>>,
}

impl Rotation {
    /// `short` and `long` are the factors of longrope, or `short` alone those of llama 3; `[dimensions / 2]` each.
    pub fn new(rope: &Rope, short: Option<&[f32]>, long: Option<&[f32]>) -> Rotation {
        Rotation {
            style: rope.style,
            dimensions: rope.dimensions,
            magnitude: f64::from(rope.magnitude),
            original_context: rope.original_context,
            short: rope.frequencies(short),
            long: long.map(|factors| rope.frequencies(Some(factors))),
        }
    }

    /// Whether a cache for `context` positions has the long factors.
    pub(crate) fn is_long(&self, context: usize) -> bool {
        self.long.is_some() && context > self.original_context
    }

    /// Writes `[positions][dimensions / 2][cos, sin]` for the positions from `first` on. `context` is how many
    /// positions the cache may ever hold: it decides once between short and long factors, because keys that are
    /// already stored cannot be turned again.
    pub fn fill(&self, context: usize, first: usize, out: &mut [f32]) {
        let frequencies = match &self.long {
            Some(long) if self.is_long(context) => long,
            _ => &self.short,
        };
        for (index, position) in out.chunks_exact_mut(self.dimensions).enumerate() {
            let position_index = (first + index) as f64;
            for (pair, frequency) in position.chunks_exact_mut(2).zip(frequencies) {
                // In f64: in f32 the angle itself would be off by 1e-3 radians at position 10,000.
                let (sin, cos) = (position_index * frequency).sin_cos();
                pair[0] = (cos * self.magnitude) as f32;
                pair[1] = (sin * self.magnitude) as f32;
            }
        }
    }
}
