//! Tiny random checkpoints of every kind, written without the crate's own code.

#![allow(dead_code)] // each test file uses its own part of this

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub(crate) const HIDDEN: usize = 8;
pub(crate) const FEED_FORWARD: usize = 12;
pub(crate) const LAYERS: usize = 2;
pub(crate) const HEADS: usize = 2;
pub(crate) const KEY_VALUE_HEADS: usize = 1;
pub(crate) const HEAD: usize = 4;
pub(crate) const ROWS: usize = 270;

/// Numbers that differ from name to name and repeat from run to run.
pub(crate) fn random(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0x2545_f491_4f6c_dd1d_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A tensor as a safetensors file holds it.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn f32(shape: &[usize], values: &[f32]) -> Tensor {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor { dtype: "F32", shape: shape.to_vec(), bytes }
    }

    /// BF16 by cutting off: what a test compares with must be cut off as well.
    pub(crate) fn bf16(shape: &[usize], values: &[f32]) -> Tensor {
        let half = |value: &f32| ((value.to_bits() >> 16) as u16).to_le_bytes();
        Tensor { dtype: "BF16", shape: shape.to_vec(), bytes: values.iter().flat_map(half).collect() }
    }
}

/// A safetensors folder in the making.
pub(crate) struct Checkpoint {
    pub(crate) folder: TempDir,
    pub(crate) config: Value,
    pub(crate) tokenizer: Option<Value>,
    pub(crate) tokenizer_config: Value,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// A model of one of the families, with all that belongs to it.
    pub(crate) fn new(class: &str) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            folder: tempfile::tempdir().unwrap(),
            config: json!({
                "architectures": [class], "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD,
                "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KEY_VALUE_HEADS,
                "head_dim": HEAD, "max_position_embeddings": 64, "vocab_size": ROWS, "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0, "hidden_act": "silu", "eos_token_id": 1, "tie_word_embeddings": false,
            }),
            tokenizer: Some(byte_level_tokenizer()),
            tokenizer_config: json!({
                "bos_token": "<|start|>", "eos_token": {"content": "<|stop|>"}, "chat_template": "{{ messages }}",
            }),
            tensors: BTreeMap::new(),
        };
        let (query, key_value) = (HEADS * HEAD, KEY_VALUE_HEADS * HEAD);
        checkpoint.add("model.embed_tokens.weight", &[ROWS, HIDDEN]);
        checkpoint.add("model.norm.weight", &[HIDDEN]);
        checkpoint.add("lm_head.weight", &[ROWS, HIDDEN]);
        for layer in 0..LAYERS {
            let mut add =
                |name: &str, shape: &[usize]| checkpoint.add(&format!("model.layers.{layer}.{name}"), shape);
            add("input_layernorm.weight", &[HIDDEN]);
            add("post_attention_layernorm.weight", &[HIDDEN]);
            add("self_attn.o_proj.weight", &[HIDDEN, query]);
            add("mlp.down_proj.weight", &[HIDDEN, FEED_FORWARD]);
            if class.starts_with("Phi3") {
                add("self_attn.qkv_proj.weight", &[query + 2 * key_value, HIDDEN]);
                add("mlp.gate_up_proj.weight", &[2 * FEED_FORWARD, HIDDEN]);
                continue;
            }
            add("self_attn.q_proj.weight", &[query, HIDDEN]);
            add("self_attn.k_proj.weight", &[key_value, HIDDEN]);
            add("self_attn.v_proj.weight", &[key_value, HIDDEN]);
            add("mlp.gate_proj.weight", &[FEED_FORWARD, HIDDEN]);
            add("mlp.up_proj.weight", &[FEED_FORWARD, HIDDEN]);
            if class.starts_with("Qwen2") {
                add("self_attn.q_proj.bias", &[query]);
                add("self_attn.k_proj.bias", &[key_value]);
                add("self_attn.v_proj.bias", &[key_value]);
            }
            if class.starts_with("Qwen3") || class.starts_with("Gemma3") {
                add("self_attn.q_norm.weight", &[HEAD]);
                add("self_attn.k_norm.weight", &[HEAD]);
            }
            if class.starts_with("Gemma3") {
                add("pre_feedforward_layernorm.weight", &[HIDDEN]);
                add("post_feedforward_layernorm.weight", &[HIDDEN]);
            }
        }
        if class.starts_with("Gemma3") {
            checkpoint.tensors.remove("lm_head.weight");
            for (key, value) in [
                ("hidden_act", Value::Null),
                ("hidden_activation", json!("gelu_pytorch_tanh")),
                ("tie_word_embeddings", Value::Null),
                ("sliding_window", json!(16)),
                ("rope_local_base_freq", json!(10000.0)),
                ("query_pre_attn_scalar", json!(HEAD)),
            ] {
                checkpoint.config[key] = value;
            }
        }
        checkpoint
    }

    pub(crate) fn add(&mut self, name: &str, shape: &[usize]) {
        let values = random(name, shape.iter().product());
        self.tensors.insert(name.to_owned(), Tensor::f32(shape, &values));
    }

    /// Writes all files and returns the folder.
    pub(crate) fn write(&self) -> &Path {
        self.write_texts();
        let all: Vec<_> = self.tensors.iter().collect();
        std::fs::write(self.file("model.safetensors"), safetensors(&all)).unwrap();
        self.folder.path()
    }

    /// The same with the tensors spread over `count` shards.
    pub(crate) fn write_shards(&self, count: usize) -> &Path {
        self.write_texts();
        let mut map = serde_json::Map::new();
        for shard in 0..count {
            let file = format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
            let part: Vec<_> = self.tensors.iter().skip(shard).step_by(count).collect();
            std::fs::write(self.file(&file), safetensors(&part)).unwrap();
            map.extend(part.iter().map(|(name, _)| ((*name).clone(), json!(file))));
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        std::fs::write(self.file("model.safetensors.index.json"), index.to_string()).unwrap();
        self.folder.path()
    }

    fn write_texts(&self) {
        std::fs::write(self.file("config.json"), self.config.to_string()).unwrap();
        std::fs::write(self.file("tokenizer_config.json"), self.tokenizer_config.to_string()).unwrap();
        if let Some(tokenizer) = &self.tokenizer {
            std::fs::write(self.file("tokenizer.json"), tokenizer.to_string()).unwrap();
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.file("result.gguf")
    }

    /// Writes all files and converts them.
    pub(crate) fn import(&self, float: import::FloatType) -> Result<import::Summary, import::Error> {
        import::import(self.write(), &self.target(), &import::Options { float, progress: None })
    }

    /// Converts, opens the result and returns it.
    pub(crate) fn convert(&self) -> gguf::File {
        self.import(import::FloatType::F32).unwrap();
        gguf::File::open(&self.target()).unwrap()
    }
}

/// A safetensors file: the header's length, the header, the data.
pub(crate) fn safetensors(tensors: &[(&String, &Tensor)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend_from_slice(&tensor.bytes);
        let entry =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()]});
        header.insert((*name).clone(), entry);
    }
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&data);
    file
}

