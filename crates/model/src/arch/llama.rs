//! Llama 2 and 3, SmolLM2, Mistral, Mixtral. Query and key rows come permuted, so that pairs are adjacent.

use crate::config::Config;
use crate::error::Error;
use crate::keys::Keys;

pub(super) fn configure(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = Config::common(keys)?;
    if let Some(scale) = keys.positive("attention.scale")? {
        config.attention_scale = scale;
    }
    Ok(config)
}
