//! Which tokens begin a text, end it, or end a turn.
//!
//! The file names the ids, not always all of them: converters forget the end of a turn, or give such tokens
//! the type of ordinary text. What is missing is found by the well-known names, so that a model stops where
//! it means to and its markers stay hidden.

use gguf::Metadata;

use crate::error::Error;
use crate::vocabulary::{Attributes, Vocabulary};

/// Tokens by whose name alone generation ends.
const END_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// A part of fill-in-the-middle prompts: its key, the names it goes by, and whether it ends generation.
struct FillRole {
    key: &'static str,
    names: &'static [&'static str],
    ends: bool,
}

#[rustfmt::skip]
const FILL_ROLES: &[FillRole] = &[
    FillRole { key: "tokenizer.ggml.fim_pre_token_id", ends: false, names: &["<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>", "<|prefix|>"] },
    FillRole { key: "tokenizer.ggml.fim_suf_token_id", ends: false, names: &["<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>", "<|suffix|>"] },
    FillRole { key: "tokenizer.ggml.fim_mid_token_id", ends: false, names: &["<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>", "<|middle|>"] },
    FillRole { key: "tokenizer.ggml.fim_pad_token_id", ends: true, names: &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"] },
    FillRole { key: "tokenizer.ggml.fim_rep_token_id", ends: true, names: &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"] },
    FillRole { key: "tokenizer.ggml.fim_sep_token_id", ends: true, names: &["<|file_sep|>"] },
];

/// Structure of a reply that a reader of the reply needs to see.
const SHOWN_NAMES: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// What a kind of vocabulary assumes where the file is silent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Defaults {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) add_bos: bool,
}

/// The tokens with a role, all of them within the vocabulary.
pub(crate) struct Roles {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
    /// Sorted.
    pub(crate) ends: Vec<u32>,
}

impl Roles {
    /// Reads the roles and corrects the attributes of tokens that the file gives a wrong type.
    pub(crate) fn from_metadata(
        metadata: &Metadata,
        vocabulary: &mut Vocabulary,
        defaults: Defaults,
    ) -> Result<Self, Error> {
        let exists = |id: &u32| (*id as usize) < vocabulary.len();
        // Files use ids outside the vocabulary, and -1, to say that there is no such token.
        let role = |key: &str, default: Option<u32>| {
            metadata
                .get(key)
                .and_then(|_| metadata.u32(key).ok().flatten())
                .filter(exists)
                .or(default.filter(exists))
        };
        let bos = role("tokenizer.ggml.bos_token_id", defaults.bos);
        let eos = role("tokenizer.ggml.eos_token_id", defaults.eos);
        let unknown = role("tokenizer.ggml.unknown_token_id", defaults.unknown);
        let turn_ends =
            ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"].map(|key| role(key, None));

        let mut ends: Vec<u32> = turn_ends.into_iter().chain([eos]).flatten().collect();
        let mut control: Vec<u32> = Vec::new();
        for fill in FILL_ROLES {
            let named = role(fill.key, None);
            let found = fill.names.iter().find_map(|name| vocabulary.id(name)).filter(|_| named.is_none());
            control.extend(found);
            ends.extend(named.or(found).filter(|_| fill.ends));
        }
        let by_name = END_NAMES.iter().filter_map(|name| vocabulary.id(name));
        for id in by_name {
            control.push(id);
            ends.push(id);
        }
        for id in control {
            vocabulary.set_attributes(id, vocabulary.attributes(id).with(Attributes::CONTROL));
        }
        for id in SHOWN_NAMES.iter().filter_map(|name| vocabulary.id(name)).collect::<Vec<_>>() {
            vocabulary.set_attributes(id, Attributes::USER_DEFINED);
        }
        ends.sort_unstable();
        ends.dedup();
        let mut roles = Self {
            bos,
            eos,
            unknown,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(defaults.add_bos),
            add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
            ends,
        };
        roles.settle_ambiguous_names(vocabulary);
        Ok(roles)
    }

    /// Names that end generation in one family of models and do not in another.
    fn settle_ambiguous_names(&mut self, vocabulary: &mut Vocabulary) {
        let end = |name: &str| vocabulary.id(name).filter(|id| self.ends.binary_search(id).is_ok());
        let is_end = |name: &str| end(name).is_some();
        let calls = is_end("<|call|>") || is_end("<|calls|>");
        // Where a reply has channels, `<|end|>` closes only one of them.
        let channel_end = end("<|end|>").filter(|_| calls && (is_end("<|return|>") || is_end("<|flush|>")));
        // Beside an end of its own, `</s>` is ordinary text (strikethrough).
        let markup = end("</s>").filter(|_| is_end("<|tool_response>") || is_end("<|plamo:eos|>"));
        for (id, attributes) in [(channel_end, Attributes::USER_DEFINED), (markup, Attributes::NORMAL)] {
            if let Some(id) = id {
                self.ends.retain(|&end| end != id);
                vocabulary.set_attributes(id, attributes);
            }
        }
    }
}

/// Lets the special tokens of phi-3 swallow the whitespace behind them, as the model was trained; its files
/// do not say so, only the name of the model does.
pub(crate) fn set_strips_right(metadata: &Metadata, vocabulary: &mut Vocabulary) {
    let name = metadata.string("general.name").ok().flatten().unwrap_or_default().to_lowercase();
    if !name.contains("phi-3") && !name.contains("phi3") {
        return;
    }
    for id in vocabulary.ids() {
        let (text, attributes) = (vocabulary.text(id), vocabulary.attributes(id));
        let exempt = ["<unk>", "<s>", "<|endoftext|>"].contains(&text);
        if (attributes.any(Attributes::SPECIAL) && !exempt) || text == "</s>" {
            vocabulary.set_attributes(id, attributes.with(Attributes::STRIPS_RIGHT));
        }
    }
}