pub(crate) const QWEN2_SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A byte-level vocabulary: 256 bytes, two merges, two special tokens and one plain added one.
pub(crate) fn byte_level_tokenizer() -> Value {
    let mut vocabulary = serde_json::Map::new();
    let mut others = 256;
    for byte in 0..=255_u8 {
        let letter = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                others += 1;
                char::from_u32(others - 1).unwrap()
            }
        };
        vocabulary.insert(letter.to_string(), json!(2 + u32::from(byte)));
    }
    vocabulary.insert("he".to_owned(), json!(258));
    vocabulary.insert("\u{120}the".to_owned(), json!(260));
    vocabulary.insert("\u{120}t".to_owned(), json!(259));
    json!({
        "added_tokens": [
            {"id": 0, "content": "<|start|>", "special": true},
            {"id": 1, "content": "<|stop|>", "special": true},
            {"id": 261, "content": "plain\u{2581}added", "special": false},
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": false},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["h", "e"], ["\u{120}", "t"], ["\u{120}t", "he"]]},
    })
}

/// A llama2.c checkpoint and its vocabulary in a folder of their own.
pub(crate) struct Llama2c {
    pub(crate) folder: TempDir,
    pub(crate) header: [i32; 7],
    /// Weights in the order of the file, by the names of the result.
    pub(crate) weights: Vec<(String, Vec<f32>)>,
}

