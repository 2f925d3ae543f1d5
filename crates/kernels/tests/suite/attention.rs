//! Attention against a plain softmax in `f64`, and its bits against those of other teams and batches.

use kernels::Team;
use kernels::ops::attention::{
    Attention, AttentionScratch, KvType, PAGE, Shape, attend, store_key, store_value,
};

use crate::support::{Random, UNIT, bits, stored};

/// Where the layer begins in a page.
const LAYER: usize = 32;

/// A head's area of the page that has `position`.
fn area<'a>(shape: &Shape, pages: &'a mut [Box<[u8]>], kv_head: usize, position: usize) -> &'a mut [u8] {
    &mut pages[position / PAGE][LAYER + kv_head * shape.bytes()..][..shape.bytes()]
}

/// Everything that a call needs.
struct Case {
    shape: Shape,
    /// With something before the layer and after it.
    pages: Vec<Box<[u8]>>,
    queries: Vec<f32>,
    /// `[kv_head][position][head_dim]`, as they were before storing.
    given_keys: Vec<f32>,
    given_values: Vec<f32>,
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    first_position: usize,
    window: Option<usize>,
    scale: f32,
    softcap: Option<f32>,
}

impl Case {
    fn new(
        kv_type: KvType,
        head_dim: usize,
        (heads, kv_heads): (usize, usize),
        tokens: usize,
        first_position: usize,
        random: &mut Random,
    ) -> Case {
        let positions = first_position + tokens;
        let shape = Shape { kv_type, head_dim };
        // Pages at places of all kinds; unwritten places hold NaN, so that reading them shows.
        let page = || vec![0xff; LAYER + kv_heads * shape.bytes() + 5].into_boxed_slice();
        let mut pages: Vec<Box<[u8]>> = (0..positions.div_ceil(PAGE)).map(|_| page()).collect();
        pages.reverse();
        let (given_keys, given_values) =
            (random.floats(kv_heads * positions * head_dim), random.floats(kv_heads * positions * head_dim));
        for kv_head in 0..kv_heads {
            for position in 0..positions {
                let at = (kv_head * positions + position) * head_dim;
                let area = area(&shape, &mut pages, kv_head, position);
                store_key(&shape, area, position % PAGE, &given_keys[at..][..head_dim]);
                store_value(&shape, area, position % PAGE, &given_values[at..][..head_dim]);
            }
        }
        // Scores of some units, so that weights differ by orders of magnitude.
        let queries = random.floats(tokens * heads * head_dim).iter().map(|x| 5.0 * x).collect();
        let scale = 1.0 / (head_dim as f32).sqrt();
        let (window, softcap) = (None, None);
        Case {
            shape,
            pages,
            queries,
            given_keys,
            given_values,
            tokens,
            heads,
            kv_heads,
            first_position,
            window,
            scale,
            softcap,
        }
    }

    fn run(&self, team: &Team) -> Vec<f32> {
        self.run_tokens(team, 0, self.tokens)
    }

    fn run_tokens(&self, team: &Team, first: usize, tokens: usize) -> Vec<f32> {
        let token_values = self.heads * self.shape.head_dim;
        let mut out = vec![f32::NAN; tokens * token_values];
        let attention = Attention {
            shape: self.shape,
            pages: &self.pages,
            layer: LAYER,
            queries: &self.queries[first * token_values..][..tokens * token_values],
            heads: self.heads,
            kv_heads: self.kv_heads,
            first_position: self.first_position + first,
            window: self.window,
            scale: self.scale,
            softcap: self.softcap,
        };
        let mut scratch = AttentionScratch::new(self.heads, self.shape.head_dim, PAGE * self.pages.len());
        attend(team, &attention, &mut scratch, &mut out);
        out
    }

    fn name(&self) -> String {
        format!(
            "{:?}, head of {}, {} heads on {}, {} tokens from {}, window {:?}, softcap {:?}",
            self.shape.kv_type,
            self.shape.head_dim,
            self.heads,
            self.kv_heads,
            self.tokens,
            self.first_position,
            self.window,
            self.softcap
        )
    }

