//! What running tasks tell those who wait for them.

use engineroom::MessageId;
use engineroom_tests::{Lab, Outcome, SOON};
use serde_json::{Value, json};

use crate::PROBE;

#[test]
fn progress_and_published_values_come_while_tasks_run_and_the_last_value_stays_with_the_outcome() {
    let lab = Lab::new();
    let controller = lab.controller();
    let _engines = lab.engine_node(2);
    let file = lab.path().join("go on");
    let printed: Value = lab.run(PROBE, ["tell", file.to_str().expect("a path of this test")]).success().json();
    assert_eq!(printed["halfway"], json!([0.5, 0.5]));
    for (number, running) in printed["running"].as_array().expect("a list").iter().enumerate() {
        assert!(running[0] == number && running[1].as_u64() > Some(1), "{running}");
    }
    assert!(printed["wrong"]["Err"].as_str().is_some_and(|text| text.contains("String")), "{printed}");
    assert_eq!((&printed["last"], &printed["done"]), (&json!([[0, 0], [1, 0]]), &json!([1.0, 1.0])));
    let outcomes: Vec<Outcome<u64>> = serde_json::from_value(printed["outcomes"].clone()).expect("outcomes");
    assert_eq!((outcomes[0].result.as_ref().ok(), outcomes[1].result.is_err()), (Some(&0), true), "{outcomes:?}");

    // Another client, of another life of the controller.
    controller.kill();
    let _controller = lab.controller();
    let ids: Vec<MessageId> = outcomes.iter().map(|outcome| outcome.id.parse().expect("a message id")).collect();
    let mut again = lab.client().get_result::<u64>(ids).expect("open");
    assert!(again.wait(Some(SOON)).expect("they are known"));
    let published = [0, 1].map(|place| again.published::<(u64, u64)>(place).expect("of that type"));
    assert_eq!(published, [Some((0, 0)), Some((1, 0))]);
}

#[test]
fn what_tasks_write_is_seen_while_they_run_and_once() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let file = lab.path().join("go on");
    // The first task ends only when one of its lines has been seen.
    let followed = lab.run(PROBE, ["follow", file.to_str().expect("a path of this test")]).success();
    let (shown, whole): (Vec<[String; 2]>, Vec<[String; 2]>) = followed.json();
    assert_eq!(shown, whole);
    assert!(shown[0][0].starts_with("line 0 of 0\nline 1 of 0\n") && shown[0][0].ends_with("end of 0\n"), "{shown:?}");
    assert_eq!(shown[3], ["line 0 of 3\nend of 3\n", "task 3\n"]);
}
