//! How a byte-level vocabulary wants text cut into words before its merges apply.
//!
//! The file names the rules (`tokenizer.ggml.pre`); the table below holds them, a line for each. The patterns
//! are those with which the models' own tokenizers were trained. They are applied one after the other: each
//! cuts the pieces that the one before left.

use crate::character_class::CharacterClass;
use crate::pattern::{Pattern, Retry};

/// English contractions in either case.
macro_rules! contractions {
    () => {
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    };
}

/// A word with capitals first, or all capitals, as the vocabularies since GPT-4o cut them.
macro_rules! cased_words {
    ($suffix:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $suffix,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $suffix
        )
    };
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN35: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const MINICPM5: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Llama 3 with whitespace in powers of two.
const JAIS2: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)",
    r"|\s{1,2}(?!\S)|\s{1}"
);
const GPT4O: &str = concat!(
    cased_words!(concat!(contractions!(), "?")),
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(cased_words!(""), r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+");
const KIMI_K2: &str = concat!(
    r"\p{Han}+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
    contractions!(),
    r"?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*",
    contractions!(),
    r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Words of DeepSeek-V3: ASCII punctuation sticks to the letters behind it.
const DEEPSEEK3: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const SPARK: &str = concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"
);
const BAILING: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
);
const SEED_CODER: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const UFAKZEKA: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = concat!(
    contractions!(),
    r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?",
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
);
const YOUTU: &str = concat!(
    cased_words!(concat!(contractions!(), "?")),
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const YOUTU_SCRIPTS: &str = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const CHINESE_JAPANESE: &str = "[一-龥぀-ゟ゠-ヿ]+";
const CHINESE_KOREAN: &str = "[一-龥ࠀ-一가-퟿]+";
const ASIAN_SCRIPTS: &str = "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+";
const CASED_SCRIPTS: &str = concat!(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-",
    r"ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ",
    r"-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
);
const LINES: &str = r"[^\n]+|[\n]+";

/// Not a pattern: cuts a run of digits into threes, counted from its end. As a pattern it would take quadratic
/// time.
const THREES: &str = "<threes>";
/// The same, for runs at the end of a word: `\d{1,3}(?=(?:\d{3})*\b)`.
const THREES_AT_WORD_END: &str = "<threes at a word's end>";

/// The rules of one family of vocabularies.
pub(crate) struct Rules {
    names: &'static [&'static str],
    cuts: &'static [&'static str],
    /// A word that is a token as a whole is taken without merging.
    pub(crate) ignore_merges: bool,
    /// A beginning-of-text token is put in front unless the file says otherwise.
    pub(crate) add_bos: bool,
    /// It is put in front even if the file says otherwise: these files are wrong.
    pub(crate) always_bos: bool,
    /// The vocabulary is written in plain text with `▁` for a space, not in the byte-level alphabet.
    pub(crate) plain_text: bool,
}

const fn rules(names: &'static [&'static str], cuts: &'static [&'static str]) -> Rules {
    Rules { names, cuts, ignore_merges: false, add_bos: false, always_bos: false, plain_text: false }
}

impl Rules {
    const fn ignore_merges(self) -> Self {
        Self { ignore_merges: true, ..self }
    }

    const fn add_bos(self) -> Self {
        Self { add_bos: true, ..self }
    }

    const fn always_bos(self) -> Self {
        Self { always_bos: true, ..self }
    }

    const fn plain_text(self) -> Self {
        Self { plain_text: true, ..self }
    }
}