    /// Compares with the definition.
    ///
    /// Scores: keys are rounded to the cache's type first and, for 8 bits, queries to groups of 32 as well, which the
    /// oracle does alike. A score sums `head_dim` products of magnitude S in all; each addition rounds by half an
    /// epsilon of at most S, and the scale, the products with group scales and the subtraction of the largest score
    /// round a few times more: E = (head_dim + 8) S half epsilons. The soft cap's tangent is good to some units of
    /// the cap: 8 half epsilons of it. A weight is off by as much, relatively, and by the exponential's own error: 2
    /// units in the last place are 4 half epsilons, and with the roundings on the way of factors between blocks and
    /// spans there are at most 8, one for each rescaling of 64 positions at that.
    ///
    /// Output: sums of weights and of weighed values round once a position; the error of the quotient is the
    /// sum of both, relative to M, the mean of the values' magnitudes under the weights.
    ///
    /// Packed values: of each 64 positions and 32 values, weights times steps are rounded to multiples of a 16383rd of the
    /// largest, so each is off by up to half of that. Its value, a few steps, is added with that error.
    ///
    /// Weights below e^-87 count as that much instead of less; beside a largest weight of 1 they vanish.
    fn check(&self, got: &[f32]) {
        let dim = self.shape.head_dim;
        let positions = self.first_position + self.tokens;
        let (keys, values) = (self.seen(&self.given_keys), self.seen(&self.given_values));
        let steps = self.steps(&self.given_values);
        for token in 0..self.tokens {
            let own = self.first_position + token;
            let first = self.window.map_or(0, |window| (own + 1).saturating_sub(window));
            for head in 0..self.heads {
                let kv_head = head / (self.heads / self.kv_heads);
                let at = (token * self.heads + head) * dim;
                let query = self.query(at);
                let mut scores = Vec::new();
                let mut worst = 0f64;
                for position in first..=own {
                    let key = &keys[(kv_head * positions + position) * dim..][..dim];
                    let products = query.iter().zip(key).map(|(q, k)| q * k);
                    let magnitude: f64 = products.clone().map(f64::abs).sum();
                    let score = products.sum::<f64>() * f64::from(self.scale);
                    let mut error = (dim + 8) as f64 * magnitude * f64::from(self.scale);
                    scores.push(match self.softcap.map(f64::from) {
                        None => score,
                        Some(cap) => {
                            error += 8.0 * cap;
                            cap * (score / cap).tanh()
                        }
                    });
                    worst = worst.max(error);
                }
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let seen = scores.len() as f64;
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                let relative = 2.0 * (worst + 8.0 * (2.0 + seen / 64.0)) + 2.0 * (seen + 64.0);
                for d in 0..dim {
                    let value = |at: usize| values[(kv_head * positions + first + at) * dim + d];
                    let sum: f64 = weights.iter().enumerate().map(|(at, weight)| weight * value(at)).sum();
                    let mean: f64 =
                        weights.iter().enumerate().map(|(at, weight)| weight * value(at).abs()).sum::<f64>()
                            / total;
                    let mut rounding = 0.0;
                    for block in first / 64..=own / 64 {
                        let seen = (64 * block).max(first)..(64 * block + 64).min(own + 1);
                        let step = |at: usize| steps[((kv_head * positions + at) * dim + d) / 32];
                        let largest =
                            seen.clone().map(|at| weights[at - first] * step(at)).fold(0.0, f64::max);
                        let multiples =
                            |at: usize| if step(at) > 0.0 { value(at - first).abs() / step(at) } else { 0.0 };
                        rounding += largest / 16383.0 / 2.0 * seen.map(multiples).sum::<f64>();
                    }
                    let expected = sum / total;
                    let tolerance = 1.01 * (UNIT * relative * mean + rounding / total) + 1e-36;
                    let got = f64::from(got[at + d]);
                    assert!(
                        (got - expected).abs() <= tolerance,
                        "{}: token {token}, head {head}, value {d}: {got}, expected {expected} within {tolerance:e}",
                        self.name()
                    );
                }
            }
        }
    }

