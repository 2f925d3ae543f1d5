//! Metadata values as the format has them: twelve plain types and arrays of them.
//!
//! One macro line per plain type keeps the enums, the type ids and the conversions in one place.

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants are the format's own type names
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array whose elements all have one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the variants are the format's own type names
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    /// Arrays within an array; at most [`crate::MAXIMUM_ARRAY_DEPTH`] deep in all.
    Nested(Vec<Array>),
}

/// The format's id of an array.
pub(crate) const ARRAY_ID: u32 = 9;

/// Calls `$action!(Variant, rust type, id, name)` for each plain type.
macro_rules! for_each_plain_type {
    ($action:ident) => {
        $action! {
            (U8, u8, 0, "u8") (I8, i8, 1, "i8") (U16, u16, 2, "u16") (I16, i16, 3, "i16")
            (U32, u32, 4, "u32") (I32, i32, 5, "i32") (F32, f32, 6, "f32") (Bool, bool, 7, "bool")
            (String, String, 8, "string") (U64, u64, 10, "u64") (I64, i64, 11, "i64") (F64, f64, 12, "f64")
        }
    };
}
pub(crate) use for_each_plain_type;

macro_rules! define {
    ($(($variant:ident, $type:ty, $id:literal, $name:literal))*) => {
        impl Value {
            /// The format's type id.
            pub(crate) fn type_id(&self) -> u32 {
                match self {
                    $(Value::$variant(_) => $id,)*
                    Value::Array(_) => ARRAY_ID,
                }
            }

            /// The type in words, for messages: `u32`, `array of string`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Value::$variant(_) => $name,)*
                    Value::Array(array) => array.type_name(),
                }
            }
        }

        impl Array {
            /// The format's type id of the elements.
            pub(crate) fn element_id(&self) -> u32 {
                match self {
                    $(Array::$variant(_) => $id,)*
                    Array::Nested(_) => ARRAY_ID,
                }
            }

            /// The type in words, for messages: `array of string`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Array::$variant(_) => concat!("array of ", $name),)*
                    Array::Nested(_) => "array of arrays",
                }
            }

            /// The number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Array::$variant(elements) => elements.len(),)*
                    Array::Nested(elements) => elements.len(),
                }
            }
        }

        $(
            impl From<$type> for Value {
                fn from(value: $type) -> Value {
                    Value::$variant(value)
                }
            }

            impl From<Vec<$type>> for Value {
                fn from(elements: Vec<$type>) -> Value {
                    Value::Array(Array::$variant(elements))
                }
            }
        )*
    };
}
for_each_plain_type!(define);

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl Value {
    /// The value as an unsigned integer, from any integer width; `None` for other types and negative numbers.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(value) => Some(value.into()),
            Value::U16(value) => Some(value.into()),
            Value::U32(value) => Some(value.into()),
            Value::U64(value) => Some(value),
            Value::I8(value) => value.try_into().ok(),
            Value::I16(value) => value.try_into().ok(),
            Value::I32(value) => value.try_into().ok(),
            Value::I64(value) => value.try_into().ok(),
            _ => None,
        }
    }
}

impl Array {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How deep arrays nest: 1 for an array of plain values.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Array::Nested(elements) => 1 + elements.iter().map(Array::depth).max().unwrap_or(0),
            _ => 1,
        }
    }
}
