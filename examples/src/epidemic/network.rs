//! Undirected networks, compact in memory, and random ones.

use rand::Rng;
use serde::Serialize;

/// The most nodes that a network has: 2^27, which take 2.5 GiB with their edges at a mean degree of 4, and twice that to build.
pub const NODES_MAX: u32 = 1 << 27;

/// The most edges that a network has: 2^29. Each is stored at both its ends, and positions in that array are `u32`.
pub const EDGES_MAX: usize = 1 << 29;

/// A simple undirected network: nodes `0..n`, and for each of them its neighbours.
///
/// All neighbours stand in one array, those of a node side by side ("compressed sparse rows"): four bytes for each node and
/// eight for each edge, and a walk over the network reads memory in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Where the neighbours of each node start, and at the end where those of the last one stop.
    starts: Vec<u32>,
    neighbours: Vec<u32>,
}

impl Network {
    /// A network of `nodes` nodes with these edges, each given once, in either direction.
    ///
    /// # Panics
    /// When an edge names a node that is not below `nodes`, or there are more than [`EDGES_MAX`] edges.
    pub fn from_edges(nodes: u32, edges: &[(u32, u32)]) -> Self {
        assert!(edges.len() <= EDGES_MAX, "{} edges are more than a network holds", edges.len());
        let mut starts = vec![0_u32; nodes as usize + 1];
        for &(a, b) in edges {
            starts[a as usize] += 1;
            starts[b as usize] += 1;
        }
        // Degrees become ends; filling each row from its end then turns the ends into starts.
        let mut end = 0;
        for start in &mut starts {
            end += *start;
            *start = end;
        }
        let mut neighbours = vec![0; 2 * edges.len()];
        for &(a, b) in edges {
            for (from, to) in [(a, b), (b, a)] {
                starts[from as usize] -= 1;
                neighbours[starts[from as usize] as usize] = to;
            }
        }
        Self { starts, neighbours }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> u32 {
        // `from_edges` made one more entry than there are nodes, and their number is a `u32`.
        (self.starts.len() - 1) as u32
    }

    /// How many edges there are.
    pub fn edges(&self) -> usize {
        self.neighbours.len() / 2
    }

    /// How many neighbours a node has on average; 0 without nodes.
    pub fn mean_degree(&self) -> f64 {
        self.neighbours.len() as f64 / f64::from(self.nodes()).max(1.0)
    }

    /// The neighbours of a node, in no particular order.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn neighbours(&self, node: u32) -> &[u32] {
        let node = node as usize;
        &self.neighbours[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

/// A random network in which every pair of nodes has an edge with the same probability p = k / (n − 1), so that nodes have
/// k neighbours on average.
///
/// Instead of asking each of the n (n − 1) / 2 pairs, it draws how many pairs to skip before the next edge, which is
/// geometrically distributed: time and memory grow with nodes and edges only (Batagelj and Brandes 2005, *Efficient
/// generation of large random networks*, Phys. Rev. E 71, 036113).
///
/// # Panics
/// When `mean_degree` is not between 0 and `nodes` − 1, or the edges become more than [`EDGES_MAX`].
pub fn erdos_renyi(nodes: u32, mean_degree: f64, rng: &mut impl Rng) -> Network {
    let mut edges = Vec::with_capacity((f64::from(nodes) * mean_degree / 2.0 * 1.05) as usize);
    let probability = if nodes < 2 { 0.0 } else { mean_degree / f64::from(nodes - 1) };
    assert!((0.0..=1.0).contains(&probability), "no network of {nodes} nodes has a mean degree of {mean_degree}");
    if probability > 0.0 {
        // Pairs in the order (1,0), (2,0), (2,1), (3,0) …: row `high` has the pairs with `low` below it.
        let log_miss = (-probability).ln_1p();
        let (mut high, mut low) = (1_u32, 0_u64);
        loop {
            // 1 − r is in (0, 1], so the skip is a finite number ≥ 0; when every pair has an edge it is −x/−∞ = 0.
            let skip = (1.0 - rng.random::<f64>()).ln() / log_miss;
            low = low.saturating_add(skip as u64);
            while high < nodes && low >= u64::from(high) {
                low -= u64::from(high);
                high += 1;
            }
            if high >= nodes {
                break;
            }
            // `low` is below `high`, so it fits.
            edges.push((high, low as u32));
            low += 1;
        }
    }
    Network::from_edges(nodes, &edges)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn sorted(network: &Network, node: u32) -> Vec<u32> {
        let mut neighbours = network.neighbours(node).to_vec();
        neighbours.sort_unstable();
        neighbours
    }

    #[test]
    fn every_edge_is_seen_from_both_ends() {
        let network = Network::from_edges(5, &[(0, 1), (2, 1), (1, 3)]);
        assert_eq!((network.nodes(), network.edges(), network.mean_degree()), (5, 3, 1.2));
        let expected: [&[u32]; 5] = [&[1], &[0, 2, 3], &[1], &[1], &[]];
        for (node, expected) in (0..).zip(expected) {
            assert_eq!(sorted(&network, node), expected, "node {node}");
        }
    }

    #[test]
    fn random_networks_are_simple_and_have_the_mean_degree() {
        for (nodes, mean_degree) in [(20_000, 4.0), (20_000, 0.5), (500, 100.0)] {
            let network = erdos_renyi(nodes, mean_degree, &mut ChaCha8Rng::seed_from_u64(7));
            // The number of edges is binomial with a mean of n k / 2: five standard deviations, and one seed.
            let expected = f64::from(nodes) * mean_degree / 2.0;
            assert!((network.edges() as f64 - expected).abs() < 5.0 * expected.sqrt(), "{} edges", network.edges());
            for node in 0..nodes {
                let neighbours = sorted(&network, node);
                assert!(neighbours.is_sorted_by(|a, b| a < b) && !neighbours.contains(&node), "{node}: {neighbours:?}");
            }
        }
    }

    #[test]
    fn degrees_are_spread_as_binomial_ones() {
        let network = erdos_renyi(50_000, 4.0, &mut ChaCha8Rng::seed_from_u64(3));
        let squares: f64 = (0..network.nodes()).map(|node| (network.neighbours(node).len() as f64 - 4.0).powi(2)).sum();
        // The variance of a binomial degree is nearly its mean; that of 50,000 of them scatters by about 0.03.
        assert!((squares / 50_000.0 - 4.0).abs() < 0.15, "variance {}", squares / 50_000.0);
    }

    #[test]
    fn the_extremes_are_exact() {
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        for (nodes, mean_degree, edges) in [(0, 0.0, 0), (1, 0.0, 0), (1000, 0.0, 0), (2, 1.0, 1), (40, 39.0, 780)] {
            assert_eq!(erdos_renyi(nodes, mean_degree, rng).edges(), edges, "{nodes} nodes, mean degree {mean_degree}");
        }
    }

    #[test]
    fn one_seed_makes_one_network() {
        let build = |seed| erdos_renyi(1000, 3.0, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(build(5), build(5));
        assert_ne!(build(5), build(6));
    }
}
