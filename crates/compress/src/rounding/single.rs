//! Formats with one scale a block, stored as a half or a power of two; some with a minimum.

use kernels::trials::{Candidates, levels, settle, sums};
use kernels::{Codes, Scales};

use super::group::{Optimum, best};
use super::{Block, Search};

/// Finds the codes of a block.
pub(super) fn fit(block: &Block, codes: &mut Codes) {
    let (searcher, group) = (block.searcher, block.group(0));
    let (d, dmin) = match (searcher.search, searcher.grid.scales) {
        // A half is so near that what is best stays best.
        (Search::Fast, Scales::Half) => {
            // Among many levels few values change theirs after the first round.
            let (_, highest) = searcher.grid.levels.ends();
            let best = Optimum::find(searcher, group, if highest > 63 { 1 } else { 2 });
            (block.stored_one(best.scale), block.stored_one_min(best.min))
        }
        (Search::Fast, _) => best_stored(block, 2),
        (Search::Thorough, _) => best_stored(block, 5),
    };
    (codes.d, codes.dmin) = (d * block.unit, dmin * block.unit);
    levels(&searcher.nearest, group.values, d, dmin, &mut codes.q[..group.values.len()]);
}

/// The best scale and minimum after so many rounds, all of them tried once more as a file can hold them.
fn best_stored(block: &Block, rounds: usize) -> (f32, f32) {
    let (searcher, group) = (block.searcher, block.group(0));
    let mut least = (f32::INFINITY, 0.0, 0.0);
    for start in searcher.starts.of(group.values) {
        let found = settle(&searcher.nearest, searcher.minimum, group, &start, rounds).at;
        let stored = Candidates { scale: block.stored(&found.scale), min: block.stored_min(&found.min) };
        let error = sums(&searcher.nearest, searcher.minimum, group, &stored).error;
        let lane = best(&error);
        if error[lane] < least.0 {
            least = (error[lane], stored.scale[lane], stored.min[lane]);
        }
    }
    (least.1, least.2)
}
