//! The well-known recipes: which format each tensor of a model gets under names such as `Q4_K_M`.
//!
//! A recipe is a base format and a few exceptions for the tensors that lose most, by the part that a tensor plays and by
//! its layer. The mixes are those that users know from llama.cpp's files, as seen in what its quantizer makes of models of
//! many shapes; `tests/data/recipes.txt` holds what was seen.

use kernels::{FORMATS, Format};

/// A recipe: one line of [`RECIPES`].
#[derive(Debug)]
pub struct Recipe {
    /// The name, as in `--type Q4_K_M`.
    pub name: &'static str,
    /// What `general.file_type` says in files of this recipe.
    pub file_type: u32,
    base: &'static str,
    /// The first that holds counts.
    exceptions: &'static [Exception],
}

/// What a recipe must know of the model.
#[derive(Debug, Clone, Copy)]
pub struct Traits<'a> {
    /// `general.architecture`.
    pub architecture: &'a str,
    /// Layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Experts of a layer; 0 where there are none.
    pub experts: usize,
    /// Whether the embedding also serves as the output matrix.
    pub tied: bool,
    /// Whether the importance of columns is known: formats that profit from it then need less help.
    pub informed: bool,
}

/// The tensors of a part get the format, under a condition.
type Exception = (Part, When, &'static str);

/// What a matrix does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Key,
    /// Also query, key and value in one matrix.
    Value,
    AttentionOutput,
    /// The way out of the feed-forward block, of the experts too.
    Down,
}

/// Where an exception holds.
#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    /// The first layers.
    First(usize),
    /// The first layers, one of so many.
    FirstOf(usize),
    /// The first and the last eighth, and every third layer between.
    Spread,
    /// At least four query heads share a key and value head: the matrix is small then.
    Grouped,
    /// The first eighth, where importance is known.
    InformedEighth,
    /// The first eighth, where importance is not known.
    UninformedEighth,
    /// There are eight experts: what all share is small beside them then.
    EightExperts,
    /// There are not.
    NotEightExperts,
}

use Part::{AttentionOutput, Down, Key, Value};
use When::{
    Always, EightExperts, First, FirstOf, Grouped, InformedEighth, NotEightExperts, Spread, UninformedEighth,
};

/// Every recipe, one line each.
pub static RECIPES: &[Recipe] = &[
    recipe("F16", 1, "F16", &[]),
    recipe("BF16", 32, "BF16", &[]),
    recipe("Q8_0", 7, "Q8_0", &[]),
    recipe("Q6_K", 18, "Q6_K", &[]),
    recipe("Q5_0", 8, "Q5_0", &[(Down, InformedEighth, "Q5_1")]),
    recipe("Q5_1", 9, "Q5_1", &[]),
    recipe("Q5_K_S", 16, "Q5_K", &[]),
    recipe("Q5_K_M", 17, "Q5_K", &[(Value, Spread, "Q6_K"), (Down, Spread, "Q6_K")]),
    recipe("Q4_0", 2, "Q4_0", &[(Down, InformedEighth, "Q4_1")]),
    recipe("Q4_1", 3, "Q4_1", &[]),
    recipe(
        "Q4_K_S",
        14,
        "Q4_K",
        &[(Value, First(4), "Q5_K"), (Down, FirstOf(8), "Q5_K"), (AttentionOutput, EightExperts, "Q5_K")],
    ),
    recipe(
        "Q4_K_M",
        15,
        "Q4_K",
        &[(Value, Spread, "Q6_K"), (Down, Spread, "Q6_K"), (AttentionOutput, EightExperts, "Q5_K")],
    ),
    recipe("IQ4_NL", 25, "IQ4_NL", IQ4),
    recipe("IQ4_XS", 30, "IQ4_XS", IQ4),
    recipe("Q3_K_S", 11, "Q3_K", &[(AttentionOutput, EightExperts, "Q5_K")]),
    recipe(
        "Q3_K_M",
        12,
        "Q3_K",
        &[
            (Value, First(2), "Q5_K"),
            (Value, Always, "Q4_K"),
            (Down, FirstOf(16), "Q5_K"),
            (Down, Always, "Q4_K"),
            (AttentionOutput, EightExperts, "Q5_K"),
            (AttentionOutput, Always, "Q4_K"),
        ],
    ),
    recipe(
        "Q3_K_L",
        13,
        "Q3_K",
        &[(Value, Always, "Q5_K"), (Down, Always, "Q5_K"), (AttentionOutput, NotEightExperts, "Q5_K")],
    ),
    recipe(
        "Q2_K",
        10,
        "Q2_K",
        &[
            (Value, Grouped, "Q4_K"),
            (Value, Always, "Q3_K"),
            (Down, Always, "Q3_K"),
            (AttentionOutput, EightExperts, "Q5_K"),
            (AttentionOutput, Always, "Q3_K"),
        ],
    ),
    recipe("Q2_K_S", 21, "Q2_K", &[(Value, Grouped, "Q4_K"), (Down, FirstOf(8), "Q4_K")]),
];

