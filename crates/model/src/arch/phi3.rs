//! Phi 3, 3.5 and 4. Its merged products (`attn_qkv`, and gate and up in `ffn_up`) and its longrope factors are
//! found by their presence. The small ones look at a sliding window in every layer.

use crate::config::Config;
use crate::error::Error;
use crate::keys::Keys;

pub(super) fn configure(keys: &Keys<'_>) -> Result<Config, Error> {
    let mut config = Config::common_halves(keys)?;
    let window = keys.count_or_zero("attention.sliding_window", usize::MAX)?;
    for layer in &mut config.layers {
        layer.window = (window > 0).then_some(window);
    }
    Ok(config)
}
