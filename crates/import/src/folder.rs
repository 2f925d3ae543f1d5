//! A safetensors folder: its files together become metadata and a plan of tensors.

use crate::arch::{Adjust, Architecture, Keys};
use crate::config::{Config, Dimensions};
use crate::plan::Plan;
use crate::rope::Rope;
use crate::shards::Shards;
use crate::{Error, FloatType, Options, Summary, Warning, tokenizer};
use gguf::Metadata;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// Where the language model's tensors begin; multimodal checkpoints wrap them.
const PREFIXES: [&str; 4] = ["language_model.model.", "model.language_model.", "language_model.", "model."];
/// Parts of multimodal checkpoints that a language model leaves out.
const OTHER_PARTS: [&str; 5] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
    "audio_tower.",
];
/// Tables that older checkpoints carry although they follow from the configuration.
const COMPUTED: &str = "rotary_emb.inv_freq";

pub(crate) fn import(folder: &Path, target: &Path, options: &Options<'_>) -> Result<Summary, Error> {
    let config = Config::read(folder)?;
    let architecture = Architecture::find(&config)?;
    check_expressible(&config, architecture)?;
    let shards = Shards::open(folder)?;
    let names = Names::find(&shards)?;
    let vocabulary = shards.tensors[&names.embedding].shape.first().copied().unwrap_or(0);
    let dimensions = Dimensions::read(&config, architecture, vocabulary)?;
    let rope = Rope::read(&config)?;
    if !architecture.partial_rotation && rope.rotated_part != 1.0 {
        return Err(Error::Unsupported { what: "rotation of only part of each head".to_owned() });
    }

    let mut warnings = Vec::new();
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.gguf);
    metadata.insert("general.type", "model");
    metadata.insert("general.name", name_of(folder));
    // The tensors come first: once their shapes fit, no size from the configuration is a hostile one.
    let checkpoint =
        Checkpoint { shards: &shards, names: &names, config: &config, architecture, dimensions: &dimensions };
    let mut plan = checkpoint.plan(options.float, &mut warnings)?;
    let mut keys = Keys::new(architecture.gguf, &mut metadata);
    describe_sizes(&dimensions, &mut keys);
    rope.describe(&config, &dimensions, &mut keys, &mut plan)?;
    (architecture.describe)(&config, &dimensions, &rope, &mut keys)?;
    metadata.insert("general.file_type", plan.file_type());
    metadata.insert("general.quantization_version", 2_u32);
    tokenizer::describe(folder, &config, dimensions.vocabulary, &mut metadata, &mut warnings)?;

    let bytes = plan.write(&metadata, &shards.inputs, target, options)?;
    Ok(Summary {
        architecture: architecture.gguf.to_owned(),
        sources: shards.inputs.iter().map(|input| input.path.clone()).collect(),
        tensors: plan.len(),
        parameters: plan.parameters,
        bytes,
        warnings,
    })
}

/// The folder's own name stands for the model's.
fn name_of(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    folder.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Refuses what GGUF readers would compute differently.
fn check_expressible(config: &Config, architecture: &Architecture) -> Result<(), Error> {
    if let Some(quantization) = config.get("quantization_config") {
        let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("method not named");
        return Err(Error::Quantized { method: method.to_owned() });
    }
    for key in ["hidden_act", "hidden_activation"] {
        if let Some(activation) = config.text(key)?
            && !architecture.activations.contains(&activation)
        {
            return Err(Error::Unsupported { what: format!("the activation '{activation}'") });
        }
    }
    Ok(())
}

fn describe_sizes(dimensions: &Dimensions, keys: &mut Keys<'_>) {
    // All sizes are at most 2^31: `Config::size` saw to it.
    keys.set("block_count", dimensions.layers as u32);
    keys.set("context_length", dimensions.context as u32);
    keys.set("embedding_length", dimensions.hidden as u32);
    keys.set("feed_forward_length", dimensions.feed_forward as u32);
    keys.set("attention.head_count", dimensions.heads as u32);
    keys.set("attention.head_count_kv", dimensions.key_value_heads as u32);
    keys.set("attention.key_length", dimensions.head as u32);
    keys.set("attention.value_length", dimensions.head as u32);
    keys.set("attention.layer_norm_rms_epsilon", dimensions.norm_epsilon as f32);
}

/// Names of the tensors outside the layers, and how the layers' names begin.
struct Names {
    prefix: &'static str,
    embedding: String,
    output: Option<String>,
}

impl Names {
    fn find(shards: &Shards) -> Result<Names, Error> {
        let embedding = |prefix: &&str| shards.tensors.contains_key(&format!("{prefix}embed_tokens.weight"));
        let prefix = PREFIXES.into_iter().find(embedding);
        let prefix =
            prefix.ok_or_else(|| Error::MissingTensor { tensor: "model.embed_tokens.weight".to_owned() })?;
        let output = ["lm_head.weight", "language_model.lm_head.weight"];
        let output = output.into_iter().find(|name| shards.tensors.contains_key(*name)).map(str::to_owned);
        Ok(Names { prefix, embedding: format!("{prefix}embed_tokens.weight"), output })
    }
}

/// What decides which tensor goes where.
struct Checkpoint<'a> {
    shards: &'a Shards,
    names: &'a Names,
    config: &'a Config,
    architecture: &'static Architecture,
    dimensions: &'a Dimensions,
}

