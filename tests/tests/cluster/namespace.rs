//! Values that stay on engines: push, pull, scatter, gather, broadcast.

use std::fs;

use engineroom::{Cause, MessageId, TaskContext};
use engineroom_tests::{Lab, Outcome};
use serde_json::Value;

use crate::{PROBE, shared::far_node};

#[test]
fn push_and_pull_keep_values_on_engines_with_their_types() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(3);
    let printed: Value = lab.run(PROBE, ["values"]).success().json();
    assert_eq!(printed["sums"], serde_json::json!([6, 6, 6]));
    assert_eq!(printed["pulled"], serde_json::json!([[1, 2, 3], [1, 2, 3], [1, 2, 3]]));
    assert_eq!(printed["differing"], serde_json::json!([[7], [1, 2, 3], [1, 2, 3]]));
    for text in printed["wrong"].as_array().expect("a list") {
        let text = text.as_str().expect("a text");
        assert!(text.contains("alloc::vec::Vec<u64>, not alloc::string::String"), "{text}");
    }
    let cleared: Vec<Outcome<Vec<u64>>> = serde_json::from_value(printed["cleared"].clone()).expect("outcomes");
    let [first, others @ ..] = &cleared[..] else { panic!("{cleared:?}") };
    let error = first.result.as_ref().expect_err("it was cleared");
    assert!(matches!(&error.cause, Cause::ReturnedError { message, .. } if message.contains("there is no value")), "{error}");
    assert!(others.iter().all(|outcome| outcome.result.as_ref().is_ok_and(|numbers| *numbers == [1, 2, 3])), "{others:?}");
}

#[test]
fn what_is_scattered_is_gathered_exactly_block_and_cyclic() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let _engines = [lab.engine_node(3), lab.engine_node(1)];
    let (right, all): (usize, usize) = lab.run(PROBE, ["scatter"]).success().json();
    assert_eq!((right, all), (12, 12));
}

#[test]
fn a_broadcast_travels_once_to_each_node_and_not_once_to_each_engine() {
    const MIB: u64 = 256;
    let lab = Lab::new();
    let _controller = lab.controller();
    let nodes = ["one.json", "two.json"].map(|name| far_node(&lab, name, 4));
    // The program travels too; that is not what is measured.
    lab.run(PROBE, ["broadcast", "1"]).success();
    let before: Vec<u64> = nodes.iter().map(|(_, relay)| relay.bytes()).collect();
    let ended = lab.run(PROBE, ["broadcast", &MIB.to_string()]).success();
    let bytes: Vec<u64> = nodes.iter().zip(before).map(|((_, relay), before)| relay.bytes() - before).collect();
    println!("{MIB} MiB to 8 engines on 2 nodes in {:.1?}: {bytes:?} bytes", ended.took);
    assert_eq!(ended.json::<usize>(), 8, "each engine has the value");
    // Half as much again is for what is lost and sent again.
    let once = MIB << 20..(MIB << 20) * 3 / 2;
    assert!(bytes.iter().all(|bytes| once.contains(bytes)), "{bytes:?}");
}

#[test]
fn a_worker_that_crashes_loses_its_values_and_says_so() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let (crashed, pulled): (Vec<bool>, Vec<Outcome<u64>>) = lab.run(PROBE, ["lost-value"]).success().json();
    assert_eq!(crashed, [true]);
    let error = pulled[0].result.as_ref().expect_err("it is lost");
    assert!(error.to_string().contains("lost with the worker that had it"), "{error}");
    assert_eq!(pulled[1].result.as_ref().ok(), Some(&5));
}

#[test]
fn a_task_that_runs_again_has_the_same_seed() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let _engines = [lab.engine_node(1), lab.engine_node(1)];
    let file = lab.path().join("seeds");
    let seeds: Vec<(String, u64)> = lab.run(PROBE, ["seeds", "20", file.to_str().expect("a path of this test")]).success().json();
    let text = fs::read_to_string(&file).expect("the first task has written it");
    let noted: Vec<u64> = text.lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(noted, [seeds[0].1; 2], "the first task has run twice");
    for (id, seed) in &seeds {
        assert_eq!(TaskContext::seed_of(id.parse::<MessageId>().expect("an id")), *seed);
    }
}
