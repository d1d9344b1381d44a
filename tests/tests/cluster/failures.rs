//! Tasks that fail: each for itself, and with a reason.

use std::collections::BTreeMap;

use engineroom::{Cause, WorkerExit};
use engineroom_tests::{Lab, Outcome};

use crate::PROBE;

#[test]
fn tasks_that_fail_name_cause_engine_and_message_id_and_cost_nobody_else() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let outcomes: Vec<Outcome<u64>> = lab.run(PROBE, ["failures", "107"]).success().json();
    // One number is left out.
    assert_eq!(outcomes.len(), 106);
    let mut failed = BTreeMap::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        let number = index as u64 + u64::from(index >= 70);
        assert!(outcome.id.ends_with(&format!("/{index}")), "{}", outcome.id);
        match &outcome.result {
            Ok(value) => {
                assert_eq!(*value, number);
                assert_eq!(
                    (outcome.stdout.as_str(), outcome.stderr.as_str()),
                    (&*format!("out {number}\n"), &*format!("err {number}\n"))
                );
                assert!(outcome.engine.is_some_and(|engine| engine < 2) && outcome.timed && outcome.attempt >= 1, "{outcome:?}");
            }
            Err(error) => {
                assert_eq!((error.id.to_string(), error.engine.map(|engine| engine.0)), (outcome.id.clone(), outcome.engine));
                let text = outcome.text.clone().unwrap_or_default();
                assert!(text.contains(&outcome.id) && text.contains(&format!("engine {}", outcome.engine.unwrap())), "{text}");
                failed.insert(number, (error.cause.clone(), text));
            }
        }
    }
    assert_eq!(failed.keys().copied().collect::<Vec<_>>(), [10, 20, 30, 40, 50, 60, 71]);
    let crashed = |number, exit| {
        let (cause, text) = &failed[&number];
        let Cause::WorkerCrashed { exit: found, last_output } = cause else { panic!("{cause:?}") };
        assert_eq!((*found, last_output.trim_end()), (exit, &*format!("err {number}")), "{text}");
    };
    crashed(10, WorkerExit::Signal(6));
    crashed(40, WorkerExit::Code(3));
    crashed(50, WorkerExit::Signal(11));
    for (number, said) in [
        (10, "SIGABRT"),
        (20, "number 20 panics"),
        (20, "ends.rs:"),
        (30, "Odd): number 30 is odd"),
        (40, "exited with code 3"),
        (50, "SIGSEGV"),
        (60, "this number cannot be read"),
        (71, "this number cannot be written"),
    ] {
        assert!(failed[&number].1.contains(said), "{number}: {}", failed[&number].1);
    }
    assert!(matches!(failed[&20].0, Cause::Panicked { .. }) && matches!(failed[&30].0, Cause::ReturnedError { .. }));
    assert!(matches!(failed[&60].0, Cause::WrongArgument { .. }) && matches!(failed[&71].0, Cause::WrongResult { .. }));

    lab.run("hello", ["--engines", "2"]).success();
}
