//! The sampler's source of randomness: xoshiro256++, seeded through SplitMix64.
//!
//! A session's draws must repeat from its seed on every machine and in every later version, so the generator is
//! fixed here and held by the authors' own vectors instead of following a crate's changing default.
//! Algorithms: Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", 2021 (public domain code).

use serde::{Deserialize, Serialize};

/// A xoshiro256++ generator: 256 bits of state, a period of 2^256 - 1. Not for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Random {
        // SplitMix64 fills the state, as the authors advise: near seeds give unrelated states, never all zero.
        let mut mixer = seed;
        let state = std::array::from_fn(|_| {
            mixer = mixer.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixer;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Random { state }
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// The next number, uniform over [0, 1) in steps of 2^-53.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the authors' C code for the state 1, 2, 3, 4.
    #[test]
    fn matches_the_reference_sequence() {
        let mut random = Random { state: [1, 2, 3, 4] };
        let expected = [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205];
        assert_eq!(expected.map(|_| random.next_u64()), expected);
    }

    /// The first outputs of the authors' splitmix64.c for the seed 1234567.
    #[test]
    fn seeds_as_splitmix64_does() {
        let expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431];
        assert_eq!(Random::new(1234567).state, expected);
    }

    #[test]
    fn floats_lie_in_the_unit_interval_and_spread() {
        let mut random = Random::new(7);
        let values: Vec<f64> = (0..10_000).map(|_| random.next_f64()).collect();
        assert!(values.iter().all(|v| (0.0..1.0).contains(v)));
        // The mean of n uniform numbers has a standard deviation of 1 / sqrt(12 n) = 0.0029.
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean - 0.5).abs() < 5.0 * 0.0029, "mean {mean}");
    }
}
