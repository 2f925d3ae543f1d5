//! Whole runs on tiny models: every architecture, every kind of target, what is refused, and going on after a kill.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use compress::certificate::Certificate;
use compress::float::{Role, Source};
use compress::imatrix::Importance;
use compress::{Effort, Error, Options, Packed, Progress, Target, Text, pack, work_folder};
use kernels::Team;
use testkit::{TinyModel, TinyOptions, tiny_model};

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
        tiny_model(&wide(architecture)).write(&path);
        path
    }
}

/// A wide model in which some channels of norms, values and hidden layers are large, and what reads them small: it computes what
/// an even one does, and folding helps.
fn uneven(architecture: &str) -> TinyModel {
    let mut model = tiny_model(&wide(architecture));
    let factor = |channel: usize| if (channel % 64).is_multiple_of(9) { 12.0 } else { 1.0 };
    for (spec, data) in &mut model.tensors {
        let part = spec.name.split('.').nth(2).unwrap_or_default();
        // Channels that are written, the last rows, and whether others are read.
        let (written, read) = match part {
            "attn_norm" | "ffn_norm" => (256, false),
            "attn_v" | "attn_qkv" => (128, true),
            "ffn_up" => (256, true),
            "attn_q" | "attn_k" | "attn_output" | "ffn_gate" | "ffn_down" => (0, true),
            "ffn_gate_inp" | "ffn_gate_exps" | "ffn_up_exps" => (0, true),
            _ => continue,
        };
        let vector = spec.shape.len() == 1;
        let columns = if vector { 1 } else { spec.shape[0] as usize };
        let rows = data.len() / 4 / columns;
        for (index, x) in data.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let mut value = f32::from_le_bytes(*x);
            if written > 0 && row + written >= rows {
                value *= factor(row + written - rows);
            }
            if read && !vector {
                value /= factor(column);
            }
            *x = value.to_le_bytes();
        }
    }
    model
}

fn wide(architecture: &str) -> TinyOptions {
    let mut options = TinyOptions::new(architecture);
    (options.width, options.heads, options.kv_heads, options.head_dim) = (256, 4, 2, 64);
    options.feed_forward = 256;
    options.layers = options.layers.min(3);
    options
}

/// What most runs leave as it is.
#[derive(Clone, Copy)]
struct Beside<'a> {
    threads: usize,
    fold: bool,
    imatrix_in: Option<&'a Path>,
    imatrix_out: Option<&'a Path>,
    progress: &'a dyn Fn(Progress<'_>),
}

const NOTHING: Beside<'static> =
    Beside { threads: 2, fold: false, imatrix_in: None, imatrix_out: None, progress: &|_| () };

const FOLDED: Beside<'static> = Beside { fold: true, ..NOTHING };

fn run(source: &Path, target: &Path, wish: Target, effort: Effort) -> Result<Packed, Error> {
    run_beside(source, target, wish, effort, NOTHING)
}

fn run_beside(
    source: &Path,
    target: &Path,
    wish: Target,
    effort: Effort,
    Beside { threads, fold, imatrix_in, imatrix_out, progress }: Beside<'_>,
) -> Result<Packed, Error> {
    let short = |text: Text, bytes: usize| {
        let end = (0..=bytes).rev().find(|&at| text.content.is_char_boundary(at)).unwrap();
        Text { content: text.content[..end].to_owned(), ..text }
    };
    let (calibration, held_out) = (short(Text::sample(), 4000), short(Text::held_out(), 2500));
    let options = Options {
        target: &wish,
        effort,
        fold,
        calibration: &calibration,
        held_out: &held_out,
        seed: 1,
        memory: None,
        imatrix_in,
        imatrix_out,
        work_folder: None,
        source_name: None,
        progress,
    };
    pack(&Team::new(threads), source, target, &options)
}

