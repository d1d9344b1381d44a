//! On which engines load-balanced tasks run.

use std::collections::BTreeSet;

use engineroom::{Cause, EngineId, MessageId};
use engineroom_tests::{Lab, Outcome, Process, SOON, wait_for};
use serde::Deserialize;

use crate::PROBE;

/// An engine node with these options, ready.
fn node(lab: &Lab, options: &str) -> Process {
    let node = lab.start("node", ["--role", "engine"].into_iter().chain(options.split(' ')));
    node.wait_line("engine node ready");
    node
}

#[test]
fn tasks_run_on_the_engines_that_are_chosen_by_number_node_label_and_resource() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let _nodes = [
        "--engines 1 --label site=a",
        "--engines 2 --label site=b --resource memory_gb=16",
        "--engines 1 --resource memory_gb=8 --resource gpu=1",
    ]
    .map(|options| node(&lab, options));
    let engines = lab.client().engines();
    assert_eq!(engines[3].resources, [("gpu".to_string(), 1), ("memory_gb".to_string(), 8)].into());
    assert!(lab.run("engineroom", ["status"]).success().stdout.contains("gpu=1,memory_gb=8"));

    let found: Vec<(String, BTreeSet<u32>, usize)> = lab.run(PROBE, ["placed"]).success().json();
    let expected = [
        ("label", &[1, 2][..]),
        ("resource", &[1, 2, 3]),
        ("label and resource", &[1, 2]),
        ("the other resource", &[3]),
        ("list", &[0, 3]),
        ("range", &[1, 2]),
        ("node", &[1, 2]),
        ("one", &[2]),
        ("all", &[0, 1, 2, 3]),
    ];
    assert_eq!(found.len(), expected.len());
    for ((name, engines, jobs), (expected_name, allowed)) in found.into_iter().zip(expected) {
        assert_eq!((name.as_str(), jobs), (expected_name, 1), "single tasks of one choice share a job");
        assert!(!engines.is_empty() && engines.is_subset(&allowed.iter().copied().collect()), "{name}: {engines:?}");
    }
}

#[derive(Deserialize)]
struct Placed {
    ids: Vec<String>,
    engines: BTreeSet<u32>,
}

#[test]
fn tasks_wait_for_a_label_through_a_restart_and_keep_it_when_they_are_submitted_again() {
    let lab = Lab::new();
    let controller = lab.controller();
    let _plain = lab.engine_node(2);
    let waiting = lab.start(PROBE, ["placed-at", "site", "late"]);
    waiting.wait_line("submitted");
    let reason = || lab.status().clients.into_iter().find_map(|client| client.waiting);
    assert_eq!(reason().as_deref(), Some("no connected engine that could run its tasks has the label site=late"));
    controller.kill();
    let _controller = lab.controller();
    let _late = node(&lab, "--engines 1 --label site=late");
    let Placed { ids, engines } = waiting.finish().success().json();
    assert_eq!(engines, [2].into());

    let client = lab.client();
    let ids: Vec<MessageId> = ids.iter().map(|id| id.parse().expect("a message id")).collect();
    let mut again = client.resubmit::<u64>(ids).expect("they are known");
    assert_eq!(again.get_timeout(SOON).expect("they run").len(), 8);
    assert!(again.metadata().expect("they ran").iter().all(|task| task.engine == Some(EngineId(2))));
}

#[test]
fn tasks_whose_engines_have_left_or_lack_what_they_require_fail_and_say_why() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let _nodes = ["--engines 1", "--engines 2"].map(|options| node(&lab, options));
    let probe = lab.start(PROBE, ["placed-in-vain"]);
    probe.wait_line("submitted");
    let client = lab.client();
    let busy = |id: u32| client.status().is_ok_and(|status| status.engines.iter().any(|e| e.info.id.0 == id && e.tasks > 0));
    wait_for("both to be busy", || (busy(1) && busy(2)).then_some(()));
    client.shutdown(&[EngineId(1), EngineId(2)]).expect("they are there");
    let [leaving, left, alone, lacking]: [Vec<Outcome<u64>>; 4] = probe.finish().success().json();
    let lost = |outcome: &Outcome<u64>| matches!(&outcome.result, Err(error) if matches!(error.cause, Cause::EngineLost { .. }));
    assert!(leaving.iter().all(|outcome| outcome.result.is_ok() || lost(outcome)), "{leaving:?}");
    assert!(leaving.iter().any(lost) && left.iter().chain(&alone).all(lost), "{leaving:?} {left:?} {alone:?}");
    let text = left[0].text.as_deref().unwrap_or_default();
    assert!(text.contains("none of the engines that it may run on is connected and takes tasks: 1, 2"), "{text}");
    let text = lacking[0].text.as_deref().unwrap_or_default();
    assert!(text.contains("engine 0 does not have 1 of the resource gpu"), "{text}");
}

#[derive(Deserialize)]
struct Followed {
    /// Where each task that left a value ran, and those that looked for it.
    places: Vec<(BTreeSet<u32>, BTreeSet<u32>)>,
    built: Vec<String>,
    used: Vec<String>,
    any: BTreeSet<u32>,
    all: Vec<Outcome<u64>>,
}

#[test]
fn tasks_follow_others_to_their_engines_through_a_restart_of_the_controller_and_later() {
    let lab = Lab::new();
    let controller = lab.controller();
    let _nodes = ["--engines 1", "--engines 2"].map(|options| node(&lab, options));
    let probe = lab.start(PROBE, ["followed", "200"]);
    probe.wait_line("submitted");
    controller.kill();
    let controller = lab.controller();
    let Followed { places, built, used, any, all } = probe.finish().success().json();
    assert!(places.iter().all(|(built, used)| built.len() == 1 && built == used), "{places:?}");
    assert!(!any.is_empty() && any.is_subset(&[0, 1].into()), "{any:?}");
    let text = all[0].text.as_deref().unwrap_or_default();
    assert!(text.contains("the tasks that it follows ran on several engines"), "{text}");

    // All of it has ended by now, and another controller knows where, also while engines have yet to come back to it.
    controller.kill();
    let _controller = lab.controller();
    let place = *places[0].0.first().expect("it ran");
    let follow_one = || -> Vec<Outcome<u64>> { lab.run(PROBE, ["follow-one", &built[0]]).success().json() };
    assert_eq!(follow_one()[0].engine, Some(place));
    let client = lab.client();
    client.wait_for_engines(3, SOON).expect("they are back");
    let used: Vec<MessageId> = used.iter().map(|id| id.parse().expect("a message id")).collect();
    let mut again = client.resubmit::<u64>(used).expect("they are known");
    assert_eq!(again.get_timeout(SOON).expect("they run"), [0; 5]);
    assert!(again.metadata().expect("they ran").iter().all(|task| task.engine == Some(EngineId(place))));

    client.shutdown(&[EngineId(place)]).expect("it is there");
    wait_for("its end", || client.engine_ids().iter().all(|id| id.0 != place).then_some(()));
    let outcome = follow_one().remove(0);
    let impossible = |cause: &Cause| matches!(cause, Cause::ImpossibleDependency { .. });
    assert!(outcome.result.is_err_and(|error| impossible(&error.cause)));
    let text = outcome.text.unwrap_or_default();
    assert!(text.contains(&format!("the engines on which the tasks ran that it follows have left: {place}")), "{text}");
}
