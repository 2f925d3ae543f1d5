//! Measures what was made and fills in its certificate.

use std::path::Path;

use evaluate::Comparison;
use gguf::File;
use kernels::Team;
use model::{KvType, Model, PAGE};

use crate::certificate::{
    self, Certificate, Cost, Figure, KvCache, KvMeasurement, Output, Quality, Settings, TextRecord,
    TypeShare, WonBack, bits_per_weight, sha256_of_files, type_name,
};
use crate::error::Error;
use crate::float::Source;
use crate::inventory::values;
use crate::journal::Journal;
use crate::options::{Effort, Options, Progress};
use crate::pack::Clock;
use crate::plan::Decision;
use crate::walk::{Outcome, folded_entry, outcome_entry};

/// What is known of a finished run.
pub(crate) struct Attest<'a> {
    pub(crate) team: &'a Team,
    pub(crate) options: &'a Options<'a>,
    pub(crate) source: &'a Source,
    pub(crate) source_sha256: &'a str,
    pub(crate) target: &'a Path,
    /// The same types by plain rounding.
    pub(crate) plain: Option<&'a Path>,
    pub(crate) types: &'a [Option<Decision>],
    pub(crate) journal: &'a Journal,
    pub(crate) calibration_tokens: usize,
    pub(crate) clock: &'a mut Clock,
}

/// Tokens in a window of the held-out text.
const CONTEXT: usize = 512;

/// A cache format is recommended if it adds no more than this share to what rounding the weights costs.
const KV_SHARE: f64 = 0.1;

/// Measures and writes down.
///
/// # Errors
/// [`Error::Model`], [`Error::Evaluate`] for a held-out text that is too short.
pub(crate) fn attest(run: Attest<'_>) -> Result<Certificate, Error> {
    let Attest { options, source, types, .. } = run;
    let open = |path: &Path| {
        let options = model::Options { team: Some(run.team), ..model::Options::default() };
        Model::open(path, &options)
    };
    // Three models will be open, each with a copy of its matrices: no need for what they were made of as well.
    source.file.release();
    let reference = open(&source.file.paths()[0])?;
    let packed = open(run.target)?;
    let context = CONTEXT.min(source.config.context);
    let coarser = [KvType::Q8_0, KvType::Q4_0].into_iter().filter(|kind| kind.fits(source.config.head_dim));
    let kv_types: Vec<KvType> = [KvType::F16].into_iter().chain(coarser).collect();
    let plain = run.plain.map(open).transpose()?;
    let mut tested: Vec<(&Model, KvType)> = kv_types.iter().map(|&kv_type| (&packed, kv_type)).collect();
    tested.extend(plain.as_ref().map(|plain| (plain, KvType::F16)));
    let settings = evaluate::Options { context, windows: None, kv_type: KvType::F16 };
    let mut tell = |at: evaluate::Progress| {
        (options.progress)(Progress { stage: "measuring", done: at.done as u64, total: at.windows as u64 });
    };
    let text = &options.held_out.content;
    let all = evaluate::against_each(&tested, &reference, run.team, text, &settings, &mut tell)?;
    let kl_of = |found: &Comparison| Figure { value: found.kl_mean, stderr: found.kl_stderr };
    let (found, kl) = (all[0], kl_of(&all[0]));
    let measured: Vec<(KvType, Figure)> =
        kv_types.iter().zip(&all).map(|(&kv_type, found)| (kv_type, kl_of(found))).collect();
    let won_back = plain.is_some().then(|| {
        let by = "the same types, every value rounded by itself, weighted by importance";
        WonBack::of(by, kl_of(&all[kv_types.len()]), kl)
    });
    run.clock.stage("measuring");

    let file = File::open(run.target)?;
    let mut tensors = Vec::with_capacity(types.len());
    for (index, (info, decision)) in file.tensors().iter().zip(types).enumerate() {
        let outcome =
            run.journal.value::<Outcome>(&outcome_entry(index))?.filter(|outcome| outcome.power > 0.0);
        let before = &source.file.tensors()[index];
        let on_grid = decision.is_some() && before.type_id == info.type_id;
        let rounded = decision.is_some() && !on_grid;
        tensors.push(certificate::Tensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            source_type: type_name(before.type_id),
            type_name: type_name(info.type_id),
            bytes: info.bytes,
            bits_per_weight: bits_per_weight(info.bytes, values(info)),
            sensitivity: decision.and_then(|decision| decision.divergence),
            plain_error: outcome.map(|outcome| outcome.plain_error / outcome.power),
            error: outcome.map(|outcome| outcome.error / outcome.power),
            on_grid,
            folded: run.journal.value(&folded_entry(index))?.unwrap_or_default(),
            method: match (rounded, outcome, options.effort) {
                (false, ..) => "kept",
                (true, None, _) => "importance",
                (true, Some(_), Effort::Best) => "gptq, trained",
                (true, Some(_), _) => "gptq",
            }
            .to_owned(),
        });
    }
    let parameters = source.file.tensors().iter().map(values).sum();
    let bytes_of = |file: &File| file.tensors().iter().map(|info| info.bytes).sum();
    let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source_name = options.source_name.map_or_else(|| name_of(&source.file.paths()[0]), str::to_owned);
    let held_out_tokens = found.tested.tokens;
    Ok(Certificate {
        format: certificate::FORMAT,
        program: concat!("pouch ", env!("CARGO_PKG_VERSION")).to_owned(),
        source: certificate::Source {
            file: source_name,
            bytes: source.file.total_bytes(),
            sha256: run.source_sha256.to_owned(),
            architecture: source.config.architecture.clone(),
            parameters,
            bits_per_weight: bits_per_weight(bytes_of(&source.file), parameters),
            types: TypeShare::of(source.file.tensors()),
            reference: reference_in_words(source, &tensors),
        },
        output: Output {
            file: name_of(run.target),
            bytes: file.total_bytes(),
            sha256: sha256_of_files(file.paths())?,
            parameters,
            bits_per_weight: bits_per_weight(bytes_of(&file), parameters),
            types: TypeShare::of(file.tensors()),
        },
        settings: Settings {
            target: options.target.to_string(),
            effort: options.effort.name().to_owned(),
            seed: options.seed,
            calibration: TextRecord::of(options.calibration, run.calibration_tokens),
            held_out: TextRecord::of(options.held_out, held_out_tokens),
            importance_file: options.imatrix_in.map(name_of),
        },
        quality: Quality::of(&found),
        won_back,
        kv_cache: Some(kv_cache(source, &measured)),
        cost: Cost {
            seconds: run.clock.seconds(),
            stages: std::mem::take(&mut run.clock.stages),
            peak_memory_bytes: device::machine::Memory::peak_bytes().unwrap_or(0),
            threads: run.team.threads() as u64,
        },
        tensors,
    })
}

