//! The experiment: customers who come by chance to a single server, and wait.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Point;

/// How long the customers of one run wait on average; serving one takes one unit of time on average. `stream` tells the runs of
/// one seed apart.
///
/// In the long run it is load / (1 − load).
pub fn mean_wait(point: Point, seed: u64, stream: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    let mut chance = || -(1.0 - rng.random::<f64>()).ln();
    let (mut wait, mut sum) = (0.0_f64, 0.0);
    for _ in 0..point.customers {
        sum += wait;
        let (service, until_next) = (chance(), chance() / point.load.max(f64::MIN_POSITIVE));
        wait = (wait + service - until_next).max(0.0);
    }
    sum / f64::from(point.customers.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_agrees_with_theory_and_one_seed_gives_one_number() {
        let point = Point { load: 0.5, customers: 1_000_000 };
        let wait = mean_wait(point, 1, 0);
        assert!((wait - 1.0).abs() < 0.05, "{wait}");
        assert_eq!(wait, mean_wait(point, 1, 0));
        assert_ne!(wait, mean_wait(point, 1, 1));
    }
}
