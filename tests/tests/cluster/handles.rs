//! What a result tells, and how it is waited for: the programs check what they see themselves.

use engineroom::MessageId;
use engineroom_tests::{Lab, SOON};

use crate::{PROBE, probe_two_engines};

#[test]
fn times_engine_node_and_label_of_each_task_are_told_here_and_to_another_client() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let ids: Vec<String> = lab.run(PROBE, ["handles-times"]).success().json();
    let ids = ids.iter().map(|id| id.parse::<MessageId>().unwrap());
    let client = lab.client();
    let mut result = client.get_result::<u64>(ids).unwrap();
    assert!(result.wait(Some(SOON)).unwrap());
    let metadata = result.metadata().unwrap();
    assert_eq!(metadata.len(), 7);
    for task in metadata {
        assert_eq!((task.label.as_deref(), task.node.is_some()), (Some("handles"), true), "{task:?}");
        assert!(task.started.is_some() && task.completed <= Some(task.received), "{task:?}");
    }
    assert!(result.elapsed() >= result.wall_time().unwrap());
}

#[test]
fn results_come_in_order_or_as_completed_while_others_run() {
    assert!(probe_two_engines(["handles-order"]).json::<bool>());
}

#[test]
fn waits_end_at_the_first_failure_and_fail_fast_aborts_the_others() {
    probe_two_engines(["handles-failures"]);
}

#[test]
fn results_are_joined_split_and_sorted_by_engine() {
    probe_two_engines(["handles-composed"]);
}
