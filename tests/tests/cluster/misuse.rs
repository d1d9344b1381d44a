//! Programs that engines cannot work with.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use engineroom::Cause;
use engineroom_tests::{Finished, Lab, Outcome, wait_for};

use crate::PROBE;

/// A copy of the probe that behaves differently as a worker.
pub fn probe_that(lab: &Lab, behaviour: &str) -> PathBuf {
    let path = lab.path().join("probe-copy");
    fs::copy(PROBE, &path).unwrap();
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(format!("worker: {behaviour}").as_bytes()).unwrap();
    path
}

#[track_caller]
fn assert_fails(ended: &Finished, said: &str) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(said), "{ended:?}");
}

#[test]
fn a_program_that_has_not_called_init_is_told_so_when_it_submits() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    assert_fails(&lab.run(PROBE, ["uninitialised", "4"]), "has not called engineroom::init(): call it first of all in main");
    assert_eq!(lab.run(PROBE, ["squares", "4"]).success().json::<Vec<u64>>(), [0, 1, 4, 9]);
}

#[test]
fn a_program_whose_worker_returns_from_main_fails_its_tasks() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let probe = probe_that(&lab, "returns");
    let ended = lab.run(probe.to_str().unwrap(), ["squares", "4"]);
    assert_fails(&ended, "init()");
    eprintln!("{}", ended.stderr);
    lab.run("hello", [""; 0]).success();
}

#[test]
fn a_worker_that_connects_instead_of_serving_ends_at_once_and_its_tasks_fail() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let probe = probe_that(&lab, "connects");
    let ended = lab.run(probe.to_str().unwrap(), ["squares", "4"]);
    assert_fails(&ended, "init()");
    eprintln!("{}", ended.stderr);
    lab.run("hello", [""; 0]).success();
}

#[test]
fn a_worker_that_never_serves_fails_its_tasks() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let probe = probe_that(&lab, "hangs");
    let ended = lab.run(probe.to_str().unwrap(), ["squares", "1"]);
    assert_fails(&ended, "init()");
    eprintln!("{}", ended.stderr);
    lab.run("hello", [""; 0]).success();
}

#[test]
fn a_task_that_is_aborted_while_its_worker_starts_is_not_blamed_for_the_worker() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let probe = probe_that(&lab, "hangs");
    let mut client = lab.start(probe.to_str().unwrap(), ["abort", "2"]);
    wait_for("a worker", || lab.processes().iter().any(|(_, line)| line.contains("bundles/")).then_some(()));
    client.close_stdin();
    let outcomes: Vec<Outcome<u64>> = client.finish().success().json();
    for outcome in &outcomes {
        assert!(matches!(&outcome.result, Err(error) if error.cause == Cause::Aborted), "{outcome:?}");
    }
}
