//! Joules a token: the cores' watts while they compute, and the bytes that memory moves.

use serde::Serialize;

use super::{Setting, Speed};
use crate::{Profile, Shape, Speeds};

/// Joules of a byte from memory to the cores: about 5 pJ a bit in the memory chip and as much again on the way. Estimated.
const BYTE: f64 = 80e-12;

/// Of a core's watts at full load, what it takes while it waits for memory most of the time. Estimated.
const WAITING: f64 = 0.6;

/// Energy of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Energy {
    /// Joules of a token of a prompt.
    pub prefill_j: f64,
    /// Joules of a token of an answer.
    pub decode_j: f64,
    /// Tokens of answers that a full battery lasts for.
    pub tokens_a_charge: Option<f64>,
}

pub(super) fn energy(
    profile: &Profile,
    shape: &Shape,
    setting: &Setting,
    prefill: Option<&Speed>,
    decode: Option<&Speed>,
) -> Option<Energy> {
    let (prefill, decode) = (prefill?, decode?);
    let watts = |speed: &Speed| Speeds::of(profile, speed.threads)?.watts;
    let bytes: f64 = shape.matrices().map(|matrix| matrix.bytes_read()).sum();
    let decode_j = watts(decode)? * WAITING / decode.tok_s + bytes * BYTE;
    let prefill_j = watts(prefill)? / prefill.tok_s + bytes * BYTE / setting.batch as f64;
    let charge = profile.battery_wh.as_ref().map(|battery| battery.value * 3600.0);
    Some(Energy { prefill_j, decode_j, tokens_a_charge: charge.map(|joules| joules / decode_j) })
}
