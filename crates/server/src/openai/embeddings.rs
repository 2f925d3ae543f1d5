//! `POST /v1/embeddings`: texts as vectors.

use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::encode_prompt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shared::{Extension, urgency};
use crate::api_error::{ApiError, ErrorBody};
use crate::app::App;
use crate::body::Json;
use crate::embedding::{self, Texts};

/// Texts that one request may have.
const MOST_TEXTS: usize = 2048;

/// A request for vectors. Fields that are not listed here are ignored.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// The first model if left out.
    model: Option<String>,
    input: EmbeddingInput,
    /// `float`, or `base64`: 32-bit floats, least significant byte first.
    encoding_format: Option<String>,
    /// Only so many of the first values, scaled to length 1 again.
    dimensions: Option<usize>,
    pouch: Option<Extension>,
}

/// A text, its tokens, or a list of either.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, a list of texts, a list of tokens, or a list of lists of tokens")]
enum EmbeddingInput {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    Several(Vec<Vec<u32>>),
}

/// The vectors.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingResponse {
    object: &'static str,
    data: Vec<EmbeddingBody>,
    model: String,
    usage: EmbeddingUsage,
}

/// One of them.
#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingBody {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// Its values.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

/// Tokens of the texts.
#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

/// Makes vectors of texts: of length 1, pooled as the model's file says.
#[utoipa::path(post, path = "/v1/embeddings", tag = "OpenAI", request_body = EmbeddingRequest,
    responses((status = 200, body = EmbeddingResponse), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Json(request): Json<EmbeddingRequest>,
) -> Result<axum::Json<EmbeddingResponse>, ApiError> {
    let (class, _) = urgency(request.pouch.as_ref(), None)?;
    let in_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => {
            let message = format!("encoding_format = {other:?}: expected float or base64");
            return Err(ApiError::field("encoding_format", message));
        }
    };
    let texts = match request.input {
        EmbeddingInput::Text(text) => Texts::Plain(vec![text]),
        EmbeddingInput::Texts(texts) => Texts::Plain(texts),
        EmbeddingInput::Tokens(tokens) => Texts::Tokens(vec![tokens]),
        EmbeddingInput::Several(texts) => Texts::Tokens(texts),
    };
    if !(1..=MOST_TEXTS).contains(&texts.len()) {
        let message = format!("{} texts: expected 1 to {MOST_TEXTS}", texts.len());
        return Err(ApiError::field("input", message));
    }
    let model = app.models.find(request.model.as_deref())?.card.name.clone();
    let embedded = embedding::embed(&app, request.model.as_deref(), texts, class, |model, text| {
        encode_prompt(&model.tokenizer, text, false)
    });
    let embedded = embedded.await?;
    let width = embedded.vectors.first().map_or(0, Vec::len);
    let dimensions = request.dimensions.unwrap_or(width);
    if !(1..=width).contains(&dimensions) {
        let message = format!("dimensions = {dimensions}: the model's vectors have {width}");
        return Err(ApiError::field("dimensions", message));
    }
    let vectors = embedded.vectors.into_iter().enumerate().map(|(index, mut vector)| {
        if dimensions < width {
            vector.truncate(dimensions);
            engine::normalise(&mut vector);
        }
        let embedding = match in_base64 {
            false => Vector::Floats(vector),
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
                Vector::Base64(STANDARD.encode(bytes))
            }
        };
        EmbeddingBody { object: "embedding", index, embedding }
    });
    Ok(axum::Json(EmbeddingResponse {
        object: "list",
        data: vectors.collect(),
        model,
        usage: EmbeddingUsage { prompt_tokens: embedded.tokens, total_tokens: embedded.tokens },
    }))
}
