//! A thread and the queue by which it gets its work, for what computing must not wait for.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that works off a queue. Dropped, it does what is left and ends.
#[derive(Debug)]
pub(crate) struct Worker<Q> {
    desk: Arc<Desk<Q>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and those who give it work share.
#[derive(Debug, Default)]
pub(crate) struct Desk<Q> {
    queue: Mutex<Q>,
    changed: Condvar,
    is_closed: AtomicBool,
}

impl<Q: Default + Send + 'static> Worker<Q> {
    /// Starts the thread. `work` returns once nothing is left to do and the desk is closed.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn start(name: &str, work: impl FnOnce(&Desk<Q>) + Send + 'static) -> io::Result<Worker<Q>> {
        let desk = Arc::new(Desk::default());
        let theirs = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || work(&theirs))?;
        Ok(Worker { desk, thread: Some(thread) })
    }
}

impl<Q> Deref for Worker<Q> {
    type Target = Desk<Q>;

    fn deref(&self) -> &Desk<Q> {
        &self.desk
    }
}

impl<Q> Drop for Worker<Q> {
    fn drop(&mut self) {
        {
            // Not between the thread's look and its sleep.
            let _queue = self.queue();
            self.is_closed.store(true, Ordering::Relaxed);
        }
        self.tell();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<Q> Desk<Q> {
    /// The queue. A panic while somebody had it leaves at worst some work undone.
    pub(crate) fn queue(&self) -> MutexGuard<'_, Q> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody tells of a change.
    pub(crate) fn wait<'a>(&self, queue: MutexGuard<'a, Q>) -> MutexGuard<'a, Q> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `condition` holds, so long at most.
    pub(crate) fn wait_while<'a>(
        &self,
        queue: MutexGuard<'a, Q>,
        time: Duration,
        condition: impl FnMut(&mut Q) -> bool,
    ) -> MutexGuard<'a, Q> {
        self.changed.wait_timeout_while(queue, time, condition).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Tells all who wait that something has changed.
    pub(crate) fn tell(&self) {
        self.changed.notify_all();
    }

    /// Whether no more work will come.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }
}
