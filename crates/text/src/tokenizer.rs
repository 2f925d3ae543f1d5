//! Text to token ids and back, as the model's file describes it.

use std::borrow::Cow;

use gguf::Metadata;

use crate::bpe::Bpe;
use crate::byte_alphabet;
use crate::error::Error;
use crate::merge::Merger;
use crate::pretokenize::PreTokenizer;
use crate::roles::{self, Defaults, Roles};
use crate::special::{Fragment, SpecialTokens};
use crate::spm;
use crate::vocabulary::{self, Attributes, Vocabulary};
use crate::word_cache::WordCache;

const MODEL: &str = "tokenizer.ggml.model";

/// How a text is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encode {
    /// Puts the beginning- and end-of-text tokens around the text if the file asks for them.
    pub add_special: bool,
    /// Reads the names of control tokens in the text, such as `<|im_start|>`, as those tokens. For prompts
    /// built from a template, never for text that others wrote: it would let them speak as the system.
    pub parse_special: bool,
}

/// How ordinary text becomes tokens.
enum Encoder {
    /// Byte-pair encoding of the words that a pre-tokenizer cuts.
    Words { pre_tokenizer: PreTokenizer, bpe: Bpe },
    /// SentencePiece: score-driven merging of the whole text.
    Scores { add_space_prefix: bool, cuts: spm::Cuts },
}

/// A model's vocabulary with the rules to cut text into its tokens.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    roles: Roles,
    encoder: Encoder,
    /// All tokens that are found as a whole when special tokens are parsed.
    all_special: SpecialTokens,
    /// Those that are found always.
    user_defined: SpecialTokens,
}

