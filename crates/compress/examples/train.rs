//! What training wins back on one model: plain rounding, error compensation, block-wise training, distillation.
//!
//! `cargo run --release -p compress --example train -- MODEL CALIBRATION.txt HELD_OUT.txt FORMAT FOLDER [WINDOWS]`

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::path::Path;
use std::time::Instant;

use compress::float::Source;
use compress::inventory::{Kind, kinds, values};
use compress::journal::Journal;
use compress::methods::training::*;
use compress::rounding::Search;
use compress::walk::{Walk, tensor_entry};
use gguf::{TensorSpec, Writer};
use kernels::{FORMATS, Format, Team};
use text::Encode;

fn perplexity(path: &Path, text: &str, length: usize) -> f64 {
    let team = Team::new(2);
    let model = model::Model::open(path, &model::Options::default());
    let options = evaluate::Options { context: length, windows: Some(env("JUDGE", 120.0) as usize), ..Default::default() };
    evaluate::perplexity(&model.unwrap(), &team, text, &options, &mut |_| ()).unwrap().perplexity
}

fn env(name: &str, default: f32) -> f32 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, held_out, format, folder, rest @ ..] = arguments.as_slice() else {
        panic!("see the top of the file");
    };
    let windows: usize = rest.first().map_or(96, |windows| windows.parse().unwrap());
    let (model, folder) = (Path::new(model), Path::new(folder));
    std::fs::create_dir_all(folder).unwrap();
    let held_out = std::fs::read_to_string(held_out).unwrap();
    let calibration = std::fs::read_to_string(calibration).unwrap();
    let format = FORMATS.iter().find(|known| known.name == format).unwrap();
    let source = Source::open(model).unwrap();
    let length = 256;
    let mut tokens = source.tokenizer.encode(&calibration, Encode { add_special: false, parse_special: false });
    println!("{} tokens of calibration text", tokens.len());
    tokens.truncate(windows * length);
    let window = source.window(length);

    let exact = perplexity(model, &held_out, length);
    println!("F32          {exact:.4}");
    let lost = |name: &str, path: &Path| {
        let found = perplexity(path, &held_out, length);
        println!("{name:12} {found:.4}  lost {:.4}", found - exact);
        found - exact
    };

    let (plain, gptq) = (folder.join("plain.gguf"), folder.join("gptq.gguf"));
    if !gptq.is_file() {
        let kinds = kinds(&source).unwrap();
        let q8 = FORMATS.iter().find(|known| known.name == "Q8_0").unwrap();
        let types: Vec<&'static Format> = kinds
            .iter()
            .zip(source.file.tensors())
            .map(|(kind, info)| match kind {
                Kind::Matrix(_) | Kind::Output { .. } => format,
                Kind::Embedding => q8,
                _ => kernels::format(info.type_id).unwrap(),
            })
            .collect();
        let begun = Instant::now();
        let journal = Journal::open(&folder.join("walk"), "walk").unwrap();
        let walk = Walk {
            source: &source,
            kinds: &kinds,
            types: &types,
            window: &window,
            tokens: &tokens,
            search: Search::Thorough,
            journal: &journal,
        };
        walk.run(&mut |_, _| ()).unwrap();
        println!("compensation took {:.1} s", begun.elapsed().as_secs_f64());
        for (path, compensated) in [(&plain, false), (&gptq, true)] {
            let specs: Vec<TensorSpec> = source
                .file
                .tensors()
                .iter()
                .zip(&types)
                .map(|(info, format)| TensorSpec { name: info.name.clone(), shape: info.shape.clone(), type_id: format.id })
                .collect();
            let mut writer = Writer::create(path, source.file.metadata(), &specs).unwrap();
            for (index, info) in source.file.tensors().iter().enumerate() {
                let data = source.file.data(info);
                let columns = info.shape[0] as usize;
                let bytes = match journal.get(&tensor_entry(index)).unwrap() {
                    Some(bytes) if compensated => bytes,
                    _ if types[index].id == info.type_id => data.to_vec(),
                    _ => {
                        let mut out = vec![0; values(info) as usize / columns * types[index].row_bytes(columns)];
                        let rows = data.chunks_exact(4 * columns);
                        for (row, out) in rows.zip(out.chunks_exact_mut(types[index].row_bytes(columns))) {
                            let row: Vec<f32> = row.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
                            types[index].quantize_row(&row, out);
                        }
                        out
                    }
                };
                writer.write_tensor(&info.name, &bytes).unwrap();
            }
            writer.finish().unwrap();
        }
        journal.remove().unwrap();
    }
    lost("plain", &plain);
    let base = lost("compensated", &gptq);

    let rounded = Source::open(&gptq).unwrap();
    let rates = |name: &str| Rates {
        levels: env(&format!("{name}_LEVELS"), 0.01),
        scales: env(&format!("{name}_SCALES"), 0.001),
    };
    let tune = TuneOptions {
        epochs: env("TUNE_EPOCHS", 3.0) as usize,
        windows: env("TUNE_WINDOWS", 4.0) as usize,
        rates: rates("TUNE"),
        settling: env("SETTLING", 0.2),
        seed: 1,
    };
    let mut options = TrainingOptions { tune, distill: None };
    let journal = Journal::open(&folder.join("tune"), &format!("{options:?} {windows}")).unwrap();
    for distilled in [false, true] {
        if distilled {
            options.distill = Some(DistillOptions {
                epochs: env("DISTILL_EPOCHS", 2.0) as usize,
                windows: env("DISTILL_WINDOWS", 4.0) as usize,
                rates: rates("DISTILL"),
                learn: if env("DISTILL_ALL", 0.0) > 0.0 { Learn::All } else { Learn::Scales },
                seed: 1,
            });
        }
        let begun = Instant::now();
        let (tensors, outcome) =
            train(&source, &rounded, &window, &tokens, &options, &journal, &mut |_| ()).unwrap();
        let name = if distilled { "distilled" } else { "tuned" };
        println!("{name} took {:.1} s", begun.elapsed().as_secs_f64());
        if !distilled {
            for tuned in &outcome.blocks {
                println!("  block {:.5} -> {:.5}", tuned.before, tuned.after);
            }
        } else if let Some(tuned) = &outcome.whole {
            println!("  KL {:.5} -> {:.5}", tuned.before, tuned.after);
        }
        let path = folder.join(format!("{name}.gguf"));
        tensors.write(&path).unwrap();
        let left = lost(name, &path);
        println!("  won back {:.1} % of what compensation left", 100.0 * (1.0 - left / base));
    }
}
