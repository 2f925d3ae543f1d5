//! Means with their standard errors, and quantiles.

/// A running mean and the spread around it, by Welford's method: stable however small the spread beside the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mean {
    count: u64,
    mean: f64,
    /// Sum of squared differences from the mean.
    squares: f64,
}

impl Mean {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
    }

    /// Values added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of the values; 0 of none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The standard error of the mean: the sample's standard deviation (n - 1 in the divisor) over the root of n. 0 for
    /// fewer than two values. Neighbouring tokens are not independent, so the true error is somewhat larger.
    pub fn standard_error(&self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = self.count as f64;
        (self.squares / (count * (count - 1.0))).sqrt()
    }
}

/// The quantile of rising `values` at `fraction` (0 to 1), linear between neighbours; 0 of none.
pub fn quantile(values: &[f64], fraction: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return 0.0 };
    let place = fraction.clamp(0.0, 1.0) * last as f64;
    let below = (place as usize).min(last);
    let above = (below + 1).min(last);
    let share = place - below as f64;
    // Not a weighted sum where the place is exact: a neighbour may be infinite.
    if share == 0.0 { values[below] } else { (1.0 - share) * values[below] + share * values[above] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On paper: 1, 2, 3, 4 have mean 2.5, squares 5, variance 5/3, and standard error sqrt(5/3 / 4).
    #[test]
    fn mean_on_paper() {
        let mut mean = Mean::default();
        assert_eq!((mean.mean(), mean.standard_error()), (0.0, 0.0));
        (1..=4).for_each(|value| mean.add(f64::from(value)));
        assert_eq!(mean.mean(), 2.5);
        assert!((mean.standard_error() - (5.0f64 / 12.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn a_small_spread_on_a_large_mean_is_kept() {
        let mut mean = Mean::default();
        for i in 0..1000 {
            mean.add(1e9 + f64::from(i % 2));
        }
        let expected = (0.25f64 / 999.0).sqrt();
        assert!((mean.standard_error() / expected - 1.0).abs() < 1e-6);
    }

    #[test]
    fn quantiles_on_paper() {
        let values = [1.0, 2.0, 3.0, 10.0];
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 0.5), 2.5);
        assert_eq!(quantile(&values, 0.75), 4.75);
        assert_eq!(quantile(&values, 1.0), 10.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
        assert_eq!(quantile(&[1.0, 2.0, f64::INFINITY], 0.5), 2.0);
    }
}
