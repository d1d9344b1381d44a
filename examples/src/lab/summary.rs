//! Many repetitions of one measurement in a few numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is kept of many repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many there were.
    pub count: u32,
    /// Their mean.
    pub mean: f64,
    /// Their sample variance; 0 of a single one.
    pub variance: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Summary {
    /// Sums up values one by one, by Welford's method; `None` if there is none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (mut count, mut mean, mut squares) = (0_u32, 0.0, 0.0);
        let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values {
            count += 1;
            let from_mean = value - mean;
            mean += from_mean / f64::from(count);
            squares += from_mean * (value - mean);
            (min, max) = (min.min(value), max.max(value));
        }
        let variance = if count > 1 { squares / f64::from(count - 1) } else { 0.0 };
        (count > 0).then_some(Self { count, mean, variance, min, max })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, mean, variance, min, max } = self;
        write!(f, "mean {mean:.4}, variance {variance:.4}, min {min:.4}, max {max:.4} of {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_mean_variance_and_extremes() {
        let summary = Summary::of([2.0, 4.0, 4.0, 6.0]).unwrap();
        assert_eq!(summary, Summary { count: 4, mean: 4.0, variance: 8.0 / 3.0, min: 2.0, max: 6.0 });
        assert_eq!(Summary::of([7.0]).unwrap().variance, 0.0);
        assert_eq!(Summary::of([]), None);
    }
}
