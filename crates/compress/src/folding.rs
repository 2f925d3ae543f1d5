//! What is folded where ([`Fold`]): tried on windows that are set aside for it, as the weight of the prior is.
//!
//! A writer's rows are rounded each by itself, so factors change nothing for it, and those who read the channels tell what
//! factors are worth. A rotation mixes rows, so there the writer has its say too.

use std::borrow::Cow;

use kernels::{Format, Grid};
use model::Config;

use crate::error::Error;
use crate::float::{Fold, Linear, Place};
use crate::hessian::{Hessian, mean_squares};
use crate::methods::gptq::PANEL;
use crate::prior::{Sample, errors, least, some_rows};
use crate::random::Random;

/// Factors that are tried are the channels' root mean squares to these powers.
const POWERS: [f32; 3] = [0.25, 0.5, 0.75];

/// Factors lie within as many times the geometric mean of all: the scales of a writer's rows are divided by them, and have to
/// remain halves with all their bits.
const RANGE: f32 = 8.0;

/// The least channel beside the mean square of all.
const LEAST: f32 = 1e-6;

/// What was found for a place.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The coordinates that left the least error; `None` for those that the channels have.
    pub(crate) fold: Option<Fold>,
    /// The best weight of the prior, as [`Sample::best_weight`] has it.
    pub(crate) prior: f32,
}

/// A matrix and the format that it is rounded to.
#[derive(Clone, Copy)]
pub(crate) struct Rounded<'a> {
    pub(crate) linear: &'a Linear,
    pub(crate) format: &'static Format,
    pub(crate) grid: &'static Grid,
}

/// Factors of channels by their mean squares, for [`POWERS`].
pub(crate) fn scales(squares: &[f32]) -> Vec<Fold> {
    let mean = squares.iter().sum::<f32>() / squares.len() as f32;
    if !(mean > 0.0 && mean.is_finite()) {
        return Vec::new();
    }
    let logarithms: Vec<f32> = squares.iter().map(|square| (square / mean).max(LEAST).ln() / 2.0).collect();
    let middle = logarithms.iter().sum::<f32>() / logarithms.len() as f32;
    let most = RANGE.ln();
    let of_power = |power: f32| {
        let factor = |x: &f32| (power * (x - middle)).clamp(-most, most).exp();
        Fold::Scale(logarithms.iter().map(factor).collect())
    };
    POWERS.into_iter().map(of_power).collect()
}

/// A rotation of all heads of values, with signs drawn from `seed`. Heads are cut into blocks of the largest power of two that
/// divides them.
pub(crate) fn rotation(config: &Config, seed: u64) -> Fold {
    let mut random = Random::new(seed);
    let signs = (0..config.kv_width()).map(|_| if random.bits() & 1 == 0 { 1.0 } else { -1.0 });
    let block = (config.head_dim & config.head_dim.wrapping_neg()).min(PANEL);
    Fold::Rotation { signs: signs.collect(), block }
}

/// The small copy of the products that read one input.
struct Trial<'a> {
    place: Place,
    config: &'a Config,
    columns: usize,
    kept: Vec<usize>,
    seen: Hessian,
    unseen: Hessian,
    readers: Vec<Reader>,
}

/// Some rows and columns of a matrix.
struct Reader {
    weight: Vec<f32>,
    format: &'static Format,
    grid: &'static Grid,
    /// What its error is measured by.
    unit: f64,
}

impl Trial<'_> {
    /// What the readers' errors add up to with the channels in other coordinates.
    fn error(&self, fold: Option<&Fold>, prior: f32) -> Result<f64, Error> {
        let fold = fold.map(|fold| fold.as_read(self.place, self.config).of_channels(&self.kept));
        let seen = match &fold {
            Some(fold) => Cow::Owned(self.seen.folded(fold)),
            None => Cow::Borrowed(&self.seen),
        };
        let factor = seen.leaning(prior)?;
        let mut sum = 0.0;
        for reader in &self.readers {
            let mut weight = reader.weight.clone();
            if let Some(fold) = &fold {
                fold.weights(&mut weight);
            }
            let mut errors = errors(weight, reader.format, reader.grid, &factor);
            if let Some(fold) = &fold {
                fold.unfold_weights(&mut errors);
            }
            sum += self.unseen.error(&errors) / reader.unit;
        }
        Ok(sum)
    }
}

