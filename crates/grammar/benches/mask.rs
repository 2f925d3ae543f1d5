//! What a form costs: the trie of a vocabulary, a constraint, and a token's mask.
//! `cargo bench -p grammar -- model.gguf`.

#![expect(clippy::print_stdout, reason = "the report is the purpose")]

use std::path::Path;
use std::time::{Duration, Instant};

use engine::Constraint;
use grammar::{Calls, Grammars, ToolFormat};
use serde_json::json;
use text::{ChatTemplate, Encode, Tokenizer};

/// Each answer is written so often, with a constraint of its own.
const REPEATS: usize = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        println!("usage: cargo bench -p grammar -- model.gguf");
        return Ok(());
    };
    let file = gguf::File::open(Path::new(&path))?;
    let tokenizer = Tokenizer::from_metadata(file.metadata())?;
    let template = ChatTemplate::from_metadata(file.metadata())?;
    println!("{} tokens", tokenizer.vocab_size());
    let start = Instant::now();
    let grammars = Grammars::new(&tokenizer);
    println!("words copied {:.1} ms", milliseconds(start.elapsed()));
    let start = Instant::now();
    drop(grammars.regex("a")?);
    println!("trie built {:.0} ms", milliseconds(start.elapsed()));

    let schema = json!({"type": "object", "properties": {
        "title": {"type": "string"}, "year": {"type": "integer"}, "genres": {"type": "array", "items": {"enum": ["drama", "comedy", "crime"]}},
        "director": {"type": "object", "properties": {"name": {"type": "string"}, "born": {"type": ["integer", "null"]}}, "required": ["name"]}
    }, "required": ["title", "year", "genres", "director"]});
    let tools = json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
        {"type": "function", "function": {"name": "add_film", "parameters": schema}},
    ]);
    let film = r#"{"title": "The Third Man, or what was found under the wheel in Vienna", "year": 1949, "genres": ["crime", "drama"], "director": {"name": "Carol Reed", "born": 1906}}"#;
    let call = format!(
        "I will add it to your list of films now.\n<tool_call>\n{{\"name\": \"add_film\", \"arguments\": {film}}}\n</tool_call>"
    );
    let format = ToolFormat::of(&template);
    report("JSON object", &tokenizer, film, || Ok(grammars.json_object()?))?;
    report("JSON Schema", &tokenizer, film, || Ok(grammars.json_schema(&schema)?))?;
    report("regex", &tokenizer, "2026-11-22", || Ok(grammars.regex("[0-9]{4}-[0-9]{2}-[0-9]{2}")?))?;
    if matches!(format.name(), "hermes" | "instructions") {
        report("tools, auto", &tokenizer, &call, || {
            format.constraint(&grammars, &tools, &Calls::default())?.ok_or_else(|| "there are tools".into())
        })?;
    }
    Ok(())
}

/// Writes `text` under the constraint and prints what its tokens' masks took.
fn report(
    name: &str,
    tokenizer: &Tokenizer,
    text: &str,
    constraint: impl Fn() -> Result<Box<dyn Constraint>, Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let ids = tokenizer.encode(text, Encode { add_special: false, parse_special: true });
    let (mut made, mut masks, mut accepts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        let start = Instant::now();
        let mut constraint = constraint()?;
        made.push(start.elapsed());
        for &id in &ids {
            let mut logits = vec![0.0; tokenizer.vocab_size()];
            let start = Instant::now();
            constraint.mask(&mut logits)?;
            masks.push(start.elapsed());
            if logits[id as usize] != 0.0 {
                return Err(format!("{name} does not allow {:?}", tokenizer.piece(id)).into());
            }
            let start = Instant::now();
            constraint.accept(id)?;
            accepts.push(start.elapsed());
        }
    }
    let [made, mut masks, accepts] = [made, masks, accepts];
    masks.sort_unstable();
    let at = |part: f64| microseconds(masks[((masks.len() - 1) as f64 * part) as usize]);
    println!(
        "{name:12} made {:.2} ms; mask mean {:.0}, median {:.0}, p99 {:.0}, worst {:.0} us; accept mean {:.1} us; {} tokens",
        milliseconds(mean(&made)),
        microseconds(mean(&masks)),
        at(0.5),
        at(0.99),
        at(1.0),
        microseconds(mean(&accepts)),
        ids.len(),
    );
    Ok(())
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len().max(1) as u32
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