/// The rules by name. The first line serves files whose name is absent or unknown.
#[rustfmt::skip]
static TABLE: &[Rules] = &[
    rules(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
    rules(&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"], &[LLAMA3]).ignore_merges().add_bos(),
    rules(&["glm4", "glm5"], &[LLAMA3]).ignore_merges(),
    rules(&["smaug-bpe", "dbrx", "chatglm-bpe"], &[LLAMA3]),
    rules(&["jais-2"], &[JAIS2]),
    rules(&["minicpm5"], &[r"\p{N}{1,3}", MINICPM5]).ignore_merges(),
    rules(&["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "megrez", "solar-open", "grok-2"], &[QWEN2]),
    rules(&["qwen35"], &[QWEN35]),
    rules(&["ufakzeka"], &[UFAKZEKA]),
    rules(&["laguna"], &[LINES, QWEN2]),
    rules(&["gpt-2", "phi-2", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe", "gigachat", "a.x-4.0", "mellum", "modern-bert"], &[GPT2]),
    rules(&["mpt", "olmo", "jais", "exaone4", "trillion", "granite-docling"], &[GPT2]),
    rules(&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], &[r"\p{N}", GPT2]),
    rules(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    rules(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    rules(&["granite-embed-multi-97m"], &[GPT4O]).ignore_merges(),
    rules(&["tiny_aya", "cohere2moe"], &[THREES_AT_WORD_END, GPT4O]),
    rules(&["tekken"], &[TEKKEN]).ignore_merges().add_bos(),
    rules(&["kimi-k2"], &[KIMI_K2]),
    rules(&["deepseek-llm"], &[r"[\r\n]", CASED_SCRIPTS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CHINESE_KOREAN, r"\p{N}+"]),
    rules(&["deepseek-coder"], &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CHINESE_KOREAN, r"\p{N}"]),
    rules(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[r"\p{N}{1,3}", CHINESE_JAPANESE, DEEPSEEK3]),
    rules(&["spark2_5"], &[r"\p{N}{1,3}", CHINESE_JAPANESE, SPARK, r"\p{N}"]),
    rules(&["afmoe"], &[THREES, ASIAN_SCRIPTS, DEEPSEEK3]),
    rules(&["youtu"], &[YOUTU_SCRIPTS, YOUTU]).ignore_merges(),
    rules(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    rules(&["seed-coder"], &[SEED_CODER]),
    rules(&["exaone-moe"], &[EXAONE_MOE]),
    rules(&["superbpe"], &[r"\p{N}+", THREES]),
    rules(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    rules(&["viking"], &[BLOOM, r"\p{N}"]),
    rules(&["chameleon"], &["<sentinel:[0-9]+>", "IMGIMG(?:A|B|C|D|E|F|G|H|I){1,4}Z", r"[\t\n]|    |  ", r"\p{N}", r"[\p{P}!-/:-@\[-`{-~]", GPT2]).add_bos(),
    rules(&["gemma4", "granite-embed-multi-311m"], &[LINES]).plain_text().always_bos(),
    rules(&["sarvam-moe"], &[LINES]).plain_text(),
];

enum Cut {
    Pattern(Pattern),
    /// The class of digits, and of characters behind which a run of digits stays whole.
    Threes {
        digits: CharacterClass,
        except_before: CharacterClass,
    },
}

/// Cuts text into words by the rules of one family.
pub(crate) struct PreTokenizer {
    pub(crate) rules: &'static Rules,
    /// Whether the table has the file's name.
    pub(crate) is_known: bool,
    cuts: Vec<Cut>,
}

impl PreTokenizer {
    /// The rules that a file names.
    pub(crate) fn new(name: Option<&str>) -> Self {
        let found = name.and_then(|name| TABLE.iter().find(|rules| rules.names.contains(&name)));
        let rules = found.unwrap_or(&TABLE[0]);
        let class = |names: &[&str]| {
            let mut class = CharacterClass::default();
            names.iter().filter_map(|name| CharacterClass::property(name)).for_each(|part| class.add(&part));
            class
        };
        let threes = |except_before: &[&str]| {
            Some(Cut::Threes { digits: class(&["Nd"]), except_before: class(except_before) })
        };
        let cuts = rules.cuts.iter().filter_map(|&source| match source {
            THREES => threes(&[]),
            THREES_AT_WORD_END => threes(&["L", "M", "N", "Pc"]),
            // Every pattern of the table compiles: a test goes through them.
            _ => Pattern::new(source).map(Cut::Pattern),
        });
        Self { rules, is_known: found.is_some(), cuts: cuts.collect() }
    }

    /// Calls `word` with each word of `text`; together they are `text`.
    pub(crate) fn split<'a>(&self, text: &'a str, mut word: impl FnMut(&'a str)) {
        split_from(&self.cuts, text, &mut Vec::new(), &mut word);
    }
}

fn split_from<'a>(cuts: &[Cut], text: &'a str, stack: &mut Vec<Retry>, word: &mut dyn FnMut(&'a str)) {
    match cuts {
        [] => word(text),
        // Most rules are a single pattern: no pieces to pass on.
        [Cut::Pattern(pattern)] => pattern.split(text, stack, word),
        [first, rest @ ..] => {
            let mut inner = Vec::new();
            let mut piece = |piece| split_from(rest, piece, &mut inner, word);
            match first {
                Cut::Pattern(pattern) => pattern.split(text, stack, piece),
                Cut::Threes { digits, except_before } => {
                    split_threes(text, digits, except_before, &mut piece)
                }
            }
        }
    }
}

/// Cuts every run of digits so that all pieces but the first have three.
fn split_threes<'a>(
    text: &'a str,
    digits: &CharacterClass,
    except_before: &CharacterClass,
    piece: &mut dyn FnMut(&'a str),
) {
    let (mut done, mut position) = (0, 0);
    while let Some(before) = text[position..].find(|character| digits.has(character)) {
        let start = position + before;
        let end = text[start..].find(|character| !digits.has(character)).map_or(text.len(), |at| start + at);
        position = end;
        if text[end..].chars().next().is_some_and(|next| except_before.has(next)) {
            continue;
        }
        if done < start {
            piece(&text[done..start]);
        }
        let mut run = &text[start..end];
        let mut count = run.chars().count();
        while count > 0 {
            let take = if count.is_multiple_of(3) { 3 } else { count % 3 };
            let length = run.char_indices().nth(take).map_or(run.len(), |(at, _)| at);
            piece(&run[..length]);
            run = &run[length..];
            count -= take;
        }
        done = end;
    }
    if done < text.len() {
        piece(&text[done..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        let mut words = Vec::new();
        let rules = PreTokenizer::new(Some(name));
        assert!(rules.is_known, "{name}");
        rules.split(text, |word| words.push(word));
        words
    }

    #[test]
    fn every_pattern_of_the_table_compiles() {
        for rules in TABLE {
            for &source in rules.cuts {
                assert!(
                    [THREES, THREES_AT_WORD_END].contains(&source) || Pattern::new(source).is_some(),
                    "{source}"
                );
            }
        }
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<_> = TABLE.iter().flat_map(|rules| rules.names).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn an_unknown_name_takes_the_default() {
        assert!(!PreTokenizer::new(Some("no-such-rules")).is_known);
        assert!(!PreTokenizer::new(None).is_known);
        assert!(PreTokenizer::new(Some("default")).is_known);
    }

    #[test]
    fn gpt2_words() {
        assert_eq!(
            words("gpt-2", "I'll  go,\n 12 été!"),
            ["I", "'ll", " ", " go", ",", "\n", " 12", " été", "!"]
        );
    }

    #[test]
    fn llama3_words() {
        assert_eq!(
            words("llama3", "I'LL go 12345\n\n  x  "),
            ["I", "'LL", " go", " ", "123", "45", "\n\n", " ", " x", "  "]
        );
    }

    #[test]
    fn smollm_digits_stand_alone() {
        assert_eq!(words("smollm", "a 2024"), ["a", " ", "2", "0", "2", "4"]);
    }

    #[test]
    fn gpt4o_words_follow_their_capitals() {
        assert_eq!(words("gpt-4o", "fooBar's HTTPServer नमस्ते"), ["foo", "Bar's", " HTTPServer", " नमस्ते"]);
    }

    #[test]
    fn kimi_keeps_chinese_apart() {
        assert_eq!(words("kimi-k2", "写code了"), ["写", "code", "了"]);
    }

    #[test]
    fn digits_in_threes_from_the_right() {
        assert_eq!(words("superbpe", "a1234567"), ["a", "1", "234", "567"]);
        assert_eq!(words("tiny_aya", "12345 1930s"), ["12", "345", " ", "193", "0", "s"]);
    }

    #[test]
    fn a_page_of_spaces_takes_no_quadratic_time() {
        let text = " ".repeat(1 << 16) + "\u{1F600}";
        for rules in TABLE {
            let all: usize = words(rules.names[0], &text).iter().map(|word| word.len()).sum();
            assert_eq!(all, text.len(), "{}", rules.names[0]);
        }
    }
}
