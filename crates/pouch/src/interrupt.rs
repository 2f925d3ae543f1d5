//! Ctrl-C: the first one ends the answer in the making, cleanly; one outside an answer, or a second one, ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::errors::Failure;

/// What a shell reports for a program that SIGINT ended.
const ENDED_BY_INTERRUPT: i32 = 130;

/// Set by Ctrl-C while an answer is made.
static CANCEL: AtomicBool = AtomicBool::new(false);
/// Whether an answer is being made.
static ANSWERING: AtomicBool = AtomicBool::new(false);
/// What Ctrl-C does besides.
static ACTION: Mutex<Option<Action>> = Mutex::new(None);

type Action = Box<dyn FnOnce() + Send>;

/// Takes over Ctrl-C for the rest of the process.
pub(crate) fn install() -> Result<(), Failure> {
    let handler = || {
        let first = ANSWERING.load(Ordering::SeqCst) && !CANCEL.swap(true, Ordering::SeqCst);
        if !first {
            std::process::exit(ENDED_BY_INTERRUPT);
        }
        if let Some(act) = action().take() {
            // Elsewhere, so that a second Ctrl-C finds somebody to take it.
            std::thread::spawn(act);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::Usage(format!("cannot take over Ctrl-C: {error}")))
}

/// Runs `answer`, and `act` on another thread when Ctrl-C comes meanwhile. Returns with the result whether it came.
pub(crate) fn during_with<T>(act: impl FnOnce() + Send + 'static, answer: impl FnOnce() -> T) -> (T, bool) {
    *action() = Some(Box::new(act));
    let result = during(|cancel| (answer(), cancel.load(Ordering::SeqCst)));
    *action() = None;
    result
}

fn action() -> MutexGuard<'static, Option<Action>> {
    // It is replaced as a whole.
    ACTION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `answer` with the flag that Ctrl-C sets meanwhile.
pub(crate) fn during<T>(answer: impl FnOnce(&AtomicBool) -> T) -> T {
    CANCEL.store(false, Ordering::SeqCst);
    ANSWERING.store(true, Ordering::SeqCst);
    let result = answer(&CANCEL);
    ANSWERING.store(false, Ordering::SeqCst);
    result
}
