//! Answers of a given form: where what a request says of its answer's form becomes a constraint on its tokens.

use engine::Constraint;

use super::ask::{Ask, Form};
use crate::api_error::ApiError;
use crate::models::Loaded;

/// A piece of an answer in which functions may be called.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    CallStart { index: usize, id: String, name: String },
    Arguments { index: usize, delta: String },
}

/// Tells calls from text in the answers of one family of models.
#[derive(Debug)]
pub(super) enum CallParser {}

impl CallParser {
    pub(super) fn push(&mut self, _: &str) -> Vec<Piece> {
        match *self {}
    }

    pub(super) fn finish(&mut self) -> Vec<Piece> {
        match *self {}
    }
}

/// What holds one answer to its form, and what reads calls out of it.
pub(super) fn of(
    _: &Loaded,
    ask: &Ask,
) -> Result<(Option<Box<dyn Constraint>>, Option<CallParser>), ApiError> {
    match (&ask.form, &ask.tools) {
        (Form::Text, None) => Ok((None, None)),
        (_, Some(_)) => Err(ApiError::field("tools", "tools are not supported")),
        (_, None) => Err(ApiError::field("response_format", "only text is supported")),
    }
}
