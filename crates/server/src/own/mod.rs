//! What is this server's own: whether it lives, what it does, and what its page keeps here.

pub(crate) mod conversations;
pub(crate) mod health;
pub(crate) mod kept;
pub(crate) mod requests;
pub(crate) mod status;
