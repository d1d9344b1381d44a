//! Maps whose inputs are drawn as results are taken.

use crate::probe_two_engines;

#[test]
fn results_that_nobody_reads_count_as_outstanding() {
    let drawn: u32 = probe_two_engines(["lazy-bounded"]).json();
    // Five were taken, ten may be outstanding, and one is drawn to wait for its place.
    assert!((10..=16).contains(&drawn), "{drawn}");
}

#[test]
fn lazy_maps_give_results_as_tasks_end_and_end_when_dropped() {
    probe_two_engines(["lazy-completed"]);
}

#[test]
fn maps_take_several_inputs_zipped_and_fallible_functions_lazily() {
    probe_two_engines(["zipped"]);
}
