//! What each type would do to each tensor: rounded in part, for a sample of rows says enough.

use gguf::TensorInfo;
use kernels::Format;
use rayon::prelude::*;

use super::bytes_in;
use super::sensitivity::{Sensitivities, Sensitivity};
use crate::error::Error;
use crate::float::Source;
use crate::inventory::Kind;
use crate::rounding::{Rounding, Search};

/// A type that a tensor may get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// The type.
    pub(crate) format: &'static Format,
    /// Bytes of the tensor in this type.
    pub(crate) bytes: u64,
    /// The KL divergence that it alone is predicted to cause, in nats a token.
    pub(crate) divergence: f64,
}

/// Rows of a matrix that are rounded to see what a type does.
const SAMPLED_ROWS: usize = 192;

/// All types that tensor `index` may get.
///
/// # Errors
/// Those of [`Source::linear`].
pub(crate) fn candidates(
    source: &Source,
    kind: &Kind,
    index: usize,
    sensitivities: &Sensitivities,
    types: impl Iterator<Item = &'static Format>,
) -> Result<Vec<Candidate>, Error> {
    let info = &source.file.tensors()[index];
    let mut samples = Vec::new();
    match kind {
        Kind::Matrix(parts) => {
            for part in parts {
                let stored = source.stored(part.layer, part.role)?;
                let sensitivity = &sensitivities.blocks[part.layer][part.role as usize];
                samples.push(Sample::of(stored.file_rows(&source.file), info, sensitivity));
            }
        }
        Kind::Output { tied } => {
            samples.push(Sample::of(source.file.data(info), info, &sensitivities.output));
            if *tied {
                samples.push(Sample::of(source.file.data(info), info, &sensitivities.embedding));
            }
        }
        Kind::Embedding => {
            samples.push(Sample::of(source.file.data(info), info, &sensitivities.embedding));
        }
        Kind::Exact | Kind::Experts => {}
    }
    if samples.is_empty() {
        return Ok(Vec::new());
    }
    Ok(types
        .map(|format| Candidate {
            format,
            bytes: bytes_in(info, format),
            // What lies on the grid already stays as it is.
            divergence: match format.id == info.type_id {
                true => 0.0,
                false => samples.iter().map(|sample| sample.divergence(format)).sum(),
            },
        })
        .collect())
}

/// Some rows of a matrix, drawn with chances in proportion to what an error in them costs.
struct Sample<'a> {
    sensitivity: &'a Sensitivity,
    /// `[row][columns]`.
    weight: Vec<f32>,
}

impl<'a> Sample<'a> {
    /// Every so often on the way along the sum of the rows' sensitivities (systematic sampling).
    fn of(data: &[u8], info: &TensorInfo, sensitivity: &'a Sensitivity) -> Sample<'a> {
        let columns = info.shape[0] as usize;
        let total: f64 = sensitivity.rows.iter().map(|&x| f64::from(x)).sum();
        let step = total / SAMPLED_ROWS as f64;
        let (mut rows, mut sum) = (Vec::new(), 0.0);
        for (row, &x) in sensitivity.rows.iter().enumerate() {
            sum += f64::from(x);
            while (rows.len() as f64 + 0.5) * step < sum {
                rows.push(row);
            }
        }
        let mut weight = vec![0.0; rows.len() * columns];
        if let Some(format) = kernels::format(info.type_id) {
            let row_bytes = format.row_bytes(columns);
            weight.par_chunks_mut(columns).zip(&rows).for_each(|(out, &row)| {
                format.dequantize_row(&data[row * row_bytes..][..row_bytes], out);
            });
        }
        Sample { sensitivity, weight }
    }

    /// In nats a token.
    fn divergence(&self, format: &'static Format) -> f64 {
        let columns = self.sensitivity.columns.len();
        let (row_bytes, rows) = (format.row_bytes(columns), self.weight.len() / columns);
        let sum: f64 = self
            .weight
            .par_chunks(columns)
            .map(|row| {
                let (mut bytes, mut values) = (vec![0; row_bytes], vec![0.0; columns]);
                let importance = Some(&self.sensitivity.columns[..]);
                let rounding = Rounding { format, importance, by_magnitude: false, search: Search::Fast };
                rounding.row(row, &mut bytes);
                format.dequantize_row(&bytes, &mut values);
                self.sensitivity.row_error(row, &values)
            })
            .collect::<Vec<f64>>()
            .into_iter()
            .sum();
        let total: f64 = self.sensitivity.rows.iter().map(|&x| f64::from(x)).sum();
        total * sum / rows.max(1) as f64 / 2.0
    }
}
