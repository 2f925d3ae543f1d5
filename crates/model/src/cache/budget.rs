//! A limit on memory that several owners share: what is not granted is not allocated, so that a process that is to stay
//! below a size refuses work with a figure instead of being killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;

/// A limit in bytes, and how much of it is taken. Clones share both.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget { shared: Arc::new(Shared { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) }) }
    }

    /// One that only counts.
    pub fn unlimited() -> Budget {
        Budget::new(usize::MAX)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.shared.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. What is taken beyond it stays, and nothing is granted until enough of it has come back.
    pub fn set_limit(&self, limit: usize) {
        self.shared.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Bytes that are not taken.
    pub fn free(&self) -> usize {
        self.limit().saturating_sub(self.used())
    }

    /// Bytes that are taken beyond the limit, after it was lowered.
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.limit())
    }

    /// Takes `bytes` for as long as the grant lives. `what` is what they are for.
    ///
    /// # Errors
    /// [`Error::Budget`] if so much is not free; nothing is taken then.
    pub fn take(&self, what: &'static str, bytes: usize) -> Result<Grant, Error> {
        let limit = self.limit();
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.shared.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Grant { budget: self.clone(), bytes }),
            Err(used) => Err(Error::Budget { what, needed: bytes, free: limit.saturating_sub(used), limit }),
        }
    }
}

/// Bytes of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Grant {
    budget: Budget,
    bytes: usize,
}

impl Grant {
    /// How many they are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts `bytes` from now on, of which nobody is asked whether they are free: for what the owner of the budget has
    /// decided.
    pub fn resize(&mut self, bytes: usize) {
        let used = &self.budget.shared.used;
        match bytes.checked_sub(self.bytes) {
            Some(more) => used.fetch_add(more, Ordering::Relaxed),
            None => used.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        self.bytes = bytes;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.shared.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_counted_and_comes_back() {
        let budget = Budget::new(100);
        let first = budget.take("a", 60).unwrap();
        let error = budget.take("b", 41).unwrap_err();
        assert!(matches!(error, Error::Budget { what: "b", needed: 41, free: 40, limit: 100 }), "{error}");
        let second = budget.clone().take("c", 40).unwrap();
        assert_eq!((budget.used(), second.bytes()), (100, 40));
        assert!(budget.take("d", usize::MAX).is_err());
        drop(first);
        assert_eq!(budget.used(), 40);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_limit_that_is_lowered_takes_nothing_away_and_grants_nothing() {
        let budget = Budget::new(100);
        let first = budget.take("a", 40).unwrap();
        let mut second = budget.take("b", 40).unwrap();
        budget.clone().set_limit(50);
        assert_eq!((budget.limit(), budget.used(), budget.free(), budget.excess()), (50, 80, 0, 30));
        assert!(matches!(budget.take("c", 1), Err(Error::Budget { free: 0, limit: 50, .. })));
        drop(first);
        assert_eq!((budget.free(), budget.excess()), (10, 0));
        second.resize(45);
        assert_eq!(budget.used(), 45);
        second.resize(5);
        let third = budget.take("d", 45).unwrap();
        drop(second);
        assert_eq!(budget.used(), third.bytes());
        budget.set_limit(100);
        assert_eq!(budget.free(), 55);
    }

    /// However many take at once, the limit holds and nothing is lost.
    #[test]
    fn many_threads_share_one() {
        let budget = Budget::new(50);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let grant = budget.take("a piece", 20);
                        assert!(budget.used() <= 50);
                        drop(grant);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
    }
}
