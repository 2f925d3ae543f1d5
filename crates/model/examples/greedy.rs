//! Continues a text greedily: `cargo run --release -p model --example greedy -- MODEL.gguf "The capital of France" 40`.
//! The smallest program that uses the crate, for a first look at a model.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use kernels::Team;
use model::{Error, KvCache, KvType, Logits, Model, Options, Workspace};
use text::{Encode, TextStream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, prompt, rest @ ..] = &arguments[..] else {
        return Err("usage: greedy MODEL PROMPT [TOKENS]".into());
    };
    let count: usize = rest.first().map_or(Ok(40), |count| count.parse())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (team, started) = (Team::new(threads), Instant::now());
    let cache_folder = std::env::temp_dir().join("pouch-interleaved");
    let options = Options { cache_folder: Some(&cache_folder), team: Some(&team), ..Options::default() };
    let model = Model::open(Path::new(path), &options)?;
    eprintln!("{} parameters, {:?} in {:?}", model.parameters(), model.residence(), started.elapsed());

    let tokens = model.tokenizer.encode(prompt, Encode { add_special: true, parse_special: true });
    let mut workspace = Workspace::new(&model.config, 512);
    let mut cache = KvCache::new(&model.config, tokens.len() + count + 1, KvType::F16)?;
    let started = Instant::now();
    let mut next = 0;
    for batch in tokens.chunks(workspace.max_batch()) {
        next = best(model.forward(&team, &mut workspace, &mut cache, batch, Logits::Last)?);
    }
    let (prefill, started) = (started.elapsed(), Instant::now());
    let mut stream = TextStream::new();
    print!("{prompt}");
    let mut made = 0;
    while made < count && !model.tokenizer.is_end_of_generation(next) {
        print!("{}", stream.push(&model.tokenizer.token_bytes(next, true)));
        std::io::stdout().flush()?;
        next = step(&model, &team, &mut workspace, &mut cache, next)?;
        made += 1;
    }
    println!("{}", stream.finish());
    eprintln!("{} tokens read in {prefill:?}, {made} written in {:?}", tokens.len(), started.elapsed());
    Ok(())
}

fn step(
    model: &Model,
    team: &Team,
    workspace: &mut Workspace,
    cache: &mut KvCache,
    token: u32,
) -> Result<u32, Error> {
    Ok(best(model.forward(team, workspace, cache, &[token], Logits::Last)?))
}

/// The likeliest token.
fn best(logits: &[f32]) -> u32 {
    let first = |best: usize, id: usize| if logits[id] > logits[best] { id } else { best };
    (0..logits.len()).reduce(first).unwrap_or_default() as u32
}
