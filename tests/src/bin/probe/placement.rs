//! Programs that choose on which engines their tasks may run.

use std::collections::BTreeSet;

use engineroom::{
    AsyncResult, Dependency, EngineId, Engines, Error, LoadBalancedView, MessageId, NamespaceError, Result, Shape, TaskContext,
};
use engineroom_tests::{SOON, outcomes};
use serde_json::json;

use crate::{Options, print, work::nap};

/// The engines that ran tasks.
fn ran<R, S: Shape>(mut tasks: AsyncResult<R, S>) -> Result<BTreeSet<u32>> {
    Ok(tasks.metadata()?.iter().filter_map(|task| Some(task.engine?.0)).collect())
}

/// `placed`: on which engines the tasks of views ran that choose by number, node, label and resource; a map and two single tasks of
/// each, and in how many jobs the single ones were.
pub fn placed(options: &Options) -> Result<()> {
    let client = options.client()?;
    client.wait_for_engines(4, SOON)?;
    let view = client.load_balanced_view().chunk_size(1);
    let node = client.engines()[1].node.clone();
    let views: [(&str, LoadBalancedView); 9] = [
        ("label", view.targets(Engines::label("site", "b"))),
        ("resource", view.require_resource("memory_gb", 8)),
        ("label and resource", view.require_label("site", "b").require_resource("memory_gb", 16)),
        ("the other resource", view.require_resource("gpu", 1)),
        ("list", view.targets([EngineId(3), EngineId(0)])),
        ("range", view.targets(1..3)),
        ("node", view.targets(Engines::node(node))),
        ("one", view.targets(EngineId(2))),
        ("all", view.targets(EngineId(2)).targets(Engines::all())),
    ];
    let mut found = Vec::new();
    for (name, view) in views {
        let singles = [5, 6].map(|millis| view.apply(nap, (0, millis)));
        let jobs: BTreeSet<_> = singles.iter().flat_map(|single| single.message_ids()).map(|id| id.job).collect();
        let mut engines = ran(view.map(nap, [(0, 5); 24]))?;
        for single in singles {
            engines.extend(ran(single)?);
        }
        found.push((name, engines, jobs.len()));
    }
    let none = view.targets(7..9).map(nap, [(0, 1)]).get();
    assert!(matches!(none, Err(Error::NoEngines)), "{none:?}");
    print(&found);
    Ok(())
}

/// `placed-at KEY VALUE`: tasks that wait for engines with that label. Says "submitted", and prints their ids and the engines that ran
/// them.
pub fn placed_at(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view().require_label(&options.arguments[1], &options.arguments[2]);
    let tasks = view.map(nap, [(0, 1); 8]);
    client.flush(SOON)?;
    println!("submitted");
    let ids: Vec<String> = tasks.message_ids().iter().map(ToString::to_string).collect();
    print(&json!({ "ids": ids, "engines": ran(tasks)? }));
    Ok(())
}

/// `placed-in-vain`: tasks that name engines which leave, others which have left, and one that lacks what they require. Says
/// "submitted", and prints the outcomes.
pub fn placed_in_vain(options: &Options) -> Result<()> {
    let client = options.client()?;
    client.wait_for_engines(3, SOON)?;
    let view = client.load_balanced_view().chunk_size(1);
    let named = view.targets([EngineId(1), EngineId(2)]);
    let leaving = named.map(nap, [(0, 400); 12]);
    client.flush(SOON)?;
    println!("submitted");
    let leaving = outcomes(leaving)?;
    let left = outcomes(named.map(nap, [(0, 1); 2]))?;
    let alone = outcomes(view.targets(EngineId(2)).map(nap, [(0, 1)]))?;
    let lacking = outcomes(view.targets(EngineId(0)).require_resource("gpu", 1).map(nap, [(0, 1)]))?;
    print(&[leaving, left, alone, lacking]);
    Ok(())
}

/// Leaves a value where it runs, after a while.
fn build((number, millis): (u64, u64)) -> u64 {
    nap((number, millis));
    let task = TaskContext::current().expect("this is a task");
    task.namespace().set(&format!("network {number}"), number * number).expect("room for a number");
    number
}

fn find(number: u64) -> std::result::Result<u64, NamespaceError> {
    let task = TaskContext::current().expect("this is a task");
    task.namespace().get::<u64>(&format!("network {number}")).map(|value| *value)
}

/// `followed MILLIS`: tasks of so long that leave values on their engines, and tasks that follow each to find its value; others that
/// follow a map to any of its engines, and to the one of all, which there is not. Says "submitted", and prints where all ran.
pub fn followed(options: &Options) -> Result<()> {
    let client = options.client()?;
    client.wait_for_engines(3, SOON)?;
    let view = client.load_balanced_view().chunk_size(1);
    let millis = options.number(1);
    let built: Vec<_> = (0..6).map(|number| view.apply(build, (number, millis))).collect();
    let used: Vec<_> = (0..).zip(&built).map(|(number, built)| view.follow(built).try_map(find, [number; 5])).collect();
    let map = view.targets([EngineId(0), EngineId(1)]).map(nap, [(0, millis); 6]);
    let any = view.follow(Dependency::on(&map).any()).map(nap, [(0, 5); 12]);
    let all = view.follow(&map).map(nap, [(0, 1)]);
    client.flush(SOON)?;
    println!("submitted");
    let ids = |id: MessageId| id.to_string();
    let built_ids: Vec<String> = built.iter().flat_map(|built| built.message_ids()).map(ids).collect();
    let used_ids: Vec<String> = used[0].message_ids().into_iter().map(ids).collect();
    let mut places = Vec::new();
    for (number, (built, mut used)) in (0..).zip(built.into_iter().zip(used)) {
        let values = used.get_timeout(SOON)?;
        assert_eq!(values, [number * number; 5]);
        places.push((ran(built)?, ran(used)?));
    }
    print(&json!({ "places": places, "built": built_ids, "used": used_ids, "any": ran(any)?, "all": outcomes(all)? }));
    Ok(())
}

/// `follow-one TASK`: what became of a task that follows one of another client.
pub fn follow_one(options: &Options) -> Result<()> {
    let id: MessageId = options.arguments[1].parse().unwrap_or_else(|_| panic!("{:?} is no message id", options.arguments[1]));
    print(&outcomes(options.client()?.load_balanced_view().follow(id).apply(nap, (1, 1)))?);
    Ok(())
}
