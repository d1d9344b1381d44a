//! A large value that all tasks of a job share: where it travels, and what becomes of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use engineroom::{Cause, MessageId};
use engineroom_tests::{Lab, Outcome, Process, Relay, SOON, assert_squares, memory_peak_mib, recorded, wait_for};

use crate::PROBE;

const VALUE_MIB: u64 = 64;

/// The most memory that a controller may take with such a value: it has parts of it in hand, never all of it.
const CONTROLLER_MIB_MAX: u64 = 150;

/// What the controller says when an engine node has fetched a program or a value.
const FETCHED: &str = "an engine node has fetched";

/// What a file of the program `probe` says: which workers have decoded the value, and how many tasks ran.
fn noted(file: &Path) -> (Vec<String>, usize) {
    let text = fs::read_to_string(file).unwrap_or_default();
    let decoded = text.lines().filter_map(|line| line.strip_prefix("decoded ")).map(str::to_owned).collect();
    (decoded, text.lines().filter(|line| line.starts_with("ran ")).count())
}

fn shared_map(lab: &Lab, [mib, tasks, millis, deadly]: [u64; 4], file: &Path) -> Process {
    let numbers = [mib, tasks, millis, deadly].map(|number| number.to_string());
    let [mib, tasks, millis, deadly] = numbers.each_ref().map(String::as_str);
    lab.start(PROBE, ["shared-map", mib, tasks, millis, deadly, file.to_str().expect("a path of this test")])
}

/// An engine node that reaches its controller through a relay.
pub fn far_node(lab: &Lab, name: &str, engines: usize) -> (Process, Relay) {
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(lab.engine_file()).expect("there")).expect("JSON");
    let target = text["address"].as_str().and_then(|address| address.parse().ok()).expect("an address");
    let relay = Relay::new(target, Duration::ZERO, 0, 0);
    text["address"] = relay.address().to_string().into();
    let to: PathBuf = lab.path().join(name);
    fs::copy(lab.engine_file(), &to).expect("with its mode");
    fs::write(&to, text.to_string()).expect("written");
    let (engines, to) = (engines.to_string(), to.to_str().expect("a path of this test"));
    let node = lab.start("node", ["--role", "engine", "--engines", &engines, "--connection", to]);
    node.wait_line("engine node ready");
    (node, relay)
}

#[test]
fn a_shared_value_travels_once_to_each_node_and_is_decoded_once_by_each_worker() {
    const TASKS: u64 = 1000;
    let lab = Lab::new();
    let controller = lab.controller_with(["--log-level", "info"]);
    let nodes = ["one.json", "two.json"].map(|name| far_node(&lab, name, 2));
    // The program travels too; that is not what is measured.
    let file = lab.path().join("small");
    shared_map(&lab, [0, 100, 5, u64::MAX], &file).finish().success();
    let before: Vec<u64> = nodes.iter().map(|(_, relay)| relay.bytes()).collect();
    let fetched = || controller.stderr().lines().filter(|line| line.contains(FETCHED)).count();
    let fetched_before = fetched();

    let file = lab.path().join("large");
    let ended = shared_map(&lab, [VALUE_MIB, TASKS, 10, u64::MAX], &file).finish().success();
    let outcomes: Vec<Outcome<u64>> = ended.json();
    assert_squares(&outcomes, &recorded(&lab.client(), Outcome::job(&outcomes)).expect("the controller is there"), TASKS as u32);
    let (decoded, ran) = noted(&file);
    let bytes: Vec<u64> = nodes.iter().zip(before).map(|((_, relay), before)| relay.bytes() - before).collect();
    let peak = memory_peak_mib(controller.pid());
    println!(
        "{TASKS} tasks with {VALUE_MIB} MiB in {:.1?}; {bytes:?} bytes to and from the nodes, decoded by {}; controller's peak: {peak} MiB",
        ended.took,
        decoded.len()
    );
    assert_eq!(ran as u64, TASKS);
    assert_eq!(decoded.iter().collect::<BTreeSet<_>>().len(), decoded.len(), "no worker decodes it twice");
    assert_eq!(Outcome::by_engine(&outcomes).len(), decoded.len(), "each engine that has run tasks has decoded it");
    assert_eq!(decoded.len(), 4, "all engines have run tasks");
    assert_eq!(fetched() - fetched_before, 2);
    // Half as much again is for what is lost and sent again.
    let once = VALUE_MIB << 20..(VALUE_MIB << 20) * 3 / 2;
    assert!(bytes.iter().all(|bytes| once.contains(bytes)), "{bytes:?}");
    assert!(peak <= CONTROLLER_MIB_MAX, "{peak} MiB");
}

