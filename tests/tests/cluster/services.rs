//! Named tasks, between programs that differ.

use engineroom::Cause;
use engineroom_tests::{Lab, Outcome, wait_for};

use crate::PROBE;

#[test]
fn named_tasks_wait_for_a_service_that_has_them_and_run_there() {
    let lab = Lab::new();
    // An engine without the task is passed over.
    let (_engines, _controller) = lab.cluster(1);
    let calls = lab.start(PROBE, ["named", "5"]);
    calls.wait_line("submitted");
    let client = lab.client();
    let waiting = wait_for("a reason to wait", || client.status().ok()?.clients.into_iter().find_map(|client| client.waiting));
    assert!(waiting.contains("triple"), "{waiting}");

    let service = lab.start(PROBE, ["service", "100"]);
    service.wait_line("service ready");
    let outcomes: Vec<Outcome<u64>> = calls.finish().success().json();
    let values: Vec<u64> = outcomes.iter().map(|outcome| outcome.result.clone().unwrap()).collect();
    assert_eq!(values, [100, 103, 106, 109, 112]);
    assert!(outcomes.iter().all(|outcome| outcome.engine == Some(1)), "{outcomes:?}");

    let wrong: Vec<Outcome<u64>> = lab.run(PROBE, ["named-wrongly"]).success().json();
    let error = wrong[0].result.clone().unwrap_err();
    assert!(matches!(&error.cause, Cause::WrongArgument { expected, .. } if expected == "u64"), "{error}");
    let text = error.to_string();
    assert!(text.contains(&wrong[0].id) && text.contains("engine 1") && text.contains("u64"), "{text}");

    service.finish().success();
    wait_for("the service's leave", || (client.engine_ids().len() == 1).then_some(()));
}
