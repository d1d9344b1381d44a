//! Controllers that are killed and started again, on a store on disk.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use engineroom::{MessageId, TaskFilter, TaskState};
use engineroom_tests::{Lab, Outcome, Process, SOON, memory_now_mib, rounds, wait_for};
use rustix::process::Signal;

use crate::PROBE;
use crate::chance::Chance;

/// How often each number stands in a file of the tasks that ran.
fn runs(file: &std::path::Path) -> BTreeMap<u64, usize> {
    let mut runs = BTreeMap::new();
    for line in fs::read_to_string(file).expect("tasks have run").lines() {
        *runs.entry(line.parse().expect("a number")).or_default() += 1;
    }
    runs
}

/// All tasks of a map are right, and the store has one outcome of each.
fn check(lab: &Lab, map: Process, tasks: u64) -> Vec<Outcome<u64>> {
    let outcomes: Vec<Outcome<u64>> = map.finish().success().json();
    assert_eq!(outcomes.len() as u64, tasks);
    for (number, outcome) in (0..).zip(&outcomes) {
        assert_eq!(outcome.result, Ok(number * number), "{}", outcome.id);
    }
    let id: MessageId = outcomes[0].id.parse().expect("a message id");
    let filter = TaskFilter { job: Some(id.job), ..TaskFilter::default() };
    let (client, mut recorded, mut after) = (lab.client(), Vec::new(), None);
    loop {
        let (records, next) = client.query(&filter, after, 1000).expect("the controller is there");
        recorded.extend(records.into_iter().map(|record| (record.id.index, record.state)));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..tasks as u32).map(|index| (index, TaskState::Succeeded)).collect();
    assert_eq!(recorded, expected, "one recorded outcome a task");
    outcomes
}

#[test]
fn a_map_survives_the_sigkill_of_its_controller_and_no_task_runs_twice() {
    let mut chance = Chance::seeded();
    let lab = Lab::new();
    let mut controller = lab.controller();
    let _engines = [lab.engine_node(2), lab.engine_node(2)];
    let (mut twice, mut slowest, rounds) = (0, Duration::ZERO, rounds(3));
    for round in 0..rounds {
        let file = lab.path().join(format!("runs-{round}"));
        let began = Instant::now();
        let map = lab.start(PROBE, ["logged-map", "500", "10", file.to_str().expect("a path")]);
        map.wait_line("submitted");
        thread::sleep(Duration::from_millis(chance.below(1_200)));
        controller.kill();
        controller = lab.controller();
        check(&lab, map, 500);
        let again: Vec<_> = runs(&file).into_iter().filter(|(_, times)| *times > 1).collect();
        twice += again.len();
        slowest = slowest.max(began.elapsed());
        assert!(again.is_empty(), "round {round}: no engine was lost, and yet these ran more than once: {again:?}");
    }
    println!("{rounds} rounds of 500 tasks, {twice} tasks ran twice; the slowest round took {slowest:.1?}");
    drop(controller);
}

#[test]
fn a_controller_that_is_told_to_end_is_followed_by_one_that_goes_on() {
    let lab = Lab::new();
    let (_engines, controller) = lab.cluster(2);
    let file = lab.path().join("runs");
    let map = lab.start(PROBE, ["logged-map", "200", "20", file.to_str().expect("a path")]);
    wait_for("tasks that run", || file.exists().then_some(()));
    controller.signal(Signal::TERM);
    controller.finish().success();
    let _next = lab.controller();
    let outcomes = check(&lab, map, 200);
    assert!(runs(&file).values().all(|times| *times == 1));
    assert!(outcomes.iter().all(|outcome| outcome.attempt == 1 && outcome.engine.is_some_and(|engine| engine < 2)));
}

#[test]
fn a_controller_that_is_killed_again_before_its_engines_are_back_still_waits_for_them() {
    let lab = Lab::new();
    let mut controller = lab.controller();
    let _engines = [lab.engine_node(1), lab.engine_node(1)];
    let file = lab.path().join("runs");
    let map = lab.start(PROBE, ["logged-map", "4", "4000", file.to_str().expect("a path")]);
    wait_for("a task on each engine", || {
        let begun = fs::read_to_string(&file).unwrap_or_default();
        (begun.lines().count() == 2).then_some(())
    });
    // Engines that run long tasks have nothing to send, and so take a while to notice.
    for _ in 0..2 {
        controller.kill();
        controller = lab.controller();
        // What it does at its start is done by the time that it answers.
        lab.client().status().expect("the controller answers");
    }
    check(&lab, map, 4);
    let again: Vec<_> = runs(&file).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(again.is_empty(), "no engine was lost, and yet these ran more than once: {again:?}");
    drop(controller);
}

#[test]
fn what_was_acknowledged_is_found_by_the_ids_in_a_file() {
    const TASKS: u64 = 100_000;
    let lab = Lab::new();
    let (_engines, mut controller) = lab.cluster(2);
    for how in ["close", "drop", "flush"] {
        let file = lab.path().join(how);
        let leaving = lab.start(PROBE, ["leave", how, &TASKS.to_string(), file.to_str().expect("a path")]);
        match how {
            "flush" => {
                leaving.wait_line("acknowledged");
                leaving.kill();
                controller.kill();
                controller = lab.controller();
            }
            _ => drop(leaving.finish().success()),
        }
        let ids: Vec<MessageId> =
            fs::read_to_string(&file).expect("written").lines().map(|line| line.parse().expect("a message id")).collect();
        assert_eq!(ids.len() as u64, TASKS);
        let values = lab.client().get_result::<u64>(ids).and_then(|result| result.get()).expect("every task has its result");
        assert!((0..).zip(&values).all(|(number, value)| *value == number * number), "{how}");
    }
    drop(controller);
}

#[test]
fn millions_of_results_on_disk_slow_neither_a_restart_nor_a_look_at_one() {
    let lab = Lab::new();
    let (_engines, controller) = lab.cluster(2);
    let file = lab.path().join("id");
    let run = lab.start(PROBE, ["many", "2000000", file.to_str().expect("a path")]);
    run.finish().success();
    controller.kill();
    let began = Instant::now();
    let controller = lab.controller();
    let ready = began.elapsed();
    let job = fs::read_to_string(&file).expect("written");
    let client = lab.client();
    let mut slowest = Duration::ZERO;
    for index in [0u64, 1_999_999, 1_234_567, 7, 999_999] {
        let id: MessageId = format!("{}/{index}", job.trim()).parse().expect("a message id");
        let began = Instant::now();
        let values: Vec<u64> = client.get_result(vec![id]).and_then(|result| result.get()).expect("it is kept");
        slowest = slowest.max(began.elapsed());
        assert_eq!(values, [index * 3]);
    }
    let memory = memory_now_mib(controller.pid());
    println!("ready {ready:.2?} after the start, one result within {slowest:.1?}, {memory} MiB resident");
    // The figures that count are printed; these bounds only tell a scan of everything from none, on a loaded machine.
    assert!(ready < SOON / 4 && slowest < SOON / 20 && memory <= 200, "{ready:?} {slowest:?} {memory} MiB");
}