/// Every architecture by a well-known mix: the types are in the file, the certificate fits it, nothing is left behind.
#[test]
fn every_architecture() {
    let place = Place::new();
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3", "qwen3moe"] {
        let (source, target) = (place.model(architecture), place.path("small.gguf"));
        let packed = run(&source, &target, Target::Recipe("q4_k_m".to_owned()), Effort::Good).unwrap();
        let file = gguf::File::open(&target).unwrap();
        let info = file.tensor("blk.0.attn_output.weight").unwrap();
        // Q4_K, or Q5_K beside eight experts.
        assert_eq!(info.type_id, if architecture == "qwen3moe" { 13 } else { 12 }, "{architecture}");
        let certificate = packed.certificate;
        assert_eq!(certificate.output.bytes, file.total_bytes());
        let tensor = certificate.tensors.iter().find(|tensor| tensor.name == info.name).unwrap();
        assert_eq!(tensor.method, "gptq", "{architecture}");
        let rounded = certificate.tensors.iter().filter(|tensor| tensor.method == "gptq");
        for tensor in rounded {
            assert!(tensor.error < tensor.plain_error, "{architecture}: {tensor:?}");
        }
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
    for architecture in ["llama", "qwen3moe"] {
        let place = Place::new();
        let [source, target, other] = ["source.gguf", "a.gguf", "b.gguf"].map(|name| place.path(name));
        uneven(architecture).write(&source);
        let wish = || Target::Bits(4.0);
        let run_told = |progress: &dyn Fn(Progress<'_>)| {
            run_beside(&source, &target, wish(), Effort::Good, Beside { progress, ..FOLDED })
        };
        let killed = std::panic::catch_unwind(|| {
            run_told(&|at| {
                assert!(at.stage != "rounding" || at.done < 1, "killed");
            })
        });
        assert!(killed.is_err() && !target.exists() && work_folder(&target).exists());
        let stages = RefCell::new(Vec::new());
        let packed = run_told(&|at| {
            stages.borrow_mut().push((at.stage.to_owned(), at.done));
        })
        .unwrap();
        let stages = stages.into_inner();
        assert!(!stages.iter().any(|(stage, _)| stage.starts_with("measuring sens")), "not measured again");
        let first = stages.iter().find(|(stage, _)| stage == "rounding").unwrap().1;
        assert_eq!(first, 1, "begins where it was");
        run_beside(&source, &other, wish(), Effort::Good, FOLDED).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), std::fs::read(other).unwrap());
        let tensors = packed.certificate.tensors;
        assert!(tensors.iter().any(|tensor| tensor.name.starts_with("blk.0.") && !tensor.folded.is_empty()));
    }
}

/// The file is the same, byte for byte, on any number of threads.
#[test]
fn threads_do_not_show() {
    let place = Place::new();
    for architecture in ["llama", "qwen3moe"] {
        let source = place.model(architecture);
        let packed = [1, 3].map(|threads| {
            let target = place.path("small.gguf");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let pack = || {
                let beside = Beside { threads, ..FOLDED };
                run_beside(&source, &target, Target::Bits(4.5), Effort::Good, beside).unwrap();
            };
            pool.install(pack);
            std::fs::read(target).unwrap()
        });
        assert!(packed[0] == packed[1], "{architecture}");
    }
}

/// Channels that differ in size are folded, which norms and biases in the file take up: in eight bits next to nothing is lost.
/// A mixture's feed-forward block is left alone.
#[test]
fn folding() {
    let place = Place::new();
    for architecture in ["llama", "qwen2", "qwen3", "gemma3", "phi3", "qwen3moe"] {
        let (source, target) = (place.path("uneven.gguf"), place.path("small.gguf"));
        uneven(architecture).write(&source);
        let recipe = || Target::Recipe("Q8_0".to_owned());
        let loss = run(&source, &target, recipe(), Effort::Good).unwrap().certificate.quality.kl_mean.value;
        let packed = run_beside(&source, &target, recipe(), Effort::Good, FOLDED).unwrap();
        let certificate = packed.certificate;
        let folded = |name: &str| {
            let tensor = certificate.tensors.iter().find(|tensor| tensor.name == format!("blk.0.{name}"));
            tensor.unwrap().folded.clone()
        };
        // A token that goes to another expert weighs far more than any rounding.
        let most = if architecture == "qwen3moe" { 2.0 * loss } else { 1e-3 };
        let kl = &certificate.quality.kl_mean;
        assert!(kl.value < most, "{architecture}: {kl:?}, without folding {loss}");
        assert_eq!(folded("attn_norm.weight"), ["output scaled"], "{architecture}");
        let attention = if architecture == "phi3" { "attn_qkv.weight" } else { "attn_q.weight" };
        assert_eq!(folded(attention)[0], "input scaled", "{architecture}");
        assert!(!folded("attn_output.weight").is_empty(), "{architecture}");
        if architecture == "qwen2" {
            assert_eq!(folded("attn_v.bias").len(), 1);
            assert!(folded("attn_q.bias").is_empty());
        }
        let dense = architecture != "qwen3moe";
        assert_eq!(folded("ffn_norm.weight").is_empty(), !dense, "{architecture}");
        let down = if dense { "ffn_down.weight" } else { "ffn_down_exps.weight" };
        assert_eq!(folded(down).is_empty(), !dense, "{architecture}");
        let [before, after] = [&source, &target].map(|path| {
            let file = gguf::File::open(path).unwrap();
            file.data(file.tensor("blk.0.attn_norm.weight").unwrap()).to_vec()
        });
        assert_ne!(before, after);
        assert!(compress::certificate::check(&target).unwrap().passed(), "{architecture}");
    }
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
    // What is trained on top of folding starts from it.
    let folded = place.path("folded.gguf");
    uneven("llama").write(&source);
    let uneven = run_beside(&source, &folded, wish(), Effort::Best, FOLDED).unwrap().certificate;
    assert!(uneven.tensors.iter().any(|tensor| !tensor.folded.is_empty()));
    assert!(uneven.won_back.unwrap().share > 0.0);
    assert_eq!(types(&good), types(&best));
    assert_ne!(std::fs::read(good).unwrap(), std::fs::read(&best).unwrap());
    assert!(trained.tensors.iter().any(|tensor| tensor.method == "gptq, trained"));
    assert!(trained.won_back.unwrap().share > 0.0);
    assert!(compress::certificate::check(&best).unwrap().passed());
}

