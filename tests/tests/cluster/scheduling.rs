//! What the options of views do: which task goes where, when, and how often.

use std::collections::{BTreeSet, HashMap};

use engineroom::{Cause, Error, MessageId, TaskError};
use engineroom_tests::{Lab, Outcome, SOON, memory_now_mib, memory_peak_mib, wait_for};
use rustix::process::Signal;
use serde::Deserialize;

use crate::{PROBE, probe_two_engines};

#[derive(Deserialize)]
struct Priorities {
    order: Vec<i32>,
    jobs: usize,
}

#[test]
fn tasks_of_a_higher_priority_start_first_and_single_ones_of_one_priority_share_a_job() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let urgent = lab.start(PROBE, ["priorities", "0", "5", "-1", "7"]);
    urgent.wait_line("submitted");
    let _engines = lab.engine_node(1);
    let Priorities { order, jobs } = urgent.finish().success().json();
    let expected: Vec<i32> = [7, 5, 0, -1].into_iter().flat_map(|priority| [priority; 4]).collect();
    assert_eq!(order, expected);
    assert_eq!(jobs, 8, "a map and a job of single tasks for each priority");
}

#[derive(Deserialize)]
struct After {
    sums: [u64; 2],
    in_order: bool,
}

#[test]
fn a_map_waits_for_another_one_through_a_restart_of_the_controller() {
    let lab = Lab::new();
    let mut controller = lab.controller();
    let _engines = lab.engine_node(2);
    // In the midst of the first map, or of the second.
    for done in [0, 120] {
        let client = lab.client();
        let completed =
            || -> u64 { client.status().expect("the controller answers").engines.iter().map(|engine| engine.completed).sum() };
        let before = completed();
        let after = lab.start(PROBE, ["after", "100", "5"]);
        after.wait_line("submitted");
        wait_for("tasks that have ended", || (completed() >= before + done).then_some(()));
        controller.kill();
        controller = lab.controller();
        let After { sums, in_order } = after.finish().success().json();
        assert_eq!((sums, in_order), ([4_950; 2], true));
    }
}

#[test]
fn a_million_tasks_wait_for_a_million_in_little_memory() {
    const TASKS: u64 = 1_000_000;
    let lab = Lab::new();
    let controller = lab.controller();
    let before = memory_now_mib(controller.pid());
    // All of them wait, until there is an engine.
    let after = lab.start(PROBE, ["after", &TASKS.to_string(), "0"]);
    after.wait_line("submitted");
    let bytes = (memory_peak_mib(controller.pid()) - before) << 20;
    assert!(bytes < 200 * TASKS, "{} bytes for each task that waits", bytes / TASKS);
    let _engines = lab.engine_node(2);
    let After { sums, .. } = after.finish().success().json();
    assert_eq!(sums, [TASKS * (TASKS - 1) / 2; 2]);
}

#[test]
fn a_chain_of_a_thousand_tasks_runs_in_its_order() {
    assert!(probe_two_engines(["chain", "1000"]).json::<bool>());
}

#[test]
fn who_waits_in_vain_is_told_why() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(1);
    let ends: Vec<(String, Outcome<u64>)> = lab.run(PROBE, ["conditions"]).success().json();
    let short = |outcome: &Outcome<u64>| match &outcome.result {
        Ok(value) => value.to_string(),
        Err(error) => match &error.cause {
            Cause::UnmetDependency { .. } => "unmet".into(),
            Cause::ImpossibleDependency { .. } => "impossible".into(),
            other => other.to_string(),
        },
    };
    let found: Vec<(&str, String)> = ends.iter().map(|(name, outcome)| (name.as_str(), short(outcome))).collect();
    let expected = [
        ("all succeed", "unmet"),
        ("one succeeds", "7"),
        ("all fail", "unmet"),
        ("one fails", "7"),
        ("all end", "7"),
        ("a task succeeds", "7"),
        ("a task fails", "unmet"),
        ("it succeeds before it is aborted", "unmet"),
        ("it is aborted", "7"),
        ("it was never submitted", "impossible"),
        ("one of them was", "7"),
        ("afterwards", "7"),
        ("afterwards, in vain", "unmet"),
    ];
    assert_eq!(found, expected.map(|(name, end)| (name, end.to_string())));
    let text = ends[0].1.text.as_deref().unwrap_or_default();
    assert!(text.contains("failed or were aborted, and it was to run if they succeed"), "{text}");
}