    /// A query as scores see it.
    fn query(&self, at: usize) -> Vec<f64> {
        let query = &self.queries[at..][..self.shape.head_dim];
        match self.shape.kv_type {
            KvType::F16 => query.iter().map(|&q| f64::from(q)).collect(),
            _ => rounded(query, 127.0, |step| step),
        }
    }

    /// Keys or values as the cache keeps them.
    fn seen(&self, given: &[f32]) -> Vec<f64> {
        let half = |step| stored("F16", &[step])[0];
        match self.shape.kv_type {
            KvType::F16 => stored("F16", given).into_iter().map(f64::from).collect(),
            KvType::Q8_0 => rounded(given, 127.0, half),
            KvType::Q4_0 => (given.chunks_exact(32))
                .flat_map(|group| {
                    let step = half(nibble_step(group));
                    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
                    group.iter().map(move |x| {
                        f64::from((x * inverse).round_ties_even().clamp(-8.0, 7.0)) * f64::from(step)
                    })
                })
                .collect(),
        }
    }

    /// The step of each 32 values; halves have none.
    fn steps(&self, given: &[f32]) -> Vec<f64> {
        let step = |group: &[f32]| match self.shape.kv_type {
            KvType::F16 => 0.0,
            KvType::Q8_0 => f64::from(stored("F16", &[largest(group) / 127.0])[0]),
            KvType::Q4_0 => f64::from(stored("F16", &[nibble_step(group)])[0]),
        };
        given.chunks(32).map(step).collect()
    }
}

fn largest(group: &[f32]) -> f32 {
    group.iter().fold(0f32, |largest, value| largest.max(value.abs()))
}

/// The least step whose multiples -8..=7 span the group.
fn nibble_step(group: &[f32]) -> f32 {
    group.iter().fold(0f32, |step, &value| step.max(if value > 0.0 { value / 7.0 } else { value / -8.0 }))
}

/// Groups of 32 as nearest multiples of their largest magnitude's part, that step then kept as `keep` says.
fn rounded(values: &[f32], parts: f32, keep: impl Fn(f32) -> f32) -> Vec<f64> {
    (values.chunks_exact(32))
        .flat_map(|group| {
            let step = largest(group) / parts;
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            let kept = f64::from(keep(step));
            group.iter().map(move |value| f64::from((value * inverse).round_ties_even()) * kept)
        })
        .collect()
}

/// Tokens and first positions: within a block of 64, across blocks, across spans of 512, few and many tokens.
const PLACES: [(usize, usize); 8] =
    [(1, 0), (5, 0), (40, 0), (8, 63), (9, 511), (1, 512), (5, 508), (1, 1000)];

#[test]
fn every_width_of_heads() {
    let team = Team::new(2);
    let mut random = Random::new(30);
    for kv_type in KvType::ALL {
        for head_dim in
            [8, 16, 24, 32, 64, 80, 96, 128, 256, 512].into_iter().filter(|dim| kv_type.fits(*dim))
        {
            for (tokens, first) in [(1, 0), (9, 60), (3, 510)] {
                let case = Case::new(kv_type, head_dim, (2, 1), tokens, first, &mut random);
                case.check(&case.run(&team));
            }
        }
    }
}

#[test]
fn every_grouping_of_heads_at_every_place() {
    let team = Team::new(2);
    let mut random = Random::new(31);
    for kv_type in KvType::ALL {
        for heads in [(1, 1), (6, 2), (7, 1), (3, 3)] {
            for (tokens, first) in PLACES {
                let case = Case::new(kv_type, 32, heads, tokens, first, &mut random);
                case.check(&case.run(&team));
            }
        }
    }
}

#[test]
fn windows_soft_caps_and_scales() {
    let team = Team::new(2);
    let mut random = Random::new(32);
    for kv_type in KvType::ALL {
        for (tokens, first) in PLACES {
            let mut case = Case::new(kv_type, 32, (3, 1), tokens, first, &mut random);
            for window in [Some(1), Some(7), Some(64), Some(600), Some(5000), None] {
                for softcap in [None, Some(2.0)] {
                    (case.window, case.softcap) = (window, softcap);
                    case.check(&case.run(&team));
                }
            }
            (case.window, case.scale) = (None, 0.01);
            case.check(&case.run(&team));
        }
    }
}

