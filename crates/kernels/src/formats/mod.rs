//! Number formats: one file each, one line each in [`FORMATS`].
//!
//! A file holds the block's layout, the scalar oracle that unpacks it, and (`Lanes`) how 16 interleaved rows of it
//! unpack in vector registers. Nothing else in the workspace names a format.

mod block;
mod codes;
mod lanes;
mod rounding;
mod scalar_lanes;

mod float;
mod grids;
mod iq1_m;
mod iq1_s;
mod iq2_s;
mod iq2_xs;
mod iq2_xxs;
mod iq3_s;
mod iq3_xxs;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod tq1_0;
mod tq2_0;

#[cfg(test)]
mod tests;

pub use codes::{Codes, Grid, Levels, Minimums, Scales};
pub(crate) use lanes::{FloatLanes, Lanes, Sink, bias_shift};
#[cfg(test)]
pub(crate) use rounding::stored;

use crate::cpu::Tier;
use crate::matmul::dispatch::{Kernels, float_kernels, kernels};
use crate::simd::LANES;

/// A run of equal units of a block that interleaving keeps whole: the unit of row 0, of row 1, ... row 15, then the
/// next unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    unit: usize,
    count: usize,
}

const fn field(unit: usize, count: usize) -> Field {
    Field { unit, count }
}

/// Unpacks the bytes of a block into its values.
type Dequantize = fn(&[u8], &mut [f32]);

/// How values become the bytes of a format.
enum Quantize {
    /// Floats, each by itself.
    Float(fn(&[f32], &mut [u8])),
    /// A block at a time: codes are chosen, then packed.
    Block {
        grid: &'static Grid,
        /// Chooses codes by plain rounding.
        round: fn(&[f32]) -> Codes,
        encode: fn(&Codes, &mut [u8]),
        integers: block::Integers,
        /// Where `d` and `dmin` stand in a block that has integer scales.
        halves: &'static [usize],
    },
    /// There is no code for it: the formats whose values lie on a grid of many dimensions.
    Never,
}

/// A number format: how many values a block holds, in how many bytes, and what to do with them.
pub struct Format {
    /// The name as the file format's description spells it.
    pub name: &'static str,
    /// The tensor type id in the model file.
    pub id: u32,
    /// Values in a block.
    pub values: usize,
    /// Bytes of a block.
    pub bytes: usize,
    dequantize: Dequantize,
    quantize: Quantize,
    fields: &'static [Field],
    arrange: Option<fn(&mut [u8])>,
    pub(crate) kernels: fn(Tier) -> Kernels,
}

/// A line of the table: `format!(module, "NAME", id, [fields], kernels)`.
macro_rules! format {
    ($module:ident, $name:literal, $id:literal, [$($unit:literal x $count:expr),+], $kernels:expr) => {
        format!($module, $name, $id, [$($unit x $count),+], $kernels, None)
    };
    ($module:ident, $name:literal, $id:literal, [$($unit:literal x $count:expr),+], $kernels:expr, $arrange:expr) => {
        Format {
            name: $name,
            id: $id,
            values: $module::VALUES,
            bytes: $module::BYTES,
            dequantize: $module::dequantize,
            quantize: Quantize::Block {
                grid: &$module::GRID,
                round: $module::round,
                encode: $module::encode,
                integers: $module::integers,
                halves: $module::HALVES,
            },
            fields: &[$(field($unit, $count)),+],
            arrange: $arrange,
            kernels: $kernels,
        }
    };
}

/// A float format: one value a block.
macro_rules! float {
    ($type:ident, $name:literal, $id:literal) => {
        Format {
            name: $name,
            id: $id,
            values: 1,
            bytes: <float::$type as FloatLanes>::BYTES,
            dequantize: float::$type::dequantize,
            quantize: Quantize::Float(float::$type::quantize),
            fields: &[field(<float::$type as FloatLanes>::BYTES, 1)],
            arrange: None,
            kernels: float_kernels::<float::$type>,
        }
    };
}

/// A format whose products unpack rows by its scalar code.
macro_rules! scalar {
    ($module:ident, $name:literal, $id:literal) => {{
        struct Blocks;
        impl scalar_lanes::Blocks for Blocks {
            const VALUES: usize = $module::VALUES;
            const BYTES: usize = $module::BYTES;
            fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]) {
                $module::integers(block, q, scale, min);
            }
        }
        Format {
            name: $name,
            id: $id,
            values: $module::VALUES,
            bytes: $module::BYTES,
            dequantize: $module::dequantize,
            quantize: Quantize::Never,
            fields: &[field($module::BYTES, 1)],
            arrange: None,
            kernels: kernels::<scalar_lanes::ScalarLanes<Blocks>>,
        }
    }};
}

