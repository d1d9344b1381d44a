//! What errors tell a program.

use std::{collections::BTreeMap, fs, time::Instant};

use engineroom::{Cause, EngineId, TaskError};
use engineroom_tests::{Lab, Outcome, Process, wait_for};

use crate::{PROBE, probe_two_engines};

#[test]
fn an_error_of_the_users_own_type_comes_back_as_that_type() {
    probe_two_engines(["typed-errors"]);
}

#[test]
fn a_panic_has_a_backtrace_where_the_engine_was_told_so() {
    for (value, expected) in [("1", true), ("0", false)] {
        let lab = Lab::new();
        let _controller = lab.controller();
        let mut command = lab.command("node");
        command.args(["--role", "engine", "--engines", "1", "--profile-dir"]).arg(lab.profile_dir()).env("RUST_BACKTRACE", value);
        let node = Process::start("node", &mut command);
        node.wait_line("engine node ready");
        let outcomes: Vec<Outcome<u64>> = lab.run(PROBE, ["failures", "21"]).success().json();
        let Err(TaskError { cause: Cause::Panicked { backtrace, .. }, .. }) = &outcomes[20].result else {
            panic!("{:?}", outcomes[20]);
        };
        assert_eq!(backtrace.as_ref().is_some_and(|text| text.contains("panic")), expected, "{backtrace:?}");
    }
}

#[test]
fn one_dead_engine_among_four_costs_its_own_result_within_15_s_and_several_errors_are_all_told() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let doomed = lab.engine_node(1);
    let _others = lab.engine_node(3);
    let gate = lab.path().join("gate");
    let mut probe = lab.start(PROBE, ["direct-lost", gate.to_str().unwrap()]);
    let client = lab.client();
    wait_for("four running tasks", || {
        let busy = client.status().ok()?.engines.iter().filter(|engine| engine.tasks > 0).count();
        (busy == 4).then_some(())
    });
    doomed.kill();
    let killed = Instant::now();
    fs::write(gate, "").unwrap();
    // Its wait begins now.
    probe.close_stdin();
    wait_for("the loss of an engine", || (client.engine_ids().len() == 3).then_some(()));
    eprintln!("an engine node that was killed was missed after {:?}", killed.elapsed());

    let results: BTreeMap<EngineId, Vec<Result<Option<EngineId>, TaskError>>> = probe.finish().success().json();
    assert_eq!(results.keys().map(|engine| engine.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (engine, results) in results {
        match &results[..] {
            [Ok(own)] => assert_eq!((engine.0 > 0, *own), (true, Some(engine))),
            [Err(error)] => assert!(engine.0 == 0 && matches!(error.cause, Cause::EngineLost { .. }), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}