#[test]
fn every_kind_of_map_can_share_a_value_also_in_an_embedded_cluster() {
    let lab = Lab::new();
    let (sums, lazy, right): (Vec<u64>, u64, usize) = lab.run(PROBE, ["shared-embedded"]).success().json();
    assert_eq!((sums, lazy, right), (vec![11, 4, 11, 11], 11, 1));
}

#[test]
fn a_worker_that_crashes_costs_its_task_and_the_next_one_has_the_shared_value_again() {
    const DEADLY: usize = 7;
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(1);
    let file = lab.path().join("noted");
    let outcomes: Vec<Outcome<u64>> = shared_map(&lab, [1, 20, 0, DEADLY as u64], &file).finish().success().json();
    for (number, outcome) in outcomes.iter().enumerate() {
        match &outcome.result {
            Ok(value) => assert_eq!(*value, (number * number) as u64),
            Err(error) => assert!(number == DEADLY && matches!(error.cause, Cause::WorkerCrashed { .. }), "{error}"),
        }
    }
    assert!(outcomes[DEADLY].result.is_err() && outcomes.len() == 20);
    assert!(noted(&file).0.len() >= 2, "the worker that took the place of the first has decoded it too");
}

#[test]
fn a_job_with_a_shared_value_survives_the_sigkill_of_its_controller() {
    let lab = Lab::new();
    let controller = lab.controller();
    let _engines = [lab.engine_node(1), lab.engine_node(1)];
    let file = lab.path().join("noted");
    let map = shared_map(&lab, [4, 200, 10, u64::MAX], &file);
    wait_for("tasks that have run", || (noted(&file).1 > 20).then_some(()));
    controller.kill();
    let _next = lab.controller();
    let outcomes: Vec<Outcome<u64>> = map.finish().success().json();
    assert_squares(&outcomes, &recorded(&lab.client(), Outcome::job(&outcomes)).expect("the controller is there"), 200);
    assert_eq!(noted(&file).0.len(), 2, "the workers went on with what they had");
}

#[test]
fn a_shared_value_outlives_its_controller_as_long_as_its_job_and_is_missed_when_it_is_gone() {
    let lab = Lab::new();
    let controller = lab.controller();
    let file = lab.path().join("noted");
    // There is no engine: nothing but the controller's disk has the value when client and controller are gone.
    let submitted = lab.run(PROBE, ["shared-submit", "4", "10", file.to_str().expect("a path of this test")]).success();
    let ids: Vec<MessageId> = submitted.json::<Vec<String>>().iter().map(|id| id.parse().expect("a message id")).collect();
    controller.kill();
    let controller = lab.controller();
    let engines = lab.engine_node(1);
    let get = |ids: &[MessageId]| lab.client().get_result::<u64>(ids.to_vec()).expect("open").get_timeout(SOON);
    assert_eq!(get(&ids).expect("all have run"), (0..10).map(|number| number * number).collect::<Vec<u64>>());
    let mut again = lab.client().resubmit::<u64>(ids[2..4].to_vec()).expect("they are known");
    assert_eq!(again.get_timeout(SOON).expect("the value is there"), [4, 9]);

    controller.kill();
    let blobs = lab.profile().state_dir().join("bundles");
    fs::read_dir(&blobs).expect("there").for_each(|blob| fs::remove_file(blob.expect("a file").path()).expect("removed"));
    let _controller = lab.controller();
    let gone = lab.client().resubmit::<u64>(ids[..1].to_vec()).and_then(|mut result| result.get_timeout(SOON));
    let text = gone.expect_err("the value is gone").to_string();
    assert!(text.contains("the value that the tasks share"), "{text}");
    drop(engines);
}
