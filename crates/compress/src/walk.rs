//! Layer by layer: the calibration text goes through the model as it is being rounded.
//!
//! Each matrix is rounded for the inputs that it will really get, those that the rounded matrices before it give, and
//! before the next ones are looked at. So one pass over the text does all, one block is in memory at a time, and errors do
//! not add up unseen.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::bytes::{bytes_of, floats_of};
use crate::calibration::Tokens;
use crate::error::Error;
use crate::float::{Block, Role, Setting, Source, check_finite, dequantize};
use crate::hessian::{Factor, Hessian};
use crate::inventory::Kind;
use crate::journal::Journal;
use crate::methods::gptq;
use crate::plan::Decision;
use crate::rounding::{Rounding, Search};

/// What became of one tensor: errors of the product on the calibration text, squared and summed over a sample of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// As stored.
    pub(crate) error: f64,
    /// Had every value been rounded by itself, weighted by the mean square of its column.
    pub(crate) plain_error: f64,
    /// The product itself.
    pub(crate) power: f64,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Outcome) {
        self.error += other.error;
        self.plain_error += other.plain_error;
        self.power += other.power;
    }
}

/// What a walk needs to know.
pub(crate) struct Walk<'a> {
    /// The model.
    pub(crate) source: &'a Source,
    /// What each tensor is.
    pub(crate) kinds: &'a [Kind],
    /// What each tensor becomes; `None` for those that are kept exact.
    pub(crate) types: &'a [Option<Decision>],
    /// The calibration text.
    pub(crate) tokens: &'a Tokens,
    /// How hard scales are searched.
    pub(crate) search: Search,
    /// Where finished work goes.
    pub(crate) journal: &'a Journal,
}

/// The journal's entry of a tensor's data.
pub(crate) fn tensor_entry(index: usize) -> String {
    format!("tensor-{index}")
}

/// The journal's entry of what became of a tensor.
pub(crate) fn outcome_entry(index: usize) -> String {
    format!("outcome-{index}")
}

/// The journal's entry of the mean squares of a tensor's inputs.
pub(crate) fn squares_entry(index: usize) -> String {
    format!("squares-{index}")
}

/// The journal's entry of the stream after so many blocks.
fn stream_entry(layer: usize) -> String {
    format!("stream-{layer}")
}

/// Rows of a matrix that are in memory as floats at a time, where it is a large one.
const ROWS: usize = 8192;

/// One of so many rows is looked at to see what rounding cost.
const SAMPLE: usize = 8;

