//! What a client may have done to engines: signals, restarts, ends.

use engineroom::{Cause, Client, ConnectionFile, EngineId, Error, WorkerExit};
use engineroom_tests::{Lab, Outcome, Process, process_exists, wait_for};

use crate::{PROBE, records::client_file};

const SIGUSR1: i32 = 10;

/// A program with tasks of so many milliseconds, once as many of them run as there are to be; and the processes that run them.
fn running(lab: &Lab, tasks: u64, millis: u64, at_once: usize) -> (Process, Vec<u32>) {
    let probe = lab.start(PROBE, ["sleep-map", &tasks.to_string(), &millis.to_string()]);
    let client = lab.client();
    wait_for("tasks that run", || {
        let busy = client.status().ok()?.engines.iter().filter(|engine| engine.tasks > 0).count();
        (busy == at_once && workers(lab).len() == at_once).then_some(())
    });
    (probe, workers(lab))
}

fn workers(lab: &Lab) -> Vec<u32> {
    lab.processes().into_iter().filter(|(_, line)| line.contains("bundles/")).map(|(pid, _)| pid).collect()
}

#[test]
fn an_engine_that_is_restarted_begins_its_task_anew_in_a_fresh_worker() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let (probe, before) = running(&lab, 1, 1500, 1);
    lab.client().restart_engine(EngineId(0)).expect("nobody else has tasks there");
    wait_for("the end of the worker", || before.iter().all(|pid| !process_exists(*pid)).then_some(()));
    let outcomes: Vec<Outcome<u64>> = probe.finish().success().json();
    assert_eq!((outcomes[0].result.as_ref().ok(), outcomes[0].engine, outcomes[0].attempt), (Some(&0), Some(0), 1));
    let error = lab.client().restart_engine(EngineId(7)).expect_err("there is none");
    assert!(matches!(&error, Error::Engine { engine: EngineId(7), .. }), "{error}");
}

#[test]
fn a_signal_reaches_the_workers_of_the_engines_that_are_named() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let client = lab.client();
    let idle = client.send_signal(&client.engine_ids(), SIGUSR1).expect("nobody else has tasks there");
    assert!(idle.iter().all(|(_, done)| done.as_ref().is_err_and(|text| text.contains("no worker process"))), "{idle:?}");
    let (probe, _) = running(&lab, 2, 4000, 2);
    let told = client.send_signal(&[EngineId(1), EngineId(9)], SIGUSR1).expect("nobody else has tasks there");
    assert!(matches!(&told[..], [(EngineId(1), Ok(())), (EngineId(9), Err(_))]), "{told:?}");
    let outcomes: Vec<Outcome<u64>> = probe.finish().success().json();
    for outcome in outcomes {
        let killed = matches!(&outcome.result, Err(error)
            if matches!(error.cause, Cause::WorkerCrashed { exit: WorkerExit::Signal(SIGUSR1), .. }));
        assert_eq!(killed, outcome.engine == Some(1), "{outcome:?}");
    }
}

#[test]
fn engines_that_are_shut_down_finish_their_tasks_and_their_node_ends_with_the_last() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let first = lab.engine_node(2);
    let (probe, _) = running(&lab, 2, 1500, 2);
    let mut second = lab.engine_node(1);
    let client = lab.client();
    let told = client.shutdown(&[EngineId(0), EngineId(1)]).expect("nobody else has tasks there");
    assert!(told.iter().all(|(_, done)| done.is_ok()), "{told:?}");
    let outcomes: Vec<Outcome<u64>> = probe.finish().success().json();
    for outcome in &outcomes {
        assert!(outcome.result.is_ok() && outcome.engine < Some(2) && outcome.attempt == 1, "{outcome:?}");
    }
    first.finish().success();
    wait_for("the end of the engines", || (client.engine_ids() == [EngineId(2)]).then_some(()));
    assert!(second.is_running());
    lab.run("hello", ["--engines", "1"]).success();
}

#[test]
fn who_is_no_administrator_leaves_engines_alone_while_others_have_jobs() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let as_user = |name: &str, options: &str| {
        let connection = ConnectionFile::load(client_file(&lab, name, options)).expect("it was just made");
        Client::connect(connection).expect("the controller runs")
    };
    let (eve, ops) = (as_user("eve", ""), as_user("ops", "--admin"));
    eve.restart_engine(EngineId(0)).expect("nobody has jobs");
    let (probe, before) = running(&lab, 1, 1000, 1);
    let refused = eve.restart_engine(EngineId(0)).expect_err("another has a job");
    assert!(matches!(&refused, Error::NotAllowed(text) if text.contains("administrator")), "{refused}");
    assert!(before.iter().all(|pid| process_exists(*pid)));
    ops.restart_engine(EngineId(0)).expect("an administrator may");
    probe.finish().success();
}

#[test]
fn the_tool_restarts_signals_and_stops_engines() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let node = lab.engine_node(3);
    let tool = |line: &str| lab.run("engineroom", ["engines"].into_iter().chain(line.split(' ')));
    assert_eq!(tool("restart 0 1-2").success().stdout, "engine 0: restarted\nengine 1: restarted\nengine 2: restarted\n");
    let ended = tool("signal 10 1 7");
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    assert!(ended.stderr.contains("no worker process") && ended.stderr.contains("engine 7: it is not there"), "{ended:?}");
    assert_eq!(tool("stop 0").success().stdout, "engine 0: stopping\n");
    let client = lab.client();
    wait_for("the end of an engine", || (client.engine_ids() == [EngineId(1), EngineId(2)]).then_some(()));
    tool("stop --all").success();
    node.finish().success();
}
