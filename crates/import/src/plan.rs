//! The tensors to be written, where each comes from, and the loop that streams them.

use crate::float::Stored;
use crate::input::Input;
use crate::{Error, FloatType, Options};
use gguf::{Metadata, TensorSpec, Writer};
use std::path::Path;

/// Bytes of the source read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// A tensor in an input file.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    /// Which of the inputs.
    pub(crate) input: usize,
    /// First byte within it.
    pub(crate) offset: u64,
    /// How its numbers are stored.
    pub(crate) stored: Stored,
    /// Rows, then columns; a vector has its length alone.
    pub(crate) shape: Vec<u64>,
}

/// What happens to the values on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    Keep,
    /// The rows of each head go from "first halves, then second halves" of the rotated pairs to pairs side by
    /// side: row `half * (head_rows / 2) + pair` becomes row `2 * pair + half`. The `llama` architecture of GGUF
    /// rotates neighbours, while safetensors checkpoints of the family rotate halves.
    PairHalves {
        /// Rows in a head, even.
        head_rows: u64,
    },
    /// 1 is added: Gemma stores its norm weights as distances from 1.
    AddOne,
}

#[derive(Debug)]
enum Content {
    Stored { tensor: StoredTensor, change: Change },
    Values(Vec<f32>),
}

/// The list of tensors of the result, in order.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    specs: Vec<TensorSpec>,
    contents: Vec<Content>,
    /// Values in stored tensors.
    pub(crate) parameters: u64,
}

impl Plan {
    /// Adds a tensor of the source: matrices in the wanted format, vectors in F32.
    pub(crate) fn add_stored(
        &mut self,
        name: String,
        tensor: StoredTensor,
        change: Change,
        float: FloatType,
    ) {
        let written = match float {
            _ if tensor.shape.len() < 2 => Stored::F32,
            FloatType::Source => tensor.stored,
            FloatType::F32 => Stored::F32,
            FloatType::F16 => Stored::F16,
            FloatType::Bf16 => Stored::Bf16,
        };
        let shape: Vec<u64> = tensor.shape.iter().rev().copied().collect();
        self.parameters = self.parameters.saturating_add(shape.iter().product());
        self.specs.push(TensorSpec { name, shape, type_id: written.type_id() });
        self.contents.push(Content::Stored { tensor, change });
    }

    /// Adds a vector of computed values.
    pub(crate) fn add_values(&mut self, name: &str, values: Vec<f32>) {
        let shape = vec![values.len() as u64];
        self.specs.push(TensorSpec { name: name.to_owned(), shape, type_id: Stored::F32.type_id() });
        self.contents.push(Content::Values(values));
    }

    pub(crate) fn len(&self) -> usize {
        self.specs.len()
    }

    /// `general.file_type`: the format of the first matrix.
    pub(crate) fn file_type(&self) -> u32 {
        let matrix = self.specs.iter().find(|spec| spec.shape.len() > 1);
        let stored = [Stored::F16, Stored::Bf16].into_iter();
        let of = |spec: &TensorSpec| stored.clone().find(|stored| stored.type_id() == spec.type_id);
        matrix.and_then(of).unwrap_or(Stored::F32).file_type()
    }

    /// Writes the file; returns the bytes of tensor data.
    pub(crate) fn write(
        &self,
        metadata: &Metadata,
        inputs: &[Input],
        target: &Path,
        options: &Options<'_>,
    ) -> Result<u64, Error> {
        let mut total = 0_u64;
        for spec in &self.specs {
            total = total.saturating_add(spec.bytes()?);
        }
        let mut output =
            Output { writer: Writer::create(target, metadata, &self.specs)?, done: 0, total, options };
        for (spec, content) in self.specs.iter().zip(&self.contents) {
            let stored = [Stored::F32, Stored::F16, Stored::Bf16];
            let written = stored.into_iter().find(|stored| stored.type_id() == spec.type_id);
            let written = written.unwrap_or(Stored::F32);
            match content {
                Content::Values(values) => output.encode(&spec.name, values, written)?,
                Content::Stored { tensor, change } => {
                    output.copy(&spec.name, &inputs[tensor.input], tensor, *change, written)?;
                }
            }
        }
        output.writer.finish()?;
        Ok(total)
    }
}

/// The file being written and how far it is.
struct Output<'a> {
    writer: Writer,
    done: u64,
    total: u64,
    options: &'a Options<'a>,
}

impl Output<'_> {
    fn copy(
        &mut self,
        name: &str,
        input: &Input,
        tensor: &StoredTensor,
        change: Change,
        written: Stored,
    ) -> Result<(), Error> {
        let number_bytes = tensor.stored.bytes();
        // A vector is a column of rows with one value each, so that heads are rows in both cases.
        let columns = if tensor.shape.len() > 1 { tensor.shape[1] } else { 1 };
        let all = tensor.shape.iter().product::<u64>() * number_bytes;
        let piece_bytes = match change {
            Change::PairHalves { head_rows } => head_rows * columns * number_bytes,
            Change::Keep | Change::AddOne => PIECE_BYTES,
        };
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let mut position = 0;
        while position < all {
            let length = piece_bytes.min(all - position);
            bytes.resize(length as usize, 0);
            input.read(tensor.offset + position, &mut bytes)?;
            position += length;
            if change == Change::Keep && written == tensor.stored {
                self.write(&bytes)?;
                continue;
            }
            values.clear();
            tensor.stored.decode(&bytes, &mut values);
            match change {
                Change::Keep => {}
                Change::AddOne => values.iter_mut().for_each(|value| *value += 1.0),
                Change::PairHalves { .. } => values = pair_halves(&values, columns as usize),
            }
            self.encode(name, &values, written)?;
        }
        Ok(())
    }

    fn encode(&mut self, name: &str, values: &[f32], written: Stored) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(values.len() * written.bytes() as usize);
        let encoded = written.encode(values, &mut bytes);
        encoded.map_err(|value| Error::Overflow { tensor: name.to_owned(), value })?;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writer.write(bytes)?;
        self.done += bytes.len() as u64;
        if let Some(progress) = self.options.progress {
            progress(self.done, self.total);
        }
        Ok(())
    }
}

/// One head's rows, reordered; see [`Change::PairHalves`].
fn pair_halves(head: &[f32], columns: usize) -> Vec<f32> {
    let (first, second) = head.split_at(head.len() / 2);
    let pairs = first.chunks_exact(columns).zip(second.chunks_exact(columns));
    pairs.flat_map(|(first, second)| first.iter().chain(second)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_pairs() {
        assert_eq!(pair_halves(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(
            pair_halves(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], 2),
            [0.0, 0.5, 2.0, 2.5, 1.0, 1.5, 3.0, 3.5]
        );
    }
}