impl Walk<'_> {
    /// Rounds all blocks and the output matrix. What the journal has already is not done again.
    ///
    /// # Errors
    /// Those of [`Source::block`], [`Hessian::factor`] and [`Journal::put`].
    pub(crate) fn run(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), Error> {
        let layers = self.source.config.layers.len();
        let window = self.source.window(self.tokens.length);
        let (mut layer, mut stream) = self.resume()?;
        while layer < layers {
            progress(layer, layers + 1);
            self.layer(&self.source.setting(&window, layer), &mut stream)?;
            layer += 1;
            self.journal.put(&stream_entry(layer), &bytes_of(&stream))?;
            self.journal.forget(&stream_entry(layer - 1));
        }
        progress(layers, layers + 1);
        self.output(&stream)?;
        progress(layers + 1, layers + 1);
        Ok(())
    }

    /// The last finished block's stream, or the embeddings.
    fn resume(&self) -> Result<(usize, Vec<f32>), Error> {
        for layer in (1..=self.source.config.layers.len()).rev() {
            if let Some(bytes) = self.journal.get(&stream_entry(layer))? {
                return Ok((layer, floats_of(&bytes)));
            }
        }
        Ok((0, self.source.embed(&self.tokens.tokens)?))
    }

    fn layer(&self, setting: &Setting<'_>, stream: &mut [f32]) -> Result<(), Error> {
        let mut block = self.source.block(setting.layer)?;
        let mut done = Vec::new();
        let input = block.attention_input(setting, stream);
        self.stage(setting, &mut block, &[Role::Query, Role::Key, Role::Value], &input, &mut done)?;
        let attended = block.attended(setting, &input);
        drop(input);
        self.stage(setting, &mut block, &[Role::AttentionOutput], &attended, &mut done)?;
        block.add_attention(setting, &attended, stream);
        drop(attended);
        let input = block.feed_forward_input(setting, stream);
        self.stage(setting, &mut block, &[Role::Gate, Role::Up], &input, &mut done)?;
        let hidden = block.hidden(setting, &input);
        drop(input);
        self.stage(setting, &mut block, &[Role::Down], &hidden, &mut done)?;
        block.add_feed_forward(setting, &hidden, stream);
        self.store(setting.layer, &done)
    }

    /// Rounds the matrices that read `input`.
    fn stage(
        &self,
        setting: &Setting<'_>,
        block: &mut Block,
        roles: &[Role],
        input: &[f32],
        done: &mut Vec<Done>,
    ) -> Result<(), Error> {
        let (factor, squares) = factor(input, block.matrix(roles[0]).columns)?;
        for &role in roles {
            let stored = self.source.stored(setting.layer, role)?;
            let linear = block.matrix_mut(role);
            let rows = stored.file_rows(&self.source.file);
            let (bytes, outcome) = self.round(stored.tensor, rows, &mut linear.weight, &factor, &squares);
            done.push(Done { role, bytes, outcome, squares: squares.clone() });
        }
        Ok(())
    }

    /// Rounds rows of a matrix, `rows` in the source, to the type of its tensor, in place, and returns their bytes.
    fn round(
        &self,
        tensor: usize,
        rows: &[u8],
        weight: &mut Vec<f32>,
        factor: &Factor,
        squares: &[f32],
    ) -> (Vec<u8>, Outcome) {
        let columns = factor.columns;
        let kept = self.source.file.tensors()[tensor].type_id;
        let Some(Decision { format, .. }) = self.types[tensor].filter(|decision| decision.format.id != kept)
        else {
            return (rows.to_vec(), Outcome::default());
        };
        let sample = |values: &[f32]| -> Vec<f32> {
            values.chunks_exact(columns).step_by(SAMPLE).flatten().copied().collect()
        };
        let row_bytes = format.row_bytes(columns);
        let rounding =
            Rounding { format, importance: Some(squares), by_magnitude: false, search: Search::Fast };
        let plainly = |values: &mut [f32]| {
            let mut bytes = vec![0; values.len() / columns * row_bytes];
            values.par_chunks_mut(columns).zip(bytes.par_chunks_mut(row_bytes)).for_each(|(row, bytes)| {
                rounding.row(row, bytes);
                format.dequantize_row(bytes, row);
            });
            bytes
        };
        let before = sample(weight);
        let mut plain = before.clone();
        plainly(&mut plain);
        let bytes = match format.grid() {
            Some(grid) => {
                let rounded = gptq::compensate(format, grid, weight, factor, self.search);
                *weight = rounded.values;
                rounded.bytes
            }
            None => plainly(weight),
        };
        let outcome = Outcome {
            error: gptq::loss(&before, &sample(weight), factor),
            plain_error: gptq::loss(&before, &plain, factor),
            power: gptq::loss(&before, &vec![0.0; before.len()], factor),
        };
        (bytes, outcome)
    }

    /// Puts the parts of each tensor together.
    fn store(&self, layer: usize, done: &[Done]) -> Result<(), Error> {
        for (index, kind) in self.kinds.iter().enumerate() {
            let Kind::Matrix(parts) = kind else { continue };
            if parts[0].layer != layer {
                continue;
            }
            let mut parts: Vec<_> = parts.iter().collect();
            parts.sort_by_key(|part| part.rows.start);
            let (mut bytes, mut outcome, mut squares) = (Vec::new(), Outcome::default(), &[][..]);
            for part in parts {
                for part in done.iter().filter(|done| done.role == part.role) {
                    bytes.extend_from_slice(&part.bytes);
                    outcome += part.outcome;
                    squares = &part.squares;
                }
            }
            self.put(index, &bytes, outcome, squares)?;
        }
        Ok(())
    }

    fn put(&self, index: usize, bytes: &[u8], outcome: Outcome, squares: &[f32]) -> Result<(), Error> {
        self.journal.put_value(&outcome_entry(index), &outcome)?;
        self.journal.put(&squares_entry(index), &bytes_of(squares))?;
        self.journal.put(&tensor_entry(index), bytes)
    }

    /// The output matrix, some rows at a time: it may be larger than a block.
    fn output(&self, stream: &[f32]) -> Result<(), Error> {
        let stored = &self.source.weights.output.matrix;
        if self.journal.has(&tensor_entry(stored.tensor)) {
            return Ok(());
        }
        let input = self.source.output_input(stream);
        let (factor, squares) = factor(&input, stored.columns)?;
        drop(input);
        let (mut bytes, mut outcome) = (Vec::new(), Outcome::default());
        let row_bytes = stored.format.row_bytes(stored.columns);
        for rows in stored.file_rows(&self.source.file).chunks(ROWS * row_bytes) {
            let mut weight = dequantize(stored.format, rows, stored.columns);
            check_finite(&weight, || self.source.file.tensors()[stored.tensor].name.clone())?;
            let (piece, part) = self.round(stored.tensor, rows, &mut weight, &factor, &squares);
            bytes.extend_from_slice(&piece);
            outcome += part;
        }
        self.put(stored.tensor, &bytes, outcome, &squares)
    }
}

/// A finished matrix of a block.
struct Done {
    role: Role,
    bytes: Vec<u8>,
    outcome: Outcome,
    squares: Vec<f32>,
}

/// The factor of the inputs' second moments, and their mean squares.
fn factor(input: &[f32], columns: usize) -> Result<(Factor, Vec<f32>), Error> {
    let mut hessian = Hessian::new(columns);
    hessian.add(input);
    Ok((hessian.factor()?, hessian.diagonal()))
}
