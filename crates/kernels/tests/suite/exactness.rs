//! A product's bits depend on its row and its token alone: not on the number of threads, not on the other tokens and
//! rows, not on the other products of the phase, not on where the data lies.

use kernels::{FORMATS, Format, Input, Keep, Matrix, Product, Team, multiply};

use crate::support::{Kind, Random, Weights, bits, product};

fn columns(format: &Format) -> usize {
    2 * format.values.max(48).next_multiple_of(32)
}

#[test]
fn a_token_alone_is_as_among_others_and_so_is_a_row() {
    const ROWS: usize = 100;
    const TOKENS: usize = 33;
    let team = Team::new(1);
    let mut random = Random::new(10);
    for format in FORMATS {
        let columns = columns(format);
        let all = Weights::new(format, ROWS, columns, Kind::of(format)[0], &mut random);
        let x = random.activations(TOKENS, columns);
        let expected = product(&team, all.matrix(), &x, TOKENS);
        for rows in [1, 15, 16, 17, 48, ROWS] {
            let weights = all.truncated(rows);
            for tokens in [1, 2, 3, 7, 8, 15, TOKENS] {
                // The last ones, so that tokens stand in other tiles than among all.
                let first = TOKENS - tokens;
                let got = product(&team, weights.matrix(), &x[first * columns..], tokens);
                for token in 0..tokens {
                    let expected = &expected[(first + token) * ROWS..][..rows];
                    let got = &got[token * rows..][..rows];
                    assert_eq!(
                        bits(got),
                        bits(expected),
                        "{format:?}, {rows} rows, {tokens} tokens, {token}"
                    );
                }
            }
        }
    }
}

/// All formats in one phase, on teams of several sizes, outputs wider than the rows.
#[test]
fn products_of_one_phase_are_as_alone_whatever_the_threads() {
    const SPARE: usize = 3;
    const COLUMNS: usize = 512;
    let untouched = 12345.678f32;
    let mut random = Random::new(11);
    let alone = Team::new(1);
    let weights: Vec<Weights> = (FORMATS.iter().enumerate())
        .map(|(at, format)| Weights::new(format, 1 + 13 * at, COLUMNS, Kind::of(format)[0], &mut random))
        .collect();
    for tokens in [1, 2, 9] {
        let x = random.activations(tokens, COLUMNS);
        let expected: Vec<Vec<f32>> =
            weights.iter().map(|weights| product(&alone, weights.matrix(), &x, tokens)).collect();
        for threads in [1, 2, 3, 5] {
            let team = Team::new(threads);
            let mut input = Input::new(16, 1024);
            input.set(&team, &x, tokens, COLUMNS, Keep::Both);
            assert_eq!((input.tokens(), input.columns()), (tokens, COLUMNS));
            let mut outs: Vec<Vec<f32>> = (weights.iter())
                .map(|weights| vec![untouched; tokens * (weights.rows + SPARE) - SPARE])
                .collect();
            let mut products: Vec<Product<'_>> = (weights.iter().zip(&mut outs))
                .map(|(weights, out)| Product {
                    matrix: weights.matrix(),
                    input: &input,
                    out,
                    stride: weights.rows + SPARE,
                })
                .collect();
            multiply(&team, &mut products);
            for ((weights, out), expected) in weights.iter().zip(&outs).zip(&expected) {
                let name = weights.format.name;
                for (token, out) in out.chunks(weights.rows + SPARE).enumerate() {
                    let (written, spare) = out.split_at(weights.rows);
                    let expected = &expected[token * weights.rows..][..weights.rows];
                    assert_eq!(bits(written), bits(expected), "{name}, {tokens} tokens, {threads} threads");
                    assert!(spare.iter().all(|&spare| spare == untouched), "{name} wrote between its rows");
                }
            }
        }
    }
}

