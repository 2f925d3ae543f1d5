//! Qwen 2 and 2.5. The biases of its query, key and value products are found by their presence.

use crate::config::Config;
use crate::error::Error;
use crate::keys::Keys;

pub(super) fn configure(keys: &Keys<'_>) -> Result<Config, Error> {
    Config::common_halves(keys)
}
