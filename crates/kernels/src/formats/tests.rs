//! Every quantized format against the fixtures of `tests/data`, which the reference reader of the formats
//! made.

use super::block::{Fields, Integers};
use super::*;

type Dequantize = fn(&[u8], &mut [f32]);

struct Case {
    name: &'static str,
    values: usize,
    bytes: usize,
    dequantize: Dequantize,
    integers: Integers,
    /// Two blocks, then their values.
    golden: &'static [u8],
}

macro_rules! cases {
    ($($format:ident)*) => {
        [$(Case {
            name: stringify!($format),
            values: $format::VALUES,
            bytes: $format::BYTES,
            dequantize: $format::dequantize,
            integers: $format::integers,
            golden: include_bytes!(concat!("../../tests/data/", stringify!($format), ".bin")),
        }),*]
    };
}

const CASES: [Case; 22] = cases! {
    q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4 tq1_0 tq2_0
    iq2_xxs iq2_xs iq2_s iq3_xxs iq3_s iq1_s iq1_m
};

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect()
}

/// Values around zero as weights have them: sums of uniform numbers from a small generator.
fn weights(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 16_777_216.0 - 0.5
    };
    (0..count).map(|_| uniform() + uniform() + uniform()).collect()
}

#[test]
fn dequantize_gives_the_bits_of_the_reference() {
    for case in CASES {
        assert_eq!(case.golden.len(), 2 * (case.bytes + 4 * case.values), "{}", case.name);
        let (blocks, expected) = case.golden.split_at(2 * case.bytes);
        let expected = floats(expected);
        for (b, block) in blocks.chunks_exact(case.bytes).enumerate() {
            let mut got = vec![0.0; case.values];
            (case.dequantize)(block, &mut got);
            for (i, (got, expected)) in got.iter().zip(&expected[b * case.values..]).enumerate() {
                assert_eq!(got.to_bits(), expected.to_bits(), "{} block {b} value {i}", case.name);
            }
        }
    }
}

#[test]
fn grids_are_those_of_the_reference() {
    let eights = |grid: &[u16], levels: &[i8; 4]| -> Vec<i8> {
        grid.iter().flat_map(|&point| grids::eight(point, levels)).collect()
    };
    let fours = |grid: &[u16], levels: &[i8; 8]| -> Vec<i8> {
        grid.iter().flat_map(|&point| grids::four(point, levels)).collect()
    };
    let all = [
        eights(&grids::IQ2_XXS, &grids::IQ2_LEVELS),
        eights(&grids::IQ2_XS, &grids::IQ2_LEVELS),
        eights(&grids::IQ2_S, &grids::IQ2_LEVELS),
        fours(&grids::IQ3_XXS, &grids::IQ3_XXS_LEVELS),
        fours(&grids::IQ3_S, &grids::IQ3_S_LEVELS),
        // Here the levels are in eighths, which the reference's are not.
        eights(&grids::IQ1, &grids::IQ1_LEVELS).iter().map(|level| level / 8).collect(),
    ];
    let expected = include_bytes!("../../tests/data/grids.bin").chunks_exact(4);
    assert_eq!(expected.len(), all.len());
    for (levels, expected) in all.iter().zip(expected) {
        assert_eq!(crc32(levels).to_le_bytes(), expected);
    }
}