/// Every format that Pouch reads, one line each: the fields are those of the block, in the order of its bytes, after
/// `arrange` has put them into the order in which products first touch them. Memory is then read straight on; read at
/// several places of a block at once, it comes at half the speed, for the processor does not foresee what is next.
pub static FORMATS: &[Format] = &[
    float!(F32, "F32", 0),
    float!(F16, "F16", 1),
    float!(Bf16, "BF16", 30),
    format!(q4_0, "Q4_0", 2, [2 x 1, 4 x 4], kernels::<q4_0::Q4_0>),
    format!(q4_1, "Q4_1", 3, [2 x 2, 4 x 4], kernels::<q4_1::Q4_1>),
    format!(q5_0, "Q5_0", 6, [2 x 1, 4 x 5], kernels::<q5_0::Q5_0>, Some(q5_0::arrange)),
    format!(q5_1, "Q5_1", 7, [2 x 2, 4 x 5], kernels::<q5_1::Q5_1>, Some(q5_1::arrange)),
    format!(q8_0, "Q8_0", 8, [2 x 1, 4 x 8], kernels::<q8_0::Q8_0>),
    format!(q2_k, "Q2_K", 10, [2 x 2, 4 x 20], kernels::<q2_k::Q2K>, Some(q2_k::arrange)),
    format!(q3_k, "Q3_K", 11, [2 x 1, 4 x 27], kernels::<q3_k::Q3K>, Some(q3_k::arrange)),
    format!(q4_k, "Q4_K", 12, [2 x 2, 4 x 3, 4 x 32], kernels::<q4_k::Q4K>),
    format!(q5_k, "Q5_K", 13, [2 x 2, 4 x 43], kernels::<q5_k::Q5K>, Some(q5_k::arrange)),
    format!(q6_k, "Q6_K", 14, [2 x 1, 4 x 52], kernels::<q6_k::Q6K>, Some(q6_k::arrange)),
    format!(iq4_nl, "IQ4_NL", 20, [2 x 1, 4 x 4], kernels::<iq4_nl::Iq4Nl>),
    format!(iq4_xs, "IQ4_XS", 23, [2 x 2, 4 x 1, 4 x 32], kernels::<iq4_xs::Iq4Xs>),
    format!(mxfp4, "MXFP4", 39, [1 x 1, 4 x 4], kernels::<mxfp4::Mxfp4>),
    scalar!(iq2_xxs, "IQ2_XXS", 16),
    scalar!(iq2_xs, "IQ2_XS", 17),
    scalar!(iq2_s, "IQ2_S", 22),
    scalar!(iq3_xxs, "IQ3_XXS", 18),
    scalar!(iq3_s, "IQ3_S", 21),
    scalar!(iq1_s, "IQ1_S", 19),
    scalar!(iq1_m, "IQ1_M", 29),
    scalar!(tq1_0, "TQ1_0", 34),
    scalar!(tq2_0, "TQ2_0", 35),
];

