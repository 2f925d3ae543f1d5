//! Exponentials over the whole vocabulary: the sum that top-p is relative to, and a draw where nothing truncates.
//!
//! These touch every token, up to 262,144 of them, so the exponential is one that the compiler turns into vector
//! instructions: 0.24 ms for that vocabulary on an x86-64 core where the library's takes 0.85 ms. The kernels have one too,
//! but round its multiplications and additions together where the processor can: the same logits and seed are to give the
//! same token whatever the instructions, and here only plain operations decide.

/// Tokens whose weights are summed into one figure.
const PIECE: usize = 1024;

/// Sums kept side by side within a piece.
const LANES: usize = 16;

/// Weights below e^this count as equal to it: less than the last bit of any sum that holds the weight 1.
const LEAST: f32 = -87.0;

/// `exp(x)` for `x` of at most 0, within 1.2e-7 of its value; e^-87 for anything below, and for NaN. Cody and Waite's reduction
/// to half an octave around 0 and the polynomial of Moshier's Cephes library (expf.c).
#[expect(clippy::excessive_precision, reason = "the published constants")]
fn exp(x: f32) -> f32 {
    let x = if x > LEAST { x } else { LEAST };
    // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
    let rounder = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + rounder;
    let octaves = shifted - rounder;
    let r = x - octaves * 0.693_359_375 + octaves * 2.121_944_40e-4;
    let p = 1.987_569_150_0e-4;
    let p = p * r + 1.398_199_950_7e-3;
    let p = p * r + 8.333_451_907_3e-3;
    let p = p * r + 4.166_579_589_4e-2;
    let p = p * r + 1.666_666_545_9e-1;
    let p = p * r + 5.000_000_120_1e-1;
    let y = p * r * r + r + 1.0;
    // Times a power of two, by its exponent; the bits of `rounder` above it are shifted out.
    f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The sum of `exp((logit - max) / temperature)` over a piece.
fn piece_mass(piece: &[f32], max: f32, temperature: f32) -> f64 {
    let mut lanes = [0.0f32; LANES];
    let mut blocks = piece.chunks_exact(LANES);
    for block in &mut blocks {
        for (lane, &logit) in lanes.iter_mut().zip(block) {
            *lane += exp((logit - max) / temperature);
        }
    }
    for (lane, &logit) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane += exp((logit - max) / temperature);
    }
    lanes.iter().copied().map(f64::from).sum()
}

/// The sum of `exp(logit - max)` over the vocabulary.
pub(super) fn mass(logits: &[f32], max: f32) -> f64 {
    logits.chunks(PIECE).map(|piece| piece_mass(piece, max, 1.0)).sum()
}

/// Room that [`draw`] needs for a vocabulary of this size.
pub(super) fn room(vocabulary: usize) -> usize {
    vocabulary.div_ceil(PIECE)
}

/// The token at which the summed weights `exp((logit - max) / temperature)`, by rising id, pass `fraction` (at least 0, below 1) of
/// their whole. `masses` is a buffer. `None` only where rounding leaves nothing to choose.
pub(super) fn draw(
    logits: &[f32],
    max: f32,
    temperature: f32,
    fraction: f64,
    masses: &mut Vec<f64>,
) -> Option<u32> {
    masses.clear();
    masses.extend(logits.chunks(PIECE).map(|piece| piece_mass(piece, max, temperature)));
    let mut left = fraction * masses.iter().sum::<f64>();
    let mut chosen = None;
    for (index, (piece, mass)) in logits.chunks(PIECE).zip(masses).enumerate() {
        if left >= *mass {
            left -= *mass;
            continue;
        }
        for (id, &logit) in (index * PIECE..).zip(piece) {
            let power = (logit - max) / temperature;
            if power > LEAST {
                chosen = Some(id as u32);
                left -= f64::from(exp(power));
                if left < 0.0 {
                    return chosen;
                }
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_close() {
        for step in 0..870_000 {
            let x = step as f32 * -1e-4;
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) - expected).abs() <= 1.2e-7 * expected, "{x}: {} {expected}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert!([f32::NEG_INFINITY, f32::NAN, -1e30].iter().all(|&x| exp(x) == exp(LEAST) && exp(x) < 2e-38));
    }

    /// On paper: weights 1, 2, 0, 1 of 4 in all.
    #[test]
    fn a_fraction_finds_its_token() {
        let logits = [0.0, 2f32.ln(), f32::NEG_INFINITY, 0.0];
        let at = |fraction| draw(&logits, 2f32.ln(), 1.0, fraction, &mut Vec::new());
        assert_eq!([0.0, 0.24, 0.26, 0.74, 0.76, 0.999_999].map(at), [0, 0, 1, 1, 3, 3].map(Some));
        // Equal weights in more pieces than one.
        let flat = vec![5.0; 3 * PIECE + 7];
        for token in [0, 1, PIECE - 1, PIECE, 2 * PIECE + 3, flat.len() - 1] {
            let fraction = (token as f64 + 0.5) / flat.len() as f64;
            assert_eq!(draw(&flat, 5.0, 0.7, fraction, &mut Vec::new()), Some(token as u32));
        }
    }
}
