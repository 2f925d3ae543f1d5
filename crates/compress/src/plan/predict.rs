//! What each type would do to each tensor: rounded in part, for a sample of rows says enough.

use gguf::TensorInfo;
use kernels::Format;
use rayon::prelude::*;

use super::bytes_in;
use super::sensitivity::{Sensitivities, Sensitivity};
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

/// Rows that are rounded to see what a type does.
const SAMPLED_ROWS: usize = 192;

/// All types that tensor `index` may get.
pub(crate) fn candidates(
    source: &Source,
    kind: &Kind,
    index: usize,
    sensitivities: &Sensitivities,
    types: impl Iterator<Item = &'static Format>,
) -> Vec<Candidate> {
    let info = &source.file.tensors()[index];
    let mut samples = Vec::new();
    let data = source.file.data(info);
    match kind {
        Kind::Matrix(parts) => {
            // Those of one role together: experts are many, and what they do adds up.
            for parts in parts.chunk_by(|a, b| a.role == b.role) {
                let matrices = parts.iter().filter_map(|part| {
                    let sensitivity =
                        sensitivities.blocks[part.layer][part.role as usize].get(part.expert)?;
                    let stored = source.stored(part.layer, part.role, part.expert);
                    Some((stored.file_rows(&source.file), sensitivity))
                });
                samples.push(Sample::of(info, matrices));
            }
        }
        Kind::Output { tied } => {
            samples.push(Sample::of(info, [(data, &sensitivities.output)]));
            if *tied {
                samples.push(Sample::of(info, [(data, &sensitivities.embedding)]));
            }
        }
        Kind::Embedding => samples.push(Sample::of(info, [(data, &sensitivities.embedding)])),
        Kind::Exact => {}
    }
    if samples.is_empty() {
        return Vec::new();
    }
    types
        .map(|format| Candidate {
            format,
            bytes: bytes_in(info, format),
            // What lies on the grid already stays as it is.
            divergence: match format.id == info.type_id {
                true => 0.0,
                false => samples.iter().map(|sample| sample.divergence(format)).sum(),
            },
        })
        .collect()
}

/// Some rows of matrices, drawn with chances in proportion to what an error in them costs.
struct Sample<'a> {
    rows: Vec<Row<'a>>,
    /// What an error of one in every weight of the matrices would cost.
    total: f64,
}

/// A row that was drawn.
struct Row<'a> {
    /// Of its matrix.
    sensitivity: &'a Sensitivity,
    weight: Vec<f32>,
}

impl<'a> Sample<'a> {
    /// Every so often on the way along the sum of all rows' costs (systematic sampling).
    fn of(info: &TensorInfo, matrices: impl IntoIterator<Item = (&'a [u8], &'a Sensitivity)>) -> Sample<'a> {
        let matrices: Vec<_> = matrices.into_iter().collect();
        let cost = |sensitivity: &Sensitivity| -> f64 {
            sensitivity.power() * sensitivity.rows.iter().map(|&x| f64::from(x)).sum::<f64>()
        };
        let total: f64 = matrices.iter().map(|(_, sensitivity)| cost(sensitivity)).sum();
        let step = total / SAMPLED_ROWS as f64;
        let (mut drawn, mut sum) = (Vec::new(), 0.0);
        for (data, sensitivity) in matrices {
            let power = sensitivity.power();
            for (row, &x) in sensitivity.rows.iter().enumerate() {
                sum += power * f64::from(x);
                while (drawn.len() as f64 + 0.5) * step < sum {
                    drawn.push((data, row, sensitivity));
                }
            }
        }
        let Some(format) = kernels::format(info.type_id) else { return Sample { rows: Vec::new(), total } };
        let columns = info.shape[0] as usize;
        let row_bytes = format.row_bytes(columns);
        let rows = drawn.into_par_iter().map(|(data, row, sensitivity)| {
            let mut weight = vec![0.0; columns];
            format.dequantize_row(&data[row * row_bytes..][..row_bytes], &mut weight);
            Row { sensitivity, weight }
        });
        Sample { rows: rows.collect(), total }
    }

    /// In nats a token.
    fn divergence(&self, format: &'static Format) -> f64 {
        let sum: f64 = self
            .rows
            .par_iter()
            .map(|Row { sensitivity, weight }| {
                let (mut bytes, mut values) = (vec![0; format.row_bytes(weight.len())], weight.clone());
                let importance = Some(&sensitivity.columns[..]);
                let rounding = Rounding { format, importance, by_magnitude: false, search: Search::Fast };
                rounding.row(weight, &mut bytes);
                format.dequantize_row(&bytes, &mut values);
                sensitivity.row_error(weight, &values) / sensitivity.power()
            })
            .collect::<Vec<f64>>()
            .into_iter()
            .sum();
        self.total * sum / self.rows.len().max(1) as f64 / 2.0
    }
}
