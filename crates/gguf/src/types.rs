//! The number formats of the ggml family: ids, names and block sizes, one line each.
//!
//! This is what a reader needs to check sizes; unpacking belongs to `kernels`. Sizes follow the block structures
//! of ggml (`ggml-common.h`), where a K-quant block is 256 values.

/// The id of plain 32-bit floats.
pub const F32: u32 = 0;

/// Size of one number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeInfo {
    /// The id that tensors carry in the file.
    pub id: u32,
    /// The name in ggml's spelling, `Q4_K`.
    pub name: &'static str,
    /// Values in a block; 1 for plain numbers.
    pub values: u64,
    /// Bytes in a block.
    pub bytes: u64,
}

impl TypeInfo {
    /// Bytes of a row of `columns` values; `None` where that is no whole number of blocks or overflows.
    pub fn row_bytes(&self, columns: u64) -> Option<u64> {
        if !columns.is_multiple_of(self.values) {
            return None;
        }
        (columns / self.values).checked_mul(self.bytes)
    }
}

/// The size of the format with this id, `None` for an unknown one.
pub fn type_info(id: u32) -> Option<&'static TypeInfo> {
    TYPES.iter().find(|entry| entry.id == id)
}

/// The size of the format with this name (any case), `None` for an unknown one.
pub fn by_name(name: &str) -> Option<&'static TypeInfo> {
    TYPES.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
}

const fn entry(id: u32, name: &'static str, values: u64, bytes: u64) -> TypeInfo {
    TypeInfo { id, name, values, bytes }
}

/// Every format that ggml defines; ids that it withdrew (4, 5, 31-33, 36-38) are unknown on purpose.
#[rustfmt::skip]
pub static TYPES: &[TypeInfo] = &[
    entry( 0, "F32",       1,   4),
    entry( 1, "F16",       1,   2),
    entry( 2, "Q4_0",     32,  18),
    entry( 3, "Q4_1",     32,  20),
    entry( 6, "Q5_0",     32,  22),
    entry( 7, "Q5_1",     32,  24),
    entry( 8, "Q8_0",     32,  34),
    entry( 9, "Q8_1",     32,  36),
    entry(10, "Q2_K",    256,  84),
    entry(11, "Q3_K",    256, 110),
    entry(12, "Q4_K",    256, 144),
    entry(13, "Q5_K",    256, 176),
    entry(14, "Q6_K",    256, 210),
    entry(15, "Q8_K",    256, 292),
    entry(16, "IQ2_XXS", 256,  66),
    entry(17, "IQ2_XS",  256,  74),
    entry(18, "IQ3_XXS", 256,  98),
    entry(19, "IQ1_S",   256,  50),
    entry(20, "IQ4_NL",   32,  18),
    entry(21, "IQ3_S",   256, 110),
    entry(22, "IQ2_S",   256,  82),
    entry(23, "IQ4_XS",  256, 136),
    entry(24, "I8",        1,   1),
    entry(25, "I16",       1,   2),
    entry(26, "I32",       1,   4),
    entry(27, "I64",       1,   8),
    entry(28, "F64",       1,   8),
    entry(29, "IQ1_M",   256,  56),
    entry(30, "BF16",      1,   2),
    entry(34, "TQ1_0",   256,  54),
    entry(35, "TQ2_0",   256,  66),
    entry(39, "MXFP4",    32,  17),
    entry(40, "NVFP4",    64,  36),
    entry(41, "Q1_0",    128,  18),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique() {
        for (index, one) in TYPES.iter().enumerate() {
            for other in &TYPES[index + 1..] {
                assert_ne!(one.id, other.id);
                assert_ne!(one.name, other.name);
            }
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        let q4_k = by_name("q4_k").unwrap();
        assert_eq!(q4_k.row_bytes(512), Some(288));
        assert_eq!(q4_k.row_bytes(500), None);
        assert_eq!(q4_k.row_bytes(u64::MAX - 255), Some((u64::MAX - 255) / 256 * 144));
        assert_eq!(type_info(0).unwrap().row_bytes(u64::MAX), None);
        assert_eq!(type_info(4), None);
    }
}
