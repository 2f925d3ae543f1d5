//! Answers of a given form: where what a request says of its answer's form becomes a constraint on its tokens.

use engine::Constraint;

use super::ask::{Ask, Form};
use crate::api_error::ApiError;
use crate::models::Loaded;

/// What holds one answer to its form.
pub(super) struct Held {
    pub(super) constraint: Option<Box<dyn Constraint>>,
}

/// # Errors
/// For forms that cannot be held to.
pub(super) fn of(_: &Loaded, ask: &Ask) -> Result<Held, ApiError> {
    match (&ask.form, &ask.tools) {
        (Form::Text, None) => Ok(Held { constraint: None }),
        (_, Some(_)) => Err(ApiError::field("tools", "tools are not supported")),
        (_, None) => Err(ApiError::field("response_format", "only text is supported")),
    }
}
