//! Layer by layer: the calibration text goes through the model as it is being rounded.
//!
//! Each matrix is rounded for the inputs that it will really get, those that the rounded matrices before it give, and
//! before the next ones are looked at. So one pass over the text does all, one block is in memory at a time, and errors do
//! not add up unseen.

use kernels::Format;

use crate::error::Error;
use crate::float::{Block, Linear, Role, Setting, Source, Window};
use crate::hessian::{Factor, Hessian};
use crate::inventory::Kind;
use crate::journal::Journal;
use crate::methods::gptq;
use crate::rounding::Search;

/// What became of one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The mean squared error of the product on the calibration text, summed over outputs.
    pub loss: f64,
    /// The same, had every value been rounded by itself.
    pub plain_loss: f64,
}

/// What a walk needs to know.
pub struct Walk<'a> {
    /// The model.
    pub source: &'a Source,
    /// What each tensor is.
    pub kinds: &'a [Kind],
    /// What each tensor becomes.
    pub types: &'a [&'static Format],
    /// Windows of the calibration text.
    pub window: &'a Window,
    /// Tokens of the calibration text, whole windows.
    pub tokens: &'a [u32],
    /// How hard scales are searched.
    pub search: Search,
    /// Where finished work goes.
    pub journal: &'a Journal,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

/// The journal's entry of a tensor.
pub fn tensor_entry(index: usize) -> String {
    format!("tensor-{index}")
}

/// The journal's entry of the stream after so many blocks.
fn stream_entry(layer: usize) -> String {
    format!("stream-{layer}")
}

impl Walk<'_> {
    /// Rounds all blocks and the output matrix. What the journal has already is not done again.
    ///
    /// # Errors
    /// Those of [`Source::block`], [`Hessian::factor`] and [`Journal::put`].
    pub fn run(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), Error> {
        let layers = self.source.config.layers.len();
        let (mut layer, mut stream) = self.resume()?;
        while layer < layers {
            progress(layer, layers + 1);
            self.layer(layer, &mut stream)?;
            layer += 1;
            self.journal.put(&stream_entry(layer), bytes_of(&stream).as_slice())?;
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
        Ok((0, self.source.embed(self.tokens)?))
    }

    fn layer(&self, layer: usize, stream: &mut [f32]) -> Result<(), Error> {
        let mut block = self.source.block(layer)?;
        let setting = self.source.setting(self.window, layer);
        let mut done = Done::default();
        let input = block.attention_input(&setting, stream);
        self.stage(layer, &mut block, &[Role::Query, Role::Key, Role::Value], &input, &mut done)?;
        let attended = block.attended(&setting, &input);
        drop(input);
        self.stage(layer, &mut block, &[Role::AttentionOutput], &attended, &mut done)?;
        block.add_attention(&setting, &attended, stream);
        drop(attended);
        let input = block.feed_forward_input(&setting, stream);
        self.stage(layer, &mut block, &[Role::Gate, Role::Up], &input, &mut done)?;
        self.feed_forward(layer, &mut block, &setting, &input, stream, &mut done)?;
        self.store(layer, &done)
    }

    fn feed_forward(
        &self,
        layer: usize,
        block: &mut Block,
        setting: &Setting<'_>,
        input: &[f32],
        stream: &mut [f32],
        done: &mut Done,
    ) -> Result<(), Error> {
        let hidden = block.hidden(setting, input);
        self.stage(layer, block, &[Role::Down], &hidden, done)?;
        block.add_feed_forward(setting, &hidden, stream);
        Ok(())
    }

    /// Rounds the matrices that read `input`.
    fn stage(
        &self,
        layer: usize,
        block: &mut Block,
        roles: &[Role],
        input: &[f32],
        done: &mut Done,
    ) -> Result<(), Error> {
        let factor = factor(input, block.matrix(roles[0]).columns)?;
        for &role in roles {
            let stored = self.source.stored(layer, role)?;
            let rows = stored.file_rows(&self.source.file);
            let (bytes, outcome) = self.round(stored.tensor, rows, block.matrix_mut(role), &factor);
            done.parts.push((role, bytes, outcome));
        }
        Ok(())
    }

    /// Rounds one matrix, `rows` in the source, to the type of its tensor, in place, and returns its bytes.
    fn round(
        &self,
        tensor: usize,
        rows: &[u8],
        linear: &mut Linear,
        factor: &Factor,
    ) -> (Vec<u8>, Outcome) {
        let format = self.types[tensor];
        if format.id == self.source.file.tensors()[tensor].type_id {
            return (rows.to_vec(), Outcome::default());
        }
        let Some(grid) = format.grid() else {
            // Floats: rounded as they are.
            let row_bytes = format.row_bytes(linear.columns);
            let mut bytes = vec![0; linear.rows * row_bytes];
            for (row, bytes) in
                linear.weight.chunks_exact_mut(linear.columns).zip(bytes.chunks_exact_mut(row_bytes))
            {
                let _ = format.quantize_row(row, bytes);
                format.dequantize_row(bytes, row);
            }
            return (bytes, Outcome::default());
        };
        let rounded = gptq::compensate(format, grid, &linear.weight, factor, self.search);
        let outcome = Outcome { loss: rounded.loss, plain_loss: 0.0 };
        linear.weight = rounded.values;
        (rounded.bytes, outcome)
    }

    /// Puts the parts of each tensor together.
    fn store(&self, layer: usize, done: &Done) -> Result<(), Error> {
        for (index, kind) in self.kinds.iter().enumerate() {
            let Kind::Matrix(parts) = kind else { continue };
            if parts[0].layer != layer {
                continue;
            }
            let mut parts: Vec<_> = parts.iter().collect();
            parts.sort_by_key(|part| part.rows.start);
            let mut bytes = Vec::new();
            for part in parts {
                if let Some((_, part, _)) = done.parts.iter().find(|(role, ..)| *role == part.role) {
                    bytes.extend_from_slice(part);
                }
            }
            self.journal.put(&tensor_entry(index), &bytes)?;
        }
        Ok(())
    }

    fn output(&self, stream: &[f32]) -> Result<(), Error> {
        let index = self.source.weights.output.matrix.tensor;
        if self.journal.has(&tensor_entry(index)) {
            return Ok(());
        }
        let mut head = self.source.head()?;
        let input = head.input(stream);
        let factor = factor(&input, head.output.columns)?;
        let rows = self.source.weights.output.matrix.file_rows(&self.source.file);
        let (bytes, _) = self.round(index, rows, &mut head.output, &factor);
        self.journal.put(&tensor_entry(index), &bytes)
    }
}

/// The finished matrices of a block.
#[derive(Debug, Default)]
struct Done {
    parts: Vec<(Role, Vec<u8>, Outcome)>,
}

fn factor(input: &[f32], columns: usize) -> Result<Factor, Error> {
    let mut hessian = Hessian::new(columns);
    hessian.add(input);
    hessian.factor()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

