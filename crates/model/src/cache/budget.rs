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
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Budget {
        Budget { shared: Arc::new(Shared { limit, used: AtomicUsize::new(0) }) }
    }

    /// One that only counts.
    pub fn unlimited() -> Budget {
        Budget::new(usize::MAX)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` for as long as the grant lives. `what` is what they are for.
    ///
    /// # Errors
    /// [`Error::Budget`] if so much is not free; nothing is taken then.
    pub fn take(&self, what: &'static str, bytes: usize) -> Result<Grant, Error> {
        let Shared { limit, used } = &*self.shared;
        let add = |used: usize| used.checked_add(bytes).filter(|sum| sum <= limit);
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Grant { budget: self.clone(), bytes }),
            Err(used) => Err(Error::Budget { what, needed: bytes, free: limit - used, limit: *limit }),
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
