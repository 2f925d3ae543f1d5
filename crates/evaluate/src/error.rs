//! What can go wrong while models are measured.

use std::path::PathBuf;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model could not be run.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The text gives too few tokens for two windows, fewer than which say little.
    #[error(
        "the text has {got} tokens; a context of {context} needs at least {needed}: take a longer text or a smaller context"
    )]
    TextTooShort {
        /// Tokens in the text.
        got: usize,
        /// Tokens needed: twice the context.
        needed: usize,
        /// Tokens in a window.
        context: usize,
    },
    /// A window must have a token to predict from and one to predict in its second half.
    #[error("a context of {got} tokens cannot be scored: at least {least} are needed")]
    ContextTooSmall {
        /// Tokens asked for.
        got: usize,
        /// The smallest context.
        least: usize,
    },
    /// The two models do not share a vocabulary, so their probabilities cannot be compared.
    #[error(
        "the vocabularies differ: {tested} tokens in the tested model, {reference} in the reference{detail}"
    )]
    Vocabulary {
        /// Tokens in the tested model.
        tested: usize,
        /// Tokens in the reference.
        reference: usize,
        /// The first token that differs, where the counts are equal.
        detail: String,
    },
    /// The reference was computed on other tokens than the text gives with the tested model's tokenizer.
    #[error(
        "the reference was computed on another text: token {position} is {reference} there and {tested} here"
    )]
    Text {
        /// Position in the text.
        position: usize,
        /// The tested model's token.
        tested: u32,
        /// The reference's token.
        reference: u32,
    },
    /// The text ends before the tokens that the reference was computed on.
    #[error("the text has {got} tokens; the reference was computed on {needed}")]
    TextEnds {
        /// Tokens in the text.
        got: usize,
        /// Tokens in the reference.
        needed: usize,
    },
    /// Two rows of logits that should belong together differ in length.
    #[error("a row of {tested} logits cannot be compared with one of {reference}")]
    RowLength {
        /// Values in the tested row.
        tested: usize,
        /// Values in the reference row.
        reference: usize,
    },
    /// A token to be scored is not in the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Values in the row of logits.
        vocabulary: usize,
    },
    /// Logits that are no distribution: a NaN among them, or no finite largest value.
    #[error("the {whose} model's logits hold NaN or no finite largest value")]
    NotFinite {
        /// `tested` or `reference`.
        whose: &'static str,
    },
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of saved logits could not be read further.
    #[error("the saved logits could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file does not start as one of saved logits does.
    #[error("not a file of saved logits: it starts with {got:?} instead of \"_logits_\"")]
    NotLogits {
        /// Its first bytes.
        got: String,
    },
    /// A figure in the head of a file of saved logits makes no sense.
    #[error("saved logits: {field} is {got}, expected {expected}")]
    LogitsField {
        /// The figure.
        field: &'static str,
        /// Its value.
        got: i64,
        /// The values it can take.
        expected: &'static str,
    },
    /// A file of saved logits is shorter than its head promises: its writer was interrupted.
    #[error("saved logits: the file has {got} bytes, its head promises {expected}")]
    LogitsLength {
        /// Bytes by the head.
        expected: u64,
        /// Bytes in the file.
        got: u64,
    },
    /// A saved row's scale or smallest value is not a number that such a row can have.
    #[error("saved logits: row {row} has scale {scale} and smallest log-probability {smallest}")]
    LogitsRow {
        /// The row, counted from the file's first.
        row: u64,
        /// Its scale.
        scale: f32,
        /// Its smallest log-probability.
        smallest: f32,
    },
    /// More rows were asked for than the file has.
    #[error("saved logits: no rows are left after {rows}")]
    LogitsEnd {
        /// Rows in the file.
        rows: u64,
    },
}
