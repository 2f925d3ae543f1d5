//! llama2.c checkpoints: weights in their order, the vocabulary, and what its header may say.

mod common;

use common::{HIDDEN, LLAMA2C_ROWS, Llama2c, values};
use import::{Error, FloatType, Options};

#[test]
fn every_weight_finds_its_name() {
    for tied in [true, false] {
        let checkpoint = Llama2c::new(tied);
        let options = Options { float: FloatType::F32, progress: None };
        let summary = import::import(&checkpoint.write(), &checkpoint.target(), &options).unwrap();
        let file = gguf::File::open(&checkpoint.target()).unwrap();
        let weights = checkpoint.weights.iter().filter(|(name, _)| name != "rotations");
        assert_eq!(summary.tensors, weights.clone().count());
        for (name, expected) in weights {
            assert_eq!(&values(&file, name), expected, "{name}");
        }
        assert_eq!(file.tensor("output.weight").is_none(), tied);
        let embedding = file.tensor("token_embd.weight").unwrap();
        assert_eq!(embedding.shape, [HIDDEN as u64, LLAMA2C_ROWS as u64]);
    }
}

#[test]
fn the_vocabulary_is_as_sentencepiece_had_it() {
    let checkpoint = Llama2c::new(true);
    import::import(&checkpoint.write(), &checkpoint.target(), &Options::default()).unwrap();
    let file = gguf::File::open(&checkpoint.target()).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.string("tokenizer.ggml.model").unwrap(), Some("llama"));
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
    assert_eq!(tokens[258], "<0xFF>");
    assert_eq!(tokens[259], "\u{2581}t259");
    let kinds = metadata.u32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(kinds[..3], [2, 3, 3]);
    assert!(kinds[3..259].iter().all(|&kind| kind == 6));
    assert!(kinds[259..].iter().all(|&kind| kind == 1));
    let scores = metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap();
    assert_eq!(scores[259..262], [0.0, -1.0, -2.0]);
    for (key, id) in [("bos", 1), ("eos", 2), ("unknown", 0)] {
        assert_eq!(metadata.u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap(), Some(id));
    }
    assert_eq!(metadata.bool("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    assert_eq!(metadata.bool("tokenizer.ggml.add_space_prefix").unwrap(), Some(true));
}

#[test]
fn the_common_vocabulary_name_serves_too() {
    let checkpoint = Llama2c::new(true);
    let source = checkpoint.write();
    let folder = checkpoint.folder.path();
    std::fs::rename(folder.join("tok270.bin"), folder.join("tokenizer.bin")).unwrap();
    let summary = import::import(&source, &checkpoint.target(), &Options::default()).unwrap();
    assert!(summary.sources[1].ends_with("tokenizer.bin"));
}

#[test]
fn impossible_headers_are_refused() {
    for (index, value) in
        [(0, 0), (0, 9), (1, -1), (2, 0), (3, 0), (3, 3), (4, 3), (5, 0), (6, -5), (0, 0x616b_3432)]
    {
        let mut checkpoint = Llama2c::new(true);
        checkpoint.header[index] = value;
        let error =
            import::import(&checkpoint.write(), &checkpoint.target(), &Options::default()).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{index} {value}: {error:?}");
    }
    let mut checkpoint = Llama2c::new(true);
    checkpoint.header = [i32::MAX - 1, i32::MAX, i32::MAX, 1, 1, i32::MIN, i32::MAX];
    let error = import::import(&checkpoint.write(), &checkpoint.target(), &Options::default()).unwrap_err();
    assert!(matches!(error, Error::Length { .. }), "{error:?}");
}
