//! Models of which nothing is there but the measures: enough for a plan.

use device::Shape;
use gguf::TensorInfo;
use testkit::{SHAPES, Types, contents};

/// A published model's shape with these formats in its layers and for its logits.
pub(super) fn shape(name: &str, layers: &str, head: &str) -> Result<Shape, String> {
    let known = SHAPES.iter().find(|shape| shape.name == name);
    let known = known.ok_or_else(|| format!("there is no shape {name}"))?;
    let types = Types::parse(layers).ok_or_else(|| format!("there is no type {layers}"))?;
    let (metadata, specs) = contents(known, types, None);
    let info = |spec: &gguf::TensorSpec| -> Result<TensorInfo, String> {
        let bytes = spec.bytes().map_err(|error| error.to_string())?;
        let (name, shape) = (spec.name.clone(), spec.shape.clone());
        Ok(TensorInfo { name, shape, type_id: spec.type_id, part: 0, offset: 0, bytes })
    };
    let tensors = specs.iter().map(info).collect::<Result<Vec<TensorInfo>, String>>()?;
    let mut shape = Shape::new(&metadata, &tensors).map_err(|error| error.to_string())?;
    let head_format = kernels::FORMATS.iter().find(|format| format.name == head);
    shape.head.format = head_format.ok_or_else(|| format!("there is no format {head}"))?;
    Ok(shape)
}
