//! A range of T, divided into tasks and put together again.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Network, PackedNetwork, PackedNetworkError, Point, Tally, erdos_renyi, outbreak_size, theory, took_off_from};

/// How many nodes and ends of edges a task visits, roughly: some 10 ms of work, so that the time that a task spends on its way
/// does not count, and the last tasks of a sweep leave no engine idle for long.
const VISITS_PER_TASK: f64 = 1e6;

/// The fewest repetitions on a network that travels with its task: fewer would send it more often than it is worth.
const REPETITIONS_PER_COPY: u32 = 25;

/// The networks that epidemics run on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Source {
    /// A new Erdős–Rényi network for each repetition, built where the epidemic runs.
    ErdosRenyi {
        /// How many nodes.
        nodes: u32,
        /// How many neighbours a node has on average.
        mean_degree: f64,
    },
    /// This network, for all of them.
    Given(PackedNetwork),
}

/// Epidemics to run: at each of some values of T, so many repetitions.
#[derive(Clone, Debug)]
pub struct Sweep {
    source: Source,
    nodes: u32,
    transmissibilities: Vec<f64>,
    repetitions: u32,
    repetitions_per_task: u32,
    seed: u64,
}

/// Some repetitions at one T: the argument of one task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    source: Source,
    transmissibility: f64,
    seed: u64,
    /// The random streams of the repetitions: one each, and each its own in the whole sweep.
    streams: std::ops::Range<u64>,
}

impl Sweep {
    /// Epidemics on Erdős–Rényi networks.
    pub fn on_random_networks(nodes: u32, mean_degree: f64, transmissibilities: Vec<f64>, repetitions: u32, seed: u64) -> Self {
        let per_task = repetitions_worth_a_task(nodes, mean_degree);
        let source = Source::ErdosRenyi { nodes, mean_degree };
        Self { source, nodes, transmissibilities, repetitions, repetitions_per_task: per_task, seed }
    }

    /// Epidemics on one network.
    pub fn on_network(network: &Network, transmissibilities: Vec<f64>, repetitions: u32, seed: u64) -> Self {
        let nodes = network.nodes();
        let per_task = repetitions_worth_a_task(nodes, network.mean_degree()).max(REPETITIONS_PER_COPY);
        let source = Source::Given(PackedNetwork::new(network));
        Self { source, nodes, transmissibilities, repetitions, repetitions_per_task: per_task, seed }
    }

    /// The same sweep with tasks of so many repetitions. The curve stays the same.
    pub fn repetitions_per_task(self, repetitions: u32) -> Self {
        Self { repetitions_per_task: repetitions.max(1), ..self }
    }

    /// The tasks of the sweep, in order. They are made as they are asked for, so that a network is not held once for each.
    pub fn groups(&self) -> impl Iterator<Item = Group> + Send + 'static {
        let sweep = self.clone();
        (0..sweep.transmissibilities.len() * sweep.groups_per_point()).map(move |task| sweep.group(task))
    }

    /// The curve, from the tallies of [`Sweep::groups`], in that order.
    pub fn curve(&self, tallies: &[Tally]) -> Vec<Point> {
        let theory = |t| match self.source {
            Source::ErdosRenyi { mean_degree, .. } => Some(theory::outbreak_fraction(mean_degree, t)),
            Source::Given(_) => None,
        };
        self.transmissibilities
            .iter()
            .zip(tallies.chunks(self.groups_per_point()))
            .map(|(&t, parts)| Point { t, nodes: self.nodes, tally: parts.iter().copied().sum(), theory: theory(t) })
            .collect()
    }

    fn groups_per_point(&self) -> usize {
        self.repetitions.div_ceil(self.repetitions_per_task).max(1) as usize
    }

    fn group(&self, task: usize) -> Group {
        let (point, part) = (task / self.groups_per_point(), (task % self.groups_per_point()) as u64);
        let all = u64::from(self.repetitions);
        let first = part * u64::from(self.repetitions_per_task);
        let last = all.min(first + u64::from(self.repetitions_per_task));
        let before = point as u64 * all;
        Group {
            source: self.source.clone(),
            transmissibility: self.transmissibilities[point],
            seed: self.seed,
            streams: before + first..before + last,
        }
    }
}

