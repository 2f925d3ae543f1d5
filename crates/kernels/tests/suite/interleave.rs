//! Interleaving is a permutation of bits, with zeros where rows are missing.

use kernels::FORMATS;

use crate::support::interleave;

/// Where each bit of the interleaved form comes from: the number of a bit of the file, from 1, or 0 for none.
///
/// Bit `b` of every number is a file of its own, so a handful of files tell the whole map.
fn sources(format: &kernels::Format, rows: usize, columns: usize) -> Vec<usize> {
    let count = rows * format.row_bytes(columns) * 8;
    let mut sources = vec![0; format.interleaved_bytes(rows, columns) * 8];
    for b in 0..=count.ilog2() {
        let mut file = vec![0u8; count / 8];
        for number in 1..=count {
            file[(number - 1) / 8] |= ((number >> b & 1) as u8) << ((number - 1) % 8);
        }
        let interleaved = interleave(format, rows, columns, &file);
        for (at, source) in sources.iter_mut().enumerate() {
            *source |= usize::from(interleaved[at / 8] >> (at % 8) & 1) << b;
        }
    }
    sources
}

#[test]
fn every_bit_of_the_file_is_there_once() {
    for format in FORMATS {
        for (rows, blocks) in [(1, 1), (16, 2), (17, 1), (31, 1)] {
            let columns = blocks * format.values;
            let mut sources = sources(format, rows, columns);
            assert_eq!(sources.len() / 8, rows.next_multiple_of(16) * blocks * format.bytes, "{format:?}");
            sources.sort_unstable();
            let padding = sources.len() - rows * format.row_bytes(columns) * 8;
            assert!(sources[..padding].iter().all(|&source| source == 0), "{format:?}: padding is not zero");
            let expected = 1..=sources.len() - padding;
            assert!(sources[padding..].iter().copied().eq(expected), "{format:?}, {rows} rows: bits lost");
        }
    }
}

/// Groups of 16 rows are on their own, so that they may be done in parallel.
#[test]
fn groups_are_independent() {
    let mut random = crate::support::Random::new(20);
    for format in FORMATS {
        let (rows, columns) = (40, 2 * format.values);
        let group = 16 * format.row_bytes(columns);
        let mut file = vec![0; rows * format.row_bytes(columns)];
        random.fill(&mut file);
        let whole = interleave(format, rows, columns, &file);
        let parts: Vec<u8> = (file.chunks(group))
            .flat_map(|part| interleave(format, part.len() / format.row_bytes(columns), columns, part))
            .collect();
        assert_eq!(whole, parts, "{format:?}");
    }
}
