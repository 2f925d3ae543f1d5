//! Qwen 3: as Qwen 2 without biases, with a norm on every query and key head.

use crate::config::Config;
use crate::error::Error;
use crate::keys::Keys;

pub(super) fn configure(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = Config::common_halves(keys)?;
    config.query_key_norm = true;
    Ok(config)
}
