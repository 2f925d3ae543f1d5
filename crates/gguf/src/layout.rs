//! Where tensors lie: sizes from shapes, alignment, and the check that no two share bytes.
//!
//! Reader and writer use the same arithmetic, and none of it can overflow unnoticed.

use crate::{Error, MAXIMUM_RANK, Metadata, TensorInfo, types};

/// Bytes of a tensor; checks rank, shape, type and block size.
pub(crate) fn tensor_bytes(name: &str, shape: &[u64], type_id: u32) -> Result<u64, Error> {
    let tensor = || name.to_owned();
    if shape.is_empty() || shape.len() > MAXIMUM_RANK {
        return Err(Error::Rank { tensor: tensor(), got: shape.len() as u64, maximum: MAXIMUM_RANK });
    }
    let impossible = || Error::Shape { tensor: tensor(), shape: shape.to_vec() };
    if shape.contains(&0) {
        return Err(impossible());
    }
    // The reference implementation counts in signed 64 bits.
    let values = shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size));
    if values.is_none_or(|values| values > i64::MAX as u64) {
        return Err(impossible());
    }
    let format = types::type_info(type_id)
        .ok_or_else(|| Error::UnknownTensorType { tensor: tensor(), id: type_id })?;
    let columns = shape[0];
    if !columns.is_multiple_of(format.values) {
        return Err(Error::RowLength {
            tensor: tensor(),
            columns,
            format: format.name,
            block: format.values,
        });
    }
    let row = format.row_bytes(columns).ok_or_else(impossible)?;
    shape[1..].iter().try_fold(row, |bytes, &size| bytes.checked_mul(size)).ok_or_else(impossible)
}

/// The file's alignment: `general.alignment`, a power of two.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u32, Error> {
    let alignment = metadata.u32("general.alignment")?.unwrap_or(crate::DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(Error::Alignment { got: alignment.into() });
    }
    Ok(alignment)
}

/// The next multiple of `alignment`.
pub(crate) fn align(position: u64, alignment: u32, what: &dyn Fn() -> String) -> Result<u64, Error> {
    position.checked_next_multiple_of(alignment.into()).ok_or_else(|| Error::TooLarge { what: what() })
}

/// Fails if two tensors of one file share bytes.
pub(crate) fn check_overlap(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    for pair in order.windows(2) {
        if pair[1].offset - pair[0].offset < pair[0].bytes {
            return Err(Error::Overlap { first: pair[0].name.clone(), second: pair[1].name.clone() });
        }
    }
    Ok(())
}
