//! One epidemic.

use rand::Rng;

use super::Network;

/// Runs one SIR epidemic from one random first case and returns how many nodes it infected, that one included; 0 on a network
/// without nodes.
///
/// Each infected node passes the infection along each of its edges once, with probability `transmissibility`, and recovers. A
/// recovered node is not infected again, so an edge is tried from at most one end with effect.
pub fn outbreak_size(network: &Network, transmissibility: f64, rng: &mut impl Rng) -> u32 {
    if network.nodes() == 0 {
        return 0;
    }
    let first = rng.random_range(0..network.nodes());
    let mut susceptible = vec![true; network.nodes() as usize];
    susceptible[first as usize] = false;
    let mut infected = vec![first];
    let mut recovered = 0;
    while let Some(&node) = infected.get(recovered) {
        for &other in network.neighbours(node) {
            // A random `f64` is in [0, 1): with a transmissibility of 1 every edge transmits, with 0 none.
            if susceptible[other as usize] && rng.random::<f64>() < transmissibility {
                susceptible[other as usize] = false;
                infected.push(other);
            }
        }
        recovered += 1;
    }
    // No node is infected twice, and their number is a `u32`.
    recovered as u32
}

/// The size from which an outbreak on `nodes` nodes counts as one that took off: the smallest s with s ≥ n^(2/3).
///
/// Below the epidemic threshold outbreaks reach O(log n) nodes, above it either as few or a fixed share of all n, and just at
/// the threshold the largest ones reach O(n^(2/3)) (Bollobás, *Random Graphs*, ch. 6). So this size lies between the two
/// kinds, with ever more room on both sides as n grows: of 10,000 nodes it is 465.
pub fn took_off_from(nodes: u32) -> u32 {
    // In integers, so that it is the same on every machine: s³ ≥ n².
    let square = u128::from(nodes).pow(2);
    let (mut below, mut enough) = (0, nodes);
    while below < enough {
        let middle = below + (enough - below) / 2;
        if u128::from(middle).pow(3) < square {
            below = middle + 1;
        } else {
            enough = middle;
        }
    }
    enough
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn sizes(network: &Network, transmissibility: f64) -> Vec<u32> {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        (0..2000).map(|_| outbreak_size(network, transmissibility, &mut rng)).collect()
    }

    #[test]
    fn nothing_spreads_without_transmission_and_everything_with_certain_transmission() {
        let path: Vec<(u32, u32)> = (0..99).map(|node| (node, node + 1)).collect();
        for (name, network, reached) in [
            ("path", Network::from_edges(100, &path), 100),
            ("triangle", Network::from_edges(3, &[(0, 1), (1, 2), (2, 0)]), 3),
            ("pairs", Network::from_edges(4, &[(0, 1), (2, 3)]), 2),
            ("alone", Network::from_edges(1, &[]), 1),
            ("nobody", Network::from_edges(0, &[]), 0),
        ] {
            assert!(sizes(&network, 0.0).iter().all(|&size| size == reached.min(1)), "{name}");
            assert!(sizes(&network, 1.0).iter().all(|&size| size == reached), "{name}");
        }
    }

    #[test]
    fn sizes_on_a_triangle_are_distributed_as_percolation_has_it() {
        // Three edges, each open with probability 1/2: the cluster of a node is 1 in 1/4, 2 in 1/4 and 3 in 1/2 of all cases.
        let sizes = sizes(&Network::from_edges(3, &[(0, 1), (1, 2), (2, 0)]), 0.5);
        for (size, share) in [(1, 0.25), (2, 0.25), (3, 0.5)] {
            let found = sizes.iter().filter(|&&s| s == size).count() as f64 / sizes.len() as f64;
            assert!((found - share).abs() < 0.05, "size {size}: {found}");
        }
    }

    #[test]
    fn an_outbreak_took_off_from_the_two_thirds_power() {
        let expected =
            [(0, 0), (1, 1), (2, 2), (3, 3), (8, 4), (27, 9), (1000, 100), (4039, 254), (10_000, 465), (1 << 27, 1 << 18)];
        for (nodes, size) in expected {
            assert_eq!(took_off_from(nodes), size, "{nodes} nodes");
        }
    }
}
