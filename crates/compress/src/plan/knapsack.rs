//! Which choice for each item loses least within a budget of bytes: a multiple-choice knapsack, solved exactly but for
//! the rounding of sizes (dynamic programming; Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11).

/// One way to store an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    /// What it takes.
    pub(crate) bytes: u64,
    /// What it costs; any unit, the same for all.
    pub(crate) loss: f64,
}

/// Budgets are counted in so many units, each item rounded up to whole ones.
const UNITS: usize = 1 << 15;

/// For each of `items` the index of the choice to take; `None` if even the smallest choices exceed `budget` bytes.
pub(crate) fn choose(items: &[Vec<Choice>], budget: u64) -> Option<Vec<usize>> {
    let smallest: u64 = items.iter().map(|choices| choices.iter().map(|c| c.bytes).min().unwrap_or(0)).sum();
    if smallest > budget {
        return None;
    }
    // What all items take at least is no matter of choice; only what goes beyond is counted in units.
    let unit = (budget - smallest).div_ceil(UNITS as u64).max(1);
    let room = ((budget - smallest) / unit) as usize;
    let mut best = vec![0.0; room + 1];
    let mut picks = Vec::with_capacity(items.len());
    for choices in items {
        let least = choices.iter().map(|choice| choice.bytes).min().unwrap_or(0);
        let mut next = vec![f64::INFINITY; room + 1];
        let mut pick = vec![0_u8; room + 1];
        for (index, choice) in choices.iter().enumerate() {
            let units = (choice.bytes - least).div_ceil(unit) as usize;
            for used in units..=room {
                let loss = best[used - units] + choice.loss;
                if loss < next[used] {
                    (next[used], pick[used]) = (loss, index as u8);
                }
            }
        }
        best = next;
        picks.push(pick);
    }
    let mut used = room;
    let mut chosen = vec![0; items.len()];
    for (item, choices) in items.iter().enumerate().rev() {
        chosen[item] = usize::from(picks[item][used]);
        let least = choices.iter().map(|choice| choice.bytes).min().unwrap_or(0);
        used -= (choices[chosen[item]].bytes - least).div_ceil(unit) as usize;
    }
    fill_up(items, budget, &mut chosen);
    Some(chosen)
}

/// Spends what the rounding of sizes left over, best bargain first.
fn fill_up(items: &[Vec<Choice>], budget: u64, chosen: &mut [usize]) {
    loop {
        let taken: u64 = items.iter().zip(&*chosen).map(|(choices, &index)| choices[index].bytes).sum();
        let mut bargain: Option<(f64, usize, usize)> = None;
        for (item, choices) in items.iter().enumerate() {
            let now = choices[chosen[item]];
            for (index, choice) in choices.iter().enumerate() {
                let fits = choice.bytes <= now.bytes + (budget - taken);
                let gain = (now.loss - choice.loss) / choice.bytes.saturating_sub(now.bytes).max(1) as f64;
                if fits && choice.loss < now.loss && bargain.is_none_or(|(best, ..)| gain > best) {
                    bargain = Some((gain, item, index));
                }
            }
        }
        match bargain {
            Some((_, item, index)) => chosen[item] = index,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn total(items: &[Vec<Choice>], chosen: &[usize]) -> (u64, f64) {
        items.iter().zip(chosen).fold((0, 0.0), |(bytes, loss), (choices, &index)| {
            (bytes + choices[index].bytes, loss + choices[index].loss)
        })
    }

    /// The best of all combinations.
    fn try_all(items: &[Vec<Choice>], budget: u64) -> Option<f64> {
        let mut best = None;
        let mut chosen = vec![0; items.len()];
        loop {
            let (bytes, loss) = total(items, &chosen);
            if bytes <= budget && best.is_none_or(|best| loss < best) {
                best = Some(loss);
            }
            let mut item = 0;
            loop {
                if item == items.len() {
                    return best;
                }
                chosen[item] += 1;
                if chosen[item] < items[item].len() {
                    break;
                }
                chosen[item] = 0;
                item += 1;
            }
        }
    }

    proptest! {
        /// Sizes far below the number of units are not rounded, so the outcome is the best there is.
        #[test]
        fn is_the_best_of_all(
            items in prop::collection::vec(
                prop::collection::vec((1u64..200, 0.0f64..10.0), 1..5), 1..6
            ),
            budget in 1u64..1200,
        ) {
            let items: Vec<Vec<Choice>> = items
                .into_iter()
                .map(|choices| choices.into_iter().map(|(bytes, loss)| Choice { bytes, loss }).collect())
                .collect();
            let wanted = try_all(&items, budget);
            let got = choose(&items, budget).map(|chosen| total(&items, &chosen));
            match (wanted, got) {
                (None, None) => {}
                (Some(wanted), Some((bytes, loss))) => {
                    prop_assert!(bytes <= budget);
                    prop_assert!(loss <= wanted + 1e-9, "{} for {}", loss, wanted);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// Sizes of real tensors: the budget is kept and nearly spent.
    #[test]
    fn large_sizes_keep_the_budget() {
        let items: Vec<Vec<Choice>> = (0..200)
            .map(|item| {
                let size = 1_000_003 * (1 + item % 7);
                (1..8u64)
                    .map(|bits| Choice {
                        bytes: size * bits,
                        loss: (item + 1) as f64 * 0.25f64.powi(bits as i32),
                    })
                    .collect()
            })
            .collect();
        let budget = 3_333_333_333;
        let (bytes, _) = total(&items, &choose(&items, budget).unwrap());
        assert!(bytes <= budget && bytes > budget - budget / 500, "{bytes}");
    }
}
