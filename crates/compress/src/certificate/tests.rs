//! A certificate of a tiny model, and what becomes of it in hands that change things.

use std::path::{Path, PathBuf};

use testkit::{TinyOptions, tiny_model};

use super::*;
use crate::Error;

/// A packed model in `folder` with its certificate, not yet written. Figures of quality are made up: they stand for
/// themselves, nothing here measures.
pub(crate) fn certified(folder: &Path) -> (PathBuf, Certificate) {
    let path = folder.join("small.gguf");
    let q8_0 = gguf::types::by_name("Q8_0").unwrap().id;
    tiny_model(&TinyOptions::new("llama").with_type(q8_0)).write(&path);
    let file = gguf::File::open(&path).unwrap();
    let types = TypeShare::of(file.tensors());
    let parameters = types.iter().map(|share| share.parameters).sum();
    let bytes = types.iter().map(|share| share.bytes).sum();
    let tensor = |info: &gguf::TensorInfo| {
        let matrix = info.shape.len() > 1;
        Tensor {
            name: info.name.clone(),
            shape: info.shape.clone(),
            source_type: "F32".to_owned(),
            type_name: type_name(info.type_id),
            bytes: info.bytes,
            bits_per_weight: bits_per_weight(info.bytes, info.shape.iter().product()),
            sensitivity: matrix.then_some(1e-4 * info.name.len() as f64),
            plain_error: matrix.then_some(3e-5),
            error: matrix.then_some(2e-5),
            on_grid: false,
            folded: Vec::new(),
            method: if matrix { "gptq" } else { "kept" }.to_owned(),
        }
    };
    let kl = Figure { value: 0.0312, stderr: 0.0011 };
    let certificate = Certificate {
        format: FORMAT,
        program: "pouch test".to_owned(),
        source: Source {
            file: "original.gguf".to_owned(),
            bytes: 4 * parameters + 1000,
            sha256: sha256(b"original"),
            architecture: "llama".to_owned(),
            parameters,
            bits_per_weight: 32.0,
            types: vec![TypeShare {
                type_name: "F32".to_owned(),
                tensors: 21,
                parameters,
                bytes: 4 * parameters,
            }],
            reference: "the source file, whose weights are 32-bit floats.".to_owned(),
        },
        output: Output {
            file: "small.gguf".to_owned(),
            bytes: file.total_bytes(),
            sha256: sha256_of_files(&[&path]).unwrap(),
            parameters,
            bits_per_weight: bits_per_weight(bytes, parameters),
            types,
        },
        settings: Settings {
            target: crate::Target::Bits(8.5).to_string(),
            effort: crate::Effort::Good.name().to_owned(),
            seed: 7,
            calibration: TextRecord::of(&Text::sample(), 15_000),
            held_out: TextRecord::of(&Text::held_out(), 6_000),
            importance_file: None,
        },
        quality: Quality {
            perplexity_before: Figure { value: 12.31, stderr: 0.21 },
            perplexity_after: Figure { value: 12.62, stderr: 0.22 },
            kl_mean: kl,
            kl_median: 0.011,
            kl_p99: 0.31,
            kl_max: 1.9,
            kl_quantiles: vec![
                (0.01, 1e-5),
                (0.1, 4e-4),
                (0.5, 0.011),
                (0.9, 0.09),
                (0.99, 0.31),
                (1.0, 1.9),
            ],
            top1_agreement: Figure { value: 0.912, stderr: 0.006 },
            scored: 2805,
            windows: 11,
            context: 512,
        },
        won_back: Some(WonBack::of("nearest rounding", Figure { value: 0.0519, stderr: 0.002 }, kl)),
        kv_cache: Some(KvCache {
            recommended: "q8_0".to_owned(),
            measured: vec![
                KvMeasurement { type_name: "f16".to_owned(), kl_mean: kl, bytes_per_token: 256 },
                KvMeasurement { type_name: "q8_0".to_owned(), kl_mean: kl, bytes_per_token: 136 },
            ],
        }),
        cost: Cost {
            seconds: 83.4,
            stages: vec![Stage { name: "rounding".to_owned(), seconds: 80.1 }],
            peak_memory_bytes: 1_200_000_000,
            threads: 2,
        },
        tensors: file.tensors().iter().map(tensor).collect(),
    };
    (path, certificate)
}

