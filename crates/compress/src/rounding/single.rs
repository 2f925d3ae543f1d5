//! Formats with one scale a block, stored as a half or a power of two; some with a minimum.

use kernels::Codes;
use kernels::trials::{Candidates, levels, settle, sums};

use super::group::best;
use super::{Block, Search};

/// Finds the codes of a block.
pub(super) fn fit(block: &Block, codes: &mut Codes) {
    let (searcher, group) = (block.searcher, block.group(0));
    let rounds = match searcher.search {
        Search::Fast => 2,
        Search::Thorough => 5,
    };
    let mut least = (f32::INFINITY, 0.0, 0.0);
    for start in searcher.starts.of(group.values) {
        let found = settle(&searcher.nearest, searcher.minimum, group, &start, rounds).at;
        // What a file can hold is a little off: tried once more as it is.
        let stored = Candidates { scale: block.stored(&found.scale), min: block.stored_min(&found.min) };
        let error = sums(&searcher.nearest, searcher.minimum, group, &stored).error;
        let lane = best(&error);
        if error[lane] < least.0 {
            least = (error[lane], stored.scale[lane], stored.min[lane]);
        }
    }
    let (_, d, dmin) = least;
    (codes.d, codes.dmin) = (d * block.unit, dmin * block.unit);
    levels(&searcher.nearest, group.values, d, dmin, &mut codes.q[..group.values.len()]);
}
