//! What the runner keeps for each model that somebody has open: buffers, and how fast it is.

use std::sync::{Arc, Weak};
use std::time::Duration;

use model::{Budget, Model};

use crate::error::Error;
use crate::pass::Pass;
use crate::speculation::PassCosts;

/// Buffers of passes that are kept for the next ones.
const SPARE: usize = 2;

/// Tokens from which on a pass tells what a token of a prompt costs.
const PROMPT_LIKE: usize = 16;

/// One model's station.
pub(super) struct Station {
    model: Weak<Model>,
    spare: Vec<Pass>,
    /// Of decode passes.
    pub(super) costs: PassCosts,
    /// What a layer took lately for each token of a prompt; zero before the first.
    pub(super) token_layer: Duration,
}

impl Station {
    fn new(model: &Arc<Model>) -> Station {
        Station {
            model: Arc::downgrade(model),
            spare: Vec::new(),
            costs: PassCosts::new(),
            token_layer: Duration::ZERO,
        }
    }

    /// Takes note of a layer of `pass` that took `time`.
    pub(super) fn note_layer(&mut self, tokens: usize, time: Duration) {
        if tokens >= PROMPT_LIKE {
            let token = time / tokens as u32;
            self.token_layer =
                if self.token_layer.is_zero() { token } else { (self.token_layer * 4 + token) / 5 };
        }
    }
}

/// The stations of all models.
#[derive(Default)]
pub(super) struct Stations(Vec<Station>);

impl Stations {
    /// The station of `model`.
    pub(super) fn of(&mut self, model: &Arc<Model>) -> &mut Station {
        let is_its = |station: &Station| std::ptr::eq(station.model.as_ptr(), Arc::as_ptr(model));
        let at = self.0.iter().position(is_its).unwrap_or_else(|| {
            self.0.push(Station::new(model));
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// Buffers for a pass of up to `batch` tokens.
    ///
    /// # Errors
    /// [`Error::Model`] if the budget has no room for them.
    pub(super) fn pass(&mut self, model: &Arc<Model>, batch: usize, budget: &Budget) -> Result<Pass, Error> {
        let spare = self.of(model).spare.pop();
        spare.map_or_else(|| Pass::within(model, batch, budget), Ok)
    }

    /// Gives the buffers back that nobody uses; `false` if there were none.
    pub(super) fn drop_spare(&mut self) -> bool {
        self.0.iter_mut().map(|station| station.spare.drain(..).count()).sum::<usize>() > 0
    }

    /// Takes buffers back.
    pub(super) fn keep(&mut self, model: &Arc<Model>, pass: Pass) {
        let station = self.of(model);
        if station.spare.len() < SPARE {
            station.spare.push(pass);
        }
    }

    /// Forgets models that nobody has open any more.
    pub(super) fn forget_closed(&mut self) {
        self.0.retain(|station| station.model.strong_count() > 0);
    }
}
