//! Maps whose inputs are drawn as results are taken.

use engineroom_tests::Lab;

use crate::PROBE;

#[test]
fn results_that_nobody_reads_count_as_outstanding() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let drawn: u32 = lab.run(PROBE, ["lazy-bounded"]).success().json();
    // Five were taken, ten may be outstanding, and one is drawn to wait for its place.
    assert!((10..=16).contains(&drawn), "{drawn}");
}

#[test]
fn lazy_maps_give_results_as_tasks_end_and_end_when_dropped() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    lab.run(PROBE, ["lazy-completed"]).success();
}

#[test]
fn maps_take_several_inputs_zipped_and_fallible_functions_lazily() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    lab.run(PROBE, ["zipped"]).success();
}
