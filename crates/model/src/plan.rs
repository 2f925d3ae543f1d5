//! Which rows of which tensors become product matrices, and where each lies in the interleaved copy.

use std::ops::Range;

use gguf::File;
use kernels::{Format, Matrix};

use crate::fingerprint::Fingerprint;

/// Every matrix starts at a multiple of this, a cache line.
const ALIGNMENT: usize = 64;

/// A matrix, where it lies in the file and where in the interleaved copy: rows of a tensor, or one expert, or a part of a
/// merged product.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Number format, that of the file.
    pub format: &'static Format,
    /// Values that the product yields.
    pub rows: usize,
    /// Values that it takes.
    pub columns: usize,
    /// Index into the file's tensors.
    pub tensor: usize,
    /// First row in that tensor, whose rows lie one after another over all further dimensions.
    pub first_row: usize,
    offset: usize,
    bytes: usize,
}

impl Stored {
    /// The matrix itself, given the bytes of the copy from `first` on.
    pub(crate) fn matrix<'a>(&self, copy: &'a [u8], first: usize) -> Matrix<'a> {
        let start = self.offset - first;
        Matrix {
            format: self.format,
            rows: self.rows,
            columns: self.columns,
            data: &copy[start..start + self.bytes],
        }
    }

    /// Its rows as they stand in the file, one after another.
    pub fn file_rows<'a>(&self, file: &'a File) -> &'a [u8] {
        let row_bytes = self.format.row_bytes(self.columns);
        &file.data(&file.tensors()[self.tensor])[self.first_row * row_bytes..][..self.rows * row_bytes]
    }

    /// Bytes in the copy.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it lies in the copy.
    pub(crate) fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.bytes
    }

    /// Where it starts in the copy.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }
}

/// The matrices of one model in the order of the copy.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    matrices: Vec<Stored>,
    bytes: usize,
}

impl Plan {
    /// Appends `rows` rows of `tensor`, from `first_row` on.
    pub(crate) fn add(
        &mut self,
        format: &'static Format,
        tensor: usize,
        first_row: usize,
        rows: usize,
        columns: usize,
    ) -> Stored {
        let offset = self.bytes.next_multiple_of(ALIGNMENT);
        let bytes = format.interleaved_bytes(rows, columns);
        let stored = Stored { format, rows, columns, tensor, first_row, offset, bytes };
        self.matrices.push(stored);
        self.bytes = offset + bytes;
        stored
    }

    pub(crate) fn matrices(&self) -> &[Stored] {
        &self.matrices
    }

    /// Bytes of the whole copy.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes copies that are laid out differently differ in name.
    pub(crate) fn identify(&self, fingerprint: &mut Fingerprint) {
        for matrix in &self.matrices {
            let Stored { format, rows, columns, tensor, first_row, offset, bytes } = *matrix;
            for number in [format.id as usize, rows, columns, offset, bytes, tensor, first_row] {
                fingerprint.number(number as u64);
            }
        }
    }
}
