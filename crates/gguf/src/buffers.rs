//! Memory that [`DirectFile`](crate::DirectFile) reads into.
//!
//! Where the system has huge pages, it is made of them: a device is told of each piece of memory that lies together, and of
//! thousands of small pages it may read at a third of the speed. Buffers lie one after another in one map, so that they
//! share those pages and no end of one is lost.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};

use crate::DIRECT_ALIGNMENT;

/// Bytes at a place that direct reads can reach. Those that were never written are zeros and take no memory.
pub struct DirectBuffer {
    memory: Arc<MmapRaw>,
    /// This buffer's part of it, and nobody else's.
    range: Range<usize>,
}

impl DirectBuffer {
    /// So many buffers of `bytes`, a multiple of [`DIRECT_ALIGNMENT`], each. The memory is given back with the last of them.
    ///
    /// # Errors
    /// Of the system, where there is no room.
    pub fn several(count: usize, bytes: usize) -> io::Result<Vec<DirectBuffer>> {
        debug_assert_eq!(bytes % DIRECT_ALIGNMENT, 0);
        let all = count.checked_mul(bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = MmapMut::map_anon(all.max(1))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        // Refused where the system has none: then they are small.
        let _ = memory.advise(memmap2::Advice::HugePage);
        let memory = Arc::new(MmapRaw::from(memory));
        let range = |index| index * bytes..(index + 1) * bytes;
        Ok((0..count)
            .map(|index| DirectBuffer { memory: Arc::clone(&memory), range: range(index) })
            .collect())
    }

    /// One buffer of `bytes`.
    ///
    /// # Errors
    /// Those of [`DirectBuffer::several`].
    pub fn new(bytes: usize) -> io::Result<DirectBuffer> {
        let mut one = DirectBuffer::several(1, bytes)?;
        one.pop().ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

impl Deref for DirectBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies in the map, which lives as long as this, is readable, and all zeros to begin with; only this
        // buffer has the range, so what borrows it mutably has borrowed `self` so.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(self.range.start), self.range.len()) }
    }
}

impl DerefMut for DirectBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Range { start, .. } = self.range;
        // SAFETY: as above; the map is anonymous and writable, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().add(start), self.range.len()) }
    }
}

impl fmt::Debug for DirectBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectBuffer").field("range", &self.range).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_lie_apart_where_direct_reads_reach_them_and_outlive_each_other() {
        let mut buffers = DirectBuffer::several(3, 2 * DIRECT_ALIGNMENT).unwrap();
        for (value, buffer) in (1..).zip(&mut buffers) {
            assert_eq!(buffer.len(), 2 * DIRECT_ALIGNMENT);
            assert_eq!(buffer.as_ptr() as usize % DIRECT_ALIGNMENT, 0);
            assert!(buffer.iter().all(|&byte| byte == 0));
            buffer.fill(value);
        }
        let last = buffers.pop().unwrap();
        assert!(buffers.iter().zip(1..).all(|(buffer, value)| buffer.iter().all(|&byte| byte == value)));
        drop(buffers);
        assert!(std::thread::spawn(move || last.iter().all(|&byte| byte == 3)).join().unwrap());
    }

    #[test]
    fn none_and_empty_ones_can_be_had_and_too_many_cannot() {
        assert!(DirectBuffer::several(0, DIRECT_ALIGNMENT).unwrap().is_empty());
        assert!(DirectBuffer::new(0).unwrap().is_empty());
        assert!(DirectBuffer::several(usize::MAX, DIRECT_ALIGNMENT).is_err());
    }
}