pub(crate) const LLAMA2C_ROWS: usize = 270;
pub(crate) const CONTEXT: usize = 16;

impl Llama2c {
    pub(crate) fn new(tied: bool) -> Llama2c {
        let (query, key_value) = (HEADS * HEAD, KEY_VALUE_HEADS * HEAD);
        let rows = LLAMA2C_ROWS as i32;
        let mut weights = Vec::new();
        let mut add = |name: String, count: usize| {
            let values = random(&name, count);
            weights.push((name, values));
        };
        add("token_embd.weight".to_owned(), LLAMA2C_ROWS * HIDDEN);
        for (kind, count) in [
            ("attn_norm", HIDDEN),
            ("attn_q", query * HIDDEN),
            ("attn_k", key_value * HIDDEN),
            ("attn_v", key_value * HIDDEN),
            ("attn_output", HIDDEN * query),
            ("ffn_norm", HIDDEN),
            ("ffn_gate", FEED_FORWARD * HIDDEN),
            ("ffn_down", HIDDEN * FEED_FORWARD),
            ("ffn_up", FEED_FORWARD * HIDDEN),
        ] {
            (0..LAYERS).for_each(|layer| add(format!("blk.{layer}.{kind}.weight"), count));
        }
        add("output_norm.weight".to_owned(), HIDDEN);
        add("rotations".to_owned(), CONTEXT * HEAD);
        if !tied {
            add("output.weight".to_owned(), LLAMA2C_ROWS * HIDDEN);
        }
        let sizes = [HIDDEN, FEED_FORWARD, LAYERS, HEADS, KEY_VALUE_HEADS].map(|size| size as i32);
        let [hidden, feed_forward, layers, heads, key_value_heads] = sizes;
        let vocabulary = if tied { rows } else { -rows };
        let header = [hidden, feed_forward, layers, heads, key_value_heads, vocabulary, CONTEXT as i32];
        Llama2c { folder: tempfile::tempdir().unwrap(), header, weights }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let weights =
            self.weights.iter().flat_map(|(_, values)| values).flat_map(|value| value.to_le_bytes());
        self.header.iter().flat_map(|number| number.to_le_bytes()).chain(weights).collect()
    }

    pub(crate) fn vocabulary(&self) -> Vec<u8> {
        let mut bytes = 9_i32.to_le_bytes().to_vec();
        for id in 0..LLAMA2C_ROWS {
            let (score, text) = match id {
                0 => (0.0, "<unk>".to_owned()),
                1 => (0.0, "\n<s>\n".to_owned()),
                2 => (0.0, "\n</s>\n".to_owned()),
                3..259 => (0.0, format!("<0x{:02X}>", id - 3)),
                _ => (259.0 - id as f32, format!(" t{id}")),
            };
            bytes.extend_from_slice(&f32::to_le_bytes(score));
            bytes.extend_from_slice(&(text.len() as i32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }

    pub(crate) fn write(&self) -> PathBuf {
        let path = self.folder.path().join("tiny.bin");
        std::fs::write(&path, self.bytes()).unwrap();
        std::fs::write(self.folder.path().join(format!("tok{LLAMA2C_ROWS}.bin")), self.vocabulary()).unwrap();
        path
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.folder.path().join("result.gguf")
    }
}

/// The values of an F32 tensor of a result.
pub(crate) fn values(file: &gguf::File, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap_or_else(|| panic!("no tensor {name}"));
    assert_eq!(tensor.type_id, 0, "{name}");
    file.data(tensor).as_chunks::<4>().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect()
}
