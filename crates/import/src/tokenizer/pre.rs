//! `tokenizer.ggml.pre`: the name for how text is split before BPE, recognised by the steps in `tokenizer.json`.
//!
//! GGUF stores a name where `tokenizer.json` stores regular expressions, and readers know the names. Here the steps
//! are written as one line and looked up. Where several names stand for the same split, the one is taken whose
//! other effects fit: `llama-bpe` also means that whole words in the vocabulary are not put together by merges.

use super::json::{flatten, type_of};
use crate::Error;
use serde_json::Value;
use std::path::Path;

/// How one name is recognised.
struct Known {
    /// The steps, as [`describe`] writes them.
    steps: &'static [&'static str],
    /// Whether the model ignores merges for whole words; `None` where it does not matter.
    ignore_merges: Option<bool>,
    name: &'static str,
}

const LLAMA3: &str = r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CJK: &str = "split [\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+";

#[rustfmt::skip]
static KNOWN: &[Known] = &[
    Known { name: "gpt-2", ignore_merges: None, steps: &["words"] },
    Known { name: "llama-bpe", ignore_merges: Some(true), steps: &[LLAMA3, "bytes"] },
    Known { name: "dbrx", ignore_merges: Some(false), steps: &[LLAMA3, "bytes"] },
    Known { name: "qwen2", ignore_merges: None, steps: &[
        r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "bytes"] },
    Known { name: "qwen35", ignore_merges: None, steps: &[
        r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "bytes"] },
    Known { name: "smollm", ignore_merges: None, steps: &["digits", "words"] },
    Known { name: "tekken", ignore_merges: None, steps: &[
        r"split [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "bytes"] },
    Known { name: "gpt-4o", ignore_merges: None, steps: &[
        r"split [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "bytes"] },
    Known { name: "deepseek-v3", ignore_merges: None, steps: &[
        r"split \p{N}{1,3}", "split [\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
        r##"split [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        "bytes"] },
    Known { name: "deepseek-coder", ignore_merges: None, steps: &[
        r"split [\r\n]", r"split \s?\p{L}+", r"split \s?\p{P}+", CJK, "digits", "bytes"] },
    Known { name: "seed-coder", ignore_merges: None, steps: &[
        r"split (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        "bytes"] },
    Known { name: "falcon", ignore_merges: None, steps: &["punctuation", "words", "numbers", "split [0-9][0-9][0-9]"] },
];

/// The name for these steps. Errors with [`Error::PreTokenizer`] where there is none.
pub(super) fn name(pre_tokenizer: &Value, ignore_merges: bool, path: &Path) -> Result<&'static str, Error> {
    let steps: Vec<String> = flatten(pre_tokenizer, &["pretokenizers"]).into_iter().map(describe).collect();
    if is_deepseek_llm(&steps) {
        return Ok("deepseek-llm");
    }
    let fits = |known: &&Known| {
        known.steps.iter().eq(steps.iter())
            && known.ignore_merges.is_none_or(|ignore| ignore == ignore_merges)
    };
    KNOWN.iter().find(fits).map(|known| known.name).ok_or_else(|| Error::PreTokenizer {
        path: path.to_path_buf(),
        steps: if steps.is_empty() { "none".to_owned() } else { steps.join(", then ") },
    })
}

/// The first DeepSeek models list hundreds of ranges of letters in one step; what is around it suffices.
fn is_deepseek_llm(steps: &[String]) -> bool {
    let [lines, letters, punctuation, end, cjk, digits, bytes] = steps else { return false };
    lines == r"split [\r\n]"
        && letters.starts_with(r"split \s?[A-Za-z")
        && punctuation.starts_with(r"split \s?[!-/:-~")
        && end == r"split \s+$"
        && cjk == CJK
        && digits == "digits"
        && bytes == "bytes"
}

/// One step as a line.
fn describe(step: &Value) -> String {
    let truth = |key: &str, default: bool| step.get(key).and_then(Value::as_bool).unwrap_or(default);
    let text = |key: &str| step.get(key).and_then(Value::as_str);
    match type_of(step) {
        // `words` splits by the expression of GPT-2, `bytes` only writes bytes as letters.
        "ByteLevel" if !truth("add_prefix_space", true) => {
            (if truth("use_regex", true) { "words" } else { "bytes" }).to_owned()
        }
        "Split"
            if matches!(
                (text("behavior"), truth("invert", false)),
                (Some("Isolated"), false) | (Some("Removed"), true)
            ) =>
        {
            let pattern = step.get("pattern");
            let expression = pattern.and_then(|pattern| pattern.get("Regex")).and_then(Value::as_str);
            expression.map_or_else(|| step.to_string(), |expression| format!("split {}", normal(expression)))
        }
        "Digits" => (if truth("individual_digits", false) { "digits" } else { "numbers" }).to_owned(),
        "Punctuation" if text("behavior") == Some("Contiguous") => "punctuation".to_owned(),
        _ => step.to_string(),
    }
}

/// Line ends are written as such in some files and as escapes in others.
fn normal(expression: &str) -> String {
    expression.replace('\r', r"\r").replace('\n', r"\n")
}
