//! Names for what the server makes, and the time it was made.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

/// A random number: the standard library's hash, keyed by the system's randomness.
pub(crate) fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A name that nothing else has: `prefix` with 32 random hexadecimal digits.
pub fn new(prefix: &str) -> String {
    format!("{prefix}{:016x}{:016x}", random(), random())
}

/// Whether a client's text can be a name of ours, and so of a file.
pub(crate) fn is_sound(id: &str) -> bool {
    (1..=80).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
