//! `random-model`: a file to measure on where the real one is not at hand.

use std::path::PathBuf;

use testkit::{SHAPES, Shape, Types, write_large};

/// Write a model in the shape of a real one with random weights
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The file to write
    file: PathBuf,

    /// The model whose shape it gets
    #[arg(long, value_parser = shape)]
    shape: &'static Shape,

    /// So many layers instead of the shape's own: where the disk has no room for all of them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    layers: Option<u64>,

    /// How unevenly the experts of a mixture are visited: the router's rows shrink by this power of their rank
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    routing_skew: f32,

    /// Number format of the matrices: one for all, or llama.cpp's mix q4_k_m
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_k_m", value_parser = types)]
    types: Types,

    /// Copy the tokenizer of this file, whose vocabulary then counts [default: single bytes, filled up to the
    /// shape's vocabulary]
    #[arg(long, value_name = "FILE")]
    tokenizer_from: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Rows that are no whole number of blocks get another format, as llama.cpp chooses it.

Examples:
  develop random-model qwen3-8b.gguf --shape qwen3-8b
  develop random-model moe.gguf --shape qwen3-30b-a3b --layers 16 --routing-skew 0.4
  develop random-model q5_0.gguf --shape qwen2.5-0.5b --type q5_0 --tokenizer-from qwen.gguf";

fn shape(name: &str) -> Result<&'static Shape, String> {
    let names = || SHAPES.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
    SHAPES.iter().find(|shape| shape.name == name).ok_or_else(|| format!("the shapes are {}", names()))
}

fn types(name: &str) -> Result<Types, String> {
    Types::parse(name)
        .ok_or_else(|| "a format of weights such as q4_0, q8_0, q6_k or bf16, or q4_k_m".to_owned())
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let told = |error: gguf::Error| error.to_string();
    let tokenizer = arguments.tokenizer_from.as_deref().map(gguf::File::open).transpose().map_err(told)?;
    let tokenizer = tokenizer.as_ref().map(gguf::File::metadata);
    let mut percent = 0;
    let mut progress = |done, all| {
        // A line every tenth.
        if done * 10 / all > percent {
            percent = done * 10 / all;
            eprintln!("{:3} % of {:.2} GB", 10 * percent, all as f64 / 1e9);
        }
    };
    let Arguments { file, shape, types, routing_skew, .. } = arguments;
    let shape = arguments.layers.map_or_else(|| (*shape).clone(), |layers| shape.with_layers(layers));
    write_large(file, &shape, *types, tokenizer, *routing_skew, &mut progress).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_one_is_written_with_another_ones_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("tiny.gguf");
        let tiny = testkit::tiny_model(&testkit::TinyOptions::new("llama"));
        tiny.write(&other);
        let arguments = Arguments {
            file: folder.path().join("random.gguf"),
            shape: shape("smollm2-135m").unwrap(),
            types: types("q4_0").unwrap(),
            tokenizer_from: Some(other),
            layers: None,
            routing_skew: 0.0,
        };
        run(&arguments).unwrap();
        let file = gguf::File::open(&arguments.file).unwrap();
        let tokens = |metadata: &gguf::Metadata| metadata.get("tokenizer.ggml.tokens").unwrap().clone();
        assert_eq!(tokens(file.metadata()), tokens(&tiny.metadata));
        let embedding = file.tensor("token_embd.weight").unwrap();
        let vocabulary = tiny.metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().len() as u64;
        assert_eq!(embedding.shape, [576, vocabulary]);
        // Scales are halves between a half and one and a half of what keeps a product's size: never infinite.
        let data = file.data(file.tensor("blk.29.ffn_down.weight").unwrap());
        for block in data.chunks_exact(18) {
            let exponent = block[1] >> 2 & 0x1f;
            assert!((1..15).contains(&exponent), "{exponent}");
        }
    }

    #[test]
    fn what_is_not_known_is_told_with_what_is() {
        assert!(shape("qwen9").unwrap_err().contains("qwen3-8b"));
        assert!(types("q9").is_err());
    }
}
