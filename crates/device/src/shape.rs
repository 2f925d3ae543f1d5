//! What a model asks of a device, as its header tells: no weight is read.

use gguf::{Array, Metadata, TensorInfo, Value};
use kernels::Format;
use model::{Config, arch};

use crate::Error;

/// A product of every token with weights: a matrix, or as many of them as there are experts.
#[derive(Clone, Copy, Debug)]
pub struct MatrixShape {
    /// Number format.
    pub format: &'static Format,
    /// Values that the product yields.
    pub rows: usize,
    /// Values that it takes.
    pub columns: usize,
    /// Matrices there are: the experts of a layer, or 1.
    pub count: usize,
    /// Of these, how many a token meets.
    pub used: usize,
}

impl MatrixShape {
    /// Bytes in the layout that the kernels read, of all matrices.
    pub fn bytes(&self) -> u64 {
        self.count as u64 * self.format.interleaved_bytes(self.rows, self.columns) as u64
    }

    /// Bytes that a token reads.
    pub fn bytes_read(&self) -> f64 {
        self.used as f64 * self.format.interleaved_bytes(self.rows, self.columns) as f64
    }

    /// Weights that a token meets, each one multiplication with addition.
    pub fn macs(&self) -> f64 {
        self.used as f64 * self.rows as f64 * self.columns as f64
    }

    /// Weights of all matrices.
    pub fn weights(&self) -> u64 {
        (self.count * self.rows * self.columns) as u64
    }
}

/// The products of one layer.
#[derive(Clone, Debug, Default)]
pub struct LayerShape {
    /// All its matrices.
    pub matrices: Vec<MatrixShape>,
}

impl LayerShape {
    /// Bytes of all matrices.
    pub fn bytes(&self) -> u64 {
        self.matrices.iter().map(MatrixShape::bytes).sum()
    }
}

/// A model as a device meets it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What the forward pass computes.
    pub config: Config,
    /// Layer by layer.
    pub layers: Vec<LayerShape>,
    /// The product that gives the logits.
    pub head: MatrixShape,
    /// Bytes of the embedding table, of which a token reads one row.
    pub embedding_bytes: u64,
    /// Values in the embedding table.
    pub embedding_weights: u64,
    /// Whether logits are computed with the embedding table, which then lies in memory in two layouts.
    pub tied: bool,
    /// Bytes of all tensors in the file.
    pub tensor_bytes: u64,
    /// Values of all tensors.
    pub parameters: u64,
    /// Tensors.
    pub tensors: usize,
    /// The metadata: what the tokenizer is made of.
    pub vocabulary: VocabularyShape,
}

/// Sizes of the lists of text in the metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VocabularyShape {
    /// Tokens.
    pub tokens: usize,
    /// Merge rules.
    pub merges: usize,
    /// Bytes of both in the file.
    pub text_bytes: usize,
}

