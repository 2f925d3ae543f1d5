//! Whole runs on tiny models: every architecture, every kind of target, what is refused, and going on after a kill.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use compress::{Effort, Error, Options, Packed, Progress, Target, Text, pack, work_folder};
use kernels::Team;
use testkit::{TinyOptions, tiny_model};

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tiny F32 model with rows of 256, so that every type is possible.
    fn model(&self, architecture: &str) -> PathBuf {
        let path = self.path(&format!("{architecture}.gguf"));
        let mut options = TinyOptions::new(architecture);
        (options.width, options.heads, options.kv_heads, options.head_dim) = (256, 4, 2, 64);
        options.feed_forward = 256;
        options.layers = options.layers.min(3);
        tiny_model(&options).write(&path);
        path
    }
}

fn run(source: &Path, target: &Path, wish: Target, effort: Effort) -> Result<Packed, Error> {
    run_told(source, target, wish, effort, &|_| ())
}

fn run_told(
    source: &Path,
    target: &Path,
    wish: Target,
    effort: Effort,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Packed, Error> {
    let short = |text: Text, bytes: usize| {
        let end = (0..=bytes).rev().find(|&at| text.content.is_char_boundary(at)).unwrap();
        Text { content: text.content[..end].to_owned(), ..text }
    };
    let (calibration, held_out) = (short(Text::sample(), 4000), short(Text::held_out(), 2500));
    let options = Options {
        target: &wish,
        effort,
        calibration: &calibration,
        held_out: &held_out,
        seed: 1,
        memory: None,
        imatrix_in: None,
        imatrix_out: None,
        work_folder: None,
        source_name: None,
        progress,
    };
    pack(&Team::new(2), source, target, &options)
}

/// Every architecture by a well-known mix: the types are in the file, the certificate fits it, nothing is left behind.
#[test]
fn every_architecture() {
    let place = Place::new();
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3"] {
        let (source, target) = (place.model(architecture), place.path("small.gguf"));
        let packed = run(&source, &target, Target::Recipe("q4_k_m".to_owned()), Effort::Good).unwrap();
        let file = gguf::File::open(&target).unwrap();
        let info = file.tensor("blk.0.attn_output.weight").unwrap();
        assert_eq!(info.type_id, 12, "{architecture}: Q4_K");
        let certificate = packed.certificate;
        assert_eq!(certificate.output.bytes, file.total_bytes());
        let tensor = certificate.tensors.iter().find(|tensor| tensor.name == info.name).unwrap();
        assert_eq!(tensor.method, "gptq", "{architecture}");
        assert!(tensor.error < tensor.plain_error, "{architecture}: {tensor:?}");
        assert!(certificate.quality.kl_mean.value < 0.1, "{architecture}");
        assert!(compress::certificate::check(&target).unwrap().passed(), "{architecture}");
        assert!(!work_folder(&target).exists());
    }
}

/// A budget is kept and nearly used, and more bytes are never worse.
#[test]
fn budgets() {
    let place = Place::new();
    let source = place.model("llama");
    let mut last = f64::INFINITY;
    for bits in [3.0, 4.0, 6.0, 8.5] {
        let target = place.path("small.gguf");
        let packed = run(&source, &target, Target::Bits(bits), Effort::Good).unwrap().certificate;
        assert!(packed.output.bits_per_weight <= bits, "{} for {bits}", packed.output.bits_per_weight);
        assert!(packed.output.bits_per_weight > 0.9 * bits, "{} for {bits}", packed.output.bits_per_weight);
        assert!(packed.quality.kl_mean.value < last, "{bits} bits");
        last = packed.quality.kl_mean.value;
    }
    let least = match run(&source, &place.path("x.gguf"), Target::Size(1000), Effort::Good) {
        Err(Error::Budget { asked: 1000, least }) => least,
        other => panic!("{other:?}"),
    };
    let smallest = place.path("smallest.gguf");
    run(&source, &smallest, Target::Size(least), Effort::Fast).unwrap();
    assert!(std::fs::metadata(smallest).unwrap().len() <= least);
}

/// Rows that no block divides become halves, and the others carry the budget.
#[test]
fn rows_of_any_length() {
    let place = Place::new();
    let (source, target) = (place.path("odd.gguf"), place.path("small.gguf"));
    tiny_model(&TinyOptions { feed_forward: 172, ..TinyOptions::new("llama") }).write(&source);
    let types = |wish: Target| {
        run(&source, &target, wish, Effort::Good).unwrap();
        let file = gguf::File::open(&target).unwrap();
        ["blk.0.ffn_down.weight", "blk.0.ffn_up.weight"].map(|name| file.tensor(name).unwrap().type_id)
    };
    let [down, up] = types(Target::Bits(10.0));
    assert!(down == 1 && up != 1 && up != 0, "{down} {up}");
    assert_eq!(types(Target::Recipe("Q4_0".to_owned())), [1, 2]);
}

