//! Why a form cannot be served.

/// Why a form cannot be served. All of them are mistakes of whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A place of a JSON Schema is no schema, or has a keyword that cannot be kept token by token.
    #[error("JSON Schema at {path}: `{keyword}`: {reason}")]
    Keyword {
        /// Where, as a JSON pointer from the schema's root: `#/properties/name`.
        path: String,
        /// The keyword.
        keyword: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A JSON Schema that is understood but no answer can fit, or that does not compile.
    #[error("JSON Schema: {reason}")]
    Schema {
        /// What is wrong.
        reason: String,
    },
    /// The form is larger than any that somebody needs.
    #[error("the {what} is too large: {got}, at most {limit}")]
    TooLarge {
        /// What is too large, and in what unit.
        what: &'static str,
        /// Its size, or as far as it was counted.
        got: usize,
        /// The largest that is served.
        limit: usize,
    },
    /// A regular expression that does not compile.
    #[error("regular expression: {reason}")]
    Regex {
        /// What is wrong.
        reason: String,
    },
    /// A grammar that does not compile.
    #[error("grammar: {reason}")]
    Grammar {
        /// What is wrong.
        reason: String,
    },
    /// The list of tools is not as the OpenAI API has it.
    #[error("tools: {reason}")]
    Tools {
        /// What is wrong.
        reason: String,
    },
    /// The tool that must be called is not in the list.
    #[error("there is no tool named `{name}`")]
    NoTool {
        /// The name asked for.
        name: String,
    },
    /// The vocabulary cannot be used for constrained answers.
    #[error("the model's vocabulary does not allow answers of a given form: {reason}")]
    Vocabulary {
        /// Why.
        reason: String,
    },
}
