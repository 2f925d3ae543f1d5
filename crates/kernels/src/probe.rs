//! The machine's limits, measured: how fast a team reads memory, how fast it multiplies bytes and floats.
//!
//! A product of one token can be no faster than its weights are read, one of many tokens no faster than the
//! multiplication instructions run; speeds are reported beside these two, and for weights in a cache beside the clock.

use std::time::{Duration, Instant};

use crate::simd::{Simd, per_tier};
use crate::team::{Shareable, Team};

/// How long a measurement goes on: interruptions are shorter than this, so the best pass is free of them.
const LONG_ENOUGH: Duration = Duration::from_millis(200);

/// Bytes per second at which `team` reads a buffer of `bytes` bytes, in the best of several passes. A buffer far larger
/// than the last cache measures memory.
pub fn read_bandwidth(team: &Team, bytes: usize) -> f64 {
    /// Long enough for the hardware to run ahead, many enough for all threads to end together.
    const PIECE: usize = 256 * 1024;
    let pieces = bytes.div_ceil(PIECE).max(1);
    // Written first, by those who read: untouched memory is one page of zeros.
    let mut buffer = vec![0f32; pieces * PIECE / size_of::<f32>()];
    team.for_rows(&mut buffer, PIECE / size_of::<f32>(), 1, &|piece, values| values.fill(piece as f32));
    let seconds = best_of_passes(|| {
        team.run(pieces, &|piece| {
            let from = buffer[piece * PIECE / size_of::<f32>()..].as_ptr();
            // SAFETY: a whole piece is readable.
            std::hint::black_box(unsafe { read(from.cast(), PIECE) });
        });
    });
    (pieces * PIECE) as f64 / seconds
}

/// 8-bit multiplications with addition per second that `team` does with the instructions of this process' tier: the
/// inner loop of a product with all operands in registers or the first cache, and nothing else.
pub fn int8_peak(team: &Team) -> f64 {
    const ROUNDS: usize = 2_000;
    /// So that threads that share a core, or are slower than others, take fewer.
    const CHUNKS_PER_THREAD: usize = 16;
    let chunks = team.threads() * CHUNKS_PER_THREAD;
    let mut done = vec![0; chunks];
    let target = Shareable(done.as_mut_ptr());
    let seconds = best_of_passes(|| {
        team.run(chunks, &|chunk| {
            // Unknown to the compiler, which would else find all products alike and compute one.
            let operands = std::hint::black_box(Operands([1; OPERANDS]));
            // SAFETY: each chunk has its own place.
            unsafe { *target.pointer().add(chunk) = multiply_bytes(&operands, ROUNDS) };
        });
    });
    done.iter().sum::<usize>() as f64 / seconds
}

/// Multiplications with addition of 32-bit floats per second that `team` does at most, operands in registers.
pub fn float_peak(team: &Team) -> f64 {
    const ROUNDS: usize = 20_000;
    const CHUNKS_PER_THREAD: usize = 16;
    let chunks = team.threads() * CHUNKS_PER_THREAD;
    let mut done = vec![0; chunks];
    let seconds = best_of_passes(|| {
        team.for_rows(&mut done, 1, 1, &|_, done| {
            // SAFETY: the tier is the detected one.
            done[0] = unsafe { multiply_floats(std::hint::black_box(0.5), ROUNDS) };
        });
    });
    done.iter().sum::<usize>() as f64 / seconds
}

/// Cycles a second of the core that this runs on: a chain of additions, each of which waits for the one before, which
/// every 64-bit processor of Arm and x86 does one a cycle. `None` where no such chain is written.
pub fn clock() -> Option<f64> {
    const ROUNDS: usize = 100_000;
    let mut additions = 0;
    let seconds = best_of_passes(|| additions = add_in_turn(ROUNDS));
    (additions > 0).then(|| additions as f64 / seconds)
}

