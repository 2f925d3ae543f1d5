//! What the tests share: random numbers, random rows of any format, and products of them.

use kernels::{FORMATS, Format, Input, Keep, Matrix, Product, Team, multiply};

/// Half an epsilon of `f32`: the largest relative error of one rounding.
pub(crate) const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// A small generator (SplitMix64: Steele, Lea and Flood, 2014), the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = (self.bits() >> 56) as u8);
    }

    /// `[token][column]`, as unlike as activations are: each run of 32 has its own magnitude, some have one value
    /// far larger than the rest, and some are all zeros.
    pub(crate) fn activations(&mut self, tokens: usize, columns: usize) -> Vec<f32> {
        let mut x = self.floats(tokens * columns);
        for run in x.chunks_mut(32) {
            let kind = self.bits() % 8;
            let factor = if kind == 0 { 0.0 } else { 10f32.powf(2.0 * self.float()) };
            run.iter_mut().for_each(|x| *x *= factor);
            if kind == 1 {
                run[0] *= 50.0;
            }
        }
        x
    }
}

/// How the bytes of random rows come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Random floats, rounded to the format.
    Rounded,
    /// Random bytes, of which blocks of usual magnitude are kept: every pattern of the small fields occurs, also
    /// those that no quantizer writes.
    Patterns,
}

impl Kind {
    /// The kinds that there are for a format: some have no code that rounds, and random bytes are no test of floats.
    pub(crate) fn of(format: &Format) -> &'static [Kind] {
        let writable = format.quantize_row(&vec![0.0; format.values], &mut vec![0; format.bytes]);
        match (writable, format.is_float()) {
            (true, true) => &[Kind::Rounded],
            (true, false) => &[Kind::Rounded, Kind::Patterns],
            (false, _) => &[Kind::Patterns],
        }
    }
}

/// Random weights, in the file's layout and interleaved.
pub(crate) struct Weights {
    pub(crate) format: &'static Format,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) file: Vec<u8>,
    pub(crate) interleaved: Vec<u8>,
}

impl Weights {
    pub(crate) fn new(
        format: &'static Format,
        rows: usize,
        columns: usize,
        kind: Kind,
        random: &mut Random,
    ) -> Weights {
        let mut file = vec![0; rows * format.row_bytes(columns)];
        let mut values = vec![0.0; format.values];
        for block in file.chunks_exact_mut(format.bytes) {
            match kind {
                Kind::Rounded => {
                    values.iter_mut().for_each(|value| *value = random.float());
                    assert!(format.quantize_row(&values, block), "{format:?} has code that rounds");
                }
                // Scales are random too: those that are not near 1 are drawn again, for one block far larger than
                // the others would hide their errors.
                Kind::Patterns => loop {
                    random.fill(block);
                    format.dequantize_row(block, &mut values);
                    let largest = values.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                    if values.iter().all(|value| value.is_finite()) && (0.25..4.0).contains(&largest) {
                        break;
                    }
                },
            }
        }
        let interleaved = interleave(format, rows, columns, &file);
        Weights { format, rows, columns, file, interleaved }
    }

    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix { format: self.format, rows: self.rows, columns: self.columns, data: &self.interleaved }
    }

    /// The first rows only.
    pub(crate) fn truncated(&self, rows: usize) -> Weights {
        let file = self.file[..rows * self.format.row_bytes(self.columns)].to_vec();
        let interleaved = interleave(self.format, rows, self.columns, &file);
        Weights { format: self.format, rows, columns: self.columns, file, interleaved }
    }

    /// `[row][column]`
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        let rows = self.file.chunks_exact(self.format.row_bytes(self.columns));
        for (row, values) in rows.zip(values.chunks_exact_mut(self.columns)) {
            self.format.dequantize_row(row, values);
        }
        values
    }
}

pub(crate) fn interleave(format: &Format, rows: usize, columns: usize, file: &[u8]) -> Vec<u8> {
    // Old bytes must not shine through.
    let mut interleaved = vec![0xa5; format.interleaved_bytes(rows, columns)];
    format.interleave(rows, columns, file, &mut interleaved);
    interleaved
}

/// The form of the activations that a format reads.
pub(crate) fn keep(format: &Format) -> Keep {
    if format.is_float() { Keep::Float } else { Keep::Int8 }
}

/// The product with `tokens` rows of activations, `[token][row]`.
pub(crate) fn product(team: &Team, matrix: Matrix<'_>, x: &[f32], tokens: usize) -> Vec<f32> {
    let mut input = Input::new(tokens, matrix.columns);
    input.set(team, x, tokens, matrix.columns, keep(matrix.format));
    let mut out = vec![f32::NAN; tokens * matrix.rows];
    let stride = matrix.rows;
    multiply(team, &mut [Product { matrix, input: &input, out: &mut out, stride }]);
    out
}

/// `values` as they are once they were stored in the float or block format `name`.
pub(crate) fn stored(name: &str, values: &[f32]) -> Vec<f32> {
    let format = FORMATS.iter().find(|format| format.name == name).expect("a format of the table");
    let (mut bytes, mut out) = (vec![0; format.row_bytes(values.len())], vec![0.0; values.len()]);
    assert!(format.quantize_row(values, &mut bytes));
    format.dequantize_row(&bytes, &mut out);
    out
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