/// Changes the certificate's text and checks the file against it.
fn checked_after(path: &Path, from: &str, to: &str) -> Result<Report, Error> {
    let (json, _) = beside(path);
    let text = std::fs::read_to_string(&json).unwrap();
    assert!(text.contains(from), "{from} is not in the certificate");
    std::fs::write(&json, text.replacen(from, to, 1)).unwrap();
    check(path)
}

/// Writes a certificate after a change by one who knows how to seal, and gives what the check finds.
fn problems_of(change: impl FnOnce(&mut Certificate)) -> Vec<Problem> {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut certificate) = certified(folder.path());
    change(&mut certificate);
    certificate.write_beside(&path).unwrap();
    check(&path).unwrap().problems
}

#[test]
fn what_is_written_is_read_again_and_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (path, certificate) = certified(folder.path());
    certificate.write_beside(&path).unwrap();
    let report = check(&path).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.certificate, certificate);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "the model and two files beside it");
}

#[test]
fn the_certificate_lies_beside_the_file() {
    let (json, html) = beside(Path::new("a/small.v2.gguf"));
    assert_eq!((json, html), ("a/small.v2.certificate.json".into(), "a/small.v2.certificate.html".into()));
    assert_eq!(beside(Path::new("model.q4")).0, Path::new("model.q4.certificate.json"));
}

#[test]
fn a_changed_file_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (path, certificate) = certified(folder.path());
    certificate.write_beside(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();

    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(&check(&path).unwrap().problems[..], [Problem::Content { .. }]));

    std::fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    let problems = check(&path).unwrap().problems;
    assert!(
        matches!(problems[..], [Problem::Size { .. }, Problem::Content { .. }, Problem::Unreadable(_)]),
        "{problems:?}"
    );

    tiny_model(&TinyOptions::new("llama")).write(&path);
    let problems = check(&path).unwrap().problems;
    let tensors = problems.iter().filter(|problem| matches!(problem, Problem::Tensor { .. })).count();
    assert_eq!(tensors, certificate.tensors.iter().filter(|tensor| tensor.shape.len() > 1).count());
}

#[test]
fn any_changed_field_breaks_the_seal() {
    for (from, to) in [
        ("\"seed\": 7", "\"seed\": 8"),
        ("\"gptq\"", "\"magic\""),
        ("0.0312", "0.0112"),
        ("12.62", "12.32"),
        ("\n}", "\n} "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (path, certificate) = certified(folder.path());
        certificate.write_beside(&path).unwrap();
        let problems = checked_after(&path, from, to).unwrap().problems;
        assert!(problems.contains(&Problem::Seal), "{from} to {to}: {problems:?}");
    }
}

#[test]
fn what_is_no_certificate_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (path, certificate) = certified(folder.path());
    assert!(matches!(check(&path), Err(Error::NoCertificate { .. })));
    certificate.write_beside(&path).unwrap();
    assert!(matches!(
        checked_after(&path, "\"format\": 1", "\"format\": 2"),
        Err(Error::CertificateFormat { got: 2, .. })
    ));
    let (json, _) = beside(&path);
    for text in ["", "{", "[]", "{\"format\": 1}", "null"] {
        std::fs::write(&json, text).unwrap();
        assert!(matches!(check(&path), Err(Error::Certificate { .. })), "{text}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(check(&path), Err(Error::Io { .. })));
}

#[test]
fn figures_that_contradict_one_another_are_seen_although_sealed() {
    type Change = fn(&mut Certificate);
    let changes: [(&str, Change); 12] = [
        ("bytes", |c| c.tensors[0].bytes += 34),
        ("bits", |c| c.tensors[0].bits_per_weight = 4.0),
        ("no number format", |c| c.tensors[0].type_name = "Q9".to_owned()),
        ("bits per weight is said", |c| c.output.bits_per_weight = 4.0),
        ("types are not those", |c| c.output.types[0].tensors += 1),
        ("source's number", |c| c.source.parameters += 1),
        ("below 1", |c| c.quality.perplexity_after.value = 0.5),
        ("out of order", |c| c.quality.kl_max = 0.2),
        ("no share", |c| c.quality.top1_agreement.value = 1.2),
        ("do not rise", |c| c.quality.kl_quantiles.swap(0, 1)),
        ("won back does not follow", |c| c.won_back.as_mut().unwrap().share = 0.9),
        ("was not measured", |c| c.kv_cache.as_mut().unwrap().recommended = "q4_0".to_owned()),
    ];
    for (expected, change) in changes {
        let problems = problems_of(change);
        let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert!(
            told.iter().any(|text| text.contains("contradicts") && text.contains(expected)),
            "{expected}: {told:?}"
        );
        assert!(!problems.contains(&Problem::Seal));
    }
}

#[test]
fn tensors_that_are_not_those_of_the_file_are_named() {
    let problems = problems_of(|c| c.tensors[3].name = "blk.0.invented.weight".to_owned());
    assert!(problems.contains(&Problem::Missing { tensor: "blk.0.invented.weight".to_owned() }));
    assert!(problems.iter().any(|problem| matches!(problem, Problem::Uncertified { .. })));
    let problems = problems_of(|c| c.tensors[0].shape.swap(0, 1));
    assert!(problems.iter().any(|problem| matches!(problem, Problem::Tensor { .. })));
}

#[test]
fn what_is_no_number_is_not_certified() {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut certificate) = certified(folder.path());
    certificate.quality.kl_max = f64::INFINITY;
    let error = certificate.write_beside(&path).unwrap_err();
    assert!(matches!(&error, Error::Uncertifiable { field } if field == "kl_max"), "{error}");
    assert!(!beside(&path).0.exists());
}

#[test]
fn a_second_measurement_agrees_within_the_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    let (_, certificate) = certified(folder.path());
    let figure = |value: f64| Deviation {
        what: "perplexity",
        certified: certificate.quality.perplexity_after,
        measured: Figure { value, stderr: 0.2 },
    };
    assert!(figure(12.62).agrees() && figure(12.8).agrees() && figure(12.5).agrees());
    assert!(!figure(13.0).agrees() && !figure(12.3).agrees() && !figure(f64::NAN).agrees());
}