/// The exceptions of both formats of uneven levels.
const IQ4: &[Exception] =
    &[(Value, Grouped, "Q5_K"), (Down, UninformedEighth, "Q5_K"), (AttentionOutput, EightExperts, "Q5_K")];

const fn recipe(
    name: &'static str,
    file_type: u32,
    base: &'static str,
    exceptions: &'static [Exception],
) -> Recipe {
    Recipe { name, file_type, base, exceptions }
}

/// The recipe of this name, in any case.
pub fn recipe_named(name: &str) -> Option<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.name.eq_ignore_ascii_case(name))
}

impl Recipe {
    /// The format of a tensor; `None` for those that stay as they are: vectors, and small matrices that steer. `shape[0]`
    /// is the row length.
    pub fn format(&self, model: &Traits, name: &str, shape: &[u64]) -> Option<&'static Format> {
        if !is_matrix(name, shape) {
            return None;
        }
        let wanted = if is_output(name, model) { self.output(shape[0]) } else { self.wanted(model, name) };
        Some(fitting(named(wanted), shape[0]))
    }

    /// The output matrix decides between tokens, so it keeps six bits at least.
    fn output(&self, columns: u64) -> &'static str {
        match self.base {
            "F16" | "BF16" | "Q8_0" => self.base,
            _ if columns.is_multiple_of(256) => "Q6_K",
            _ => "Q8_0",
        }
    }

    fn wanted(&self, model: &Traits, name: &str) -> &'static str {
        let Some(part) = Part::of(name) else { return self.base };
        if matches!(self.base, "F16" | "BF16") {
            return self.base;
        }
        if model.experts == 8 && matches!(part, Key | Value) {
            return "Q8_0";
        }
        let layer = layer(name).unwrap_or(0);
        let holds = |(of, when, _): &&Exception| *of == part && when.holds(layer, model);
        let format = self.exceptions.iter().find(holds).map_or(self.base, |exception| exception.2);
        // In the 80 layers of a 70B the matrices of values are an eighth of the others, so more bits cost little.
        let large = model.architecture == "llama" && model.layers == 80 && model.heads != model.kv_heads;
        if part == Value && large && matches!(format, "Q3_K" | "Q4_K") { "Q5_K" } else { format }
    }
}

impl Part {
    fn of(name: &str) -> Option<Part> {
        const ENDS: [(&str, Part); 6] = [
            ("attn_k.weight", Key),
            ("attn_v.weight", Value),
            ("attn_qkv.weight", Value),
            ("attn_output.weight", AttentionOutput),
            ("ffn_down.weight", Down),
            ("ffn_down_exps.weight", Down),
        ];
        ENDS.iter().find(|(end, _)| name.ends_with(end)).map(|(_, part)| *part)
    }
}

impl When {
    fn holds(self, layer: usize, model: &Traits) -> bool {
        let eighth = model.layers / 8;
        match self {
            Always => true,
            First(count) => layer < count,
            FirstOf(part) => layer < model.layers / part,
            Spread => layer < eighth || layer >= 7 * model.layers / 8 || (layer - eighth) % 3 == 2,
            Grouped => model.heads >= 4 * model.kv_heads,
            InformedEighth => model.informed && layer < eighth,
            UninformedEighth => !model.informed && layer < eighth,
            EightExperts => model.experts == 8,
            NotEightExperts => model.experts != 8,
        }
    }
}

