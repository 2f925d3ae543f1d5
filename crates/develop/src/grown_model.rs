//! `grown-model`: a real model in the size of a larger one, with the answers that it had. Random weights show what reading and
//! multiplying takes, but nobody can guess what they say next; what guessing is worth where weights are larger than memory
//! needs a model that means something.

use std::path::PathBuf;

use gguf::{File, TensorInfo, TensorSpec, Writer};

/// What of an added layer is zeros: with it the layer adds nothing to the residual stream.
const ZEROS: [&str; 5] =
    ["attn_output.weight", "attn_output.bias", "ffn_down.weight", "ffn_down.bias", "ffn_down_exps.weight"];

/// Write a model that has more layers and the same answers
#[derive(clap::Args)]
#[command(
    after_help = "The layers added are copies of the model's own with zeros for what they would add.\n\nExample:\n  \
    develop grown-model qwen2.5-coder-1.5b.gguf grown-8b.gguf --layers 165"
)]
pub(crate) struct Arguments {
    /// The model
    model: PathBuf,

    /// The file to write
    file: PathBuf,

    /// Layers that it gets
    #[arg(long, value_name = "N")]
    layers: u32,
}

pub(crate) fn run(Arguments { model, file, layers }: &Arguments) -> Result<(), String> {
    let told = |error: gguf::Error| error.to_string();
    let source = File::open(model).map_err(told)?;
    let mut metadata = source.metadata().clone();
    let architecture = metadata.string("general.architecture").map_err(told)?.unwrap_or_default();
    let key = format!("{architecture}.block_count");
    let count =
        metadata.u32(&key).map_err(told)?.ok_or_else(|| format!("{} has no {key}", model.display()))?;
    if *layers < count {
        return Err(format!("{} has {count} layers already", model.display()));
    }
    metadata.insert(key, *layers);
    let mut tensors: Vec<Tensor<'_>> = source.tensors().iter().map(Tensor::copy).collect();
    for layer in count..*layers {
        let like = format!("blk.{}.", layer % count);
        let of_layer =
            source.tensors().iter().filter_map(|info| Some((info, info.name.strip_prefix(&like)?)));
        tensors.extend(of_layer.map(|(info, role)| Tensor {
            name: format!("blk.{layer}.{role}"),
            info,
            is_zero: ZEROS.contains(&role),
        }));
    }
    let specs: Vec<TensorSpec> = tensors.iter().map(Tensor::spec).collect();
    let mut writer = Writer::create(file, &metadata, &specs).map_err(told)?;
    for Tensor { name, info, is_zero } in &tensors {
        let data = source.data(info);
        let zeros = is_zero.then(|| vec![0; data.len()]);
        writer.write_tensor(name, zeros.as_deref().unwrap_or(data)).map_err(told)?;
    }
    writer.finish().map_err(told)
}

/// A tensor to be written, and the one whose shape, format and, unless it is zero, data it has.
struct Tensor<'a> {
    name: String,
    info: &'a TensorInfo,
    is_zero: bool,
}

impl<'a> Tensor<'a> {
    fn copy(info: &'a TensorInfo) -> Tensor<'a> {
        Tensor { name: info.name.clone(), info, is_zero: false }
    }

    fn spec(&self) -> TensorSpec {
        TensorSpec { name: self.name.clone(), shape: self.info.shape.clone(), type_id: self.info.type_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_added_that_add_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (model, file) = (folder.path().join("tiny.gguf"), folder.path().join("grown.gguf"));
        let tiny = testkit::tiny_model(&testkit::TinyOptions::new("llama"));
        tiny.write(&model);
        let before = File::open(&model).unwrap();
        let count = before.metadata().u32("llama.block_count").unwrap().unwrap();
        run(&Arguments { model: model.clone(), file: file.clone(), layers: count + 3 }).unwrap();
        let grown = File::open(&file).unwrap();
        assert_eq!(grown.metadata().u32("llama.block_count").unwrap(), Some(count + 3));
        for info in before.tensors() {
            assert_eq!(before.data(info), grown.data(grown.tensor(&info.name).unwrap()), "{}", info.name);
        }
        let data = |role: &str| grown.data(grown.tensor(&format!("blk.{}.{role}", count + 2)).unwrap());
        assert!(data("ffn_down.weight").iter().all(|&byte| byte == 0));
        assert!(data("attn_output.weight").iter().all(|&byte| byte == 0));
        assert!(data("ffn_up.weight").iter().any(|&byte| byte != 0));
        assert!(run(&Arguments { model, file, layers: 0 }).unwrap_err().contains("already"));
    }
}
