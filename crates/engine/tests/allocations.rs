//! The decode loop allocates nothing but pages of the cache: not in the forward pass, not in the sampler, on no thread of
//! the team.
//!
//! A test binary of its own, since the counting allocator sees every thread of the process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{engine, open, options};
use engine::{SamplerOptions, SessionOptions, Speculation, Step};
use model::PAGE;
use testkit::TinyOptions;

const THREADS: usize = 2;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes to the system's allocator with its arguments unchanged; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn decoding_allocates_nothing() {
    let off =
        SamplerOptions { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplerOptions::default() };
    let samplers = [
        SamplerOptions::greedy(),
        SamplerOptions::default(),
        SamplerOptions { repeat_penalty: 1.2, repeat_last_n: usize::MAX, ..SamplerOptions::default() },
        SamplerOptions { top_p: 0.9, ..off.clone() },
        SamplerOptions { temperature: 50.0, ..off },
    ];
    // F32 and Q4_K: products of floats, and of rounded input with one of the richer formats.
    for (architecture, type_id) in
        [("llama", 0), ("llama", 12), ("gemma3", 2), ("qwen3", 12), ("phi3", 8), ("qwen3moe", 2)]
    {
        let model = open(&TinyOptions::new(architecture).with_type(type_id));
        let mut engine = engine(&model, THREADS, 32);
        engine.set_draft_model(open(&TinyOptions::new(architecture))).unwrap();
        for (index, sampler) in samplers.iter().enumerate() {
            // Guesses by lookup and by a model, and none.
            let speculation = if index % 2 == 0 { Speculation::Fixed(3) } else { Speculation::Off };
            let options = SessionOptions { sampler: sampler.clone(), speculation, ..options(1, 1000) };
            let mut session = engine.session(options).unwrap();
            session.push(&[7; 70]).unwrap();
            while !matches!(engine.step(&mut session).unwrap(), Step::Tokens(_)) {}
            let mut reach = |length: usize| {
                let before = ALLOCATIONS.load(Ordering::SeqCst);
                while session.tokens().len() < length {
                    engine.step(&mut session).unwrap();
                }
                ALLOCATIONS.load(Ordering::SeqCst) - before
            };
            let mut length: usize = 70;
            let mut round = || {
                // The session's cache begins a page, which takes an allocation, and where guesses come to nothing it is taken
                // back and begun again. Between this and the next page there is none.
                length = length.next_multiple_of(PAGE) + 10;
                reach(length);
                length += PAGE - 20;
                reach(length)
            };
            let rounds: [usize; 5] = std::array::from_fn(|_| round());
            // A thread makes its own buffer when it first takes a piece of work that needs one. Which thread takes which
            // piece is chance, so that may come late, but it comes once. And the draft model, which is not always asked, catches
            // up at any time: its cache then begins up to six pages, and the list of them grows once.
            let most = 2 * THREADS + 7;
            let what = format!("{architecture}, type {type_id}, {sampler:?}: {rounds:?}");
            assert!(rounds.contains(&0) && rounds.iter().sum::<usize>() <= most, "{what}");
            assert!(session.tokens().len() > PAGE * rounds.len(), "{what}");
        }
    }
}
