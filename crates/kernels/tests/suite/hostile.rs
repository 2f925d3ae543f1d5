//! Shapes that do not fit panic as documented, before anything is read or written out of bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kernels::ops::attention::{
    Attention, AttentionScratch, KvType, PAGE, Shape, attend, store_key, store_value,
};
use kernels::{FORMATS, Input, Keep, Matrix, Product, Team, multiply};

#[track_caller]
fn panics(what: &str, action: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(action)).is_err(), "{what} must panic");
}

#[test]
fn rows_of_the_wrong_length() {
    for format in FORMATS {
        let (mut row, mut values) = (vec![0; 2 * format.bytes], vec![0.0; 2 * format.values]);
        panics("a row too short", || format.dequantize_row(&row[1..], &mut values.clone()));
        panics("a row too long", || format.dequantize_row(&row, &mut values.clone()[format.values..]));
        if format.quantize_row(&values, &mut row) {
            panics("no room for a row", || {
                let _ = format.quantize_row(&values, &mut row[1..]);
            });
            panics("too much room", || {
                let _ = format.quantize_row(&values[format.values..], &mut row);
            });
        }
        values.fill(0.0);
        let columns = format.values.max(32);
        let file = vec![0; 3 * format.row_bytes(columns)];
        let mut out = vec![0; format.interleaved_bytes(3, columns)];
        format.interleave(3, columns, &file, &mut out);
        panics("a file too short", || format.interleave(3, columns, &file[1..], &mut out));
        panics("a file too long", || format.interleave(2, columns, &file, &mut out));
        panics("no room", || format.interleave(3, columns, &file, &mut out.clone()[1..]));
    }
}

#[test]
fn products_that_do_not_fit() {
    let team = Team::new(2);
    for format in FORMATS {
        let columns = 2 * format.values.max(32);
        let data = vec![0; format.interleaved_bytes(20, columns)];
        let matrix = Matrix { format, rows: 20, columns, data: &data };
        for tokens in [1, 3] {
            let run = |matrix: Matrix<'_>, columns: usize, keep: Keep, out: usize, stride: usize| {
                let mut input = Input::new(tokens, columns);
                input.set(&team, &vec![1.0; tokens * columns], tokens, columns, keep);
                let mut out = vec![0.0; out];
                multiply(&team, &mut [Product { matrix, input: &input, out: &mut out, stride }]);
            };
            let (right, wrong) =
                if format.is_float() { (Keep::Float, Keep::Int8) } else { (Keep::Int8, Keep::Float) };
            run(matrix, columns, right, 20 * tokens, 20);
            panics("data too short", || {
                run(Matrix { data: &data[1..], ..matrix }, columns, right, 20 * tokens, 20)
            });
            panics("more rows than data", || {
                run(Matrix { rows: 33, ..matrix }, columns, right, 33 * tokens, 33)
            });
            panics("other columns", || run(matrix, columns + 32, right, 20 * tokens, 20));
            panics("the other form of the input", || run(matrix, columns, wrong, 20 * tokens, 20));
            panics("a stride too small", || run(matrix, columns, right, 20 * tokens, 19));
            panics("no room for the last row", || run(matrix, columns, right, 20 * tokens - 1, 20));
            if format.values > 32 {
                // The bytes of a row round down to whole blocks, the activations do not.
                panics("half a block", || {
                    run(Matrix { columns: columns + 32, ..matrix }, columns + 32, right, 20 * tokens, 20)
                });
            }
        }
    }
}

#[test]
fn inputs_that_do_not_fit() {
    let team = Team::new(1);
    let mut input = Input::new(2, 64);
    panics("fewer activations than said", || input.set(&team, &[0.0; 64], 2, 64, Keep::Both));
    panics("more than there is room for", || input.set(&team, &[0.0; 192], 3, 64, Keep::Both));
    panics("part of a block", || input.set(&team, &[0.0; 40], 1, 40, Keep::Int8));
    input.set(&team, &[0.0; 40], 1, 40, Keep::Float);
}

#[test]
fn attention_that_does_not_fit() {
    let team = Team::new(2);
    for kv_type in KvType::ALL {
        let shape = Shape { kv_type, head_dim: 64 };
        let mut area = vec![0; shape.bytes()];
        panics("a key past the end", || store_key(&shape, &mut area, PAGE, &[0.0; 64]));
        panics("a value past the end", || store_value(&shape, &mut area, PAGE, &[0.0; 64]));
        panics("half a key", || store_key(&shape, &mut area, 0, &[0.0; 32]));
        panics("half a value", || store_value(&shape, &mut area, 0, &[0.0; 32]));
        panics("an area too small for a key", || store_key(&shape, &mut area[1..], 0, &[0.0; 64]));
        panics("an area too small for a value", || store_value(&shape, &mut area[1..], 0, &[0.0; 64]));
        let (pages, short) = ([area.clone(), area.clone()], [area.clone(), area[1..].to_vec()]);
        let right = Attention {
            shape,
            pages: pages.as_slice(),
            layer: 0,
            queries: &[0.0; 2 * 64],
            heads: 2,
            kv_heads: 1,
            first_position: 2 * PAGE - 1,
            window: None,
            scale: 1.0,
            softcap: None,
        };
        let run = |attention: Attention<'_, Vec<u8>>, out: usize| {
            attend(&team, &attention, &mut AttentionScratch::default(), &mut vec![0.0; out]);
        };
        run(Attention { ..right }, 2 * 64);
        panics("positions past the end", || run(Attention { first_position: 2 * PAGE, ..right }, 2 * 64));
        panics("a position that overflows", || {
            run(Attention { first_position: usize::MAX, ..right }, 2 * 64)
        });
        panics("a page too short", || run(Attention { pages: &short, ..right }, 2 * 64));
        panics("a page missing", || run(Attention { pages: &pages[1..], ..right }, 2 * 64));
        panics("no page", || run(Attention { pages: &[], ..right }, 2 * 64));
        panics("a layer past the end", || run(Attention { layer: 1, ..right }, 2 * 64));
        panics("a layer that overflows", || run(Attention { layer: usize::MAX, ..right }, 2 * 64));
        panics("heads that cannot share", || run(Attention { kv_heads: 3, ..right }, 2 * 64));
        panics("part of a token", || run(Attention { queries: &[0.0; 64], ..right }, 64));
        panics("fewer outputs than queries", || run(Attention { ..right }, 64));
        if kv_type != KvType::F16 {
            assert!(!kv_type.fits(80) && kv_type.fits(96));
            let shape = Shape { head_dim: 80, ..shape };
            let pages = vec![vec![0; 1 << 20]; 2];
            let odd = Attention { shape, pages: &pages, queries: &[0.0; 160], ..right };
            panics("part of a group", || run(odd, 160));
        }
    }
}

/// Rounded queries are held in arrays of fixed width; a wider head must not run past them.
#[test]
fn very_wide_heads() {
    let team = Team::new(1);
    let shape = Shape { kv_type: KvType::Q8_0, head_dim: 1024 };
    let mut area = vec![0; shape.bytes()];
    let row = vec![1.0; 1024];
    store_key(&shape, &mut area, 0, &row);
    store_value(&shape, &mut area, 0, &row);
    let attention = Attention {
        shape,
        pages: &[area],
        layer: 0,
        queries: &row,
        heads: 1,
        kv_heads: 1,
        first_position: 0,
        window: None,
        scale: 1.0,
        softcap: None,
    };
    panics("a head wider than is documented", || {
        attend(&team, &attention, &mut AttentionScratch::default(), &mut vec![0.0; 1024]);
    });
}
