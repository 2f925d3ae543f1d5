//! `pouch info`: what a model file says and holds, and what it will take to run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gguf::types::type_info;
use gguf::{Array, File, TensorInfo, Value};
use model::{Config, KvCache, KvType, arch};
use serde::Serialize;

use crate::errors::Failure;
use crate::printer::Printer;
use crate::{models, units};

/// Show what a model file holds and what it takes to run
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[arg(value_name = "FILE", help = "A model file, or the name of a model that is here")]
    file: String,

    /// Tokens for which memory is reckoned [default: the model's own context, at most 8192]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,

    /// List every tensor
    #[arg(long)]
    tensors: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  pouch info model.gguf
  pouch info smollm2-135m --context 2048
  pouch info model.gguf --tensors
  pouch info model.gguf --json";

/// Elements of an array that are shown; longer ones are summed up.
const SHOWN_ELEMENTS: usize = 8;
/// Characters of a text that are shown.
const SHOWN_CHARACTERS: usize = 60;

#[derive(Serialize)]
struct Report {
    files: Vec<PathBuf>,
    gguf_version: u32,
    bytes: u64,
    architecture: Option<String>,
    name: Option<String>,
    /// Why the model cannot run here, if so.
    unsupported: Option<String>,
    shape: Option<Shape>,
    parameters: u64,
    bits_per_weight: f64,
    tensor_types: Vec<TensorType>,
    memory: Memory,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tensors: Vec<Tensor>,
    metadata: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Shape {
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    feed_forward: usize,
    vocabulary: usize,
    context: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts_used: Option<usize>,
}

#[derive(Serialize)]
struct TensorType {
    #[serde(rename = "type")]
    name: String,
    tensors: u64,
    parameters: u64,
    bytes: u64,
    bits_per_weight: f64,
}

#[derive(Serialize)]
struct Memory {
    /// Bytes of tensor data, mapped from disk.
    weights_bytes: u64,
    #[serde(flatten)]
    cache: Option<CacheMemory>,
}

#[derive(Serialize)]
struct CacheMemory {
    context: usize,
    kv_cache_f16_bytes: u64,
    /// `None` where the model's heads do not fit its blocks; so the next.
    kv_cache_q8_0_bytes: Option<u64>,
    kv_cache_q4_0_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
    shape: Vec<u64>,
    bytes: u64,
}

pub(crate) fn run(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let path = models::find(&models::hub()?, &arguments.file)?;
    let file = File::open(&path)?;
    let report = Report::new(&file, &arguments);
    if arguments.json { printer.json(&report) } else { report.print(&file, printer) }
}

impl Report {
    fn new(file: &File, arguments: &Arguments) -> Report {
        let text = |key: &str| file.metadata().string(key).ok().flatten().map(str::to_owned);
        let (config, unsupported) = match arch::configure(file.metadata()) {
            Ok(config) => (Some(config), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let tensor_types = tensor_types(file.tensors());
        let parameters = tensor_types.iter().map(|entry| entry.parameters).sum();
        let weights_bytes = tensor_types.iter().map(|entry| entry.bytes).sum();
        let cache = config.as_ref().map(|config| {
            let usual = config.context.min(engine::DEFAULT_CONTEXT);
            let context = arguments.context.map_or(usual, |context| context as usize);
            let bytes = |kv_type| KvCache::bytes(config, context, kv_type) as u64;
            let packed = |kv_type: KvType| kv_type.fits(config.head_dim).then(|| bytes(kv_type));
            CacheMemory {
                context,
                kv_cache_f16_bytes: bytes(KvType::F16),
                kv_cache_q8_0_bytes: packed(KvType::Q8_0),
                kv_cache_q4_0_bytes: packed(KvType::Q4_0),
            }
        });
        let tensor = |info: &TensorInfo| Tensor {
            name: info.name.clone(),
            type_name: type_name(info.type_id),
            shape: info.shape.clone(),
            bytes: info.bytes,
        };
        Report {
            files: file.paths().to_vec(),
            gguf_version: file.version(),
            bytes: file.total_bytes(),
            architecture: text("general.architecture"),
            name: text("general.name"),
            unsupported,
            shape: config.as_ref().map(Shape::new),
            parameters,
            bits_per_weight: bits(weights_bytes, parameters),
            tensor_types,
            memory: Memory { weights_bytes, cache },
            tensors: if arguments.tensors { file.tensors().iter().map(tensor).collect() } else { Vec::new() },
            metadata: file.metadata().iter().map(|(key, value)| (key.to_owned(), json(value))).collect(),
        }
    }

    fn print(&self, file: &File, printer: &Printer) -> Result<(), Failure> {
        let mut about: Vec<(&str, String)> = Vec::new();
        about.extend(self.files.iter().map(|path| ("file", path.display().to_string())));
        about.push(("size", format!("{}, GGUF version {}", units::bytes(self.bytes), self.gguf_version)));
        about.extend(self.name.clone().map(|name| ("name", name)));
        about.extend(self.architecture.clone().map(|architecture| ("architecture", architecture)));
        if let Some(shape) = &self.shape {
            about.extend(shape.lines());
        }
        let weights = format!("{}, {:.2} bits each", units::count(self.parameters), self.bits_per_weight);
        about.push(("parameters", weights));
        let rows: Vec<Vec<String>> =
            about.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
        units::table(&rows, &[]).iter().try_for_each(|line| printer.line(line))?;

        self.print_memory(printer)?;
        printer.line("")?;
        printer.heading("Tensors")?;
        let mut rows =
            vec![["  type", "tensors", "parameters", "bits each", "size"].map(str::to_owned).to_vec()];
        rows.extend(self.tensor_types.iter().map(TensorType::row));
        units::table(&rows, &[1, 2, 3, 4]).iter().try_for_each(|line| printer.line(line))?;
        let rows: Vec<Vec<String>> = self
            .tensors
            .iter()
            .map(|tensor| {
                let shape = tensor.shape.iter().map(u64::to_string).collect::<Vec<_>>().join(" x ");
                vec![format!("  {}", tensor.name), tensor.type_name.clone(), shape]
            })
            .collect();
        units::table(&rows, &[]).iter().try_for_each(|line| printer.line(line))?;

        printer.line("")?;
        printer.heading("Metadata")?;
        let rows: Vec<Vec<String>> =
            file.metadata().iter().map(|(key, value)| vec![format!("  {key}"), shown(value)]).collect();
        units::table(&rows, &[]).iter().try_for_each(|line| printer.line(line))?;
        if let Some(reason) = &self.unsupported {
            printer.warning(&format!("this model cannot run here: {reason}"));
        }
        Ok(())
    }

    fn print_memory(&self, printer: &Printer) -> Result<(), Failure> {
        printer.line("")?;
        match &self.memory.cache {
            Some(cache) => printer.heading(&format!("Memory at a context of {} tokens", cache.context))?,
            None => printer.heading("Memory")?,
        }
        let mut rows =
            vec![("weights", self.memory.weights_bytes, "mapped from disk: the system can take it back")];
        if let Some(cache) = &self.memory.cache {
            rows.push(("KV cache f16", cache.kv_cache_f16_bytes, "taken as the context fills"));
            let packed = [
                ("KV cache q8_0", cache.kv_cache_q8_0_bytes, "instead, with --kv q8_0"),
                ("KV cache q4_0", cache.kv_cache_q4_0_bytes, "instead, with --kv q4_0"),
            ];
            rows.extend(packed.into_iter().filter_map(|(what, bytes, how)| Some((what, bytes?, how))));
        }
        let row = |(what, bytes, how): (&str, u64, &str)| {
            vec![format!("  {what}"), units::bytes(bytes), how.to_owned()]
        };
        let rows: Vec<Vec<String>> = rows.into_iter().map(row).collect();
        units::table(&rows, &[1]).iter().try_for_each(|line| printer.line(line))
    }
}

impl Shape {
    fn new(config: &Config) -> Shape {
        Shape {
            layers: config.layers.len(),
            width: config.width,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            feed_forward: config.feed_forward,
            vocabulary: config.vocabulary,
            context: config.context,
            experts: config.experts.as_ref().map(|experts| experts.count),
            experts_used: config.experts.as_ref().map(|experts| experts.used),
        }
    }

    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("layers", format!("{} of width {}", self.layers, self.width)),
            (
                "heads",
                format!(
                    "{} for queries, {} for keys and values, {} wide",
                    self.heads, self.kv_heads, self.head_dim
                ),
            ),
        ];
        match (self.experts, self.experts_used) {
            (Some(experts), Some(used)) => {
                lines.push(("experts", format!("{experts}, {used} for each token")))
            }
            _ => lines.push(("feed-forward", self.feed_forward.to_string())),
        }
        lines.push(("vocabulary", format!("{} tokens", self.vocabulary)));
        lines.push(("context", format!("{} tokens", self.context)));
        lines
    }
}

impl TensorType {
    fn row(&self) -> Vec<String> {
        vec![
            format!("  {}", self.name),
            self.tensors.to_string(),
            units::count(self.parameters),
            format!("{:.2}", self.bits_per_weight),
            units::bytes(self.bytes),
        ]
    }
}

/// The tensors' number formats, those with the most parameters first.
fn tensor_types(tensors: &[TensorInfo]) -> Vec<TensorType> {
    let mut types: BTreeMap<u32, TensorType> = BTreeMap::new();
    for info in tensors {
        let entry = types.entry(info.type_id).or_insert_with(|| TensorType {
            name: type_name(info.type_id),
            tensors: 0,
            parameters: 0,
            bytes: 0,
            bits_per_weight: 0.0,
        });
        entry.tensors += 1;
        entry.parameters += info.shape.iter().product::<u64>();
        entry.bytes += info.bytes;
        entry.bits_per_weight = bits(entry.bytes, entry.parameters);
    }
    let mut types: Vec<TensorType> = types.into_values().collect();
    types.sort_by_key(|entry| std::cmp::Reverse(entry.parameters));
    types
}

fn type_name(id: u32) -> String {
    type_info(id).map_or_else(|| format!("type {id}"), |info| info.name.to_owned())
}

fn bits(bytes: u64, parameters: u64) -> f64 {
    if parameters == 0 { 0.0 } else { bytes as f64 * 8.0 / parameters as f64 }
}

/// A value as a person reads it: long texts and lists cut short.
fn shown(value: &Value) -> String {
    match json(value) {
        serde_json::Value::String(text) => {
            let visible = |c: char| match c.is_control() {
                true => c.escape_debug().to_string(),
                false => c.to_string(),
            };
            let line: String = text.chars().map(visible).collect();
            match line.char_indices().nth(SHOWN_CHARACTERS) {
                Some((end, _)) => format!("{}... ({} bytes)", &line[..end], text.len()),
                None => line,
            }
        }
        serde_json::Value::Object(summary) => {
            format!("{} {}", summary["length"], summary["array"].as_str().unwrap_or(""))
        }
        other => other.to_string(),
    }
}

/// A value for programs. A vocabulary would make the object megabytes long: a long list becomes its type and length.
fn json(value: &Value) -> serde_json::Value {
    use serde_json::json;
    match value {
        Value::U8(number) => json!(number),
        Value::I8(number) => json!(number),
        Value::U16(number) => json!(number),
        Value::I16(number) => json!(number),
        Value::U32(number) => json!(number),
        Value::I32(number) => json!(number),
        Value::U64(number) => json!(number),
        Value::I64(number) => json!(number),
        Value::F32(number) => json!(shortest(*number)),
        Value::F64(number) => json!(number),
        Value::Bool(flag) => json!(flag),
        Value::String(text) => json!(text),
        Value::Array(array) if array.len() > SHOWN_ELEMENTS => {
            json!({ "array": element_name(array), "length": array.len() })
        }
        Value::Array(array) => elements(array),
    }
}

/// The f64 that prints like the f32: 0.00001, not 0.000009999999747378752.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// An array, its elements and their name, told once for all element types.
macro_rules! arrays {
    ($($variant:ident $name:literal),*) => {
        fn element_name(array: &Array) -> &'static str {
            match array {
                $(Array::$variant(_) => $name,)*
                Array::F32(_) => "f32",
                Array::Nested(_) => "arrays",
            }
        }

        fn elements(array: &Array) -> serde_json::Value {
            match array {
                $(Array::$variant(values) => serde_json::json!(values),)*
                Array::F32(values) => values.iter().map(|&value| shortest(value)).collect(),
                Array::Nested(arrays) => arrays.iter().map(elements).collect(),
            }
        }
    };
}
arrays!(U8 "u8", I8 "i8", U16 "u16", I16 "i16", U32 "u32", I32 "i32", U64 "u64", I64 "i64", F64 "f64", Bool "booleans", String "strings");
