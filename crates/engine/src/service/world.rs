//! Where the runner's time and mail come from: the clock and a channel, or a simulation.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use super::runner::Mail;

/// Time and mail. A simulation of the service is the service in another world.
pub(super) trait World {
    /// The time, from a fixed moment on.
    fn now(&self) -> Duration;

    /// What a layer over `tokens` tokens took that was begun at `began` and is computed.
    fn spent(&mut self, began: Duration, tokens: usize) -> Duration;

    /// The next mail, if there is some.
    fn mail(&mut self) -> Option<Mail>;

    /// The next mail, however long it takes, or `None` after the longest wait, if one is given.
    fn wait(&mut self, longest: Option<Duration>) -> Option<Mail>;
}

/// The world outside.
pub(super) struct Real {
    pub(super) began: Instant,
    pub(super) mail: Receiver<Mail>,
}

impl World for Real {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn spent(&mut self, began: Duration, _tokens: usize) -> Duration {
        self.now().saturating_sub(began)
    }

    fn mail(&mut self) -> Option<Mail> {
        match self.mail.try_recv() {
            Ok(mail) => Some(mail),
            Err(TryRecvError::Empty) => None,
            // All handles are gone, which each says as it goes; this is for one that died.
            Err(TryRecvError::Disconnected) => Some(Mail::Stop),
        }
    }

    fn wait(&mut self, longest: Option<Duration>) -> Option<Mail> {
        match longest {
            None => Some(self.mail.recv().unwrap_or(Mail::Stop)),
            Some(longest) => match self.mail.recv_timeout(longest) {
                Ok(mail) => Some(mail),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Mail::Stop),
            },
        }
    }
}