/// Experts of one type are nearer to the original with compensation than without, and with types chosen for them the budget
/// is kept and used. Training says at once that it does not know them.
#[test]
fn experts() {
    let place = Place::new();
    let (source, target) = (place.model("qwen3moe"), place.path("small.gguf"));
    let recipe = || Target::Recipe("Q3_K_S".to_owned());
    let fast = run(&source, &target, recipe(), Effort::Fast).unwrap().certificate;
    let good = run(&source, &target, recipe(), Effort::Good).unwrap().certificate;
    let file = gguf::File::open(&target).unwrap();
    assert_eq!(file.tensor("blk.0.ffn_up_exps.weight").unwrap().type_id, 11);
    assert_eq!(file.tensor("blk.0.ffn_gate_inp.weight").unwrap().type_id, 0, "the router is kept");
    let kl = |certificate: &Certificate| certificate.quality.kl_mean.value;
    assert!(kl(&good) < kl(&fast) && good.won_back.as_ref().unwrap().share > 0.0);

    let chosen = run(&source, &target, Target::Bits(3.5), Effort::Good).unwrap().certificate;
    assert!(chosen.output.bits_per_weight <= 3.5 && chosen.output.bits_per_weight > 3.2);
    let down = chosen.tensors.iter().find(|tensor| tensor.name == "blk.1.ffn_down_exps.weight").unwrap();
    assert!(down.sensitivity.unwrap() > 0.0);

    let refused = run(&source, &place.path("best.gguf"), recipe(), Effort::Best);
    assert!(matches!(refused, Err(Error::Experts { .. })));
    assert!(!work_folder(&place.path("best.gguf")).exists());
}

/// The importance of experts is that of the tokens that visit them; one that nobody visits is rounded all the same.
#[test]
fn visits_are_counted() {
    let place = Place::new();
    let (source, target, saved) = (place.path("a.gguf"), place.path("b.gguf"), place.path("imatrix.gguf"));
    let mut model = tiny_model(&TinyOptions { experts: Some((4, 1)), ..wide("qwen3moe") });
    for layer in 0..2 {
        // Of equals the first is chosen, so the last expert never is.
        let router = model.data_mut(&format!("blk.{layer}.ffn_gate_inp.weight")).unwrap();
        router.copy_within(..256 * 4, 3 * 256 * 4);
    }
    model.write(&source);
    let recipe = || Target::Recipe("Q4_K_S".to_owned());
    run_beside(&source, &target, recipe(), Effort::Good, Beside { imatrix_out: Some(&saved), ..NOTHING })
        .unwrap();
    let importance = Importance::open(&saved).unwrap();
    for name in ["gate", "up", "down"] {
        let squares = &importance.tensors[&format!("blk.0.ffn_{name}_exps.weight")];
        let all = importance.tensors["blk.0.attn_q.weight"].counts[0];
        assert_eq!((squares.counts.len(), squares.counts.iter().sum()), (4, all));
        assert!(squares.mean(0).is_some() && squares.mean(3).is_none());
    }
    let original = Source::open(&source).unwrap();
    let packed = Source::open(&target).unwrap();
    let last = |source: &Source| source.block(0).unwrap().expert(Role::Down, 3).into_owned().weight;
    let (before, after) = (last(&original), last(&packed));
    let error: f32 = before.iter().zip(&after).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f32 = before.iter().map(|x| x * x).sum();
    assert!(error < 0.01 * size, "{error} of {size}");

    let beside = Beside { imatrix_in: Some(&saved), ..NOTHING };
    let informed = run_beside(&source, &target, recipe(), Effort::Good, beside).unwrap().certificate;
    assert!(informed.quality.kl_mean.value < 0.1);
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
