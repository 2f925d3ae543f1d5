//! What a page is known by: a hash of all that its bytes follow from.

use kernels::cpu;
use model::{KvCache, Model, PAGE};
use sha2::{Digest, Sha256};

/// Rises with every change of what the bytes of a page mean.
const LAYOUT: u32 = 1;

/// SHA-256 over the model, the kind of cache, and all tokens up to the end of the page. A cryptographic hash, since the text
/// of one user must not be made to meet the pages of another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) [u8; Key::BYTES]);

impl Key {
    pub(super) const BYTES: usize = 32;

    /// The keys of the whole pages of `tokens` in `cache`, each hashed from the one before it.
    pub(super) fn of_pages(model: &Model, cache: &KvCache, tokens: &[u32]) -> impl Iterator<Item = Key> {
        let mut hash = Sha256::new();
        hash.update(LAYOUT.to_le_bytes());
        hash.update(model.identity());
        hash.update(cache.kv_type().name());
        hash.update([u8::from(model.turns_for_long(cache.capacity()))]);
        // Each kind of instruction rounds in its own way: an answer goes on in the bits in which it began.
        hash.update(cpu::tier().name());
        let mut last = Key(hash.finalize().into());
        tokens.as_chunks::<PAGE>().0.iter().map(move |tokens| {
            let mut hash = Sha256::new();
            hash.update(last.0);
            tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
            last = Key(hash.finalize().into());
            last
        })
    }

    /// As hexadecimal digits, for names of files.
    pub(super) fn name(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