/// Elements that HTML leaves open.
const VOID: [&str; 2] = ["meta", "br"];

/// Checks that every tag is closed, in order, and gives the page's text without tags and style.
fn text_of(page: &str) -> String {
    let (mut open, mut text) = (Vec::new(), String::new());
    let body = page.strip_prefix("<!doctype html>\n").expect("a doctype");
    let mut rest = body;
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        let end = start + rest[start..].find('>').expect("tags end");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closing {tag}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    text + rest
}

#[test]
fn the_page_is_whole_and_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (_, certificate) = certified(folder.path());
    let page = certificate.to_html();
    let text = text_of(&page);
    for expected in [
        "Certificate of small.gguf",
        "0.0312",
        "91.2 %",
        "39.9 %",
        "Q8_0",
        "blk.1.ffn_down",
        "q8_0 (recommended)",
    ] {
        assert!(text.contains(expected), "{expected}");
    }
    assert!(text.contains(&certificate.output.sha256) && text.contains(&certificate.source.reference));
    for alien in ["http:", "https:", "<script", "<link", "<img", "url(", "@import", "NaN"] {
        assert!(!page.contains(alien), "{alien}");
    }
}

#[test]
fn text_from_files_stays_text() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut certificate) = certified(folder.path());
    let hostile = "</title></desc></table><script>alert('x')</script>\"&";
    certificate.source.file = hostile.to_owned();
    certificate.source.architecture = hostile.to_owned();
    certificate.source.reference = hostile.to_owned();
    certificate.output.file = hostile.to_owned();
    certificate.settings.held_out.name = hostile.to_owned();
    certificate.settings.target = hostile.to_owned();
    certificate.kv_cache.as_mut().unwrap().measured[0].type_name = hostile.to_owned();
    certificate.cost.stages[0].name = hostile.to_owned();
    certificate.output.types[0].type_name = hostile.to_owned();
    for tensor in &mut certificate.tensors {
        tensor.name = format!("blk.18446744073709551615.{hostile}");
        tensor.type_name = hostile.to_owned();
        tensor.source_type = hostile.to_owned();
        tensor.method = hostile.to_owned();
    }
    let page = certificate.to_html();
    assert!(!page.contains("<script") && !page.contains("alert('x')"));
    text_of(&page);
}