impl Checkpoint<'_> {
    /// Plans every tensor of the language model, each checked against the configuration.
    fn plan(&self, float: FloatType, warnings: &mut Vec<Warning>) -> Result<Plan, Error> {
        let Checkpoint { names, architecture, dimensions, .. } = self;
        let mut plan = Plan::default();
        let mut used = HashSet::new();
        let mut add = |source: String, target: &str, expected: Vec<u64>, adjust: Adjust| {
            let entry = self.shards.tensors.get(&source);
            let entry = entry.ok_or_else(|| Error::MissingTensor { tensor: source.clone() })?;
            if entry.shape != expected {
                return Err(Error::Shape { tensor: source, expected, got: entry.shape.clone() });
            }
            let stored = entry.stored(&source)?;
            plan.add_stored(target.to_owned(), stored, adjust.change(dimensions), float);
            used.insert(source);
            Ok(())
        };
        let table = vec![dimensions.vocabulary, dimensions.hidden];
        add(names.embedding.clone(), "token_embd.weight", table.clone(), Adjust::Keep)?;
        let norm = format!("{}norm.weight", names.prefix);
        add(norm, "output_norm.weight", vec![dimensions.hidden], architecture.output_norm)?;
        let tied = self.config.truth("tie_word_embeddings")?;
        match &names.output {
            // A tied output is the embedding; a copy of it in the checkpoint is not written again.
            Some(output) if tied != Some(true) => add(output.clone(), "output.weight", table, Adjust::Keep)?,
            None if tied == Some(false) => {
                return Err(Error::MissingTensor { tensor: "lm_head.weight".to_owned() });
            }
            _ => {}
        }
        for layer in 0..dimensions.layers {
            for rule in architecture.layer {
                let source = format!("{}layers.{layer}.{}", names.prefix, rule.source);
                if rule.required || self.shards.tensors.contains_key(&source) {
                    let target = format!("blk.{layer}.{}", rule.target);
                    add(source, &target, rule.shape(dimensions), rule.adjust)?;
                }
            }
        }
        self.check_rest(&used, warnings)?;
        Ok(plan)
    }

    /// Refuses tensors that nothing was made of, except those that are known not to matter.
    fn check_rest(&self, used: &HashSet<String>, warnings: &mut Vec<Warning>) -> Result<(), Error> {
        let mut left_out = Vec::new();
        for name in self.shards.tensors.keys().filter(|name| !used.contains(*name)) {
            if OTHER_PARTS.iter().any(|part| name.starts_with(part)) {
                left_out.push(name);
            } else if !name.ends_with(COMPUTED) && Some(name) != self.names.output.as_ref() {
                let architecture = self.architecture.gguf;
                return Err(Error::UnexpectedTensor { tensor: name.clone(), architecture });
            }
        }
        if let Some(example) = left_out.first() {
            warnings.push(Warning::LeftOut { example: (*example).clone(), count: left_out.len() });
        }
        Ok(())
    }
}
