//! The packed file: what was rounded with care, what is rounded here by importance alone, what is kept.

use std::path::Path;

use gguf::{TensorInfo, TensorSpec, Value, Writer};
use kernels::Team;

use crate::error::Error;
use crate::float::Source;
use crate::imatrix::Importance;
use crate::inventory::{matrices, values};
use crate::journal::Journal;
use crate::plan::Decision;
use crate::recipes::RECIPES;
use crate::rounding::{Rounding, Search};
use crate::walk::tensor_entry;

/// What goes into a file.
pub(crate) struct Parts<'a> {
    pub(crate) source: &'a Source,
    pub(crate) types: &'a [Option<Decision>],
    /// Where rounded tensors are, if any are.
    pub(crate) journal: Option<&'a Journal>,
    /// For those that are not there.
    pub(crate) importance: Option<&'a Importance>,
}

/// Values of a tensor that are rounded at a time.
const PIECE_VALUES: usize = 16 << 20;

/// The version of the quantized formats that every reader of today expects.
const QUANTIZATION_VERSION: u32 = 2;

impl Parts<'_> {
    /// Writes the file, which appears once it is whole.
    ///
    /// # Errors
    /// [`Error::Gguf`] for a full disk and the like, [`Error::NotFinite`].
    pub(crate) fn write(
        &self,
        team: &Team,
        target: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let tensors = self.source.file.tensors();
        let specs: Vec<TensorSpec> = tensors
            .iter()
            .zip(self.types)
            .map(|(info, decision)| TensorSpec {
                name: info.name.clone(),
                shape: info.shape.clone(),
                type_id: decision.map_or(info.type_id, |decision| decision.format.id),
            })
            .collect();
        let mut metadata = self.source.file.metadata().clone();
        metadata.insert("general.file_type", Value::U32(self.file_type()));
        metadata.insert("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
        let mut writer = Writer::create(target, &metadata, &specs)?;
        let total = tensors.iter().map(values).sum();
        let mut done = 0;
        for (index, info) in tensors.iter().enumerate() {
            progress(done, total);
            self.tensor(team, index, info, &mut writer)?;
            done += values(info);
        }
        progress(total, total);
        Ok(writer.finish()?)
    }

    fn tensor(&self, team: &Team, index: usize, info: &TensorInfo, writer: &mut Writer) -> Result<(), Error> {
        let data = self.source.file.data(info);
        // What was rounded, and norms and biases that something is folded into.
        if let Some(journal) = self.journal
            && let Some(bytes) = journal.get(&tensor_entry(index))?
        {
            return Ok(writer.write_tensor(&info.name, &bytes)?);
        }
        let decision = self.types[index].filter(|decision| decision.format.id != info.type_id);
        let Some(Decision { format, .. }) = decision else {
            return Ok(writer.write_tensor(&info.name, data)?);
        };
        let Some(from) = kernels::format(info.type_id) else {
            return Ok(writer.write_tensor(&info.name, data)?);
        };
        let columns = info.shape[0] as usize;
        let matrices = matrices(info);
        let squares = self.importance.and_then(|importance| importance.tensors.get(&info.name));
        let squares = squares.map(|squares| match squares.columns == columns {
            true => squares.clone(),
            false => squares.clone().split(matrices),
        });
        let rows = (values(info) as usize / columns) / matrices;
        let row_bytes = from.row_bytes(columns);
        let piece_rows = (PIECE_VALUES / columns).max(1);
        let mut out = vec![0; piece_rows.min(rows) * format.row_bytes(columns)];
        for (matrix, data) in data.chunks_exact((rows * row_bytes).max(1)).enumerate() {
            let mean =
                squares.as_ref().and_then(|squares| squares.mean(matrix.min(squares.counts.len() - 1)));
            let rounding = Rounding {
                format,
                importance: mean.as_deref().filter(|mean| mean.len() == columns),
                by_magnitude: true,
                search: Search::Fast,
            };
            for piece in data.chunks(piece_rows * row_bytes) {
                let out = &mut out[..piece.len() / row_bytes * format.row_bytes(columns)];
                if !rounding.file_matrix(team, from, piece, columns, out) {
                    return Err(Error::NotFinite { what: info.name.clone() });
                }
                writer.write(out)?;
            }
        }
        Ok(())
    }

    /// The number that stands for the most frequent type: what viewers show as the file's type.
    fn file_type(&self) -> u32 {
        let mut bytes = std::collections::BTreeMap::new();
        for (info, decision) in self.source.file.tensors().iter().zip(self.types) {
            if let Some(decision) = decision {
                *bytes.entry(decision.format.name).or_insert(0) += values(info);
            }
        }
        let most = bytes.into_iter().max_by_key(|(_, values)| *values).map(|(name, _)| name);
        let named = |name: &str| RECIPES.iter().find(|recipe| recipe.name.starts_with(name));
        most.and_then(named).map_or(0, |recipe| recipe.file_type)
    }
}
