//! Outbreaks, summed up.

use serde::{Deserialize, Serialize};

/// What a number of outbreaks sum up to. Exact, so that tallies can be put together in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many epidemics were started.
    pub started: u64,
    /// How many of them took off.
    pub outbreaks: u64,
    /// The nodes that were infected in those that took off, all together.
    pub infected: u64,
    /// The squares of the numbers of infected nodes in those that took off, all together.
    pub infected_squared: u128,
}

impl Tally {
    /// Adds one epidemic that infected `size` nodes and counts as an outbreak from `took_off_from` nodes.
    pub fn add(&mut self, size: u32, took_off_from: u32) {
        self.started += 1;
        if size >= took_off_from {
            self.outbreaks += 1;
            self.infected += u64::from(size);
            self.infected_squared += u128::from(size) * u128::from(size);
        }
    }

    /// The mean number of infected nodes of the outbreaks that took off, or `None` without one.
    pub fn mean(&self) -> Option<f64> {
        (self.outbreaks > 0).then(|| self.infected as f64 / self.outbreaks as f64)
    }

    /// The standard error of that mean, or `None` with fewer than two outbreaks.
    pub fn standard_error(&self) -> Option<f64> {
        if self.outbreaks < 2 {
            return None;
        }
        // n Σx² − (Σx)² in integers: no digits are lost to the difference of two large numbers. It is never negative
        // (Cauchy and Schwarz), and the sums of any run that ends fit: 2^27 nodes and 2^32 outbreaks make less than 2^118.
        let (n, sum) = (u128::from(self.outbreaks), u128::from(self.infected));
        let spread = (n * self.infected_squared).saturating_sub(sum * sum);
        let variance = spread as f64 / (n as f64 * (n - 1) as f64);
        Some((variance / n as f64).sqrt())
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |a, b| Self {
            started: a.started + b.started,
            outbreaks: a.outbreaks + b.outbreaks,
            infected: a.infected + b.infected,
            infected_squared: a.infected_squared + b.infected_squared,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sizes: &[u32]) -> Tally {
        let mut tally = Tally::default();
        sizes.iter().for_each(|&size| tally.add(size, 10));
        tally
    }

    #[test]
    fn only_outbreaks_that_took_off_count() {
        let found = tally(&[1, 9, 10, 14, 12]);
        assert_eq!(found, Tally { started: 5, outbreaks: 3, infected: 36, infected_squared: 440 });
        assert_eq!(found.mean(), Some(12.0));
        // The variance of 10, 14, 12 is 4.
        assert_eq!(found.standard_error(), Some((4.0_f64 / 3.0).sqrt()));
    }

    #[test]
    fn what_is_not_defined_is_not_a_number_but_none() {
        assert_eq!((tally(&[1]).mean(), tally(&[1]).standard_error()), (None, None));
        assert_eq!((tally(&[20]).mean(), tally(&[20]).standard_error()), (Some(20.0), None));
        assert_eq!(tally(&[20, 20]).standard_error(), Some(0.0));
    }

    #[test]
    fn parts_sum_to_the_whole_in_any_order() {
        let (a, b) = ([100_000_000, 3, 17], [99_999_999, 11]);
        let whole = tally(&[a.as_slice(), &b].concat());
        assert_eq!([tally(&a), tally(&b)].into_iter().sum::<Tally>(), whole);
        assert_eq!([tally(&b), tally(&a)].into_iter().sum::<Tally>(), whole);
    }

    #[test]
    fn a_tally_travels() -> Result<(), Box<dyn std::error::Error>> {
        let sent = Tally { started: 1, outbreaks: 2, infected: u64::MAX, infected_squared: u128::MAX };
        assert_eq!(rmp_serde::from_slice::<Tally>(&rmp_serde::to_vec(&sent)?)?, sent);
        Ok(())
    }
}
