//! What training wins back of what rounding lost: perplexity on text that nothing was trained on.
//!
//! `cargo run --release -p compress --example train -- ORIGINAL.gguf ROUNDED.gguf CALIBRATION.txt HELD_OUT.txt FOLDER`
//!
//! Options are variables: WINDOWS and LENGTH of the calibration text, JUDGE windows of the held-out text; TUNE_ and DISTILL_
//! EPOCHS, WINDOWS (in a step), LEVELS and SCALES (the rates); LEVELS_TOO for distillation.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::path::Path;
use std::time::Instant;

use compress::float::Source;
use compress::journal::Journal;
use compress::methods::training::{DistillOptions, Learn, Rates, TrainingOptions, TuneOptions, train};
use kernels::Team;
use text::Encode;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn option<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn perplexity(path: &Path, text: &str, length: usize) -> Fallible<f64> {
    let (team, model) = (Team::new(2), model::Model::open(path, &model::Options::default())?);
    let windows = Some(option("JUDGE", 240));
    let options = evaluate::Options { context: length, windows, ..evaluate::Options::default() };
    Ok(evaluate::perplexity(&model, &team, text, &options, &mut |_| ())?.perplexity)
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [original, rounded, calibration, held_out, folder] = arguments.as_slice() else {
        return Err("see the top of this file".into());
    };
    let (original, rounded, folder) = (Path::new(original), Path::new(rounded), Path::new(folder));
    let (calibration, held_out) = (std::fs::read_to_string(calibration)?, std::fs::read_to_string(held_out)?);
    let (length, windows) = (option("LENGTH", 256), option("WINDOWS", 128));

    let exact = perplexity(original, &held_out, length)?;
    println!("original   {exact:.4}");
    let lost = |name: &str, path: &Path| -> Fallible<f64> {
        let found = perplexity(path, &held_out, length)?;
        println!("{name:10} {found:.4}, {:.4} lost", found - exact);
        Ok(found - exact)
    };
    let base = lost("rounded", rounded)?;

    let (source, start) = (Source::open(original)?, Source::open(rounded)?);
    let mut tokens =
        source.tokenizer.encode(&calibration, Encode { add_special: false, parse_special: false });
    tokens.truncate(windows.min(tokens.len() / length) * length);
    let window = source.window(length);
    let rates = |phase: &str| Rates {
        levels: option(&format!("{phase}_LEVELS"), 0.01),
        scales: option(&format!("{phase}_SCALES"), 0.001),
    };
    let tune = TuneOptions {
        epochs: option("TUNE_EPOCHS", 2),
        windows: option("TUNE_WINDOWS", 4),
        rates: rates("TUNE"),
        ..TuneOptions::default()
    };
    let distill = DistillOptions {
        epochs: option("DISTILL_EPOCHS", 2),
        windows: option("DISTILL_WINDOWS", 2),
        rates: rates("DISTILL"),
        learn: if option("LEVELS_TOO", false) { Learn::All } else { Learn::Scales },
        ..DistillOptions::default()
    };
    let journal = Journal::open(&folder.join("journal"), &format!("{tune:?} {}", tokens.len()))?;
    for (name, distill) in [("tuned", None), ("distilled", Some(distill))] {
        let (begun, options) = (Instant::now(), TrainingOptions { tune: tune.clone(), distill });
        let (tensors, trained) = train(&source, &start, &window, &tokens, &options, &journal, &mut |_| ())?;
        println!("{name} in {:.0} s: {trained:?}", begun.elapsed().as_secs_f64());
        let path = folder.join(format!("{name}.gguf"));
        tensors.write(&path)?;
        let left = lost(name, &path)?;
        println!("won back {:.1} %", 100.0 * (1.0 - left / base));
    }
    Ok(())
}
