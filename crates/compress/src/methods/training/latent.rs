//! A rounded matrix that learns: every field of its blocks has a real number behind it.
//!
//! The forward pass sees what the file would hold, codes and nothing else; the backward pass takes the rounding of each
//! field for no rounding (the straight-through estimator; Bengio et al., 2013, arXiv 1308.3432). A value `s q - m` has the
//! slope 1 by the weight behind its level `q`, or 0 where the weight lies beyond the last level, `q` by its group's scale
//! and -1 by its minimum; `s = d * scale` and `m = dmin * min` pass theirs on to the integers and to the halves. So nothing
//! has to be put on the format's grid at the end: it never left.
//!
//! LSQ (Esser et al., 2020, arXiv 1902.08153) has `q - (w + m) / s` by the scale, as if levels did not stay when it moves.
//! On blocks of two bits that left 8 % more of the error than `q`, the slope as it is between two jumps.

use kernels::{Codes, Format, Grid, Levels, Minimums, Scales};
use rayon::prelude::*;

use crate::bytes::{floats_of, put_floats};
use crate::float::Linear;
use crate::train::{Adam, Moments};

/// What a matrix may learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learn {
    /// Levels and scales.
    All,
    /// Scales and minimums; levels stay as they are.
    Scales,
}

/// How fast it learns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of weights, in steps between levels.
    pub levels: f32,
    /// Of scales, as a share of their range.
    pub scales: f32,
}

/// A matrix in a format with a grid.
#[derive(Clone, Debug)]
pub struct Latent {
    format: &'static Format,
    grid: &'static Grid,
    rows: usize,
    columns: usize,
    bias: Option<Vec<f32>>,
    learn: Learn,
    blocks: Vec<Block>,
}

/// One block of the format.
#[derive(Clone, Debug)]
struct Block {
    codes: Codes,
    /// `d` and `dmin` as they were: what is learned is the factor to them.
    start: [f32; 2],
    /// The step between two levels of each group as it was: the unit of its weights.
    unit: Vec<f32>,
    /// The weights, if levels are learned; the factors of `d` and `dmin`; the integer scales; the integer minimums.
    latent: Vec<f32>,
    moments: Moments,
}

/// How near to the end of its cell a weight may begin, in steps from the middle.
const MARGIN: f32 = 0.45;

impl Latent {
    /// Of the `bytes` of a matrix; `None` for formats without a grid. With `original`, the weights before rounding,
    /// levels can be learned, each beginning where it is, on the side of its cell where the original lies.
    pub fn of_bytes(
        format: &'static Format,
        bytes: &[u8],
        columns: usize,
        bias: Option<Vec<f32>>,
        original: Option<&[f32]>,
    ) -> Option<Latent> {
        let grid = format.grid()?;
        let original =
            |index: usize| original.map(|values| &values[index * format.values..][..format.values]);
        let blocks: Vec<Block> = bytes
            .par_chunks(format.bytes)
            .enumerate()
            .map(|(index, block)| Block::new(grid, format.decode(block), original(index), format.values))
            .collect();
        let rows = blocks.len() * format.values / columns;
        let learn = if original(0).is_some() { Learn::All } else { Learn::Scales };
        Some(Latent { format, grid, rows, columns, bias, learn, blocks })
    }

    /// What the matrix is at this moment.
    pub fn linear(&self) -> Linear {
        let mut weight = vec![0.0; self.rows * self.columns];
        weight.par_chunks_mut(self.format.values).zip(&self.blocks).for_each(|(out, block)| {
            let groups =
                out.chunks_exact_mut(self.grid.group).zip(block.codes.q.chunks_exact(self.grid.group));
            for (g, (out, q)) in groups.enumerate() {
                let (scale, min) = (block.codes.scale_of(self.grid, g), block.codes.min_of(self.grid, g));
                out.iter_mut().zip(q).for_each(|(out, &q)| *out = scale * f32::from(q) - min);
            }
        });
        Linear { rows: self.rows, columns: self.columns, weight, bias: self.bias.clone() }
    }