impl Shape {
    /// The shape of the model with these metadata and tensors.
    ///
    /// # Errors
    /// [`Error::Model`] where the metadata make no model, [`Error::MissingTensor`], [`Error::Format`].
    pub fn new(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<Shape, Error> {
        let config = arch::configure(metadata)?;
        let named = |name: &str| tensors.iter().find(|info| info.name == name);
        let missing = |name: &str| Error::MissingTensor { tensor: name.to_owned() };
        let table = named("token_embd.weight").ok_or_else(|| missing("token_embd.weight"))?;
        let output = named("output.weight");
        let mut layers = vec![LayerShape::default(); config.layers.len()];
        for info in tensors.iter().filter(|info| info.shape.len() > 1) {
            let layer = info.name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
            if let Some(layer) = layer.and_then(|layer: usize| layers.get_mut(layer)) {
                layer.matrices.push(matrix(info, &config)?);
            }
        }
        if let Some(empty) = layers.iter().position(|layer| layer.matrices.is_empty()) {
            return Err(missing(&format!("blk.{empty}.*")));
        }
        let values = |info: &TensorInfo| info.shape.iter().product::<u64>();
        Ok(Shape {
            layers,
            head: matrix(output.unwrap_or(table), &config)?,
            embedding_bytes: table.bytes,
            embedding_weights: values(table),
            tied: output.is_none(),
            tensor_bytes: tensors.iter().map(|info| info.bytes).sum(),
            parameters: tensors.iter().map(values).sum(),
            tensors: tensors.len(),
            vocabulary: vocabulary(metadata),
            config,
        })
    }

    /// All products: those of the layers, then the logits.
    pub fn matrices(&self) -> impl Iterator<Item = &MatrixShape> {
        self.layers.iter().flat_map(|layer| &layer.matrices).chain([&self.head])
    }

    /// The matrices of experts, those of a layer together.
    pub fn expert_matrices(&self) -> impl Iterator<Item = &MatrixShape> {
        self.layers.iter().flat_map(|layer| &layer.matrices).filter(|matrix| matrix.count > 1)
    }

    /// All experts of all layers.
    pub fn experts(&self) -> usize {
        self.config.experts.as_ref().map_or(0, |experts| experts.count * self.layers.len())
    }

    /// Bytes of the largest expert.
    pub fn expert_bytes(&self) -> u64 {
        let of_layer = |layer: &LayerShape| -> u64 {
            let experts = layer.matrices.iter().filter(|matrix| matrix.count > 1);
            experts.map(|matrix| matrix.bytes() / matrix.count as u64).sum()
        };
        self.layers.iter().map(of_layer).max().unwrap_or(0)
    }

    /// Bytes of all matrices in the kernels' layout: what is mapped.
    pub fn weight_bytes(&self) -> u64 {
        self.matrices().map(MatrixShape::bytes).sum()
    }

    /// Weights in products, those of the logits counted once even where they are the embedding table.
    pub fn product_weights(&self) -> u64 {
        self.matrices().map(MatrixShape::weights).sum()
    }

    /// Bits of tensor data for each value.
    pub fn bits_per_weight(&self) -> f64 {
        self.tensor_bytes as f64 * 8.0 / self.parameters.max(1) as f64
    }

    /// The same model with at most about `bits` per weight: each matrix with more of them in the nearest of the common
    /// formats that its rows are whole blocks of.
    #[must_use]
    pub fn at_bits(&self, bits: f64) -> Shape {
        let mut shape = self.clone();
        let experts = self.config.experts.as_ref().map(|experts| experts.count);
        let change = |matrix: &mut MatrixShape| {
            // A router stays as it is.
            if bits_of(matrix.format) > bits && Some(matrix.rows) != experts {
                matrix.format = nearest(bits, matrix.columns).unwrap_or(matrix.format);
            }
        };
        shape.layers.iter_mut().flat_map(|layer| &mut layer.matrices).for_each(change);
        change(&mut shape.head);
        let share = (bits / self.bits_per_weight()).min(1.0);
        let smaller = |bytes: u64| (bytes as f64 * share) as u64;
        shape.embedding_bytes = smaller(self.embedding_bytes);
        shape.tensor_bytes = smaller(self.tensor_bytes);
        shape
    }
}

/// Bits of a value, scales included.
fn bits_of(format: &Format) -> f64 {
    format.bytes as f64 * 8.0 / format.values as f64
}

/// The common format nearest to so many bits of which rows of `columns` values are whole blocks.
fn nearest(bits: f64, columns: usize) -> Option<&'static Format> {
    const COMMON: [&str; 8] = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q4_0", "Q5_0", "Q8_0"];
    let fits = |format: &&Format| COMMON.contains(&format.name) && columns.is_multiple_of(format.values);
    let distance = |format: &Format| (bits_of(format) - bits).abs();
    kernels::FORMATS.iter().filter(fits).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

fn matrix(info: &TensorInfo, config: &Config) -> Result<MatrixShape, Error> {
    let format = kernels::format(info.type_id)
        .ok_or_else(|| Error::Format { tensor: info.name.clone(), id: info.type_id })?;
    let size = |dimension: usize| info.shape.get(dimension).map_or(1, |&size| size as usize);
    let count = size(2) * size(3);
    let used = config.experts.as_ref().filter(|_| count > 1).map_or(count, |experts| experts.used);
    Ok(MatrixShape { format, rows: size(1), columns: size(0), count, used })
}

fn vocabulary(metadata: &Metadata) -> VocabularyShape {
    let list = |key: &str| match metadata.get(key) {
        Some(Value::Array(Array::String(texts))) => {
            (texts.len(), texts.iter().map(|text| text.len() + 8).sum())
        }
        _ => (0, 0),
    };
    let (tokens, token_bytes): (usize, usize) = list("tokenizer.ggml.tokens");
    let (merges, merge_bytes): (usize, usize) = list("tokenizer.ggml.merges");
    VocabularyShape { tokens, merges, text_bytes: token_bytes + merge_bytes }
}
