//! A tiny model of every architecture can be written, read back, and is the same every time.

use testkit::{TinyOptions, tiny_model};

const ARCHITECTURES: [&str; 6] = ["llama", "qwen2", "qwen3", "gemma3", "phi3", "qwen3moe"];

#[test]
fn every_architecture_is_written_and_read_back() {
    let path = std::env::temp_dir().join(format!("testkit-{}.gguf", std::process::id()));
    for architecture in ARCHITECTURES {
        let model = tiny_model(&TinyOptions::new(architecture));
        model.write(&path);
        let file = gguf::File::open(&path).unwrap();
        assert_eq!(*file.metadata(), model.metadata);
        assert_eq!(file.tensors().len(), model.tensors.len());
        for (spec, data) in &model.tensors {
            assert_eq!(file.data(file.tensor(&spec.name).unwrap()), data, "{architecture}: {}", spec.name);
        }
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn the_seed_decides_the_bytes_and_formats_widen_the_model() {
    let of = |seed| tiny_model(&TinyOptions::new("llama").with_seed(seed)).tensors;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    let q4_k = gguf::types::by_name("Q4_K").unwrap().id;
    let options = TinyOptions::new("llama").with_type(q4_k);
    assert_eq!((options.width, options.feed_forward, options.head_dim), (256, 256, 64));
    let model = tiny_model(&options);
    let bytes = |name: &str| model.tensors.iter().find(|(spec, _)| spec.name == name).unwrap().1.len();
    assert_eq!(bytes("blk.0.attn_q.weight"), 256 * 144);
}
