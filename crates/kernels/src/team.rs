//! The worker team: persistent threads that run the chunks of one parallel phase after another.
//!
//! A forward pass is some hundreds of phases of a few microseconds, so workers spin between phases and park only
//! when none has come for a while. Chunks are claimed one at a time, so a slow core takes fewer of them, and a
//! core that is away when a phase starts holds up nobody: only claimed chunks are waited for.
//!
//! The result of a phase must not depend on who runs a chunk: the bits are the same for any number of threads.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins for the next phase before it parks: longer than any serial stretch between two
/// phases of a generation, short beside a human's pause.
const SPIN: Duration = Duration::from_micros(400);

/// Chunks of one phase fit in this many bits of a ticket.
const CHUNK_BITS: u32 = 20;
const CHUNK_MASK: u64 = (1 << CHUNK_BITS) - 1;

/// The most chunks that one phase may have.
pub const MAX_CHUNKS: usize = CHUNK_MASK as usize;

type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// What the workers share. The ticket packs `epoch | chunks | next`, so that one compare-and-swap both claims a
/// chunk and proves that the phase it belongs to is still running.
struct Shared {
    ticket: AtomicU64,
    /// Points at the `&Job` on the stack of the thread in `run`; valid while a chunk of its epoch is unfinished.
    job: AtomicPtr<()>,
    finished: AtomicUsize,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Worker {
    thread: Thread,
    asleep: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// A team of threads; the calling thread works too, so `new(1)` starts none.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    turn: Mutex<()>,
}

thread_local! {
    /// Set while this thread runs a chunk: a phase started inside a phase runs serially.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Team {
    /// Starts `threads - 1` workers (at least none); if the system refuses some, the team is smaller.
    pub fn new(threads: usize) -> Team {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            finished: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|index| {
                let asleep = Arc::new(AtomicBool::new(false));
                let (theirs, flag) = (Arc::clone(&shared), Arc::clone(&asleep));
                std::thread::Builder::new()
                    .name(format!("pouch-{index}"))
                    .spawn(move || work(&theirs, &flag))
                    .ok()
                    .map(|handle| Worker { thread: handle.thread().clone(), asleep, handle: Some(handle) })
            })
            .collect();
        Team { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads that work, the calling one among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(0) .. job(chunks - 1)`, each once, on any thread and in any order; returns when all are done.
    ///
    /// # Panics
    /// With the panic of a chunk, after all others have finished; or if `chunks` exceeds [`MAX_CHUNKS`].
    pub fn run(&self, chunks: usize, job: &Job<'_>) {
        assert!(chunks <= MAX_CHUNKS, "{chunks} chunks in one phase, at most {MAX_CHUNKS}");
        if chunks <= 1 || self.workers.is_empty() || INSIDE.get() {
            (0..chunks).for_each(job);
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &*self.shared;
        shared.finished.store(0, Ordering::Relaxed);
        shared.job.store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        let epoch = (shared.ticket.load(Ordering::Relaxed) >> (2 * CHUNK_BITS)) + 1;
        shared.ticket.store(epoch << (2 * CHUNK_BITS) | (chunks as u64) << CHUNK_BITS, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            for worker in self.workers.iter().filter(|worker| worker.asleep.load(Ordering::SeqCst)) {
                worker.thread.unpark();
            }
        }
        take_chunks(shared);
        let mut spins = 0u32;
        while shared.finished.load(Ordering::Acquire) < chunks {
            spins += 1;
            // A worker that lost its core needs ours more than we need to spin.
            if spins > 20_000 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Splits `out`, rows of `row_len` values, into pieces of `rows_per_chunk` rows and gives each to `job` with
    /// the index of its first row.
    pub fn for_rows<T: Send>(
        &self,
        out: &mut [T],
        row_len: usize,
        rows_per_chunk: usize,
        job: &(dyn Fn(usize, &mut [T]) + Sync),
    ) {
        let piece = row_len * rows_per_chunk;
        if piece == 0 || out.is_empty() {
            return;
        }
        let (len, base) = (out.len(), Shareable(out.as_mut_ptr()));
        self.run(len.div_ceil(piece), &|chunk| {
            let start = chunk * piece;
            let count = piece.min(len - start);
            // SAFETY: chunks are disjoint ranges of `out`, each run once, and `run` returns before the borrow ends.
            let rows = unsafe { std::slice::from_raw_parts_mut(base.pointer().add(start), count) };
            job(chunk * rows_per_chunk, rows);
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // A worker's panic was already handed to the caller of `run`.
                let _ = handle.join();
            }
        }
    }
}

/// A pointer that chunks share because each writes its own part.
pub(crate) struct Shareable<T>(pub(crate) *mut T);

impl<T> Clone for Shareable<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shareable<T> {}

impl<T> Shareable<T> {
    pub(crate) fn pointer(self) -> *mut T {
        self.0
    }
}

// SAFETY: only a pointer; whoever dereferences it says why the parts are disjoint.
unsafe impl<T> Send for Shareable<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shareable<T> {}

fn work(shared: &Shared, asleep: &AtomicBool) {
    let mut seen = 0;
    let mut since = Instant::now();
    let mut spins = 0u32;
    while !shared.stop.load(Ordering::Relaxed) {
        let epoch = shared.ticket.load(Ordering::Acquire) >> (2 * CHUNK_BITS);
        if epoch != seen {
            seen = epoch;
            take_chunks(shared);
            since = Instant::now();
            continue;
        }
        std::hint::spin_loop();
        spins = spins.wrapping_add(1);
        if spins.is_multiple_of(64) && since.elapsed() > SPIN {
            asleep.store(true, Ordering::SeqCst);
            shared.sleepers.fetch_add(1, Ordering::SeqCst);
            // Looked at again after the flag is up: a phase published in between is not slept through.
            while shared.ticket.load(Ordering::SeqCst) >> (2 * CHUNK_BITS) == seen
                && !shared.stop.load(Ordering::SeqCst)
            {
                std::thread::park();
            }
            shared.sleepers.fetch_sub(1, Ordering::SeqCst);
            asleep.store(false, Ordering::SeqCst);
            since = Instant::now();
        }
    }
}

/// Claims and runs chunks of the current phase until none is left. What was done is reported once, at the end, for each
/// report makes all processors wait; the phase, and with it the ticket's epoch, lasts until then.
fn take_chunks(shared: &Shared) {
    let mut done = 0;
    let mut ticket = shared.ticket.load(Ordering::Acquire);
    loop {
        let (next, chunks) = (ticket & CHUNK_MASK, (ticket >> CHUNK_BITS) & CHUNK_MASK);
        if next >= chunks {
            break;
        }
        let job = shared.job.load(Ordering::Relaxed);
        if let Err(now) =
            shared.ticket.compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire)
        {
            ticket = now;
            continue;
        }
        // SAFETY: the claim succeeded, so this epoch has an unfinished chunk, so `run` has not returned and the
        // pointer, read before the claim, is the one it published for this epoch.
        let job = unsafe { *job.cast::<&Job<'_>>() };
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| job(next as usize)));
        INSIDE.set(false);
        if let Err(panic) = result {
            *shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        done += 1;
        ticket = shared.ticket.load(Ordering::Acquire);
    }
    if done > 0 {
        shared.finished.fetch_add(done, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_runs_once() {
        for threads in [1, 2, 5] {
            let team = Team::new(threads);
            for chunks in [0, 1, 2, 7, 100, 1000] {
                let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
                team.run(chunks, &|chunk| {
                    counts[chunk].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} {chunks}");
            }
        }
    }

    #[test]
    fn many_short_phases_and_pauses() {
        let team = Team::new(3);
        let total = AtomicUsize::new(0);
        for phase in 0..20_000 {
            team.run(4, &|chunk| {
                total.fetch_add(chunk, Ordering::Relaxed);
            });
            if phase % 5_000 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert_eq!(total.load(Ordering::Relaxed), 20_000 * 6);
    }

    #[test]
    fn two_callers_share_one_team() {
        let team = Team::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let sum = AtomicUsize::new(0);
                        team.run(10, &|chunk| {
                            sum.fetch_add(chunk, Ordering::Relaxed);
                        });
                        assert_eq!(sum.load(Ordering::Relaxed), 45);
                    }
                });
            }
        });
    }

    #[test]
    fn a_phase_inside_a_phase_runs() {
        let team = Team::new(2);
        let total = AtomicUsize::new(0);
        team.run(3, &|_| {
            team.run(5, &|_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 15);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives() {
        let team = Team::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            team.run(8, &|chunk| assert!(chunk != 5, "chunk five"));
        }));
        assert!(caught.is_err());
        let mut rows = vec![0.0; 10];
        team.for_rows(&mut rows, 2, 2, &|first, rows| rows.fill(first as f32));
        assert_eq!(rows, [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 4.0, 4.0]);
    }
}