impl Tokenizer {
    /// Builds the tokenizer that a file's metadata describes (`tokenizer.ggml.*`).
    ///
    /// # Errors
    /// Where keys are missing, of the wrong type or of lengths that do not fit, and where the tokenizer model
    /// is neither byte-level BPE (`gpt2`, `gemma4`) nor SentencePiece BPE (`llama`).
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let model = metadata.string(MODEL)?.ok_or(Error::MissingKey { key: MODEL })?;
        let mut vocabulary = Vocabulary::from_metadata(metadata)?;
        let (encoder, defaults) = match model {
            "gpt2" | "gemma4" => {
                let name =
                    if model == "gemma4" { Some(model) } else { metadata.string("tokenizer.ggml.pre")? };
                let pre_tokenizer = PreTokenizer::new(name);
                let rules = pre_tokenizer.rules;
                let bpe = Bpe::from_metadata(metadata, &vocabulary, rules.plain_text)?;
                let defaults = Defaults { add_bos: rules.add_bos, ..Defaults::default() };
                (Encoder::Words { pre_tokenizer, bpe }, defaults)
            }
            "llama" => {
                let prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?;
                let defaults = Defaults { bos: Some(1), eos: Some(2), unknown: Some(0), add_bos: true };
                let cuts = spm::Cuts::new(&vocabulary);
                (Encoder::Scores { add_space_prefix: prefix.unwrap_or(true), cuts }, defaults)
            }
            _ => {
                return Err(Error::UnsupportedModel {
                    model: model.to_owned(),
                    supported: "gpt2, gemma4, llama",
                });
            }
        };
        let mut roles = Roles::from_metadata(metadata, &mut vocabulary, defaults)?;
        if matches!(&encoder, Encoder::Words { pre_tokenizer, .. } if pre_tokenizer.rules.always_bos) {
            roles.add_bos = true;
        }
        roles::set_strips_right(metadata, &mut vocabulary);
        let all_special = SpecialTokens::new(&vocabulary, |token| token.any(Attributes::SPECIAL));
        let user_defined = SpecialTokens::new(&vocabulary, |token| {
            token.any(Attributes::USER_DEFINED) && !token.any(Attributes::HIDDEN)
        });
        Ok(Self { vocabulary, roles, encoder, all_special, user_defined })
    }

    /// The tokens of a text. Never fails: bytes for which the vocabulary has nothing become its unknown
    /// token, or are left out where it has none.
    pub fn encode(&self, text: &str, options: Encode) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        if options.add_special && self.roles.add_bos {
            out.extend(self.roles.bos);
        }
        let special = if options.parse_special { &self.all_special } else { &self.user_defined };
        match &self.encoder {
            Encoder::Words { pre_tokenizer, bpe } => {
                let mut words = WordEncoder {
                    vocabulary: &self.vocabulary,
                    pre_tokenizer,
                    bpe,
                    merger: Merger::new(),
                    whole: String::new(),
                };
                let mut cache = WordCache::default();
                special.split(&self.vocabulary, text, |fragment| match fragment {
                    Fragment::Token(id) => out.push(id),
                    Fragment::Text(text) => words.encode(text, &mut cache, &mut out),
                });
            }
            Encoder::Scores { add_space_prefix, cuts } => {
                let mut merger = Merger::new();
                let mut escaped = String::new();
                let mut begins = true;
                special.split(&self.vocabulary, text, |fragment| match fragment {
                    Fragment::Token(id) => {
                        out.push(id);
                        begins = true;
                    }
                    Fragment::Text(text) => {
                        escaped.clear();
                        if *add_space_prefix && begins {
                            escaped.push_str(spm::SPACE);
                        }
                        push_escaped(text, &mut escaped);
                        begins = false;
                        spm::encode(
                            &self.vocabulary,
                            cuts,
                            &escaped,
                            self.roles.unknown,
                            &mut merger,
                            &mut out,
                        );
                    }
                });
            }
        }
        if options.add_special && self.roles.add_eos {
            out.extend(self.roles.eos);
        }
        out
    }

    /// The tokens of a prompt that [`crate::ChatTemplate::render`] made: special tokens are parsed, and the
    /// beginning-of-text token is put in front if the file asks for it and the template has not.
    pub fn encode_prompt(&self, prompt: &str) -> Vec<u32> {
        let mut ids = self.encode(prompt, Encode { add_special: false, parse_special: true });
        let bos = self.roles.bos.filter(|bos| self.roles.add_bos && ids.first() != Some(bos));
        if let Some(bos) = bos {
            ids.insert(0, bos);
        }
        ids
    }

    /// The text of tokens; control tokens only if `show_special`. Bytes that are no valid UTF-8 become
    /// U+FFFD. The space that encoding puts in front of a text is taken off again.
    pub fn decode(&self, ids: &[u32], show_special: bool) -> String {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        let has_prefix = matches!(self.encoder, Encoder::Scores { add_space_prefix: true, .. });
        let mut begins = true;
        for &id in ids {
            let piece = self.token_bytes(id, show_special);
            let is_special = self.vocabulary.attributes(id).any(Attributes::SPECIAL);
            let prefixed = has_prefix && begins && !is_special && piece.first() == Some(&b' ');
            bytes.extend_from_slice(if prefixed { &piece[1..] } else { &piece });
            begins = is_special;
        }
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }

    /// The bytes that one token adds to a text: not always whole characters, see [`crate::TextStream`].
    /// Empty for control tokens unless `show_special`, for unused tokens and for ids that do not exist.
    pub fn token_bytes(&self, id: u32, show_special: bool) -> Cow<'_, [u8]> {
        let (text, attributes) = (self.vocabulary.text(id), self.vocabulary.attributes(id));
        if attributes.any(Attributes::HIDDEN) && !show_special {
            return Cow::Borrowed(&[]);
        }
        if attributes.any(Attributes::SPECIAL) {
            return Cow::Borrowed(text.as_bytes());
        }
        if attributes.any(Attributes::BYTE) {
            return match vocabulary::byte_of_name(text) {
                Some(byte) => Cow::Owned(vec![byte]),
                None => Cow::Borrowed(text.as_bytes()),
            };
        }
        if !attributes.any(Attributes::NORMAL) {
            return Cow::Borrowed(&[]);
        }
        match &self.encoder {
            Encoder::Words { pre_tokenizer, .. } if !pre_tokenizer.rules.plain_text => {
                Cow::Owned(byte_alphabet::read(text))
            }
            _ if text.contains(spm::SPACE) => Cow::Owned(text.replace(spm::SPACE, " ").into_bytes()),
            _ => Cow::Borrowed(text.as_bytes()),
        }
    }

    /// Tokens in the vocabulary; ids run from 0.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// The beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// The end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.roles.eos
    }

    /// Whether encoding with `add_special` begins with [`Tokenizer::bos`].
    pub fn add_bos(&self) -> bool {
        self.roles.add_bos && self.roles.bos.is_some()
    }

    /// Whether encoding with `add_special` ends with [`Tokenizer::eos`].
    pub fn add_eos(&self) -> bool {
        self.roles.add_eos && self.roles.eos.is_some()
    }

    /// Whether a model that gives this token is done: end of text, of a turn or of a message, by the file's
    /// word or by a well-known name.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.roles.ends.binary_search(&id).is_ok()
    }

    /// The tokens for which [`Tokenizer::is_end_of_generation`] holds, in order.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.roles.ends
    }

    /// Whether the token is structure rather than text: shown only on request.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.attributes(id).any(Attributes::HIDDEN)
    }

    /// The text of a token as the vocabulary has it (`Ġthe`, `▁the`); empty for an id that does not exist.
    pub fn piece(&self, id: u32) -> &str {
        self.vocabulary.text(id)
    }

    /// The token whose text in the vocabulary is exactly this.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.vocabulary.id(piece)
    }

    /// Whether the rules by which the file wants text cut into words are known. If not, a common default is
    /// used and some texts are cut otherwise than the model learned.
    pub fn pre_tokenizer_is_known(&self) -> bool {
        match &self.encoder {
            Encoder::Words { pre_tokenizer, .. } => pre_tokenizer.is_known,
            Encoder::Scores { .. } => true,
        }
    }
}