/// Tries `candidates` for what `readers` read at `place`; `halved` means that the sample has no windows but those to try on.
/// `beside` is what the writer adds to the error.
///
/// # Errors
/// Those of [`Hessian::factor`].
pub(crate) fn choose(
    place: Place,
    config: &Config,
    sample: Sample<'_>,
    halved: bool,
    readers: &[Rounded<'_>],
    candidates: Vec<Fold>,
    beside: &mut dyn FnMut(Option<&Fold>) -> Result<f64, Error>,
) -> Result<Choice, Error> {
    let kept = sample.kept_columns();
    let taken = if halved { sample.windows() / 2 } else { sample.taken(&kept) };
    let [seen, unseen] = sample.halves(&kept, taken);
    let reader = |&Rounded { linear, format, grid }: &Rounded<'_>| {
        let weight = some_rows(&linear.weight, linear.columns, &kept);
        // Products of different matrices are compared by their own size.
        let unit = if readers.len() > 1 { unseen.error(&weight).max(f64::MIN_POSITIVE) } else { 1.0 };
        Reader { weight, format, grid, unit }
    };
    let readers = readers.iter().map(reader).collect();
    let columns = sample.columns;
    let trial = Trial { place, config, columns, kept, seen, unseen, readers };
    let (prior, plain) = least(|tried| trial.error(None, tried))?;
    let share = trial.columns as f64 / trial.kept.len() as f64;
    let mut best = share * plain + beside(None)?;
    let mut fold = None;
    for tried in candidates {
        let error = share * trial.error(Some(&tried), prior)? + beside(Some(&tried))?;
        if error < best {
            (best, fold) = (error, Some(tried));
        }
    }
    Ok(Choice { fold, prior })
}

/// What rounding the values' product changes in the output of attention, were every head to see one token, for some of its
/// rows: summed over rows and heads, a mean over tokens.
pub(crate) struct Values<'a> {
    config: &'a Config,
    value: Rounded<'a>,
    output: &'a Linear,
    kept: Vec<usize>,
    seen: Hessian,
    unseen: Hessian,
    prior: f32,
    /// Without a fold, which is that of factors too.
    plain: Option<f64>,
}

impl<'a> Values<'a> {
    /// Of a value product that reads `sample` and the output product after it; `prior` is the weight that goes with it.
    pub(crate) fn new(
        config: &'a Config,
        sample: Sample<'_>,
        value: Rounded<'a>,
        output: &'a Linear,
        prior: f32,
    ) -> Values<'a> {
        let kept = sample.kept_columns();
        let [seen, unseen] = sample.halves(&kept, sample.taken(&kept));
        Values { config, value, output, kept, seen, unseen, prior, plain: None }
    }

    /// The error with the heads in other coordinates.
    ///
    /// # Errors
    /// Those of [`Hessian::factor`].
    pub(crate) fn error(&mut self, fold: Option<&Fold>) -> Result<f64, Error> {
        let rotation = fold.filter(|fold| matches!(fold, Fold::Rotation { .. }));
        if let (None, Some(plain)) = (rotation, self.plain) {
            return Ok(plain);
        }
        let Rounded { linear, format, grid } = self.value;
        let width = self.kept.len();
        let pick = |row: &[f32]| self.kept.iter().map(|&column| row[column]).collect::<Vec<f32>>();
        let mut weight: Vec<f32> = linear.weight.chunks_exact(linear.columns).flat_map(pick).collect();
        if let Some(fold) = rotation {
            fold.rows(&mut weight, width);
        }
        let mut errors = errors(weight, format, grid, &self.seen.leaning(self.prior)?);
        if let Some(fold) = rotation {
            fold.unfold_rows(&mut errors, width);
        }
        let (head_dim, group) = (self.config.head_dim, self.config.heads / self.config.kv_heads);
        let mut sum = 0.0;
        for head in 0..self.config.heads {
            let columns: Vec<usize> = (head * head_dim..(head + 1) * head_dim).collect();
            let errors = &errors[head / group * head_dim * width..][..head_dim * width];
            // Rows of the errors are the columns of a product's weight, `[channels][head_dim]`.
            let mut transposed = vec![0.0; errors.len()];
            for (channel, row) in errors.chunks_exact(width).enumerate() {
                row.iter().enumerate().for_each(|(column, x)| transposed[column * head_dim + channel] = *x);
            }
            let product = Linear { rows: width, columns: head_dim, weight: transposed, bias: None };
            let output = some_rows(&self.output.weight, self.output.columns, &columns);
            sum += self.unseen.error(&product.forward(&output));
        }
        let sum = sum * linear.columns as f64 / width as f64;
        if rotation.is_none() {
            self.plain = Some(sum);
        }
        Ok(sum)
    }
}

