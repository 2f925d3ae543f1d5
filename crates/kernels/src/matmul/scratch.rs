//! Each worker's own buffer for panels: grown when a larger one is asked for, kept for as long as the thread lives.

use std::cell::RefCell;

/// A cache line, so that the buffer is aligned to one.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "reached through the buffer's pointer")] [u8; 64]);

/// What a thread that needs any gets at least: rows of activations, not panels. It then rarely has to grow.
const LEAST_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with at least `bytes` bytes of this thread's own, aligned to 64; their contents are old.
pub(crate) fn with_scratch(bytes: usize, work: impl FnOnce(*mut u8)) {
    SCRATCH.with_borrow_mut(|lines| {
        let needed = bytes.max(LEAST_BYTES).div_ceil(size_of::<Line>());
        if lines.len() < needed {
            lines.resize(needed, Line([0; 64]));
        }
        work(lines.as_mut_ptr().cast());
    });
}

/// The same as `count` floats.
pub(crate) fn with_floats(count: usize, work: impl FnOnce(&mut [f32])) {
    with_scratch(count * size_of::<f32>(), |start| {
        // SAFETY: the buffer is this thread's own, large enough, aligned, and any bits are a float.
        work(unsafe { std::slice::from_raw_parts_mut(start.cast(), count) });
    });
}
