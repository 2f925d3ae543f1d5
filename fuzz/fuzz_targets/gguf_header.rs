//! Any bytes at all as a model file: the parser answers with an error or with tensors that lie in the file.
//!
//! Run: `cargo +nightly fuzz run gguf_header -- -max_total_time=60`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = gguf::parse(bytes) else { return };
    for tensor in &header.tensors {
        assert!(tensor.bytes > 0 && tensor.offset >= header.data_offset);
        assert!(tensor.offset + tensor.bytes <= bytes.len() as u64);
    }
});
