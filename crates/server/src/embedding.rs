//! Texts as vectors, the same for every protocol.

use std::sync::Arc;

use engine::{Class, Pooling, Update};
use model::Model;
use tokio::sync::mpsc::unbounded_channel;

use crate::api_error::ApiError;
use crate::app::App;
use crate::generation::Cancel;

/// Texts to make vectors of.
pub(crate) enum Texts {
    Plain(Vec<String>),
    Tokens(Vec<Vec<u32>>),
}

impl Texts {
    pub(crate) fn len(&self) -> usize {
        match self {
            Texts::Plain(texts) => texts.len(),
            Texts::Tokens(texts) => texts.len(),
        }
    }
}

/// The vectors of some texts.
pub(crate) struct Embedded {
    /// `[text][width]`, each of length 1.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub(crate) tokens: usize,
}

/// Makes the vectors.
///
/// # Errors
/// A model that cannot be opened, a text longer than its context, more than the engine takes.
pub(crate) async fn embed(
    app: &Arc<App>,
    model: Option<&str>,
    texts: Texts,
    class: Class,
    encode: impl Fn(&Model, &str) -> Vec<u32> + Send + 'static,
) -> Result<Embedded, ApiError> {
    let loaded = app.models.get(model).await?;
    let model = Arc::clone(&loaded.model);
    let preparing = tokio::task::spawn_blocking(move || match texts {
        Texts::Plain(texts) => texts.iter().map(|text| encode(&model, text)).collect(),
        Texts::Tokens(texts) => texts,
    });
    let texts: Vec<Vec<u32>> =
        preparing.await.map_err(|_| ApiError::server("internal_error", "the texts could not be prepared"))?;
    let most = loaded.model.config.context;
    if let Some(text) = texts.iter().position(|text| !(1..=most).contains(&text.len())) {
        let message = format!("input[{text}] has {} tokens: expected 1 to {most}", texts[text].len());
        return Err(ApiError::field("input", message));
    }
    let tokens = texts.iter().map(Vec::len).sum();
    let (sender, mut updates) = unbounded_channel();
    let sink = Box::new(move |update| {
        let _ = sender.send(update);
    });
    let model = Arc::clone(&loaded.model);
    let request = app.service.embed(model, texts, pooling(&loaded.model), class, sink)?;
    let _cancel = Cancel::new(&app.service, vec![request]);
    let mut vectors = Vec::new();
    while let Some(update) = updates.recv().await {
        match update {
            Update::Embedding(vector) => vectors.push(vector),
            Update::End { .. } => return Ok(Embedded { vectors, tokens }),
            Update::Failed(error) => return Err(error.into()),
            Update::Prefilled { .. } | Update::Tokens { .. } => {}
        }
    }
    Err(ApiError::unavailable("server_stopping", "the server stops"))
}

/// How the model's tokens become a text's vector, as its file says; the mean where it does not.
/// Source: GGUF's `{architecture}.pooling_type`: 0 none, 1 mean, 2 first, 3 last.
fn pooling(model: &Model) -> Pooling {
    let metadata = model.metadata();
    let architecture = metadata.string("general.architecture").ok().flatten().unwrap_or_default();
    match metadata.u32(&format!("{architecture}.pooling_type")) {
        Ok(Some(3)) => Pooling::Last,
        _ => Pooling::Mean,
    }
}