/// With huge scores one position takes it all; with zero queries all weigh alike.
#[test]
fn extreme_scores() {
    let team = Team::new(1);
    let mut random = Random::new(33);
    for kv_type in KvType::ALL {
        let mut case = Case::new(kv_type, 64, (2, 1), 10, 600, &mut random);
        case.scale = 1000.0;
        let (dim, positions) = (64, 610);
        let got = case.run(&team);
        let (keys, values) = (case.seen(&case.given_keys), case.seen(&case.given_values));
        for (row, got) in got.chunks_exact(dim).enumerate() {
            let query = case.query(row * dim);
            let score = |position: usize| -> f64 {
                keys[position * dim..][..dim].iter().zip(&query).map(|(k, q)| k * q).sum()
            };
            let visible = positions - 10 + row / 2 + 1;
            let best = (0..visible).max_by(|a, b| score(*a).total_cmp(&score(*b))).expect("a position");
            let second = (0..visible).filter(|at| *at != best).map(score).fold(f64::NEG_INFINITY, f64::max);
            // Others weigh e^-(1000 times the lead), from a lead of 0.1 on the least that the kernels know: 2^-125.
            if score(best) - second > 0.1 {
                for (got, value) in got.iter().zip(&values[best * dim..]) {
                    // The quotient, and for packed values the step, its product with the integers, and the sum.
                    let roundings = if kv_type == KvType::F16 { 2.0 } else { 6.0 };
                    let tolerance = roundings * UNIT * value.abs() + positions as f64 * 2f64.powi(-125);
                    assert!((f64::from(*got) - value).abs() <= tolerance, "{got} {value}");
                }
            }
        }
        case.queries.fill(0.0);
        case.check(&case.run(&team));
    }
}

/// Decode and prefill, few threads and many: the same bits.
#[test]
fn a_token_alone_is_as_among_others_whatever_the_threads() {
    const PLACES: [(usize, Option<usize>, Option<f32>); 5] = [
        (0, None, None),
        (63, Some(70), None),
        (490, None, Some(3.0)),
        (490, Some(520), None),
        (1000, Some(70), Some(3.0)),
    ];
    let teams = [Team::new(1), Team::new(2), Team::new(3), Team::new(5)];
    let mut random = Random::new(34);
    for kv_type in KvType::ALL {
        for (head_dim, heads) in [(32, (1, 1)), (64, (3, 1)), (32, (7, 1)), (128, (2, 2))] {
            for (first, window, softcap) in PLACES {
                const TOKENS: usize = 40;
                let mut case = Case::new(kv_type, head_dim, heads, TOKENS, first, &mut random);
                (case.window, case.softcap) = (window, softcap);
                let expected = case.run(&teams[0]);
                let width = head_dim * heads.0;
                for (team, tokens) in teams.iter().zip([1, 5, 8, 9]).chain([(&teams[1], TOKENS)]) {
                    for start in (0..TOKENS).step_by(3 * tokens) {
                        let tokens = tokens.min(TOKENS - start);
                        let got = case.run_tokens(team, start, tokens);
                        let expected = &expected[start * width..][..tokens * width];
                        assert_eq!(bits(&got), bits(expected), "{} {tokens} from {start}", case.name());
                    }
                }
            }
        }
    }
}

/// A key or value written again replaces the old one, as a cache that was cut back needs.
#[test]
fn positions_are_written_again() {
    let team = Team::new(1);
    let mut random = Random::new(35);
    for kv_type in KvType::ALL {
        let fresh = Case::new(kv_type, 64, (2, 1), 3, 20, &mut random);
        let mut again = Case::new(kv_type, 64, (2, 1), 3, 20, &mut Random::new(36));
        for position in 0..23 {
            let range = position * 64..(position + 1) * 64;
            let area = area(&again.shape, &mut again.pages, 0, position);
            store_key(&again.shape, area, position, &fresh.given_keys[range.clone()]);
            store_value(&again.shape, area, position, &fresh.given_values[range]);
        }
        again.queries.clone_from(&fresh.queries);
        assert_eq!(bits(&again.run(&team)), bits(&fresh.run(&team)));
    }
}