fn best_of_passes(mut pass: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < LONG_ENOUGH {
        let begin = Instant::now();
        pass();
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best
}

per_tier! {
    /// Reads `bytes` bytes, a multiple of 256; what it returns only keeps the reads alive.
    ///
    /// # Safety
    /// `from` is readable for them.
    fn read(from: *const u8, bytes: usize) -> f32 = generic::read
}

per_tier! {
    /// `rounds` times a multiplication with addition on each of some vectors; returns how many of values that were.
    ///
    /// # Safety
    /// None but the tier's.
    fn multiply_floats(factor: f32, rounds: usize) -> usize = generic::multiply_floats
}

/// A step of a panel (see the matrix products), and four activations each of up to 16 tokens.
const OPERANDS: usize = 8 * 64 + 64;

#[repr(align(64))]
struct Operands([u8; OPERANDS]);

/// Multiplies the same few vectors `rounds` times; returns how many products that were.
fn multiply_bytes(operands: &Operands, rounds: usize) -> usize {
    #[cfg(target_arch = "aarch64")]
    if crate::cpu::tier() == crate::cpu::Tier::I8mm {
        // SAFETY: the tier is the detected one.
        return unsafe { smmla(rounds) };
    }
    // SAFETY: the operands are there.
    unsafe { dots(operands.0.as_ptr(), rounds) }
}

per_tier! {
    /// [`multiply_bytes`] with the tier's dot product.
    ///
    /// # Safety
    /// `operands` is readable for [`OPERANDS`] bytes.
    fn dots(operands: *const u8, rounds: usize) -> usize = generic::dots
}

/// [`multiply_bytes`] with the matrix instruction, 2 by 2 by 8 products each. Eight sums hide its latency.
///
/// # Safety
/// The processor has i8mm.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon,i8mm")]
unsafe fn smmla(rounds: usize) -> usize {
    // SAFETY: registers only.
    unsafe {
        std::arch::asm!(
            "2:",
            "smmla v0.4s, v16.16b, v17.16b",
            "smmla v1.4s, v16.16b, v17.16b",
            "smmla v2.4s, v16.16b, v17.16b",
            "smmla v3.4s, v16.16b, v17.16b",
            "smmla v4.4s, v16.16b, v17.16b",
            "smmla v5.4s, v16.16b, v17.16b",
            "smmla v6.4s, v16.16b, v17.16b",
            "smmla v7.4s, v16.16b, v17.16b",
            "subs {rounds}, {rounds}, #1",
            "b.ne 2b",
            rounds = inout(reg) rounds.max(1) => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _,
            options(nomem, nostack),
        );
    }
    rounds.max(1) * 8 * 32
}

/// Eight additions a round, registers only: adding a constant would be done in the renaming stage of some processors.
macro_rules! chain {
    ($add:literal, $subtract:literal, $again:literal) => {
        /// The additions of `rounds` rounds, each on the sum of the one before; returns how many.
        fn add_in_turn(rounds: usize) -> usize {
            // SAFETY: registers only.
            unsafe {
                std::arch::asm!(
                    "2:", $add, $add, $add, $add, $add, $add, $add, $add, $subtract, $again,
                    sum = inout(reg) 0_u64 => _,
                    other = in(reg) rounds as u64,
                    rounds = inout(reg) rounds.max(1) as u64 => _,
                    options(nomem, nostack),
                );
            }
            8 * rounds.max(1)
        }
    };
}

#[cfg(target_arch = "x86_64")]
chain!("add {sum}, {other}", "sub {rounds}, 1", "jnz 2b");
#[cfg(target_arch = "aarch64")]
chain!("add {sum}, {sum}, {other}", "subs {rounds}, {rounds}, #1", "b.ne 2b");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn add_in_turn(_rounds: usize) -> usize {
    0
}

mod generic {
    use super::*;
    use crate::simd::LANES;

    #[inline(always)]
    pub(super) unsafe fn read<S: Simd>(from: *const u8, bytes: usize) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [S::splat(0); 4];
            for at in (0..bytes).step_by(256) {
                for (part, sum) in sums.iter_mut().enumerate() {
                    *sum = S::xor(*sum, S::load(from.add(at + 64 * part)));
                }
            }
            let sum = S::xor(S::xor(sums[0], sums[1]), S::xor(sums[2], sums[3]));
            S::sum(S::bits_to_f32(sum))
        }
    }

    #[inline(always)]
    pub(super) unsafe fn multiply_floats<S: Simd>(factor: f32, rounds: usize) -> usize {
        // SAFETY: registers only; the tier is the caller's promise.
        unsafe { if S::BIASED { fmas_of::<S, 12>(factor, rounds) } else { fmas_of::<S, 3>(factor, rounds) } }
    }

    /// Sums that hide the instruction's latency, as in [`dots`]; below 1 they stay finite for ever.
    #[inline(always)]
    unsafe fn fmas_of<S: Simd, const T: usize>(factor: f32, rounds: usize) -> usize {
        // SAFETY: as for the caller.
        unsafe {
            let factor = S::splat_f32(factor);
            let mut sums = [factor; T];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = S::fma(*sum, factor, factor);
                }
            }
            let total = sums.into_iter().fold(factor, |total, sum| S::add(total, sum));
            std::hint::black_box(S::sum(total));
        }
        rounds * T * LANES
    }

    #[inline(always)]
    pub(super) unsafe fn dots<S: Simd>(operands: *const u8, rounds: usize) -> usize {
        // Sums enough to hide the instruction's latency, as many as the registers hold: AVX-512 has 32 registers of 16
        // lanes, the others a half or a quarter of that.
        // SAFETY: the caller's promise.
        unsafe {
            if S::BIASED { dots_of::<S, 12>(operands, rounds) } else { dots_of::<S, 3>(operands, rounds) }
        }
    }

    /// Like a tile: each vector of weights is loaded once and multiplied with the activations of `T` tokens, one
    /// vector instruction of 64 products each.
    #[inline(always)]
    unsafe fn dots_of<S: Simd, const T: usize>(operands: *const u8, rounds: usize) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            let x = operands.add(8 * 64).cast::<i8>();
            let mut ints = [S::splat(0); T];
            for _ in 0..rounds {
                // Not the same address to the compiler, which would else multiply once and add only.
                let weights = std::hint::black_box(operands);
                for j in 0..8 {
                    let w = S::load(weights.add(64 * j));
                    for (t, sum) in ints.iter_mut().enumerate() {
                        *sum = S::dot_u7(*sum, w, x.add(4 * t));
                    }
                }
            }
            let total = ints.into_iter().fold(S::splat_f32(0.0), |total, sum| S::add(total, S::to_f32(sum)));
            std::hint::black_box(S::sum(total));
        }
        rounds * 8 * T * 4 * LANES
    }
}
