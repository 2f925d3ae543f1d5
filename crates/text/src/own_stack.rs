//! Work on a thread of its own whose stack is large enough for whatever a template can do.
//!
//! The template engine recurses over long expressions and over nested values. A stranger's template can nest
//! deeper than the stack of a caller's thread (512 kB on some phones) holds, and running out of stack ends the
//! process. The bounds on size and steps keep the depth within the stack given here: at most 500 bytes for a
//! byte of the template, at most 64 for a nested value of which each takes several steps (measured).

use std::thread;

use crate::error::Error;

/// Reserved, not used: only the pages that are touched cost memory.
const STACK_BYTES: usize = 128 << 20;

/// Runs `work` to its end on such a thread. A panic of the engine becomes an error.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let name = "chat template".to_owned();
        let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let thread = thread
            .map_err(|error| Error::TemplateFailed { message: format!("no thread to run it: {error}") })?;
        thread.join().unwrap_or_else(|_| {
            Err(Error::TemplateFailed { message: "the template engine failed".to_owned() })
        })
    })
}
