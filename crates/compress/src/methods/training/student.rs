//! A rounded model in memory as codes, read from its file and written back.

use std::path::Path;

use gguf::{TensorSpec, Writer};
use model::Stored;

use super::latent::Latent;
use super::tune::Tuned;
use crate::error::Error;
use crate::float::{Block, Linear, Norms, ROLES, Role, Source};

/// A matrix that learns, or one whose format cannot.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// In a format with a grid.
    Learned(Latent),
    /// In another one.
    Kept(Linear),
}

impl Matrix {
    /// What it is at this moment.
    pub fn linear(&self) -> Linear {
        match self {
            Matrix::Learned(latent) => latent.linear(),
            Matrix::Kept(linear) => linear.clone(),
        }
    }

    /// What can learn.
    pub fn learned(&mut self) -> Option<&mut Latent> {
        match self {
            Matrix::Learned(latent) => Some(latent),
            Matrix::Kept(_) => None,
        }
    }
}

/// A rounded decoder block.
#[derive(Clone, Debug)]
pub struct Rounded {
    norms: Norms,
    /// One for each of [`ROLES`].
    matrices: Vec<Matrix>,
}

impl Rounded {
    /// Block `layer` of the rounded model; with `original`, the block before rounding, levels can be learned.
    ///
    /// # Errors
    /// Those of [`Source::dense_block`].
    pub fn read(source: &Source, layer: usize, original: Option<&Block>) -> Result<Rounded, Error> {
        let mut block = source.dense_block(layer)?;
        let mut matrices = Vec::with_capacity(ROLES.len());
        for role in ROLES {
            let linear = std::mem::take(block.matrix_mut(role));
            let original = original.map(|block| block.matrix(role).weight.as_slice());
            matrices.push(matrix(source, source.stored(layer, role, 0), linear, original));
        }
        Ok(Rounded { norms: block.norms, matrices })
    }

    /// What the block is at this moment.
    pub fn block(&self) -> Block {
        let mut block = Block { norms: self.norms.clone(), ..Block::default() };
        for (role, matrix) in ROLES.into_iter().zip(&self.matrices) {
            *block.matrix_mut(role) = matrix.linear();
        }
        block
    }

    /// The matrix in this role, if it can learn.
    pub fn matrix_mut(&mut self, role: Role) -> Option<&mut Latent> {
        self.matrices[role as usize].learned()
    }

    /// What was learned and what came of it, for the journal.
    pub(super) fn state(&self, outcome: &Tuned) -> Vec<u8> {
        let mut state = [outcome.before.to_le_bytes(), outcome.after.to_le_bytes()].concat();
        for matrix in &self.matrices {
            if let Matrix::Learned(latent) = matrix {
                latent.state(&mut state);
            }
        }
        state
    }

    /// Takes over a state; `None` if it is none of this block.
    pub(super) fn restore(&mut self, state: &[u8]) -> Option<Tuned> {
        let (before, state) = state.split_first_chunk()?;
        let (after, mut rest) = state.split_first_chunk()?;
        for latent in self.matrices_mut() {
            rest = latent.restore(rest)?;
        }
        Some(Tuned { before: f64::from_le_bytes(*before), after: f64::from_le_bytes(*after) })
    }

    /// All that can learn.
    pub fn matrices_mut(&mut self) -> impl Iterator<Item = &mut Latent> {
        self.matrices.iter_mut().filter_map(Matrix::learned)
    }
}

/// The matrix `stored` of the rounded model, whose values are `linear`.
pub(super) fn matrix(source: &Source, stored: &Stored, linear: Linear, original: Option<&[f32]>) -> Matrix {
    let rows = stored.file_rows(&source.file);
    match Latent::of_bytes(stored.format, rows, stored.columns, linear.bias.clone(), original) {
        Some(latent) => Matrix::Learned(latent),
        None => Matrix::Kept(linear),
    }
}

/// New bytes for the tensors of a model file.
#[derive(Clone, Debug)]
pub struct Tensors<'a> {
    source: &'a Source,
    changed: Vec<Option<Vec<u8>>>,
}

impl<'a> Tensors<'a> {
    /// Those of `source` as they are.
    pub fn of(source: &'a Source) -> Tensors<'a> {
        Tensors { source, changed: vec![None; source.file.tensors().len()] }
    }

    /// Takes over what a block has learned.
    pub fn put_block(&mut self, layer: usize, rounded: &Rounded) {
        for (role, matrix) in ROLES.into_iter().zip(&rounded.matrices) {
            self.put(self.source.stored(layer, role, 0), matrix);
        }
    }

    /// Takes over what a matrix has learned.
    pub fn put(&mut self, stored: &Stored, matrix: &Matrix) {
        let Matrix::Learned(latent) = matrix else { return };
        let file = &self.source.file;
        let whole = self.changed[stored.tensor]
            .get_or_insert_with(|| file.data(&file.tensors()[stored.tensor]).to_vec());
        // A merged tensor is several matrices.
        let first = stored.first_row * stored.format.row_bytes(stored.columns);
        let bytes = latent.bytes();
        whole[first..first + bytes.len()].copy_from_slice(&bytes);
    }

    /// Writes the model with what is new.
    ///
    /// # Errors
    /// Those of [`Writer`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let file = &self.source.file;
        let specs: Vec<TensorSpec> = file
            .tensors()
            .iter()
            .map(|info| TensorSpec {
                name: info.name.clone(),
                shape: info.shape.clone(),
                type_id: info.type_id,
            })
            .collect();
        let mut writer = Writer::create(path, file.metadata(), &specs)?;
        for (info, changed) in file.tensors().iter().zip(&self.changed) {
            writer.write_tensor(&info.name, changed.as_deref().unwrap_or_else(|| file.data(info)))?;
        }
        Ok(writer.finish()?)
    }
}
