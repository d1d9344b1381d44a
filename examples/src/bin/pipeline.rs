//! A pipeline: networks are built on engines, epidemics run where each network is, and what came of them is summed up there.

use std::process::ExitCode;

use clap::Parser;
use engineroom::{Namespace, NamespaceError, TaskContext};
use engineroom_examples::{
    ClusterOptions, Failure,
    epidemic::{Network, Tally, erdos_renyi, outbreak_size, theory, took_off_from},
    run, say,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Builds random networks on the engines, runs epidemics on each where it is, and sums them up there.
///
/// All three steps are submitted at once. No network travels: what comes back are five numbers for each.
///
/// Examples:
///   pipeline                                        8 networks, on an embedded cluster
///   pipeline --networks 100 --nodes 100000 --profile lab
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// How many networks
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    networks: u32,

    /// Nodes of each network
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    nodes: u32,

    /// Tasks that run epidemics on each network
    #[arg(long, value_name = "P", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    parts: u32,

    /// Epidemics of each of these tasks
    #[arg(long, value_name = "R", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// With which probability an infection passes along an edge
    #[arg(long, value_name = "T", default_value_t = 0.5, value_parser = transmissibility)]
    transmissibility: f64,

    /// Where the random numbers start
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// Neighbours that a node has on average.
const MEAN_DEGREE: f64 = 4.0;

/// A network that is to be built.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Plan {
    network: u32,
    nodes: u32,
    seed: u64,
}

/// Some of the epidemics on a network.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Part {
    network: u32,
    part: u32,
    repetitions: u32,
    transmissibility: f64,
    seed: u64,
}

fn main() -> ExitCode {
    engineroom::init();
    run(pipeline)
}

fn pipeline() -> Result<(), Failure> {
    let Options { networks, nodes, parts, repetitions, transmissibility, seed, cluster } = Options::parse();
    let session = cluster.connect()?;
    let view = session.client.load_balanced_view().label("pipeline").chunk_size(1);

    // Each task leaves its network on its engine, and tells how many edges it has.
    let built = view.try_map(|plan| build(plan, namespace()?), (0..networks).map(|network| Plan { network, nodes, seed }));
    let mut sums = Vec::new();
    for (network, id) in (0..).zip(built.message_ids()) {
        let part = move |part| Part { network, part, repetitions, transmissibility, seed };
        // Where that network is; and not before all are there, so that nothing is simulated in vain.
        let simulated = view.after(&built).follow(id).try_map(|part| simulate(part, namespace()?), (0..parts).map(part));
        // Behind its simulations, and where they left what came of them.
        sums.push(view.follow(&simulated).try_apply(|(network, parts)| sum_up(network, parts, namespace()?), (network, parts)));
    }

    let edges = built.wait_interactive()?.get()?;
    let expected = theory::outbreak_fraction(MEAN_DEGREE, transmissibility);
    say!("network    edges  outbreaks  mean size  theory  engine")?;
    let mut all = Tally::default();
    for (network, (edges, mut sum)) in edges.into_iter().zip(sums).enumerate() {
        let engine = sum.metadata()?.first().and_then(|task| task.engine).map_or("-".into(), |engine| engine.to_string());
        let tally = sum.get()?;
        let mean = tally.mean().map_or("-".into(), |mean| format!("{:.4}", mean / f64::from(nodes)));
        let outbreaks = format!("{}/{}", tally.outbreaks, tally.started);
        say!("{network:>7}  {edges:>7}  {outbreaks:>9}  {mean:>9}  {expected:>6.4}  {engine:>6}")?;
        all = [all, tally].into_iter().sum();
    }
    say!("{} of {} epidemics took off", all.outbreaks, all.started)?;
    Ok(())
}

/// What tasks of this program have left on the engine that runs this one.
fn namespace() -> Result<Namespace, String> {
    // Only tasks call it.
    TaskContext::current().map(|task| task.namespace().clone()).ok_or_else(|| "no task runs here".into())
}

fn build(Plan { network, nodes, seed }: Plan, kept: Namespace) -> Result<usize, String> {
    let built = erdos_renyi(nodes, MEAN_DEGREE, &mut random(seed, network, 0));
    let edges = built.edges();
    kept.set(&network_name(network), built).map_err(told)?;
    Ok(edges)
}

fn simulate(Part { network, part, repetitions, transmissibility, seed }: Part, kept: Namespace) -> Result<(), String> {
    let on = kept.get::<Network>(&network_name(network)).map_err(told)?;
    let mut rng = random(seed, network, part + 1);
    let mut tally = Tally::default();
    (0..repetitions).for_each(|_| tally.add(outbreak_size(&on, transmissibility, &mut rng), took_off_from(on.nodes())));
    // A task that ran twice leaves it twice in the same place.
    kept.set(&tally_name(network, part), tally).map_err(told)
}

/// Sums up what the simulations on a network have left, and removes the network. The tallies are small, and stay for the case that this
/// runs twice.
fn sum_up(network: u32, parts: u32, kept: Namespace) -> Result<Tally, String> {
    let tallies: Result<Vec<Tally>, NamespaceError> =
        (0..parts).map(|part| kept.get::<Tally>(&tally_name(network, part)).map(|tally| *tally)).collect();
    let sum = tallies.map_err(told)?.into_iter().sum();
    kept.remove(&network_name(network));
    Ok(sum)
}

fn network_name(network: u32) -> String {
    format!("network {network}")
}

fn tally_name(network: u32, part: u32) -> String {
    format!("tally {part} of network {network}")
}

fn told(error: NamespaceError) -> String {
    error.to_string()
}

/// A stream of random numbers of its own for each network and part of the work on it.
fn random(seed: u64, network: u32, part: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(network) << 32 | u64::from(part));
    rng
}

fn transmissibility(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number from 0 to 1")?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("expected a number from 0 to 1".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_on_an_engine_is_found_there_and_summed_up_however_often_tasks_run() -> Result<(), String> {
        let kept = Namespace::default();
        let part = |part| Part { network: 3, part, repetitions: 4, transmissibility: 1.0, seed: 7 };
        let missing = simulate(part(0), kept.clone()).expect_err("it is not built");
        assert!(missing.contains("network 3"), "{missing}");
        let edges = build(Plan { network: 3, nodes: 1_000, seed: 7 }, kept.clone())?;
        assert!((1_500..2_500).contains(&edges), "{edges}");
        for number in [0, 1, 1] {
            simulate(part(number), kept.clone())?;
        }
        let sum = sum_up(3, 2, kept.clone())?;
        assert_eq!(sum.started, 8);
        assert_eq!(sum_up(3, 2, kept.clone())?, sum);
        assert!(kept.get::<Network>(&network_name(3)).is_err(), "it is not needed any more");
        Ok(())
    }
}
