//! A byte-level vocabulary learned from a text by pair merging (Sennrich et al., 2016, arXiv 1508.07909), written as
//! model files write GPT-2's.

use std::cmp::Reverse;
use std::collections::HashMap;

use gguf::{Array, Metadata, Value};

/// The token between texts, and the only one that is no text.
const END: &str = "<|endoftext|>";

/// A word as ids, and how often the text has it.
struct Word {
    ids: Vec<usize>,
    count: u64,
}

/// Adds the keys of a tokenizer with at most `size` tokens for `text`: the end of text, 256 bytes, and merges of those
/// pairs that the text has most often.
pub(super) fn learn(text: &str, size: usize, metadata: &mut Metadata) {
    let mut tokens = vec![END.to_owned()];
    tokens.extend((0..=255).map(|byte| visible(byte).to_string()));
    let mut counts: HashMap<&str, u64> = HashMap::new();
    words(text).for_each(|word| *counts.entry(word).or_default() += 1);
    let mut words: Vec<Word> = counts
        .into_iter()
        .map(|(word, count)| Word { ids: word.bytes().map(|byte| usize::from(byte) + 1).collect(), count })
        .collect();
    let mut pairs: HashMap<(usize, usize), (u64, Vec<usize>)> = HashMap::new();
    let note = |pairs: &mut HashMap<_, (u64, Vec<usize>)>, index: usize, word: &Word| {
        for pair in word.ids.windows(2) {
            let entry = pairs.entry((pair[0], pair[1])).or_default();
            entry.0 += word.count;
            if entry.1.last() != Some(&index) {
                entry.1.push(index);
            }
        }
    };
    words.iter().enumerate().for_each(|(index, word)| note(&mut pairs, index, word));
    let mut merges = Vec::new();
    while tokens.len() < size {
        // The order of a map is no order: of equals the first pair is taken.
        let best = pairs.iter().max_by_key(|(pair, (count, _))| (*count, Reverse(**pair)));
        let Some((&pair, &(2.., _))) = best else { break };
        let Some((_, places)) = pairs.remove(&pair) else { break };
        let merged = tokens.len();
        merges.push(format!("{} {}", tokens[pair.0], tokens[pair.1]));
        tokens.push(format!("{}{}", tokens[pair.0], tokens[pair.1]));
        for index in places {
            let word = &mut words[index];
            for old in word.ids.windows(2) {
                if let Some(entry) = pairs.get_mut(&(old[0], old[1])) {
                    entry.0 -= word.count;
                }
            }
            merge(&mut word.ids, pair, merged);
            note(&mut pairs, index, word);
        }
    }
    let mut types = vec![NORMAL; tokens.len()];
    types[0] = CONTROL;
    let mut put = |key: &str, value: Value| metadata.insert(format!("tokenizer.ggml.{key}"), value);
    put("model", Value::String("gpt2".to_owned()));
    put("pre", Value::String("gpt-2".to_owned()));
    put("tokens", Value::Array(Array::String(tokens)));
    put("token_type", Value::Array(Array::I32(types)));
    put("merges", Value::Array(Array::String(merges)));
    put("bos_token_id", Value::U32(0));
    put("eos_token_id", Value::U32(0));
    put("add_bos_token", Value::Bool(false));
}

/// Token types as model files number them.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

fn merge(ids: &mut Vec<usize>, pair: (usize, usize), merged: usize) {
    let (mut read, mut write) = (0, 0);
    while read < ids.len() {
        let found = read + 1 < ids.len() && (ids[read], ids[read + 1]) == pair;
        ids[write] = if found { merged } else { ids[read] };
        write += 1;
        read += 1 + usize::from(found);
    }
    ids.truncate(write);
}

/// Cuts a text about as GPT-2's rule does: letters, digits or signs with the space before them, and other white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let word = match first.is_whitespace() {
            false => run(rest),
            true => {
                let space = run(rest);
                let last = space.chars().next_back().map_or(0, char::len_utf8);
                match (space.len() == rest.len(), space.len() - last) {
                    (true, _) => space,
                    (false, 0) if first == ' ' => &rest[..1 + run(&rest[1..]).len()],
                    (false, 0) => space,
                    (false, before) => &rest[..before],
                }
            }
        };
        rest = &rest[word.len()..];
        Some(word)
    })
}

/// The characters at the front that are of one kind.
fn run(text: &str) -> &str {
    let kind = |c: char| [c.is_whitespace(), c.is_alphabetic(), c.is_numeric()];
    let Some(first) = text.chars().next() else { return text };
    let end = text.char_indices().find(|(_, c)| kind(*c) != kind(first)).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// GPT-2's printable stand-in for a byte: itself where printable in Latin-1, else the next free character from 256 on.
fn visible(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let earlier = (0..byte).filter(|&other| !printable(other)).count() as u32;
    match printable(byte) {
        true => char::from(byte),
        false => char::from_u32(256 + earlier).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use text::{Encode, Tokenizer};

    const TEXT: &str = "The cat sat on the mat.\n\n  The cat  ate the rat: it's 12 rats, no 1234.\n";

    #[test]
    fn words_are_the_text_and_spaces_lead() {
        let found: Vec<&str> = words(TEXT).collect();
        assert_eq!(found.concat(), TEXT);
        assert!(found.contains(&" cat") && found.contains(&" 1234") && found.contains(&"."), "{found:?}");
    }

    #[test]
    fn a_learned_vocabulary_shortens_its_text_and_gives_it_back() {
        let text = TEXT.repeat(3) + "Ä\u{1F600}";
        let tokenizer = |size: usize| {
            let mut metadata = Metadata::new();
            learn(&text, size, &mut metadata);
            Tokenizer::from_metadata(&metadata).unwrap()
        };
        let encode = |tokenizer: &Tokenizer| {
            tokenizer.encode(&text, Encode { add_special: false, parse_special: false })
        };
        let (bytes, merged) = (tokenizer(257), tokenizer(300));
        assert_eq!(encode(&bytes).len(), text.len());
        assert!(encode(&merged).len() < text.len() / 2);
        assert_eq!(merged.decode(&encode(&merged), false), text);
    }
}
