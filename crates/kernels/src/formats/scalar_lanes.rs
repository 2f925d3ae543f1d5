//! Products for formats without vector code of their own: the scalar code unpacks 16 rows' blocks into lanes, and
//! the products go on from there at full speed.

use std::marker::PhantomData;

use super::lanes::step_bytes;
use super::{Lanes, Sink};
use crate::simd::{LANES, Simd};

/// A format's scalar integer view; interleaving keeps its blocks whole.
pub(crate) trait Blocks: 'static {
    const VALUES: usize;
    const BYTES: usize;
    /// value[i] = scale[i / 16] * q[i] - min[i / 16].
    fn integers(block: &[u8], q: &mut [i8], scale: &mut [f32], min: &mut [f32]);
}

pub(crate) struct ScalarLanes<B>(PhantomData<B>);

/// The largest block.
const MOST: usize = 256;

/// A block of 16 rows: `[four values][row]`, `[16 values][row]`.
struct Unpacked {
    values: [[[i8; 4]; LANES]; MOST / 4],
    scales: [[f32; LANES]; MOST / 16],
    mins: [[f32; LANES]; MOST / 16],
}

/// Not inlined: it is the same on every tier.
#[inline(never)]
fn unpack<B: Blocks>(blocks: &[u8]) -> Unpacked {
    let mut unpacked = Unpacked {
        values: [[[0; 4]; LANES]; MOST / 4],
        scales: [[0.0; LANES]; MOST / 16],
        mins: [[0.0; LANES]; MOST / 16],
    };
    for (lane, block) in blocks.chunks_exact(B::BYTES).enumerate() {
        let (mut q, mut scale, mut min) = ([0i8; MOST], [0f32; MOST / 16], [0f32; MOST / 16]);
        let halves = B::VALUES / 16;
        B::integers(block, &mut q[..B::VALUES], &mut scale[..halves], &mut min[..halves]);
        for (four, lanes) in q[..B::VALUES].as_chunks::<4>().0.iter().zip(&mut unpacked.values) {
            lanes[lane] = *four;
        }
        for half in 0..halves {
            unpacked.scales[half][lane] = scale[half];
            unpacked.mins[half][lane] = min[half];
        }
    }
    unpacked
}

impl<B: Blocks> Lanes for ScalarLanes<B> {
    const STEP_BYTES: usize = step_bytes(B::VALUES, B::BYTES);
    const HALVES: bool = true;
    const MINS: bool = true;
    const SIGNED: bool = true;

    #[inline(always)]
    unsafe fn block<S: Simd, K: Sink<S>>(block: *const u8, sink: &mut K) {
        // SAFETY: the caller's block holds 16 whole blocks.
        let Unpacked { values, scales, mins } =
            &unpack::<B>(unsafe { std::slice::from_raw_parts(block, LANES * B::BYTES) });
        for step in 0..B::VALUES / 32 {
            // SAFETY: the arrays are 16 lanes wide; the tier is the caller's promise.
            unsafe {
                for j in 0..8 {
                    let four = S::load(values[8 * step + j].as_ptr().cast());
                    sink.values(j, S::ready_i8(four));
                }
                let (first, second) = (2 * step, 2 * step + 1);
                let scale = [S::load_f32(scales[first].as_ptr()), S::load_f32(scales[second].as_ptr())];
                let min = [S::load_f32(mins[first].as_ptr()), S::load_f32(mins[second].as_ptr())];
                sink.step(scale, min);
            }
        }
    }
}