    /// Its bytes in the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.blocks.len() * self.format.bytes];
        bytes
            .par_chunks_mut(self.format.bytes)
            .zip(&self.blocks)
            .for_each(|(bytes, block)| self.format.encode(&block.codes, bytes));
        bytes
    }

    /// From now on levels stay as they are.
    pub fn fix_levels(&mut self) {
        self.learn = Learn::Scales;
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Forgets how it moved, and learns `learn` from now on; levels only if it could before.
    pub fn restart(&mut self, learn: Learn) {
        let (grid, scales) = (self.grid, 2 + 2 * self.format.values / self.grid.group);
        let weights = self.blocks.first().is_some_and(|block| block.latent.len() > scales);
        self.learn = if weights { learn } else { Learn::Scales };
        self.blocks.par_iter_mut().for_each(|block| {
            match learn {
                Learn::Scales => drop(block.latent.drain(..block.latent.len() - scales)),
                // Scales have moved since the levels were fixed.
                Learn::All => block.put_into_cells(grid),
            }
            block.moments = Moments::new(block.latent.len());
        });
    }

    /// Its bytes in the file, and what is behind them.
    pub fn state(&self, to: &mut Vec<u8>) {
        to.extend(self.bytes());
        for block in &self.blocks {
            [&block.latent, &block.moments.mean, &block.moments.square]
                .into_iter()
                .for_each(|part| put_floats(to, part));
        }
    }

    /// Takes over the state of another one of the same start, and returns what follows it.
    pub fn restore<'a>(&mut self, state: &'a [u8]) -> Option<&'a [u8]> {
        let (bytes, mut rest) = state.split_at_checked(self.blocks.len() * self.format.bytes)?;
        for (block, bytes) in self.blocks.iter_mut().zip(bytes.chunks_exact(self.format.bytes)) {
            block.codes = self.format.decode(bytes);
            let Moments { mean, square } = &mut block.moments;
            for part in [&mut block.latent, mean, square] {
                let (floats, after) = rest.split_at_checked(4 * part.len())?;
                *part = floats_of(floats);
                rest = after;
            }
        }
        Some(rest)
    }

    /// Step `step`, counted from 1, against the gradient of the weights, `[rows][columns]`.
    pub fn step(&mut self, step: usize, rates: Rates, gradient: &[f32]) {
        let (grid, learn) = (self.grid, self.learn);
        let ranges = Ranges::of(grid);
        let scales = |range: f32| Adam::TUNING.pace(step, rates.scales * range);
        let levels = Adam::TUNING.pace(step, if learn == Learn::All { rates.levels } else { 0.0 });
        let paces = [levels, scales(1.0), scales(ranges.scale.1 - ranges.scale.0), scales(ranges.min)];
        let values = self.format.values;
        self.blocks.par_iter_mut().zip(gradient.par_chunks(values)).for_each(|(block, gradient)| {
            let mut slopes = vec![0.0; block.latent.len()];
            block.slopes(grid, learn, gradient, &mut slopes);
            let groups = block.unit.len();
            let weights = block.latent.len() - 2 - 2 * groups;
            let mut first = 0;
            for (count, pace) in [weights, 2, groups, groups].into_iter().zip(paces) {
                let part = first..first + count;
                let (mean, square) =
                    (&mut block.moments.mean[part.clone()], &mut block.moments.square[part.clone()]);
                pace.apply(&mut block.latent[part.clone()], &slopes[part], mean, square);
                first += count;
            }
            block.round(grid, &ranges, learn);
        });
    }
}

/// The least distance of two levels.
fn spacing(grid: &Grid) -> f32 {
    match grid.levels {
        Levels::Range { .. } => 1.0,
        Levels::Table(levels) => {
            levels.windows(2).map(|pair| f32::from(pair[1]) - f32::from(pair[0])).fold(f32::MAX, f32::min)
        }
    }
}

/// What the integers of a grid can be.
struct Ranges {
    scale: (f32, f32),
    min: f32,
}

impl Ranges {
    fn of(grid: &Grid) -> Ranges {
        let scale = match grid.scales {
            Scales::Integer { lowest, highest } => (f32::from(lowest), f32::from(highest)),
            _ => (0.0, 0.0),
        };
        let min = match grid.minimums {
            Minimums::Integer { highest } => f32::from(highest),
            _ => 0.0,
        };
        Ranges { scale, min }
    }
}

