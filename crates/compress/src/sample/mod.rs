//! The built-in texts: what activations are gathered on where the user names no text of their own, and what the result is
//! measured on. Both are mixed English, Chinese, code and a little of other languages, written for this purpose. They have
//! no sentence in common, so what is measured on the second was not fitted to.
//!
//! Kinds alternate, so that the first half is a fair sample of the whole.

/// Joins files of a folder with blank lines between.
macro_rules! joined {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        concat!($(include_str!(concat!($folder, "/", $file)), "\n"),+)
    };
}

/// Names the text of [`sample`] in certificates.
pub const SAMPLE_NAME: &str = "built-in calibration sample";

/// Names the text of [`held_out`] in certificates.
pub const HELD_OUT_NAME: &str = "built-in held-out text";

/// The text for calibration: about 54 kB, 14,000 to 19,000 tokens by the tokenizers of small models.
pub fn sample() -> &'static str {
    joined!("calibration":
        "stories.txt",
        "python.txt",
        "chinese_prose.txt",
        "encyclopaedia.txt",
        "conversations.txt",
        "markdown.md",
        "mathematics.txt",
        "rust.txt",
        "chinese_dialogue.txt",
        "letters.txt",
        "data.json",
        "european.txt",
        "science_and_law.txt",
        "javascript.txt",
        "instructions.txt",
        "chinese_knowledge.txt",
        "sql_and_shell.txt",
        "news.txt",
        "c.txt",
        "lists.txt",
    )
}

/// The text to measure on: about 21 kB, 5,500 to 7,000 tokens, kept apart from [`sample`].
pub fn held_out() -> &'static str {
    joined!("held_out":
        "prose.txt",
        "code.txt",
        "chinese.txt",
        "knowledge.txt",
        "essays.txt",
        "more_code.txt",
        "european.txt",
        "conversations.txt",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Lines long enough to be sentences rather than syntax.
    fn lines(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).filter(|line| line.len() >= 30).collect()
    }

    #[test]
    fn no_line_stands_twice_and_none_in_both() {
        let (sample, held_out) = (lines(sample()), lines(held_out()));
        assert!(sample.len() > 300 && held_out.len() > 80);
        let mut seen = HashSet::new();
        for line in sample.iter().chain(&held_out) {
            assert!(seen.insert(*line), "twice: {line}");
        }
    }

    /// A text of templates or copies packs far below a third; prose in many voices does not.
    #[test]
    fn the_vocabulary_is_varied() {
        for text in [sample(), held_out()] {
            let words: Vec<&str> =
                text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
            let distinct: HashSet<&str> = words.iter().copied().collect();
            assert!(distinct.len() * 3 > words.len(), "{} of {} words", distinct.len(), words.len());
        }
    }

    #[test]
    fn both_hold_every_kind_of_text() {
        for text in [sample(), held_out()] {
            let han = text.chars().filter(|c| ('\u{4e00}'..='\u{9fff}').contains(c)).count();
            assert!(han > 700, "{han} Chinese characters");
            for piece in ["fn ", "def ", "SELECT", "#", "{\"", "ü", "User:", "用户：", "|", "const "] {
                assert!(text.contains(piece), "{piece}");
            }
            assert!(!text.contains('\r') && !text.contains('\u{feff}'));
        }
    }
}
