//! Formats with one scale a block, stored as a half or a power of two; some with a minimum.

use kernels::Codes;
use kernels::trials::{CANDIDATES, Candidates, levels, sums};

use super::group::{Minimum, settle, starts};
use super::{Block, Search};

/// The codes of a block.
pub(super) fn fit(block: &Block, search: Search) -> Codes {
    let (grid, values, weights) = (block.grid, &block.values[..block.count], &block.weights[..block.count]);
    let minimum = Minimum::from(grid.minimums);
    let rounds = match search {
        Search::Fast => 2,
        Search::Thorough => 5,
    };
    let mut best = (f32::INFINITY, 0.0, 0.0);
    for start in starts(grid.levels, values, minimum, search) {
        let (found, _) = settle(grid.levels, values, weights, start, minimum, rounds);
        // What a file can hold is a little off: tried once more as it is.
        let mut stored = Candidates::default();
        for lane in 0..CANDIDATES {
            stored.scale[lane] = block.stored(found.at.scale[lane]);
            stored.min[lane] = block.stored_min(found.at.min[lane]);
        }
        let errors = sums(grid.levels, values, weights, &stored).error;
        for (lane, error) in errors.into_iter().enumerate() {
            if error < best.0 {
                best = (error, stored.scale[lane], stored.min[lane]);
            }
        }
    }
    let (_, d, dmin) = best;
    let mut codes = Codes { d: d * block.unit, dmin: dmin * block.unit, ..Codes::ZERO };
    levels(grid.levels, values, d, dmin, &mut codes.q[..block.count]);
    codes
}
