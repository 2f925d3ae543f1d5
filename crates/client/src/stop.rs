//! Giving a request up from another thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ureq::Agent;

use crate::Error;

/// Ends the request that it is given to, wherever that stands: its connection is closed, and whoever waits for it goes on at
/// once. Clones are the same stop.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_set: bool,
    /// The request's own agent, which can close its connection.
    agent: Option<Agent>,
}

impl Stop {
    /// A stop for one request.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Ends the request, or keeps it from being made.
    pub fn set(&self) {
        let mut state = self.state();
        state.is_set = true;
        if let Some(agent) = state.agent.take() {
            agent.shutdown();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.state().is_set
    }

    /// From now on this agent's connections are what is ended.
    pub(crate) fn watch(&self, agent: &Agent) -> Result<(), Error> {
        let mut state = self.state();
        if state.is_set {
            return Err(Error::Stopped);
        }
        state.agent = Some(agent.clone());
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Both fields are whole at any moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
