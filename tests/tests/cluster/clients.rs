//! What a client can do, seen from a program of its own.

use std::time::Duration;

use engineroom::{Cause, Error, MessageId};
use engineroom_tests::{Lab, Outcome, SOON, process_exists, wait_for};

use crate::{PROBE, misuse::probe_that, probe_two_engines};

#[test]
fn results_are_had_by_message_id_from_another_client() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let ids: Vec<String> = lab.run(PROBE, ["submit", "20", "20"]).success().json();
    let ids: Vec<MessageId> = ids.iter().map(|id| id.parse().unwrap()).collect();
    let client = lab.client();
    let counts = client.result_status(&ids).unwrap();
    assert_eq!((counts.total, counts.unknown, counts.failed, counts.pending + counts.succeeded), (20, 0, 0, 20));
    // In another order than that of the tasks, and one of them twice.
    let asked: Vec<MessageId> = ids.iter().rev().chain([&ids[3]]).copied().collect();
    let squares = client.get_result::<u64>(asked).unwrap().get_timeout(SOON).unwrap();
    let expected: Vec<u64> = (0..20).rev().chain([3]).map(|number| number * number).collect();
    assert_eq!(squares, expected);
    assert_eq!(client.result_status(&ids).unwrap().succeeded, 20);

    let unknown = MessageId { job: engineroom::JobId::fresh(), index: 0 };
    assert_eq!(client.result_status(&[unknown, ids[0]]).unwrap().unknown, 1);
    let error = client.get_result::<u64>([unknown]).unwrap().get_timeout(SOON).unwrap_err();
    assert!(matches!(error, Error::UnknownJob(job) if job == unknown.job), "{error}");
    let error = client.get_result::<String>([ids[0]]).unwrap().get_timeout(SOON).unwrap_err();
    assert!(matches!(&error, Error::WrongType { id, .. } if *id == ids[0]), "{error}");
}

#[test]
fn what_was_only_just_submitted_is_known_to_all_questions_by_id() {
    probe_two_engines(["ask-at-once"]);
}

#[test]
fn a_task_that_ends_after_its_client_has_left_is_kept() {
    let lab = Lab::new();
    let _controller = lab.controller();
    // There is no engine, so that it cannot have run before the client has left.
    let ids: Vec<String> = lab.run(PROBE, ["submit", "3", "0"]).success().json();
    let _engines = lab.engine_node(1);
    let ids = ids.iter().map(|id| id.parse::<MessageId>().unwrap());
    let squares = lab.client().get_result::<u64>(ids).unwrap().get_timeout(SOON).unwrap();
    assert_eq!(squares, [0, 1, 4]);
}

#[test]
fn without_engines_waits_end_by_the_callers_time_and_status_says_why() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let mut probe = lab.start(PROBE, ["timeouts"]);
    let client = lab.client();
    let waiting = wait_for("a reason to wait", || client.status().ok()?.clients.into_iter().find_map(|client| client.waiting));
    assert!(waiting.contains("no engines are connected"), "{waiting}");
    assert!(lab.run("engineroom", ["status"]).success().stdout.contains(&waiting));
    let _engines = lab.engine_node(2);
    probe.close_stdin();
    let ended: serde_json::Value = probe.finish().success().json();
    assert!(ended["engines"]["Err"].as_str().unwrap().contains("not done within"), "{ended}");
    assert!(ended["direct"]["Err"].as_str().unwrap().contains("no engine that is there now"), "{ended}");
    assert!(ended["early"]["Err"].as_str().unwrap().contains("not done within"), "{ended}");
    assert_eq!(ended["late"], 9);
}

#[test]
fn abort_stops_running_tasks_and_those_that_wait() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let mut probe = lab.start(PROBE, ["abort", "50"]);
    let client = lab.client();
    let workers =
        || lab.processes().into_iter().filter(|(_, line)| line.contains("bundles/")).map(|(pid, _)| pid).collect::<Vec<u32>>();
    wait_for("two running tasks", || {
        let busy = client.status().ok()?.engines.iter().filter(|engine| engine.tasks > 0).count();
        (busy == 2 && workers().len() == 2).then_some(())
    });
    let running = workers();
    probe.close_stdin();
    let ended = probe.finish().success();
    let outcomes: Vec<Outcome<u64>> = ended.json();
    assert_eq!(outcomes.len(), 50);
    for outcome in &outcomes {
        assert!(matches!(&outcome.result, Err(error) if error.cause == Cause::Aborted), "{outcome:?}");
    }
    wait_for("the end of the workers", || running.iter().all(|pid| !process_exists(*pid)).then_some(()));
    lab.run("hello", ["--engines", "2"]).success();
}

#[test]
fn jobs_that_wait_for_their_program_to_travel_keep_their_order() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let order: Vec<usize> = lab.run(PROBE, ["order", "12"]).success().json();
    assert_eq!(order, (0..12).collect::<Vec<usize>>());
}

#[test]
fn results_can_be_awaited_and_blocked_for_on_a_runtime_of_one_thread() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let squares: Vec<u64> = (0..10).map(|number| number * number).collect();
    let (awaited, blocked): (Vec<u64>, Vec<u64>) = lab.run(PROBE, ["async"]).success().json();
    assert_eq!((&awaited, &blocked), (&squares, &squares));
}

#[test]
fn arguments_and_results_of_eight_mebibytes_travel() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let right: usize = lab.run(PROBE, ["big", "6", &(8 << 20).to_string()]).success().json();
    assert_eq!(right, 6);
}

#[test]
fn a_client_waits_for_engines_only_as_long_as_it_was_told() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(1);
    let client = lab.client();
    client.wait_for_engines(1, SOON).unwrap();
    client.wait_for_engines(1, Duration::MAX).unwrap();
    let error = client.wait_for_engines(2, Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    client.close().unwrap();
    assert!(matches!(client.status().unwrap_err(), Error::Closed));
}

#[test]
fn programs_block_and_await_on_tokio_on_actix_and_without_any_runtime() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let sums: Vec<u64> = lab.run(PROBE, ["contexts"]).success().json();
    let squares: u64 = (0..100).map(|number| number * number).sum();
    let (blocked, awaited) = (squares + 2 + 30 + 100, squares + 100);
    assert_eq!(sums, [blocked, awaited, blocked, blocked, awaited, blocked, awaited]);
}

#[test]
fn tasks_may_block_on_runtimes_also_in_a_program_with_an_asynchronous_main() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let probe = probe_that(&lab, "is asynchronous");
    for program in [PROBE, probe.to_str().unwrap()] {
        assert_eq!(lab.run(program, ["blocking-tasks"]).success().json::<Vec<u64>>(), [1, 2, 3]);
    }
}
