//! Tasks that are stopped: because they are aborted, or take too long.

use engineroom::{AbortCounts, Cause};
use engineroom_tests::{Lab, Outcome};

use crate::PROBE;

#[test]
fn a_million_queued_tasks_are_aborted_and_the_engine_takes_the_next_task() {
    const TASKS: u64 = 1_000_000;
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let ended: serde_json::Value = lab.run(PROBE, ["abort-million", &TASKS.to_string()]).success().json();
    println!("{TASKS} tasks were aborted in {} ms; the engine has run the next after {} ms", ended["took_ms"], ended["freed_ms"]);
    let [met, again] = ["met", "again"].map(|met| serde_json::from_value::<AbortCounts>(ended[met].clone()).expect("counts"));
    assert_eq!((u64::from(met.queued + met.active), met.in_threads, met.ended), (TASKS, 0, 0), "{met:?}");
    assert!(met.active >= 1, "{met:?}");
    assert_eq!((again.queued + again.active, u64::from(again.ended)), (0, TASKS), "{again:?}");
    assert_eq!((&ended["aborted"], &ended["ran_on"]), (&TASKS.into(), &0.into()));
}

#[test]
fn an_abort_says_that_a_task_in_a_thread_may_go_on_and_one_that_asks_is_aborted() {
    let lab = Lab::new();
    let ended: serde_json::Value = lab.run(PROBE, ["abort-thread"]).success().json();
    let met: Vec<AbortCounts> = serde_json::from_value(ended["met"].clone()).expect("counts");
    assert_eq!(met, [AbortCounts { active: 1, in_threads: 1, ..AbortCounts::default() }; 2]);
    let [asked, deaf] =
        ["asked", "deaf"].map(|of| serde_json::from_value::<Vec<Outcome<bool>>>(ended[of].clone()).expect("outcomes"));
    assert!(asked[0].result.as_ref().is_err_and(|error| error.cause == Cause::Aborted), "{asked:?}");
    assert_eq!((&ended["still_runs"], deaf[0].result.as_ref().ok()), (&true.into(), Some(&false)), "it came to its end");
}

#[test]
fn a_task_that_takes_longer_than_its_limit_is_stopped_and_its_neighbours_run_also_when_it_is_submitted_again() {
    const LIMIT: u64 = 2000;
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    // Together they take longer than the limit, which is each task's own.
    let naps = ["400", "3600000", "400", "400", "400", "3600000", "400", "400"];
    let limit = LIMIT.to_string();
    let arguments = ["time-limit", &limit].into_iter().chain(naps);
    let (first, again): (Vec<Outcome<u64>>, Vec<Outcome<u64>>) = lab.run(PROBE, arguments).success().json();
    assert_eq!((first.len(), again.len()), (naps.len(), 2));
    let overran = Cause::TimeLimit { limit_ms: LIMIT, ran_ms: None };
    for (outcome, nap) in first.iter().zip(naps) {
        match &outcome.result {
            Ok(_) => assert_eq!(nap, "400"),
            Err(error) => assert!(nap != "400" && error.cause == overran, "{error}"),
        }
        assert_eq!((outcome.engine, outcome.attempt), (Some(0), 1), "the engine goes on");
    }
    assert!(again.iter().all(|outcome| outcome.result.as_ref().is_err_and(|error| error.cause == overran)), "{again:?}");
}

#[test]
fn a_task_in_a_thread_that_takes_too_long_is_told_and_says_how_long_it_took() {
    let lab = Lab::new();
    let outcomes: Vec<Outcome<bool>> = lab.run(PROBE, ["time-limit-thread"]).success().json();
    let ran: Vec<u64> = outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            Err(error) => match error.cause {
                Cause::TimeLimit { limit_ms: 50, ran_ms: Some(ran_ms) } => ran_ms,
                _ => panic!("{error}"),
            },
            Ok(value) => panic!("it has a value: {value}"),
        })
        .collect();
    assert!(ran[0] >= 50 && ran[1] >= 500, "{ran:?}");
}
