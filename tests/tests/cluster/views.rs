//! Direct views of certain engines, and in the order of ranks.

use std::process::Command;

use engineroom::{Cause, EngineId, Engines};
use engineroom_tests::{Lab, Outcome, Process, SOON};

use crate::{PROBE, probe_two_engines};

/// An engine node as a launcher starts it, with these variables and options.
fn launched(lab: &Lab, variables: &[(&str, &str)], options: &str) -> Process {
    let mut command = lab.command("node");
    let node = ["--role", "engine", "--profile-dir", "profile"];
    Process::start("node", command.args(node).args(options.split(' ')).envs(variables.iter().copied()))
}

#[test]
fn views_are_of_engines_by_id_list_range_label_node_and_rank_and_follow_those_that_join() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let mut nodes = Vec::new();
    for (variables, options) in [
        (&[("PMI_RANK", "2")][..], "--engines 1"),
        (&[("SLURM_PROCID", "0"), ("OMPI_COMM_WORLD_RANK", "1")], "--engines 2 --label gpu=yes"),
        (&[], "--engines 1"),
    ] {
        nodes.push(launched(&lab, variables, options));
        nodes[nodes.len() - 1].wait_line("engine node ready");
    }
    let ranks: Vec<_> = lab.client().engines().iter().map(|engine| engine.rank).collect();
    assert_eq!(ranks, [Some(2), Some(1), Some(1), None]);
    assert!(lab.run("engineroom", ["status"]).success().stdout.contains("rank=1,gpu=yes"));

    let mut probe = lab.start(PROBE, ["views"]);
    probe.wait_line("ready");
    nodes.push(launched(&lab, &[("SLURM_PROCID", "0")], "--engines 1 --label gpu=yes"));
    nodes[3].wait_line("engine node ready");
    probe.close_stdin();
    let ran: [[Vec<u32>; 8]; 2] = probe.finish().success().json();
    let fixed = [vec![1, 2], vec![1, 2], vec![2, 0], vec![1], vec![0, 1, 2, 3]];
    let [before, after] = ran;
    assert_eq!(before[..3], [vec![0, 1, 2, 3], vec![1, 2, 0, 3], vec![1, 2]]);
    assert_eq!(after[..3], [vec![0, 1, 2, 3, 4], vec![4, 1, 2, 0, 3], vec![1, 2, 4]]);
    assert_eq!((&before[3..], &after[3..]), (&fixed[..], &fixed[..]));
}

#[test]
fn options_of_a_direct_view_hold_at_each_of_its_engines() {
    type Outcomes = Vec<Outcome<Option<EngineId>>>;
    let ([tried, after_failures, after], late): ([Outcomes; 3], Outcomes) = probe_two_engines(["direct-options"]).json();
    for (place, engine) in [Some(0), Some(1)].into_iter().enumerate() {
        assert!(tried[place].result.is_err() && (tried[place].engine, tried[place].attempt) == (engine, 3), "{tried:?}");
        let cause = |outcomes: &Outcomes| outcomes[place].result.as_ref().map_err(|error| error.cause.clone()).unwrap_err();
        assert!(matches!(cause(&after_failures), Cause::UnmetDependency { .. }), "{after_failures:?}");
        assert_eq!(after[place].result, Ok(engine.map(EngineId)));
        assert!(matches!(cause(&late), Cause::QueueTimeout { .. }), "{late:?}");
    }
}

#[test]
fn a_rank_that_is_none_is_told() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let ended = launched(&lab, &[("PMI_RANK", "first")], "--engines 1").finish();
    assert!(!ended.status.success() && ended.stderr.contains("PMI_RANK=first is not a rank"), "{ended:?}");
}

#[test]
fn engines_that_mpiexec_starts_are_in_rank_order() {
    if let Err(error) = Command::new("mpiexec").arg("--version").output() {
        eprintln!("SKIPPED: mpiexec is not installed here ({error}); install openmpi-bin or mpich to run this test");
        return;
    }
    let lab = Lab::new();
    let _controller = lab.controller();
    let mut mpiexec = lab.command("/usr/bin/env");
    let node = lab.command("node");
    mpiexec.args(["mpiexec", "-n", "4"]).arg(node.get_program()).args([
        "--role",
        "engine",
        "--engines",
        "1",
        "--profile-dir",
        "profile",
    ]);
    // More processes than cores, and as root, as tests run in containers.
    mpiexec.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    mpiexec.envs([("OMPI_MCA_rmaps_base_oversubscribe", "1"), ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")]);
    let _ranks = Process::start("mpiexec", &mut mpiexec);
    let client = lab.client();
    client.wait_for_engines(4, SOON).unwrap();
    let engines = client.engines();
    let view = client.direct_view_on(Engines::all().by_rank()).unwrap();
    let rank = |id: EngineId| engines.iter().find(|engine| engine.id == id).and_then(|engine| engine.rank);
    assert_eq!(view.targets().into_iter().map(rank).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(3)]);
}