/// Packing again to the types that are there changes no bit.
#[test]
fn what_lies_on_the_grid_stays() {
    let place = Place::new();
    let (source, once, twice) = (place.model("qwen3"), place.path("once.gguf"), place.path("twice.gguf"));
    let wish = || Target::Recipe("Q5_K_S".to_owned());
    run(&source, &once, wish(), Effort::Good).unwrap();
    let packed = run(&once, &twice, wish(), Effort::Good).unwrap();
    assert_eq!(std::fs::read(once).unwrap(), std::fs::read(twice).unwrap());
    assert_eq!(packed.certificate.quality.kl_mean.value, 0.0);
    assert!(packed.certificate.source.reference.contains("quantized before"));
}

/// A run that is killed in the middle goes on, and ends in the same file as one that was left alone.
#[test]
fn goes_on_after_a_kill() {
    let place = Place::new();
    let (source, target, other) = (place.model("llama"), place.path("a.gguf"), place.path("b.gguf"));
    let wish = || Target::Bits(4.0);
    let killed = std::panic::catch_unwind(|| {
        run_told(&source, &target, wish(), Effort::Good, &|at| {
            assert!(at.stage != "rounding" || at.done < 2, "killed");
        })
    });
    assert!(killed.is_err() && !target.exists() && work_folder(&target).exists());
    let stages = RefCell::new(Vec::new());
    run_told(&source, &target, wish(), Effort::Good, &|at| {
        stages.borrow_mut().push((at.stage.to_owned(), at.done));
    })
    .unwrap();
    let stages = stages.into_inner();
    assert!(!stages.iter().any(|(stage, _)| stage.starts_with("measuring sens")), "not measured again");
    assert_eq!(stages.iter().find(|(stage, _)| stage == "rounding").unwrap().1, 2, "begins where it was");
    run(&source, &other, wish(), Effort::Good).unwrap();
    assert_eq!(std::fs::read(target).unwrap(), std::fs::read(other).unwrap());
}

/// Training never makes it worse than what rounding gave, and leaves a file of the same types.
#[test]
fn training() {
    let place = Place::new();
    let source = place.model("llama");
    let types = |path: &Path| -> Vec<u32> {
        gguf::File::open(path).unwrap().tensors().iter().map(|info| info.type_id).collect()
    };
    let (good, best) = (place.path("good.gguf"), place.path("best.gguf"));
    let wish = || Target::Recipe("Q2_K".to_owned());
    run(&source, &good, wish(), Effort::Good).unwrap();
    let trained = run(&source, &best, wish(), Effort::Best).unwrap().certificate;
    assert_eq!(types(&good), types(&best));
    assert_ne!(std::fs::read(good).unwrap(), std::fs::read(&best).unwrap());
    assert!(trained.tensors.iter().any(|tensor| tensor.method == "gptq, trained"));
    assert!(trained.won_back.unwrap().share > 0.0);
    assert!(compress::certificate::check(&best).unwrap().passed());
}

/// Experts are rounded by importance, with no calibration.
#[test]
fn experts() {
    let place = Place::new();
    let (source, target) = (place.model("qwen3moe"), place.path("small.gguf"));
    let recipe = || Target::Recipe("Q4_K_S".to_owned());
    let refused = run(&source, &target, recipe(), Effort::Good);
    assert!(matches!(refused, Err(Error::Experts { .. })));
    let packed = run(&source, &target, recipe(), Effort::Fast).unwrap();
    let file = gguf::File::open(&target).unwrap();
    assert_eq!(file.tensor("blk.0.ffn_up_exps.weight").unwrap().type_id, 12);
    assert!(packed.certificate.quality.kl_mean.value < 0.1);
}

/// What cannot be done is said before anything is written.
#[test]
fn refusals() {
    let place = Place::new();
    let (source, target) = (place.model("llama"), place.path("small.gguf"));
    let unknown = run(&source, &target, Target::Recipe("Q9_X".to_owned()), Effort::Good);
    assert!(
        matches!(&unknown, Err(Error::Recipe { name, known }) if name == "Q9_X" && known.contains("Q4_K_M"))
    );
    let mut model = tiny_model(&TinyOptions::new("llama"));
    let data = model.data_mut("blk.1.ffn_up.weight").unwrap();
    data[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
    let damaged = place.path("damaged.gguf");
    model.write(&damaged);
    for effort in [Effort::Fast, Effort::Good] {
        let result = run(&damaged, &target, Target::Recipe("Q8_0".to_owned()), effort);
        assert!(
            matches!(&result, Err(Error::NotFinite { what }) if what == "blk.1.ffn_up.weight"),
            "{result:?}"
        );
    }
    assert!(!target.exists());
}
