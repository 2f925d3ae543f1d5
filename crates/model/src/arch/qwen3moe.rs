//! Qwen 3 with a mixture of experts in every layer.

use crate::config::Config;
use crate::error::Error;
use crate::keys::Keys;

pub(super) fn configure(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = Config::common_halves(keys)?;
    config.query_key_norm = true;
    if config.experts.is_none() {
        return Err(Error::MissingKey { key: keys.name("expert_count") });
    }
    Ok(config)
}