/// The smallest cache whose cost is lost in that of the weights.
fn kv_cache(source: &Source, measured: &[(KvType, Figure)]) -> KvCache {
    let exact = measured[0].1.value;
    let small = measured.iter().rev().find(|(_, kl)| kl.value - exact <= KV_SHARE * exact.max(kl.stderr));
    let bytes = |kv_type: KvType| (model::KvCache::bytes(&source.config, PAGE, kv_type) / PAGE) as u64;
    KvCache {
        recommended: small.map_or(KvType::F16, |(kind, _)| *kind).name().to_owned(),
        measured: measured
            .iter()
            .map(|(kv_type, kl)| KvMeasurement {
                type_name: kv_type.name().to_owned(),
                kl_mean: *kl,
                bytes_per_token: bytes(*kv_type),
            })
            .collect(),
    }
}

/// What the figures of quality compare with.
fn reference_in_words(source: &Source, tensors: &[certificate::Tensor]) -> String {
    let shares = TypeShare::of(source.file.tensors());
    let quantized: u64 = shares
        .iter()
        .filter(|share| !matches!(&*share.type_name, "F32" | "F16" | "BF16"))
        .map(|share| share.parameters)
        .sum();
    if quantized == 0 {
        return "the source in full precision".to_owned();
    }
    let kept = tensors.iter().filter(|tensor| tensor.on_grid).count();
    let grid = match kept {
        0 => String::new(),
        kept => format!("; {kept} tensors lay on the output's grid already and are kept bit for bit"),
    };
    format!("the source as it is, which was quantized before ({}){grid}", shares[0].type_name)
}
