//! π by throwing points at a square: a direct view, one share of the points for each engine.

use std::{f64::consts::PI, process::ExitCode, time::Duration};

use clap::Parser;
use engineroom_examples::{ClusterOptions, Failure, run, say};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How long to wait for the first engine of a cluster that has none yet.
const FIRST_ENGINE_WAIT: Duration = Duration::from_secs(30);

/// Estimates π from random points, one share of them on each engine.
///
/// Examples:
///   pi                                       on an embedded cluster, with one engine a core
///   pi --points 10000000000 --profile lab    ten thousand million points, on the cluster of that profile
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// How many random points, over all engines
    #[arg(long, value_name = "P", default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    points: u64,

    /// Where the random numbers start; one seed and one number of engines make one estimate
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// What one engine does: so many points, from a random stream of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Share {
    points: u64,
    seed: u64,
    stream: u64,
}

fn main() -> ExitCode {
    engineroom::init();
    run(estimate_pi)
}

fn estimate_pi() -> Result<(), Failure> {
    let options = Options::parse();
    let session = options.cluster.connect()?;
    session.client.wait_for_engines(1, FIRST_ENGINE_WAIT)?;
    let view = session.client.direct_view()?;

    let engines = view.targets().len() as u64;
    let hits: u64 = view.map(hits, shares(options.points, options.seed, engines)).get()?.iter().sum();

    let inside = hits as f64 / options.points as f64;
    let (estimate, error) = (4.0 * inside, 4.0 * (inside * (1.0 - inside) / options.points as f64).sqrt());
    say!("pi             {estimate:.8}  from {} points on {engines} engines", options.points)?;
    say!("standard error {error:.8}")?;
    say!("difference     {:+.8}  to {PI:.8}", estimate - PI)?;
    Ok(())
}

/// How many of the points of a share, thrown at the unit square, fall into the quarter of a circle in it.
fn hits(share: Share) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(share.seed);
    rng.set_stream(share.stream);
    let mut hits = 0;
    for _ in 0..share.points {
        let (x, y): (f64, f64) = (rng.random(), rng.random());
        hits += u64::from(x * x + y * y < 1.0);
    }
    hits
}

/// All points, divided among the engines: shares differ by one point at most.
fn shares(points: u64, seed: u64, engines: u64) -> Vec<Share> {
    let share = |stream| Share { points: points / engines + u64::from(stream < points % engines), seed, stream };
    (0..engines).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_in_one_share() {
        for (points, engines, largest) in [(1, 4, 1), (100, 3, 34), (99, 3, 33), (u64::MAX, 7, u64::MAX / 7 + 1)] {
            let shares = shares(points, 1, engines);
            assert_eq!(shares.iter().map(|share| share.points).sum::<u64>(), points);
            assert_eq!(shares.iter().map(|share| share.points).max(), Some(largest));
            assert!((0..engines).eq(shares.iter().map(|share| share.stream)));
        }
    }

    #[test]
    fn streams_differ_and_estimate_pi() {
        let points = 1_000_000;
        let [a, b] = [0, 1].map(|stream| hits(Share { points, seed: 1, stream }));
        assert_ne!(a, b);
        for hits in [a, b] {
            // Five standard errors, and one seed.
            assert!((4.0 * hits as f64 / points as f64 - PI).abs() < 5.0 * 1.642e-3, "{hits}");
        }
    }
}