/// Runs one group of repetitions, one after another: the function that engines run.
///
/// # Errors
/// When the bytes of a network that travelled with the group are damaged.
pub fn simulate(group: Group) -> Result<Tally, PackedNetworkError> {
    let given = match &group.source {
        Source::Given(packed) => Some(packed.unpack()?),
        Source::ErdosRenyi { .. } => None,
    };
    let mut tally = Tally::default();
    for stream in group.streams {
        let mut rng = ChaCha8Rng::seed_from_u64(group.seed);
        rng.set_stream(stream);
        let built = match group.source {
            Source::ErdosRenyi { nodes, mean_degree } => Some(erdos_renyi(nodes, mean_degree, &mut rng)),
            Source::Given(_) => None,
        };
        if let Some(network) = built.as_ref().or(given.as_ref()) {
            tally.add(outbreak_size(network, group.transmissibility, &mut rng), took_off_from(network.nodes()));
        }
    }
    Ok(tally)
}

fn repetitions_worth_a_task(nodes: u32, mean_degree: f64) -> u32 {
    // A float that does not fit becomes the nearest `u32`, and a network without nodes is worth the most.
    (VISITS_PER_TASK / (f64::from(nodes) * (1.0 + mean_degree))).max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(sweep: &Sweep) -> Result<Vec<Tally>, PackedNetworkError> {
        let tallies: Vec<Tally> = sweep.groups().map(simulate).collect::<Result<_, _>>()?;
        Ok(sweep.curve(&tallies).iter().map(|point| point.tally).collect())
    }

    #[test]
    fn the_division_into_tasks_does_not_change_the_curve() -> Result<(), PackedNetworkError> {
        let random = Sweep::on_random_networks(300, 4.0, vec![0.2, 0.5, 1.0], 7, 42);
        let given = Sweep::on_network(&Network::from_edges(4, &[(0, 1), (1, 2), (2, 3)]), vec![0.3, 0.9], 40, 42);
        for sweep in [random, given] {
            let expected = run(&sweep.clone().repetitions_per_task(u32::MAX))?;
            for size in 1..9 {
                assert_eq!(run(&sweep.clone().repetitions_per_task(size))?, expected, "{size} repetitions a task");
            }
        }
        Ok(())
    }

    #[test]
    fn every_repetition_has_its_own_stream() {
        for (repetitions, per_task) in [(50, 20), (50, 50), (1, 20), (7, 1)] {
            let sweep = Sweep::on_random_networks(10, 1.0, vec![0.1, 0.2, 0.3], repetitions, 1).repetitions_per_task(per_task);
            let streams: Vec<u64> = sweep.groups().flat_map(|group| group.streams).collect();
            assert_eq!(streams, (0..3 * u64::from(repetitions)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_seed_decides() -> Result<(), PackedNetworkError> {
        let sweep = |seed| Sweep::on_random_networks(300, 4.0, vec![0.7], 10, seed);
        assert_eq!(run(&sweep(1))?, run(&sweep(1))?);
        assert_ne!(run(&sweep(1))?, run(&sweep(2))?);
        Ok(())
    }

    #[test]
    fn simulated_sizes_are_those_of_theory() -> Result<(), PackedNetworkError> {
        let sweep = Sweep::on_random_networks(10_000, 4.0, vec![0.1, 0.375, 0.6, 1.0], 20, 1);
        let tallies: Vec<Tally> = sweep.groups().map(simulate).collect::<Result<_, _>>()?;
        let curve = sweep.curve(&tallies);
        assert_eq!(curve[0].mean_size(), None, "nothing takes off at ⟨k⟩T = 0.4");
        for point in &curve[1..] {
            let (mean, theory) = (point.mean_size().unwrap_or(f64::NAN), point.theory.unwrap_or(f64::NAN));
            assert!((mean - theory).abs() < 0.02, "T = {}: {mean} instead of {theory}", point.t);
        }
        Ok(())
    }

    #[test]
    fn a_group_travels() -> Result<(), Box<dyn std::error::Error>> {
        let network = Network::from_edges(3, &[(0, 1), (1, 2)]);
        for sweep in [Sweep::on_network(&network, vec![1.0], 5, 9), Sweep::on_random_networks(100, 2.0, vec![1.0], 5, 9)] {
            for group in sweep.groups() {
                let travelled: Group = rmp_serde::from_slice(&rmp_serde::to_vec(&group)?)?;
                assert_eq!(simulate(travelled)?, simulate(group)?);
            }
        }
        Ok(())
    }
}
