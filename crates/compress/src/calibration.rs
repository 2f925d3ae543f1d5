//! The text that activations are gathered on, as windows of tokens, no more of them than memory holds.

use crate::error::Error;
use crate::float::{ROLES, Role, Source};
use crate::options::{Effort, Text};

/// Tokens in a window, fewer where the model was trained for less.
const LENGTH: usize = 512;

/// Tokens that an effort is worth: an estimate of the second moments of some thousand columns needs several thousand.
const GOOD_TOKENS: usize = 16 << 10;

/// The least to learn anything from.
const LEAST_TOKENS: usize = 1024;

/// Tokens that sensitivities are measured on: means over all tokens, of which few say much.
const SENSITIVITY_TOKENS: usize = 2048;

/// A text as whole windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Whole windows, one after another.
    pub(crate) tokens: Vec<u32>,
    /// Tokens in a window.
    pub(crate) length: usize,
}

impl Tokens {
    /// Windows of `text`, evenly from all of it where it has more than can be used within `memory` bytes.
    ///
    /// # Errors
    /// [`Error::TextTooShort`], [`Error::Memory`].
    pub(crate) fn of(
        source: &Source,
        text: &Text,
        effort: Effort,
        memory: Option<u64>,
    ) -> Result<Tokens, Error> {
        let length = LENGTH.min(source.config.context);
        let encode = text::Encode { add_special: false, parse_special: false };
        let mut all = source.tokenizer.encode(&text.content, encode);
        // A model that starts its texts with a mark has known no window without it.
        if let Some(bos) = source.tokenizer.bos().filter(|_| source.tokenizer.add_bos()) {
            all = all.chunks(length - 1).flat_map(|window| [&[bos], window].concat()).collect();
        }
        let windows = all.len() / length;
        if windows * length < LEAST_TOKENS {
            let name = text.name.clone();
            return Err(Error::TextTooShort { name, got: windows * length, needed: LEAST_TOKENS });
        }
        let most = match effort {
            Effort::Fast => SENSITIVITY_TOKENS,
            Effort::Good | Effort::Best => GOOD_TOKENS,
        };
        let most = match memory {
            Some(memory) => most.min(fitting(source, memory)?),
            None => most,
        };
        Ok(Tokens { tokens: all, length }.spread(most))
    }

    /// Some windows from all over the text, for sensitivities.
    pub(crate) fn sample(&self) -> Vec<u32> {
        self.spread(SENSITIVITY_TOKENS).tokens
    }

    /// Whole windows at even distances, one at least, of `most` tokens at most.
    fn spread(&self, most: usize) -> Tokens {
        let Tokens { ref tokens, length } = *self;
        let windows = tokens.len() / length;
        let taken = windows.min(most / length).max(1);
        let window = |index: usize| &tokens[index * windows / taken * length..][..length];
        Tokens { tokens: (0..taken).flat_map(window).copied().collect(), length }
    }
}

/// Tokens whose activations fit `memory` beside what a block needs anyway.
fn fitting(source: &Source, memory: u64) -> Result<usize, Error> {
    let (fixed, per_token) = needs(source);
    let least = fixed + per_token * LEAST_TOKENS as u64;
    if memory < least {
        return Err(Error::Memory { asked: memory, least });
    }
    Ok(((memory - fixed) / per_token) as usize)
}

/// Bytes that packing takes whatever the text, and for each of its tokens.
fn needs(source: &Source) -> (u64, u64) {
    let config = &source.config;
    let float = size_of::<f32>() as u64;
    let size = |role: Role| {
        let stored = source.stored(0, role, 0);
        (stored.rows * stored.columns) as u64
    };
    let block: u64 = ROLES.into_iter().map(size).sum();
    let output = (config.vocabulary * config.width) as u64;
    let (feed_forward, experts, gathered) = match &config.experts {
        None => (config.feed_forward, 0, 0),
        // One expert's matrices are in memory at a time, and of the others in the layer what they were rounded to, a byte a
        // value if it is much. In the worst case all tokens visit one expert: their rows are gathered, and what they become
        // before it is added up; the router has its say on each.
        Some(experts) => {
            let rounded =
                experts.count as u64 * [Role::Gate, Role::Up, Role::Down].map(size).iter().sum::<u64>();
            (experts.feed_forward, rounded, 3 * config.width + 2 * experts.count)
        }
    };
    let widest = config.width.max(config.query_width()).max(feed_forward) as u64;
    // The second moments, their factor and the copy that the factorisation works on; the block, its largest matrix
    // rounded, and the errors; or the output side.
    let fixed = float * (3 * widest * widest + (2 * block).max(output)) + experts;
    let per_token = 3 * config.width + 2 * config.query_width() + 3 * feed_forward + gathered;
    // The file is mapped, and its pages may be taken back at any time, but a layer's are needed.
    (fixed + (64 << 20), float * per_token as u64)
}
