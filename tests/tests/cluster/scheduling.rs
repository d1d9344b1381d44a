//! What the options of views do: which task goes where, when, and how often.

use engineroom_tests::Lab;
use serde::Deserialize;

use crate::PROBE;

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