/// Mean squares of heads' channels, those of all query heads that share a value head as one.
pub(crate) fn squares_of_heads(config: &Config, attended: &[f32]) -> Vec<f32> {
    let (head_dim, group) = (config.head_dim, config.heads / config.kv_heads);
    let squares = mean_squares(attended, config.query_width(), attended.len() / config.query_width());
    let mut of_heads = vec![0.0; config.kv_width()];
    for (head, squares) in squares.chunks_exact(head_dim).enumerate() {
        let to = &mut of_heads[head / group * head_dim..][..head_dim];
        to.iter_mut().zip(squares).for_each(|(to, square)| *to += square / group as f32);
    }
    of_heads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::Source;
    use testkit::{TinyOptions, tiny_model};

    const COLUMNS: usize = 64;

    fn config() -> Config {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        tiny_model(&TinyOptions::new("llama")).write(&path);
        Source::open(&path).unwrap().config
    }

    /// What is chosen at `place` among `candidates` for a matrix whose columns have the sizes of `sizes`, with inputs whose
    /// channels have those of `channels`.
    fn chosen(
        place: Place,
        candidates: impl FnOnce(&[f32]) -> Vec<Fold>,
        sizes: impl Fn(usize) -> f32,
        channels: impl Fn(usize) -> f32,
    ) -> Choice {
        let mut random = testkit::Random::new(4);
        let mut table = |rows: usize, size: &dyn Fn(usize) -> f32| -> Vec<f32> {
            (0..rows * COLUMNS).map(|i| random.signed() * size(i % COLUMNS)).collect()
        };
        let (weight, input) = (table(64, &sizes), table(1024, &channels));
        let linear = Linear { rows: 64, columns: COLUMNS, weight, bias: None };
        let format = kernels::FORMATS.iter().find(|format| format.name == "Q4_0").unwrap();
        let reader = Rounded { linear: &linear, format, grid: format.grid().unwrap() };
        let candidates = candidates(&mean_squares(&input, COLUMNS, 1024));
        let sample = Sample { input: &input, columns: COLUMNS, window: 32 };
        let mut beside = |_: Option<&Fold>| Ok(0.0);
        choose(place, &config(), sample, false, &[reader], candidates, &mut beside).unwrap()
    }

    /// Small weights of large channels get finer steps.
    #[test]
    fn large_channels_get_finer_steps() {
        let large = |channel: usize| if channel % 32 == 3 { 20.0 } else { 1.0 };
        let choice = chosen(Place::Attention, scales, |column| 0.1 / large(column), large);
        let Some(Fold::Scale(factors)) = choice.fold else { panic!("{choice:?}") };
        assert!(factors[3] > 2.0 * factors[4] && factors[35] > 2.0 * factors[36], "{factors:?}");
        // The other way round it would be wrong.
        let inverse =
            |squares: &[f32]| scales(&squares.iter().map(|square| 1.0 / square).collect::<Vec<f32>>());
        assert_eq!(chosen(Place::Attention, inverse, |column| 0.1 / large(column), large).fold, None);
        assert!(scales(&[0.0; 4]).is_empty());
    }

    /// A few large weights would make steps coarse for all; turned they are spread.
    #[test]
    fn large_weights_are_spread() {
        let sizes = |column: usize| if column % 16 == 3 { 3.0 } else { 0.1 };
        let choice = chosen(Place::Value, |_| vec![rotation(&config(), 3)], sizes, |_| 1.0);
        assert!(choice.fold.is_some());
    }
}
