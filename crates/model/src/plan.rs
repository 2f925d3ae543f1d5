//! Which rows of which tensors become product matrices, and where each lies in the interleaved copy.

use kernels::{Format, Matrix};

use crate::fingerprint::Fingerprint;

/// Every matrix starts at a multiple of this, a cache line.
const ALIGNMENT: usize = 64;

/// A matrix of the interleaved copy: rows of a tensor, or one expert, or a part of a merged product.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Number format, that of the file.
    pub format: &'static Format,
    /// Values that the product yields.
    pub rows: usize,
    /// Values that it takes.
    pub columns: usize,
    offset: usize,
    bytes: usize,
}

impl Stored {
    /// The matrix itself, given the bytes of the whole copy.
    pub(crate) fn matrix<'a>(&self, copy: &'a [u8]) -> Matrix<'a> {
        Matrix {
            format: self.format,
            rows: self.rows,
            columns: self.columns,
            data: &copy[self.offset..self.offset + self.bytes],
        }
    }

    /// Bytes in the copy.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// One matrix and where its rows are in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) stored: Stored,
    /// Index into the file's tensors.
    pub(crate) tensor: usize,
    /// First row in that tensor, whose rows lie one after another over all further dimensions.
    pub(crate) first_row: usize,
}

impl Piece {
    pub(crate) fn offset(&self) -> usize {
        self.stored.offset
    }
}

/// The matrices of one model in the order of the copy.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pieces: Vec<Piece>,
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
        let stored = Stored { format, rows, columns, offset, bytes };
        self.pieces.push(Piece { stored, tensor, first_row });
        self.bytes = offset + bytes;
        stored
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Bytes of the whole copy.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes copies that are laid out differently differ in name.
    pub(crate) fn identify(&self, fingerprint: &mut Fingerprint) {
        for piece in &self.pieces {
            let Stored { format, rows, columns, offset, bytes } = piece.stored;
            for number in [format.id as usize, rows, columns, offset, bytes, piece.tensor, piece.first_row] {
                fingerprint.number(number as u64);
            }
        }
    }
}