/// The format with this tensor type id, if Pouch reads it.
pub fn format(id: u32) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.id == id)
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Format {
    /// Whether values are floats, multiplied as they are, rather than small integers with scales.
    pub fn is_float(&self) -> bool {
        self.values == 1
    }

    /// Bytes of a row of `columns` values, a multiple of [`Format::values`].
    pub fn row_bytes(&self, columns: usize) -> usize {
        columns / self.values * self.bytes
    }

    /// A row of the file as `f32`: the scalar oracle.
    ///
    /// # Panics
    /// If `row` is not `row_bytes(out.len())` long.
    pub fn dequantize_row(&self, row: &[u8], out: &mut [f32]) {
        assert_eq!(row.len(), self.row_bytes(out.len()), "bytes of a {} row of {}", self.name, out.len());
        if self.is_float() {
            return (self.dequantize)(row, out);
        }
        for (block, out) in row.chunks_exact(self.bytes).zip(out.chunks_exact_mut(self.values)) {
            (self.dequantize)(block, out);
        }
    }

    /// `values` rounded plainly to this format, in the file's layout; `false` if there is no such code for it (the
    /// formats whose values lie on a grid).
    ///
    /// # Panics
    /// If `row` is not `row_bytes(values.len())` long.
    #[must_use]
    pub fn quantize_row(&self, values: &[f32], row: &mut [u8]) -> bool {
        assert_eq!(
            row.len(),
            self.row_bytes(values.len()),
            "bytes of a {} row of {}",
            self.name,
            values.len()
        );
        match self.quantize {
            Quantize::Float(quantize) => quantize(values, row),
            Quantize::Block { round, encode, .. } => {
                for (values, block) in values.chunks_exact(self.values).zip(row.chunks_exact_mut(self.bytes))
                {
                    encode(&round(values), block);
                }
            }
            Quantize::Never => return false,
        }
        true
    }

    /// What a block can say, for who chooses codes with more care than [`Format::quantize_row`]; `None` for floats and
    /// for formats that cannot be written.
    pub fn grid(&self) -> Option<&'static Grid> {
        match self.quantize {
            Quantize::Block { grid, .. } => Some(grid),
            _ => None,
        }
    }

    /// Codes of plain rounding, for one block; `None` as for [`Format::grid`].
    ///
    /// # Panics
    /// If there are not `self.values` values.
    pub fn round(&self, values: &[f32]) -> Option<Codes> {
        assert_eq!(values.len(), self.values, "values of a {} block", self.name);
        match self.quantize {
            Quantize::Block { round, .. } => Some(round(values)),
            _ => None,
        }
    }

    /// Packs `codes`, which must lie on the format's grid, into `block`. Dequantizing it gives [`Codes::value`] to
    /// the bit.
    ///
    /// # Panics
    /// If the format has no grid, or `block` is not `self.bytes` long.
    pub fn encode(&self, codes: &Codes, block: &mut [u8]) {
        assert_eq!(block.len(), self.bytes, "bytes of a {} block", self.name);
        match self.quantize {
            Quantize::Block { encode, .. } => encode(codes, block),
            _ => panic!("{} has no grid", self.name),
        }
    }

    /// The codes that a block holds: [`Format::encode`] gives the same block.
    ///
    /// # Panics
    /// If the format has no grid, or `block` is not of its size.
    pub fn decode(&self, block: &[u8]) -> Codes {
        assert_eq!(block.len(), self.bytes, "bytes of a {} block", self.name);
        let Quantize::Block { grid, integers, halves, .. } = self.quantize else {
            panic!("{} has no grid", self.name)
        };
        let mut codes = Codes::ZERO;
        // With 1 for `d` and `dmin`, the scales and minimums of the integer view are the integers of the file.
        let mut unit = [0; block::MOST_BYTES];
        unit[..self.bytes].copy_from_slice(block);
        halves.iter().for_each(|&at| {
            block::put_f16(&mut unit, at, 1.0);
        });
        let (mut scale, mut min) = ([0.0; block::MOST_VALUES / 16], [0.0; block::MOST_VALUES / 16]);
        let fine = self.values / 16;
        integers(&unit[..self.bytes], &mut codes.q[..self.values], &mut scale[..fine], &mut min[..fine]);
        match *halves {
            [] => (codes.d, codes.dmin) = (scale[0], min[0]),
            [d, ref dmin @ ..] => {
                codes.d = block::f16_at(block, d);
                codes.dmin = dmin.first().map_or(0.0, |&at| block::f16_at(block, at));
                for g in 0..self.values / grid.group {
                    codes.scale[g] = scale[g * grid.group / 16] as i8;
                    codes.min[g] = min[g * grid.group / 16] as u8;
                }
            }
        }
        codes
    }

    /// Bytes of the interleaved form: rows are padded to a multiple of 16.
    pub fn interleaved_bytes(&self, rows: usize, columns: usize) -> usize {
        rows.next_multiple_of(LANES) * self.row_bytes(columns)
    }

    /// Writes the rows of `file` (`rows` of `columns` values) interleaved by 16 into `out`, rows past the last one
    /// as zeros. A permutation of the file's bits, group by group: groups of 16 rows may be done in parallel.
    ///
    /// # Panics
    /// If a slice's length is not what the shape needs.
    pub fn interleave(&self, rows: usize, columns: usize, file: &[u8], out: &mut [u8]) {
        let row_bytes = self.row_bytes(columns);
        assert_eq!(file.len(), rows * row_bytes, "bytes of {rows} {} rows", self.name);
        assert_eq!(
            out.len(),
            self.interleaved_bytes(rows, columns),
            "bytes of interleaved {} rows",
            self.name
        );
        if row_bytes == 0 {
            return;
        }
        for (file, out) in file.chunks(LANES * row_bytes).zip(out.chunks_exact_mut(LANES * row_bytes)) {
            if file.len() < out.len() {
                out.fill(0);
            }
            for (block, out) in out.chunks_exact_mut(LANES * self.bytes).enumerate() {
                self.interleave_block(&file[block * self.bytes..], row_bytes, out);
            }
        }
    }

    /// Interleaves one block of up to 16 rows, each `row_bytes` after the one before.
    fn interleave_block(&self, rows: &[u8], row_bytes: usize, out: &mut [u8]) {
        let mut arranged = [0; LANES * block::MOST_BYTES];
        let (mut rows, mut row_bytes) = (rows, row_bytes);
        if let Some(arrange) = self.arrange {
            let count = rows.len().div_ceil(row_bytes);
            for (row, block) in rows.chunks(row_bytes).zip(arranged.chunks_exact_mut(self.bytes)) {
                block.copy_from_slice(&row[..self.bytes]);
                arrange(block);
            }
            (rows, row_bytes) = (&arranged[..count * self.bytes], self.bytes);
        }
        let mut start = 0;
        for field in self.fields {
            let out = &mut out[start * LANES..(start + field.unit * field.count) * LANES];
            for (unit, lanes) in out.chunks_exact_mut(field.unit * LANES).enumerate() {
                let at = start + unit * field.unit;
                // The size that nearly all bytes come in is spelled out: a copy of constant size is one instruction.
                if field.unit == 4 {
                    for (row, lane) in rows.chunks(row_bytes).zip(lanes.as_chunks_mut::<4>().0) {
                        lane.copy_from_slice(&row[at..at + 4]);
                    }
                } else {
                    for (row, lane) in rows.chunks(row_bytes).zip(lanes.chunks_exact_mut(field.unit)) {
                        lane.copy_from_slice(&row[at..at + field.unit]);
                    }
                }
            }
            start += field.unit * field.count;
        }
    }
}