/// Whether a tensor is rounded at all: vectors and the small matrices that steer are not.
fn is_matrix(name: &str, shape: &[u64]) -> bool {
    const KEPT: [&str; 6] = [
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_inp_shexp.weight",
        "position_embd.weight",
        "token_types.weight",
        "rel_b.weight",
    ];
    shape.len() >= 2 && name.ends_with(".weight") && !KEPT.iter().any(|kept| name.ends_with(kept))
}

fn is_output(name: &str, model: &Traits) -> bool {
    name == "output.weight" || model.tied && name == "token_embd.weight"
}

/// The layer in a name such as `blk.7.attn_v.weight`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The format itself, or where a row is no whole number of its blocks, a neighbour of at least as many bits.
fn fitting(format: &'static Format, columns: u64) -> &'static Format {
    if columns.is_multiple_of(format.values as u64) {
        return format;
    }
    let smaller = match format.name {
        "Q2_K" | "Q3_K" => "Q4_0",
        "IQ4_XS" => "IQ4_NL",
        "Q4_K" => "Q5_0",
        "Q5_K" => "Q5_1",
        "Q6_K" => "Q8_0",
        _ => "F16",
    };
    fitting(named(smaller), columns)
}

/// A format that is surely in the table.
fn named(name: &str) -> &'static Format {
    // The first line of the table is F32; a test looks up every name that stands here.
    FORMATS.iter().find(|format| format.name == name).unwrap_or(&FORMATS[0])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;

    use super::*;

    /// A model of the snapshot, with what makes its shape.
    struct Seen {
        name: &'static str,
        model: Traits<'static>,
        width: u64,
        head: u64,
        feed_forward: u64,
        merged: bool,
    }

    #[rustfmt::skip]
    const SEEN: [Seen; 11] = [
        seen("llama-mha", "llama", 20, (4, 4), 0, false, (256, 64, 512), false),
        seen("llama-gqa", "llama", 20, (8, 2), 0, false, (256, 32, 512), false),
        seen("llama-70", "llama", 80, (8, 2), 0, false, (256, 32, 512), false),
        seen("llama-narrow", "llama", 9, (6, 2), 0, false, (96, 16, 160), false),
        seen("llama-odd", "llama", 9, (5, 5), 0, false, (100, 20, 172), false),
        seen("qwen2-tied", "qwen2", 24, (14, 2), 0, true, (896, 64, 4864), false),
        seen("qwen3", "qwen3", 36, (4, 2), 0, false, (256, 64, 768), false),
        seen("gemma3", "gemma3", 18, (4, 1), 0, true, (640, 256, 2048), false),
        seen("phi3", "phi3", 32, (4, 4), 0, false, (256, 64, 512), true),
        seen("moe8", "llama", 32, (8, 2), 8, false, (256, 32, 512), false),
        seen("qwen3moe", "qwen3moe", 48, (8, 1), 128, false, (256, 32, 256), false),
    ];

    #[allow(clippy::too_many_arguments)]
    const fn seen(
        name: &'static str,
        architecture: &'static str,
        layers: usize,
        (heads, kv_heads): (usize, usize),
        experts: usize,
        tied: bool,
        (width, head, feed_forward): (u64, u64, u64),
        merged: bool,
    ) -> Seen {
        let model = Traits { architecture, layers, heads, kv_heads, experts, tied, informed: false };
        Seen { name, model, width, head, feed_forward, merged }
    }

    impl Seen {
        /// The matrices of the model, without those that stay as they are.
        fn tensors(&self) -> Vec<(String, Vec<u64>)> {
            let (width, inner) = (self.width, self.feed_forward);
            let (queries, keys) =
                (self.model.heads as u64 * self.head, self.model.kv_heads as u64 * self.head);
            let mut tensors = vec![("token_embd.weight".to_owned(), vec![width, 512])];
            if !self.model.tied {
                tensors.push(("output.weight".to_owned(), vec![width, 512]));
            }
            for layer in 0..self.model.layers {
                let mut push = |part: &str, shape: &[u64]| {
                    tensors.push((format!("blk.{layer}.{part}.weight"), shape.to_vec()));
                };
                if self.merged {
                    push("attn_qkv", &[width, queries + 2 * keys]);
                } else {
                    push("attn_q", &[width, queries]);
                    push("attn_k", &[width, keys]);
                    push("attn_v", &[width, keys]);
                }
                push("attn_output", &[queries, width]);
                match self.model.experts as u64 {
                    0 if self.merged => push("ffn_up", &[width, 2 * inner]),
                    0 => ["ffn_gate", "ffn_up"].into_iter().for_each(|part| push(part, &[width, inner])),
                    experts => {
                        push("ffn_gate_exps", &[width, inner, experts]);
                        push("ffn_up_exps", &[width, inner, experts]);
                    }
                }
                match self.model.experts as u64 {
                    0 => push("ffn_down", &[inner, width]),
                    experts => push("ffn_down_exps", &[inner, width, experts]),
                }
            }
            tensors
        }

        /// The formats of each part, layer by layer, those of equal neighbours counted.
        fn mix(&self, recipe: &Recipe, informed: bool) -> String {
            let model = Traits { informed, ..self.model };
            let mut parts: BTreeMap<String, Vec<(&str, usize)>> = BTreeMap::new();
            for (name, shape) in self.tensors() {
                let format = recipe.format(&model, &name, &shape).expect("a matrix");
                let part = name.rsplit('.').nth(1).unwrap().to_owned();
                let runs = parts.entry(part).or_default();
                match runs.last_mut() {
                    Some((last, count)) if *last == format.name => *count += 1,
                    _ => runs.push((format.name, 1)),
                }
            }
            let mut line = String::new();
            for (part, runs) in parts {
                write!(line, "{}{part}", if line.is_empty() { "" } else { "; " }).unwrap();
                for (format, count) in runs {
                    let times = if count == 1 { String::new() } else { format!("*{count}") };
                    write!(line, " {format}{times}").unwrap();
                }
            }
            line
        }
    }

    #[test]
    fn mixes_are_those_that_were_seen() {
        let seen = include_str!("../tests/data/recipes.txt");
        let mut checked = 0;
        for line in seen.lines() {
            let (case, expected) = line.split_once(": ").unwrap();
            let case: Vec<&str> = case.split(' ').collect();
            let model = SEEN.iter().find(|seen| seen.name == case[0]).unwrap();
            let recipe = recipe_named(case[1]).unwrap();
            let informed: &[bool] = match case.get(2) {
                None => &[true, false],
                Some(which) => &[*which == "with"],
            };
            for &informed in informed {
                assert_eq!(model.mix(recipe, informed), expected, "{case:?} {informed}");
                checked += 1;
            }
        }
        assert_eq!(checked, SEEN.len() * RECIPES.len() * 2);
    }

    #[test]
    fn what_is_no_matrix_stays() {
        let model = SEEN[9].model;
        let recipe = recipe_named("q4_k_m").unwrap();
        for (name, shape) in [
            ("output_norm.weight", &[256u64][..]),
            ("blk.0.attn_q.bias", &[256]),
            ("blk.0.ffn_gate_inp.weight", &[256, 8]),
            ("blk.0.attn_q_norm.weight", &[64, 8]),
            ("rope_freqs.weight", &[64]),
        ] {
            assert!(recipe.format(&model, name, shape).is_none(), "{name}");
        }
    }

    #[test]
    fn every_name_is_a_format_and_every_recipe_another() {
        let exists = |name: &str| FORMATS.iter().any(|format| format.name == name);
        for recipe in RECIPES {
            assert!(exists(recipe.base) && recipe.exceptions.iter().all(|exception| exists(exception.2)));
            assert_eq!(RECIPES.iter().filter(|other| other.file_type == recipe.file_type).count(), 1);
            assert!(std::ptr::eq(recipe_named(&recipe.name.to_lowercase()).unwrap(), recipe));
        }
        assert!(recipe_named("Q4_K").is_none() && recipe_named("").is_none());
    }
}
