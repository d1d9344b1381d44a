//! Engine nodes and controllers that go away, in every way.

use engineroom::Cause;
use engineroom_tests::{Lab, Outcome, Process, SOON, wait_for};
use rustix::process::Signal;

use crate::PROBE;

/// Waits until the engines have ended so many tasks.
fn wait_completed(lab: &Lab, tasks: u64) {
    let client = lab.client();
    wait_for("progress", || {
        let status = client.status().ok()?;
        (status.engines.iter().map(|engine| engine.completed).sum::<u64>() >= tasks).then_some(())
    });
}

/// Waits until so many engines have a task.
fn wait_running(lab: &Lab, engines: usize) {
    let client = lab.client();
    wait_for("running tasks", || {
        let busy = client.status().ok()?.engines.iter().filter(|engine| engine.tasks > 0).count();
        (busy >= engines).then_some(())
    });
}

fn assert_squares(outcomes: &[Outcome<u64>], count: usize) {
    assert_eq!(outcomes.len(), count);
    for (number, outcome) in (0..).zip(outcomes) {
        assert_eq!(outcome.result, Ok(number * number), "{}", outcome.id);
    }
}

#[test]
fn a_map_survives_the_sigkill_of_an_engine_node_and_uses_one_that_joins() {
    let lab = Lab::new();
    let (doomed, _controller) = lab.cluster(2);
    let _other = lab.engine_node(2);
    let map = lab.start(PROBE, ["sleep-map", "2000", "10"]);
    wait_completed(&lab, 200);
    doomed.kill();
    let joined = lab.engine_node(2);
    let outcomes: Vec<Outcome<u64>> = map.finish().success().json();
    assert_squares(&outcomes, 2000);
    let engines = Outcome::by_engine(&outcomes);
    // Ids are never given twice: 0 and 1 were killed, 4 and 5 have joined.
    assert!((4..=5).all(|engine| engines.get(&engine).is_some_and(|tasks| *tasks > 0)), "{engines:?}");
    assert!(outcomes.iter().all(|outcome| outcome.timed));
    drop(joined);
}

#[test]
fn an_engine_node_that_is_told_to_end_hands_its_work_back() {
    let lab = Lab::new();
    let (leaving, _controller) = lab.cluster(2);
    let _other = lab.engine_node(1);
    let map = lab.start(PROBE, ["sleep-map", "400", "10"]);
    wait_completed(&lab, 50);
    leaving.signal(Signal::TERM);
    let ended = leaving.finish().success();
    assert!(ended.stderr.contains("ending"), "{ended:?}");
    let outcomes: Vec<Outcome<u64>> = map.finish().success().json();
    assert_squares(&outcomes, 400);
    // Nothing was lost, so that nothing was tried again.
    let again: Vec<_> =
        outcomes.iter().filter(|outcome| outcome.attempt != 1).map(|outcome| (&outcome.id, outcome.attempt)).collect();
    eprintln!("{} tasks had been sent more than once", again.len());
    assert!(lab.client().status().unwrap().engines.len() == 1);
}

#[test]
fn a_second_signal_ends_an_engine_node_at_once_and_its_task_runs_elsewhere() {
    let lab = Lab::new();
    let (leaving, _controller) = lab.cluster(1);
    let map = lab.start(PROBE, ["sleep-map", "1", "5000"]);
    wait_running(&lab, 1);
    leaving.signal(Signal::TERM);
    leaving.wait_stderr("a second signal ends them at once");
    leaving.signal(Signal::TERM);
    let ended = leaving.finish();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let _other = lab.engine_node(1);
    let outcomes: Vec<Outcome<u64>> = map.finish().success().json();
    assert_squares(&outcomes, 1);
    assert_eq!((outcomes[0].engine, outcomes[0].attempt), (Some(1), 2));
}

#[test]
fn in_a_direct_view_a_lost_engine_fails_its_own_tasks_only() {
    let lab = Lab::new();
    let (doomed, _controller) = lab.cluster(1);
    let _other = lab.engine_node(2);
    let direct = lab.start(PROBE, ["direct", "3000"]);
    wait_running(&lab, 3);
    doomed.kill();
    type Outcomes = Vec<Outcome<u64>>;
    let (targets, applied, mapped): (Vec<u32>, Outcomes, Outcomes) = direct.finish().success().json();
    assert_eq!(targets, [0, 1, 2]);
    assert_eq!((applied.len(), mapped.len()), (3, 9));
    for (place, outcome) in applied.iter().enumerate() {
        check_direct(outcome, place == 0, 49);
        assert_eq!(outcome.engine, Some(place as u32));
    }
    for (place, outcome) in mapped.iter().enumerate() {
        check_direct(outcome, place < 3, (place * place) as u64);
    }
}

fn check_direct(outcome: &Outcome<u64>, lost: bool, value: u64) {
    match &outcome.result {
        Ok(result) => assert!(!lost && *result == value, "{outcome:?}"),
        Err(error) => {
            assert!(lost && matches!(error.cause, Cause::EngineLost { .. }), "{outcome:?}");
            let text = outcome.text.as_deref().unwrap_or_default();
            assert!(text.contains(&outcome.id) && text.contains("engine 0") && text.contains("lost"), "{text}");
        }
    }
}

#[test]
fn a_task_that_kills_its_engine_node_fails_as_poisoned_and_spares_others() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let mut nodes: Vec<Process> = (0..6).map(|_| lab.engine_node(1)).collect();
    // A node that was killed says no goodbye: the silence of up to six in a row is noticed within 15 s each.
    let ended = lab.start(PROBE, ["poison", "21"]).finish_within(2 * SOON).success();
    let outcomes: Vec<Outcome<u64>> = ended.json();
    for (number, outcome) in (0..).zip(&outcomes) {
        match &outcome.result {
            Ok(value) => assert!(*value == number && number != 10),
            Err(error) => {
                assert!(number == 10 && error.cause == Cause::Poisoned { losses: 3 }, "{outcome:?}");
                let text = outcome.text.as_deref().unwrap_or_default();
                assert!(text.contains(&outcome.id) && text.contains("3 engines in a row"), "{text}");
                eprintln!("{text}");
            }
        }
    }
    assert_eq!(outcomes.len(), 21);
    let alive = nodes.iter_mut().filter_map(|node| node.is_running().then_some(())).count();
    assert!((1..=3).contains(&alive), "{alive} of 6 nodes are alive");
}

#[test]
fn a_controller_that_is_told_to_end_does_so_and_its_engines_wait_for_the_next() {
    let lab = Lab::new();
    let (_engines, controller) = lab.cluster(2);
    lab.run("hello", [""; 0]).success();
    controller.signal(Signal::TERM);
    controller.finish().success();
    let _next = lab.controller();
    let client = lab.client();
    wait_for("the engines", || (client.engine_ids().len() == 2).then_some(()));
    lab.run("hello", [""; 0]).success();
}

#[test]
fn a_client_whose_controller_was_killed_keeps_its_timeouts_and_learns_that_the_job_is_gone() {
    let lab = Lab::new();
    let controller = lab.controller_with(["--store", "memory"]);
    let _engines = lab.engine_node(1);
    let client = lab.start(PROBE, ["await-end"]);
    client.wait_line("waiting");
    // What it has not acknowledged is submitted again to the next one, and would run there.
    wait_running(&lab, 1);
    controller.kill();
    let _next = lab.controller_with(["--store", "memory"]);
    let ended: serde_json::Value = client.finish().success().json();
    let error = ended["ended"]["Err"].as_str().unwrap_or_default();
    assert!(error.contains("the controller was restarted"), "{ended}");
}