#[test]
fn a_task_that_waits_too_long_for_an_engine_fails_also_after_a_restart() {
    let lab = Lab::new();
    let controller = lab.controller();
    let ids: Vec<String> = lab.run(PROBE, ["in-time", "3", "200"]).success().json();
    let ids: Vec<MessageId> = ids.iter().map(|id| id.parse().expect("a message id")).collect();
    let too_late = |lab: &Lab, ids: &[MessageId]| {
        let client = lab.client();
        let error = client.get_result::<u64>(ids.to_vec()).expect("a handle").get_timeout(SOON).expect_err("it is too late");
        let Error::Task { error, .. } = &error else { panic!("{error}") };
        assert!(matches!(error.cause, Cause::QueueTimeout { .. }), "{error}");
        assert_eq!(client.result_status(ids).expect("counts").failed, 3);
    };
    too_late(&lab, &ids);

    let ids: Vec<String> = lab.run(PROBE, ["in-time", "3", "1500"]).success().json();
    controller.kill();
    let _next = lab.controller();
    too_late(&lab, &ids.iter().map(|id| id.parse().expect("a message id")).collect::<Vec<_>>());
}

#[test]
fn tasks_submitted_again_keep_their_options() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let ids: Vec<String> = lab.run(PROBE, ["in-time", "3", "1000"]).success().json();
    let ids: Vec<MessageId> = ids.iter().map(|id| id.parse().expect("a message id")).collect();
    let client = lab.client();
    wait_for("the end of their time", || (client.result_status(&ids).ok()?.failed == 3).then_some(()));
    let mut again = client.resubmit::<u64>(ids).expect("they are known");
    let error = again.get_timeout(SOON).expect_err("there is no engine");
    assert!(matches!(&error, Error::Task { error, .. } if matches!(error.cause, Cause::QueueTimeout { .. })), "{error}");
}

#[test]
fn tasks_submitted_again_keep_retries_priority_time_limit_and_dependencies_also_after_a_restart() {
    const LIMIT_MS: u64 = 100;
    let lab = Lab::new();
    let (engines, controller) = lab.cluster(1);
    let ids: HashMap<String, String> = lab.run(PROBE, ["each-option", &LIMIT_MS.to_string()]).success().json();
    engines.signal(Signal::TERM);
    engines.finish().success();
    controller.kill();
    let _controller = lab.controller();

    // All of them are queued before there is an engine, the less urgent one first.
    let client = lab.client();
    let again = ["low", "tried", "limited", "waiting", "high"].map(|name| {
        let id: MessageId = ids[name].parse().expect("a message id");
        (name, client.resubmit::<u64>([id]).expect("it is known"))
    });
    client.flush(SOON).expect("the controller answers");
    let _engines = lab.engine_node(1);
    let ended = again.map(|(name, mut task)| {
        let metadata = task.metadata().expect("it ends").remove(0);
        (name, metadata.attempt, metadata.started, task.results().expect("it has ended").remove(0))
    });
    let [low, tried, limited, waiting, high] = &ended;
    assert!((&low.3, &high.3) == (&Ok(1), &Ok(2)) && high.2.is_some() && high.2 < low.2, "{ended:?}");
    let cause = |task: &(_, _, _, Result<u64, TaskError>)| task.3.as_ref().expect_err("it fails").cause.clone();
    assert!(tried.1 == 3 && matches!(cause(tried), Cause::ReturnedError { .. }), "{tried:?}");
    assert_eq!(cause(limited), Cause::TimeLimit { limit_ms: LIMIT_MS, ran_ms: None });
    assert!(waiting.1 == 0 && matches!(cause(waiting), Cause::UnmetDependency { .. }), "{waiting:?}");
}

#[test]
fn engines_take_turns_or_the_same_one_goes_on_as_the_dispatch_scheme_says() {
    fn turns<const N: usize>(options: [&str; N]) -> Vec<u32> {
        let lab = Lab::new();
        let _controller = lab.controller_with(options);
        let _engines = lab.engine_node(3);
        lab.run(PROBE, ["turns", "9"]).success().json()
    }
    let same = turns([]);
    assert_eq!(same, [same[0]; 9], "least loaded: the one that worked last");
    let others = turns(["--scheme", "lru"]);
    assert_eq!((&others[3..6], &others[6..]), (&others[..3], &others[..3]));
    assert_eq!(others[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{others:?}");
}

#[test]
fn a_task_that_fails_is_tried_again_and_only_its_last_attempt_is_recorded() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let marks = lab.path().join("marks");
    std::fs::create_dir(&marks).expect("a directory");
    let outcomes: Vec<Outcome<u64>> = lab.run(PROBE, ["retries", "30", marks.to_str().expect("a path")]).success().json();
    assert_eq!(outcomes.len(), 30);
    for (number, outcome) in (0..).zip(&outcomes) {
        let attempts = if number % 3 == 0 { 3 } else { 1 };
        assert_eq!((&outcome.result, outcome.attempt), (&Ok(number * number), attempts), "task {number}");
    }
    assert_eq!(std::fs::read_dir(&marks).expect("the directory").count(), 30 + 2 * 10, "attempts in all");
}