/// More groups of rows than one call of the one-token kernel takes, and more than one chunk of them.
#[test]
fn many_rows_of_one_token() {
    const ROWS: usize = 3000;
    let teams = [Team::new(1), Team::new(3)];
    let mut random = Random::new(12);
    for format in FORMATS {
        let columns = format.values.max(32);
        let weights = Weights::new(format, 40, columns, Kind::of(format)[0], &mut random);
        let file: Vec<u8> =
            weights.file.iter().copied().cycle().take(ROWS * format.row_bytes(columns)).collect();
        let interleaved = crate::support::interleave(format, ROWS, columns, &file);
        let many = Matrix { format, rows: ROWS, columns, data: &interleaved };
        let x = random.activations(1, columns);
        let expected = product(&teams[0], weights.matrix(), &x, 1);
        for team in &teams {
            let got = product(team, many, &x, 1);
            for (row, got) in got.iter().enumerate() {
                assert_eq!(got.to_bits(), expected[row % 40].to_bits(), "{format:?} row {row}");
            }
        }
    }
}

/// Weights come from a mapped file and may begin anywhere.
#[test]
fn data_at_any_address() {
    let team = Team::new(1);
    let mut random = Random::new(13);
    for format in FORMATS {
        let columns = columns(format);
        let weights = Weights::new(format, 16, columns, Kind::of(format)[0], &mut random);
        for tokens in [1, 5] {
            let x = random.activations(tokens, columns);
            let expected = product(&team, weights.matrix(), &x, tokens);
            for offset in [1, 2, 30] {
                let mut moved = vec![0; offset];
                moved.extend_from_slice(&weights.interleaved);
                let matrix = Matrix { data: &moved[offset..], ..weights.matrix() };
                let got = product(&team, matrix, &x, tokens);
                assert_eq!(bits(&got), bits(&expected), "{format:?} at {offset}, {tokens} tokens");
            }
        }
    }
}

/// An input set again with fewer or other tokens does not remember the old ones.
#[test]
fn an_input_is_used_again() {
    let team = Team::new(2);
    let mut random = Random::new(14);
    for format in FORMATS {
        let columns = columns(format);
        let weights = Weights::new(format, 20, columns, Kind::of(format)[0], &mut random);
        let mut input = Input::new(10, columns);
        for tokens in [10, 1, 3, 8, 1] {
            let x = random.activations(tokens, columns);
            input.set(&team, &x, tokens, columns, Keep::Both);
            let mut out = vec![f32::NAN; tokens * 20];
            multiply(
                &team,
                &mut [Product { matrix: weights.matrix(), input: &input, out: &mut out, stride: 20 }],
            );
            assert_eq!(
                bits(&out),
                bits(&product(&team, weights.matrix(), &x, tokens)),
                "{format:?} {tokens}"
            );
        }
    }
}

#[test]
fn nothing_times_nothing() {
    let team = Team::new(2);
    for format in FORMATS {
        let columns = format.values.max(32);
        let keep = crate::support::keep(format);
        let mut input = Input::new(4, columns);
        // No tokens.
        let weights = Weights::new(format, 20, columns, Kind::of(format)[0], &mut Random::new(15));
        input.set(&team, &[], 0, columns, keep);
        multiply(&team, &mut [Product { matrix: weights.matrix(), input: &input, out: &mut [], stride: 20 }]);
        for tokens in [1, 3] {
            // No rows.
            let mut input = Input::new(tokens, columns);
            input.set(&team, &vec![1.0; tokens * columns], tokens, columns, keep);
            let matrix = Matrix { format, rows: 0, columns, data: &[] };
            multiply(&team, &mut [Product { matrix, input: &input, out: &mut [], stride: 0 }]);
            // No columns: sums of nothing.
            input.set(&team, &[], tokens, 0, keep);
            let mut out = vec![f32::NAN; tokens * 20];
            let matrix = Matrix { format, rows: 20, columns: 0, data: &[] };
            multiply(&team, &mut [Product { matrix, input: &input, out: &mut out, stride: 20 }]);
            assert!(out.iter().all(|&out| out == 0.0), "{format:?}: {out:?}");
        }
    }
    multiply(&team, &mut []);
}