/// Byte-pair encoding of one text, with its buffers.
struct WordEncoder<'a> {
    vocabulary: &'a Vocabulary,
    pre_tokenizer: &'a PreTokenizer,
    bpe: &'a Bpe,
    merger: Merger<std::cmp::Reverse<u32>>,
    /// A word as the vocabulary writes it.
    whole: String,
}

impl WordEncoder<'_> {
    fn encode<'t>(&mut self, text: &'t str, cache: &mut WordCache<'t>, out: &mut Vec<u32>) {
        let pre_tokenizer = self.pre_tokenizer;
        if pre_tokenizer.rules.plain_text {
            let mut escaped = String::with_capacity(text.len() + text.len() / 4);
            push_escaped(text, &mut escaped);
            pre_tokenizer.split(&escaped, |line| self.encode_word(line, out));
        } else {
            pre_tokenizer
                .split(text, |word| cache.encode(word, out, |word, out| self.encode_word(word, out)));
        }
    }

    fn encode_word(&mut self, word: &str, out: &mut Vec<u32>) {
        let rules = self.pre_tokenizer.rules;
        let token = if rules.ignore_merges {
            self.whole.clear();
            byte_alphabet::write(word.as_bytes(), &mut self.whole);
            self.vocabulary.id(&self.whole)
        } else if rules.plain_text && word.starts_with('\n') {
            // Runs of newlines are tokens that no merges lead to.
            self.vocabulary.id(word)
        } else {
            None
        };
        match token {
            Some(id) => out.push(id),
            None => self.bpe.encode(self.vocabulary, word, &mut self.merger, out),
        }
    }
}

/// Appends text with its spaces written as `▁`.
fn push_escaped(text: &str, out: &mut String) {
    for (index, part) in text.split(' ').enumerate() {
        if index > 0 {
            out.push_str(spm::SPACE);
        }
        out.push_str(part);
    }
}
