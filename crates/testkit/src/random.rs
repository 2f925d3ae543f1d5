//! Random numbers that are the same on every machine: splitmix64.

/// A generator; the same seed gives the same numbers everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from -1 to 1.
    pub fn signed(&mut self) -> f32 {
        // 24 bits: every value is exact in f32.
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// The numbers below `count` in some order (Fisher and Yates).
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            numbers.swap(last, (self.bits() % (last as u64 + 1)) as usize);
        }
        numbers
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        (self.bits() >> 56) as u8
    }
}
