//! Finding the few tokens that matter among a vocabulary of logits, and cutting them by probability mass, without a sort.
//!
//! Two ideas carry everything. Gathering passes once over the logits, a block at a time, and skips a block whose largest
//! value cannot enter: after the first few thousand logits that is nearly all of them. Cutting "the likeliest tokens up to
//! a mass" is a quickselect that weighs instead of counts ([`select_by_mass`]); top-p and the random draw are both that
//! one function, the draw being the cut at a random mass. The order is total (falling logits, then rising ids), so
//! results do not depend on how the selection went.

/// Logits looked at together while gathering: their maximum compiles to a few vector instructions.
const BLOCK: usize = 16;

/// A range this small is sorted instead of selected from.
const SMALL: usize = 64;

/// A token and its logit in one integer that sorts by falling logit, then by rising id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate(u64);

impl Candidate {
    /// `logit` is not NaN.
    pub(super) fn new(id: u32, logit: f32) -> Candidate {
        let bits = (logit + 0.0).to_bits(); // -0.0 becomes 0.0, so that equal logits have equal keys
        // Bits of positive floats rise with their value and those of negative ones fall, so inverting the former's
        // magnitude makes both fall.
        let falling = if bits >> 31 == 0 { bits ^ 0x7fff_ffff } else { bits };
        Candidate(u64::from(falling) << 32 | u64::from(id))
    }

    pub(super) fn id(&self) -> u32 {
        self.0 as u32
    }

    pub(super) fn logit(&self) -> f32 {
        let falling = (self.0 >> 32) as u32;
        f32::from_bits(if falling >> 31 == 0 { falling ^ 0x7fff_ffff } else { falling })
    }
}

/// The largest of a block; NaN is passed over.
fn block_maximum(block: &[f32]) -> f32 {
    block.iter().fold(f32::NEG_INFINITY, |max, &logit| if logit > max { logit } else { max })
}

/// The first token with the largest logit, and that logit; `None` if all are NaN or minus infinity.
pub(super) fn maximum(logits: &[f32]) -> Option<(u32, f32)> {
    let mut lanes = [f32::NEG_INFINITY; BLOCK];
    let mut blocks = logits.chunks_exact(BLOCK);
    for block in &mut blocks {
        for (lane, &logit) in lanes.iter_mut().zip(block) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let max = block_maximum(&lanes).max(block_maximum(blocks.remainder()));
    if max == f32::NEG_INFINITY {
        return None;
    }
    let id = logits.iter().position(|&logit| logit == max)?;
    Some((id as u32, max))
}

/// Candidates that [`gather_top`] holds at most before it drops all but the best `k`.
fn gather_limit(k: usize) -> usize {
    (2 * k).max(SMALL)
}

/// The room [`gather_top`] needs.
pub(super) fn room_for_top(k: usize) -> usize {
    gather_limit(k) + BLOCK
}

/// Puts the `k` largest logits (all, if fewer are possible) into `out`, in no particular order. `k` is at least 1.
pub(super) fn gather_top(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    // Ids rise along the pass, so a later logit equal to the threshold loses against those already held.
    let mut threshold = f32::NEG_INFINITY;
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        if block_maximum(block) > threshold {
            push_block(block, index, out, |logit| logit > threshold);
            if out.len() >= gather_limit(k) {
                keep_best(out, k);
                threshold = out[k - 1].logit();
            }
        }
    }
    if out.len() > k {
        keep_best(out, k);
    }
}

/// Keeps the best `k` candidates, the last of them at `k - 1`.
fn keep_best(candidates: &mut Vec<Candidate>, k: usize) {
    candidates.select_nth_unstable(k - 1);
    candidates.truncate(k);
}

/// Puts every logit of at least `floor` into `out`, in rising order of ids.
pub(super) fn gather_above(logits: &[f32], floor: f32, out: &mut Vec<Candidate>) {
    out.clear();
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        if block_maximum(block) >= floor {
            push_block(block, index, out, |logit| logit >= floor);
        }
    }
}

fn push_block(block: &[f32], index: usize, out: &mut Vec<Candidate>, enters: impl Fn(f32) -> bool) {
    let first = (index * BLOCK) as u32;
    out.extend((first..).zip(block).filter(|&(_, &l)| enters(l)).map(|(id, &l)| Candidate::new(id, l)));
}

/// The sum of the candidates' weights.
pub(super) fn mass(candidates: &[Candidate], weigh: impl Fn(f32) -> f64) -> f64 {
    candidates.iter().map(|candidate| weigh(candidate.logit())).sum()
}

/// Moves the best candidates to the front and returns the index at which the mass of those up to and including it reaches
/// `target`, or the last index if it never does. `weigh` maps a logit to its mass. Takes time proportional to the number
/// of candidates; only ranges of [`SMALL`] are sorted. An empty slice gives 0.
pub(super) fn select_by_mass(candidates: &mut [Candidate], target: f64, weigh: impl Fn(f32) -> f64) -> usize {
    // The sought index lies in low..high; what stands before `low` is better than all of it and weighs `above`.
    let (mut low, mut high) = (0, candidates.len());
    let mut above = 0.0;
    // Mass mostly sits in the few best: try those first, and ever larger pieces while they do not suffice.
    let mut piece = SMALL;
    while high - low > SMALL {
        let middle = low + piece.min((high - low) / 2);
        candidates[low..high].select_nth_unstable(middle - low);
        let part = mass(&candidates[low..middle], &weigh);
        if above + part >= target {
            high = middle;
        } else {
            above += part;
            low = middle;
            piece *= 4;
        }
    }
    candidates[low..high].sort_unstable();
    for (index, candidate) in candidates[low..high].iter().enumerate() {
        above += weigh(candidate.logit());
        if above >= target {
            return low + index;
        }
    }
    high.saturating_sub(1)
}
