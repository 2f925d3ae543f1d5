//! What can go wrong while a tokenizer or a chat template is built or used.

/// Errors of this crate. Encoding and decoding never fail; building from a file and rendering a template can.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metadata value has the wrong type or is out of range.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),

    /// A key without which no tokenizer can be built is absent.
    #[error("the file has no `{key}`, which a tokenizer needs")]
    MissingKey {
        /// The metadata key.
        key: &'static str,
    },

    /// The file's tokenizer is of a kind this crate does not know.
    #[error("the tokenizer model `{model}` is not supported (supported: {supported})")]
    UnsupportedModel {
        /// The value of `tokenizer.ggml.model`.
        model: String,
        /// The values this crate knows.
        supported: &'static str,
    },

    /// The vocabulary holds no token, or more than ids can count.
    #[error("the vocabulary has {got} tokens; 1 to {limit} are possible")]
    VocabularySize {
        /// Tokens in the file.
        got: usize,
        /// The most a vocabulary may hold.
        limit: usize,
    },

    /// The texts of the tokens are larger than any real vocabulary.
    #[error("the tokens have {got} bytes together; at most {limit} are accepted")]
    VocabularyBytes {
        /// Bytes of all texts.
        got: usize,
        /// The most that is accepted.
        limit: u32,
    },

    /// An array that runs beside the vocabulary has another length.
    #[error("`{key}` has {got} entries; the vocabulary has {expected} tokens")]
    WrongLength {
        /// The metadata key of the array.
        key: &'static str,
        /// Tokens in the vocabulary.
        expected: usize,
        /// Entries in the array.
        got: usize,
    },

    /// The chat template is larger than any real one.
    #[error("the chat template has {got} bytes; at most {limit} are accepted")]
    TemplateSize {
        /// Bytes of the template.
        got: usize,
        /// The most that is accepted.
        limit: usize,
    },

    /// The chat template does not parse.
    #[error("the chat template does not parse: {message}")]
    TemplateSyntax {
        /// The parser's message, with the line.
        message: String,
    },

    /// The chat template refused the conversation with `raise_exception`.
    #[error("the chat template refuses this conversation: {message}")]
    TemplateRefused {
        /// The template's own words.
        message: String,
    },

    /// The chat template failed while it ran, or took more steps than allowed.
    #[error("the chat template failed: {message}")]
    TemplateFailed {
        /// The interpreter's message, with the line.
        message: String,
    },
}
