//! A fast 128-bit fingerprint of bytes: tells files apart and finds damage. Not meant against an attacker, who could
//! as well change the file that it stands for.

/// Odd constants with well-mixed bits (of the golden ratio, and of splitmix64).
const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9];

/// Two independent lanes over 8-byte words.
#[derive(Clone)]
pub(crate) struct Fingerprint {
    lanes: [u64; 2],
}

impl Fingerprint {
    pub(crate) fn new() -> Fingerprint {
        Fingerprint { lanes: FACTORS }
    }

    pub(crate) fn number(&mut self, word: u64) {
        for (lane, factor) in self.lanes.iter_mut().zip(FACTORS) {
            *lane = (*lane ^ word).wrapping_mul(factor);
            *lane ^= *lane >> 32;
        }
    }

    /// The length goes in too, so that `"ab", "c"` differs from `"a", "bc"`.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        let words = bytes.chunks_exact(8);
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        for word in words.chain([&last[..]]) {
            // Chunks of eight always convert.
            self.number(word.try_into().map_or(0, u64::from_le_bytes));
        }
    }

    pub(crate) fn finish(&self) -> u128 {
        let mut mixed = self.clone();
        mixed.number(0);
        u128::from(mixed.lanes[0]) << 64 | u128::from(mixed.lanes[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> u128 {
        let mut fingerprint = Fingerprint::new();
        parts.iter().for_each(|part| fingerprint.bytes(part));
        fingerprint.finish()
    }

    #[test]
    fn every_bit_and_every_border_counts() {
        let bytes = [7u8; 19];
        let whole = of(&[&bytes]);
        for index in 0..bytes.len() {
            let mut other = bytes;
            other[index] ^= 1;
            assert_ne!(whole, of(&[&other]));
        }
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b""]), of(&[b"\0"]));
    }
}
