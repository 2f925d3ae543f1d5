//! What predictions were worth on the machine that they could be tested on: the records, summed up.

use std::collections::BTreeMap;

/// The kinds of figures, how they are called, and the error that is aimed at, in percent.
const KINDS: [(&str, &str, f64); 4] = [
    ("decode_tok_s", "decode, tok/s", 10.0),
    ("prefill_tok_s", "prefill, tok/s", 10.0),
    ("resident_bytes", "memory, mapped files included", 5.0),
    ("anonymous_bytes", "memory that cannot be dropped", 5.0),
];

/// The table of errors by kind and threads.
pub(super) fn table(record: &str) -> Result<String, String> {
    let mut errors: BTreeMap<(&str, usize), Vec<f64>> = BTreeMap::new();
    for line in record.lines().skip(1) {
        let bad = || format!("no row of predictions: {line}");
        // The processor's name is quoted and may hold a comma: count from the end.
        let cells: Vec<&str> = line.rsplitn(12, ',').collect();
        let [_others, _spread, error, _measured, _predicted, _at, _tokens, what, _limit, _kv, threads, _head] =
            cells[..]
        else {
            return Err(bad());
        };
        let error = error.parse::<f64>().map_err(|_| bad())?;
        let threads = threads.parse().map_err(|_| bad())?;
        errors.entry((what, threads)).or_default().push(error);
    }
    let mut out = String::from(
        "| figure | threads | cells | median error | half of them within | worst | aimed at | reached by |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (kind, name, aim) in KINDS {
        for ((_, threads), errors) in errors.iter().filter(|((what, _), _)| *what == kind) {
            out += &format!("| {name} | {threads} | {} |\n", sum_up(errors, aim));
        }
    }
    Ok(out)
}

/// Number, median, middle of the sizes, worst, aim, and how many reach it.
fn sum_up(errors: &[f64], aim: f64) -> String {
    let mut errors = errors.to_vec();
    errors.sort_by(f64::total_cmp);
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    let (count, middle) = (sizes.len(), sizes.len() / 2);
    let reached = sizes.iter().filter(|size| **size <= aim).count();
    let worst = errors.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    format!(
        "{count} | {:+.1} % | {:.1} % | {worst:+.1} % | {aim:.0} % | {reached} of {count}",
        errors[middle], sizes[middle]
    )
}

/// The table of verdicts: how often each was foretold, and what happened.
pub(super) fn verdicts(record: &str) -> Result<String, String> {
    const FORETOLD: [&str; 3] = ["fits", "streams", "killed"];
    const HAPPENED: [&str; 4] = ["fits", "streams", "refused", "killed"];
    let mut counts = BTreeMap::new();
    for line in record.lines().skip(1) {
        let cells: Vec<&str> = line.rsplitn(5, ',').collect();
        let [_peak, _bytes, measured, predicted, _head] = cells[..] else {
            return Err(format!("no row of verdicts: {line}"));
        };
        if let Some(unknown) = [predicted, measured].iter().find(|fit| !HAPPENED.contains(fit)) {
            return Err(format!("no verdict: {unknown}"));
        }
        *counts.entry((predicted, measured)).or_insert(0) += 1;
    }
    let mut out = String::from(
        "| foretold | it fitted | it streamed | it refused | it was killed |\n|---|---|---|---|---|\n",
    );
    for predicted in FORETOLD {
        let count = |measured| counts.get(&(predicted, measured)).copied().unwrap_or(0);
        let [fits, streams, refused, killed] = HAPPENED.map(count);
        out += &format!("| {predicted} | {fits} | {streams} | {refused} | {killed} |\n");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_summed_up_by_kind_and_threads() {
        let row = |what: &str, threads: usize, error: f64| {
            format!("2026,\"AMD, 2\",m,{threads},f16,0,{what},1,0,1,1,{error},2,0\n")
        };
        let record = String::from("head\n")
            + &row("decode_tok_s", 1, -12.0)
            + &row("decode_tok_s", 1, 3.0)
            + &row("decode_tok_s", 1, 5.0)
            + &row("decode_tok_s", 2, 7.0)
            + &row("resident_bytes", 1, 1.0);
        let table = table(&record).unwrap();
        for line in [
            "| decode, tok/s | 1 | 3 | +3.0 % | 5.0 % | -12.0 % | 10 % | 2 of 3 |",
            "| decode, tok/s | 2 | 1 | +7.0 % |",
            "| memory, mapped files included | 1 | 1 |",
        ] {
            assert!(table.contains(line), "{table}");
        }
        assert!(super::table("head\nnothing\n").is_err());
    }

    #[test]
    fn verdicts_are_counted_by_what_happened() {
        let row = |predicted: &str, measured: &str| {
            format!("2026,\"a, b\",m,1,f16,9,9,{predicted},{measured},9,9\n")
        };
        let record =
            String::from("head\n") + &row("fits", "fits") + &row("fits", "fits") + &row("killed", "refused");
        let table = verdicts(&record).unwrap();
        assert!(
            table.contains(
                "| fits | 2 | 0 | 0 | 0 |\n| streams | 0 | 0 | 0 | 0 |\n| killed | 0 | 0 | 1 | 0 |"
            ),
            "{table}"
        );
        assert!(verdicts("head\nnothing\n").is_err());
        assert!(verdicts(&format!("head\n{}", row("fits", "perhaps"))).is_err());
    }
}
