//! What every request is answered from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use engine::Service;
use tokio::sync::Semaphore;

use crate::generation::{Active, Common};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::models::Models;
use crate::openai::records::Records;
use crate::own::kept::Conversations;
use crate::security::Access;

/// The state of one server.
pub(crate) struct App {
    pub(crate) service: Service,
    pub(crate) models: Arc<Models>,
    pub(crate) common: Common,
    pub(crate) access: Access,
    pub(crate) limits: Limits,
    /// Bytes that bodies may still take while they are read.
    pub(crate) body_bytes: Semaphore,
    /// Answers that may still be begun.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) active: Arc<Active>,
    pub(crate) records: Records,
    pub(crate) metrics: Arc<Metrics>,
    /// Where conversations are kept, if they are.
    pub(crate) conversations: Option<Arc<Conversations>>,
    /// Rises with every change of a conversation.
    pub(crate) revision: AtomicU64,
    /// Answers that end now were cut off.
    pub(crate) is_stopping: Arc<AtomicBool>,
}
