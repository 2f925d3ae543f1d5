//! Floats as the journal keeps them.

pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(values));
    put_floats(&mut bytes, values);
    bytes
}

pub(crate) fn put_floats(to: &mut Vec<u8>, values: &[f32]) {
    to.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

pub(crate) fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