/// CRC-32 as in zlib, bit by bit.
fn crc32(levels: &[i8]) -> u32 {
    !levels.iter().fold(!0, |crc: u32, &level| {
        (0..8).fold(crc ^ u32::from(level as u8), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

#[test]
fn integers_agree_with_the_reference() {
    for case in CASES {
        let (blocks, expected) = case.golden.split_at(2 * case.bytes);
        let expected = floats(expected);
        for (b, block) in blocks.chunks_exact(case.bytes).enumerate() {
            let mut q = vec![0; case.values];
            let (mut scale, mut min) = (vec![f32::NAN; case.values / 16], vec![f32::NAN; case.values / 16]);
            (case.integers)(block, &mut q, &mut scale, &mut min);
            for i in 0..case.values {
                let product = f64::from(scale[i / 16]) * f64::from(q[i]);
                let min = f64::from(min[i / 16]);
                let expected = f64::from(expected[b * case.values + i]);
                // The reference rounds once for the product and once for the sum, half an epsilon each.
                let tolerance = f64::from(f32::EPSILON) / 2.0 * (2.0 * product.abs() + min.abs());
                assert!((product - min - expected).abs() <= tolerance, "{} block {b} value {i}", case.name);
            }
        }
    }
}

#[test]
fn quantize_gives_the_bytes_of_the_reference() {
    macro_rules! check {
        ($($format:ident)*) => {$(
            let (values, expected) =
                include_bytes!(concat!("../../tests/data/", stringify!($format), ".quantized.bin")).split_at(1024);
            let blocks = expected.chunks_exact($format::BYTES);
            for (values, expected) in floats(values).chunks_exact($format::VALUES).zip(blocks) {
                // What stood in the block before must not shine through.
                let mut block = [0xa5; $format::BYTES];
                $format::encode(&$format::round(values), &mut block);
                assert_eq!(block, expected, stringify!($format));
            }
        )*};
    }
    check! { q4_0 q4_1 q5_0 q5_1 q8_0 mxfp4 }
}

/// Formats that can be written, with the largest error of a value, as a part of the block's range `high -
/// low` (formats with minimums) or of its largest magnitude `peak` (the others).
///
/// With one scale: half a step; or a whole step where the levels end one step early on the positive side.
/// With two levels of scales, a scale is off by half its own step and a peak feels that once a level, so that
/// 1 / scale levels comes on top (twice where the scales end one early as well); a minimum is off by half its
/// step too. Halves round by 2^-11.
macro_rules! writable {
    ($($format:ident $of:ident $bound:expr),* $(,)?) => {
        [$((named(stringify!($format)), stringify!($of), $bound + 1.0 / 1024.0)),*]
    };
}

fn named(name: &str) -> &'static Format {
    FORMATS.iter().find(|format| format.name.eq_ignore_ascii_case(name)).unwrap()
}

#[test]
fn quantize_stays_within_its_error() {
    let formats = writable! {
        q4_0 peak 1.0 / 8.0,
        q4_1 range 0.5 / 15.0,
        q5_0 peak 1.0 / 16.0,
        q5_1 range 0.5 / 31.0,
        q8_0 peak 0.5 / 127.0,
        q2_k range 0.5 / 3.0 + 1.0 / 15.0,
        q3_k peak 1.0 / 4.0 + 1.0 / 32.0,
        q4_k range 0.5 / 15.0 + 1.0 / 63.0,
        q5_k range 0.5 / 31.0 + 1.0 / 63.0,
        q6_k peak 1.0 / 32.0 + 1.0 / 128.0,
        // The levels end at 113 of 127 on the positive side; their widest gap is 24.
        iq4_nl peak 14.0 / 127.0,
        iq4_xs peak 14.0 / 127.0 + 1.0 / 32.0,
        // Peaks below 8 scales become 6; a scale is at most a quarter of the peak.
        mxfp4 peak 2.0 / 8.0,
    };
    let weights = weights(64 * 256);
    for (format, of, bound) in formats {
        let (mut block, mut got) = (vec![0xa5; format.bytes], vec![0.0; format.values]);
        for source in weights.chunks_exact(format.values) {
            assert!(format.quantize_row(source, &mut block));
            format.dequantize_row(&block, &mut got);
            let (low, high) = rounding::range(source);
            let whole = if of == "range" { high - low } else { rounding::peak(source).abs() };
            for (x, got) in source.iter().zip(&got) {
                assert!((x - got).abs() <= bound * whole, "{format:?}: {got} for {x}, {bound} of {whole}");
            }
        }
    }
}

/// The formats that codes are chosen for.
fn with_grid() -> impl Iterator<Item = (&'static Format, &'static Grid)> {
    FORMATS.iter().filter_map(|format| Some((format, format.grid()?)))
}

/// Blocks that a search for scales could divide by zero on, and values that no format can hold.
#[test]
fn quantize_takes_any_values() {
    for (format, _) in with_grid() {
        let (mut block, mut got) = (vec![0xa5; format.bytes], vec![f32::NAN; format.values]);
        assert!(format.quantize_row(&vec![0.0; format.values], &mut block));
        format.dequantize_row(&block, &mut got);
        assert!(got.iter().all(|&x| x == 0.0), "{format:?}");
        for odd in [1.0, -1.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(format.quantize_row(&vec![odd; format.values], &mut block));
            let mut mixed = weights(format.values);
            mixed[format.values / 2] = odd;
            assert!(format.quantize_row(&mixed, &mut block));
        }
    }
}

/// Every scale, minimum and level that a grid has, with halves of all magnitudes: what is packed is what is read.
#[test]
fn encoded_codes_are_read_to_the_bit() {
    assert_eq!(with_grid().count(), 13);
    let mut state = 7u32;
    let mut random = |count: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % count
    };
    for (format, grid) in with_grid() {
        let levels: Vec<i8> = match grid.levels {
            Levels::Range { lowest, highest } => (lowest..=highest).collect(),
            Levels::Table(levels) => levels.to_vec(),
        };
        assert!(levels.is_sorted() && grid.levels.ends() == (levels[0], levels[levels.len() - 1]));
        let (mut block, mut got) = (vec![0xa5; format.bytes], vec![f32::NAN; format.values]);
        for turn in 0..500 {
            let mut codes = Codes::ZERO;
            // A random pattern of a half, or one of the powers of two.
            let mut half = || crate::half::f16_to_f32((random(0x7c00) | random(2) << 15) as u16);
            codes.d = match grid.scales {
                Scales::PowerOfTwo => grid.stored(mxfp4::half_scale((turn % 256) as u8)),
                _ => grid.stored(half()),
            };
            codes.dmin = grid.stored_min(half());
            for g in 0..format.values / grid.group {
                if let Scales::Integer { lowest, highest } = grid.scales {
                    codes.scale[g] =
                        lowest.wrapping_add(random(usize::from(highest.abs_diff(lowest)) + 1) as i8);
                }
                if let Minimums::Integer { highest } = grid.minimums {
                    codes.min[g] = random(usize::from(highest) + 1) as u8;
                }
            }
            codes.q[..format.values].fill_with(|| levels[random(levels.len())]);
            format.encode(&codes, &mut block);
            let mut again = vec![0; format.bytes];
            format.encode(&format.decode(&block), &mut again);
            assert_eq!(again, block, "{format:?} decoded and encoded again");
            format.dequantize_row(&block, &mut got);
            for (i, got) in got.iter().enumerate() {
                let said = codes.value(grid, i);
                assert_eq!(got.to_bits(), said.to_bits(), "{format:?} value {i}: {got}, not {said}");
                let level = codes.nearest(grid, i, said);
                if codes.scale_of(grid, i / grid.group) != 0.0
                    && said.abs() < 1e30
                    && grid.minimums == Minimums::None
                {
                    assert_eq!(level, codes.q[i], "{format:?} value {i}");
                }
            }
        }
    }
}

#[test]
fn scales_are_stored_as_the_nearest() {
    for (format, grid) in with_grid() {
        for d in [0.0, 1e-30, 3e-5, 0.7, -0.7, 1.4, 1.6, 60000.0, 1e9, f32::MAX, f32::INFINITY] {
            let stored = grid.stored(d);
            assert!(stored.is_finite(), "{format:?} {d}");
            assert_eq!(grid.stored(stored).to_bits(), stored.to_bits(), "{format:?} {d}");
        }
    }
    let half = named("Q4_0").grid().unwrap();
    assert_eq!([0.1, -0.1, 1e9].map(|d| half.stored(d)), [0.099_975_586, -0.099_975_586, 65504.0]);
    let power = named("MXFP4").grid().unwrap();
    let stored = [0.0, 0.7, 1.0, 1.4, 1.6, 3.1, f32::MAX].map(|d| power.stored(d));
    assert_eq!(stored, [2f32.powi(-128), 0.5, 1.0, 1.0, 2.0, 4.0, 2f32.powi(127)]);
    for e in 0..=255 {
        let d = mxfp4::half_scale(e);
        assert_eq!(power.stored(d).to_bits(), d.to_bits(), "{e}");
    }
}

#[test]
fn the_nearest_level_is_nearest() {
    for (format, grid) in with_grid() {
        let levels: Vec<i8> = match grid.levels {
            Levels::Range { lowest, highest } => (lowest..=highest).collect(),
            Levels::Table(levels) => levels.to_vec(),
        };
        for x in (-2000..2000).map(|x| x as f32 / 8.0 + 1.0 / 64.0) {
            let distance = |level: i8| (x - f32::from(level)).abs();
            let best = levels.iter().map(|&level| distance(level)).fold(f32::INFINITY, f32::min);
            assert_eq!(distance(grid.levels.nearest(x)), best, "{format:?} {x}");
        }
    }
}

#[test]
fn fields_are_read_where_they_were_put() {
    for (bits, run) in [(1, 1), (1, 32), (2, 1), (2, 4), (2, 32), (4, 1), (4, 8), (4, 16), (4, 32), (4, 64)] {
        let fields = Fields::new(bits, run);
        let count = run * 8 / bits * 2;
        let mut bytes = vec![0; count * bits / 8];
        for i in 0..count {
            fields.put(&mut bytes, i, (i * 7) as u8);
        }
        for i in 0..count {
            assert_eq!(
                fields.get(&bytes, i),
                (i * 7) as u8 & ((1 << bits) - 1),
                "{bits} bits, run {run}, {i}"
            );
        }
    }
}

#[test]
fn float_formats_round_trip() {
    let weights = weights(100);
    let (mut bytes, mut got) = (vec![0; 400], vec![0.0; 100]);
    float::F32::quantize(&weights, &mut bytes);
    float::F32::dequantize(&bytes, &mut got);
    assert_eq!(got, weights);
    let close = |got: &[f32], bits: i32| {
        got.iter()
            .zip(&weights)
            .all(|(a, b)| (a - b).abs() <= (b.abs() * 2f32.powi(-bits)).max(2f32.powi(-25)))
    };
    float::F16::quantize(&weights, &mut bytes[..200]);
    float::F16::dequantize(&bytes[..200], &mut got);
    assert!(close(&got, 11));
    float::Bf16::quantize(&weights, &mut bytes[..200]);
    float::Bf16::dequantize(&bytes[..200], &mut got);
    assert!(close(&got, 8));
}