impl Block {
    fn new(grid: &Grid, codes: Codes, original: Option<&[f32]>, values: usize) -> Block {
        let groups = values / grid.group;
        let step = |g: usize| spacing(grid) * codes.scale_of(grid, g).abs();
        // A group without a scale of its own measures its weights by its neighbours'.
        let typical = (0..groups).map(step).sum::<f32>() / groups as f32;
        let unit: Vec<f32> = (0..groups)
            .map(|g| if step(g) > 0.0 { step(g) } else { typical.max(f32::MIN_POSITIVE) })
            .collect();
        let mut latent = Vec::new();
        if let Some(original) = original {
            latent.extend(original.iter().enumerate().map(|(i, x)| x / unit[i / grid.group]));
        }
        latent.extend([1.0, 1.0]);
        latent.extend(codes.scale[..groups].iter().map(|&scale| f32::from(scale)));
        latent.extend(codes.min[..groups].iter().map(|&min| f32::from(min)));
        let moments = Moments::new(latent.len());
        let mut block = Block { start: [codes.d, codes.dmin], codes, unit, latent, moments };
        if original.is_some() {
            block.put_into_cells(grid);
        }
        block
    }

    /// Moves each weight to where its level is the nearest.
    fn put_into_cells(&mut self, grid: &Grid) {
        let weights = self.latent.len() - 2 - 2 * self.unit.len();
        for (i, weight) in self.latent[..weights].iter_mut().enumerate() {
            let g = i / grid.group;
            let (middle, unit) = (self.codes.value(grid, i) / self.unit[g], self.unit[g]);
            let most = MARGIN * spacing(grid) * self.codes.scale_of(grid, g).abs() / unit;
            *weight = middle + (*weight - middle).clamp(-most, most);
        }
    }

    /// The slopes of all latents, given those of the values.
    fn slopes(&self, grid: &Grid, learn: Learn, gradient: &[f32], out: &mut [f32]) {
        let (groups, codes) = (self.unit.len(), &self.codes);
        let (weights, rest) = out.split_at_mut(self.latent.len() - 2 - 2 * groups);
        let (halves, integers) = rest.split_at_mut(2);
        let (lowest, highest) = grid.levels.ends();
        let half = 0.5 * spacing(grid);
        let (first, last) = (f32::from(lowest) - half, f32::from(highest) + half);
        for g in 0..groups {
            let (scale, min) = (codes.scale_of(grid, g), codes.min_of(grid, g));
            let (mut by_scale, mut by_min) = (0.0, 0.0);
            for i in g * grid.group..(g + 1) * grid.group {
                by_scale += gradient[i] * f32::from(codes.q[i]);
                by_min -= gradient[i];
                if learn == Learn::All && scale != 0.0 {
                    let place = (self.latent[i] * self.unit[g] + min) / scale;
                    let free = (first..=last).contains(&place);
                    weights[i] = if free { gradient[i] * self.unit[g] } else { 0.0 };
                }
            }
            integers[g] = codes.d * by_scale;
            integers[groups + g] = codes.dmin * by_min;
            let whole = |integer: f32, is: bool| if is { integer } else { 1.0 };
            let scale = whole(f32::from(codes.scale[g]), matches!(grid.scales, Scales::Integer { .. }));
            let min = whole(f32::from(codes.min[g]), matches!(grid.minimums, Minimums::Integer { .. }));
            halves[0] += self.start[0] * scale * by_scale;
            halves[1] += self.start[1] * min * by_min;
        }
    }

    /// Makes the codes what the latents say.
    fn round(&mut self, grid: &Grid, ranges: &Ranges, learn: Learn) {
        let groups = self.unit.len();
        let weights = self.latent.len() - 2 - 2 * groups;
        let (weights, rest) = self.latent.split_at_mut(weights);
        let (halves, integers) = rest.split_at_mut(2);
        self.codes.d = grid.stored(self.start[0] * halves[0]);
        self.codes.dmin = grid.stored_min(self.start[1] * halves[1]);
        for g in 0..groups {
            integers[g] = integers[g].clamp(ranges.scale.0, ranges.scale.1);
            integers[groups + g] = integers[groups + g].clamp(0.0, ranges.min);
            self.codes.scale[g] = integers[g].round_ties_even() as i8;
            self.codes.min[g] = integers[groups + g].round_ties_even() as u8;
        }
        if learn == Learn::All {
            for (i, weight) in weights.iter().enumerate() {
                self.codes.q[i] = self.codes.nearest(grid, i, weight * self.unit[i / grid.group]);
            }
        }
    }
}
