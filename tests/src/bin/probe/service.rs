//! Named tasks: a program that embeds an engine node, and programs that call what it offers.

use std::time::Duration;

use engineroom::{ConnectionFile, EngineConfig, EngineNode, Result, TaskName, Tasks, WorkerKind};
use engineroom_tests::outcomes;

use crate::{Options, print};

const TRIPLE: TaskName<u64, u64> = TaskName::new("triple");

/// The same name with an argument that its engines do not take.
const TRIPLE_TEXT: TaskName<String, u64> = TaskName::new("triple");

/// How often a number stands in a list that all tasks share.
const COUNT: TaskName<(Vec<u64>, u64), usize> = TaskName::new("count");

/// How long the service's engine may take to finish what it runs.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// `service`: an engine that runs named tasks in a thread, until standard input ends.
pub fn serve(options: &Options) -> Result<()> {
    let connection = ConnectionFile::load(options.profile.engine_connection_file())?;
    let offset = options.number(1);
    let tasks = Tasks::new()
        .register(TRIPLE, move |x| 3 * x + offset)
        .register_sharing(COUNT, |numbers, number| numbers.iter().filter(|other| **other == number).count());
    let config = EngineConfig { engines: 1, worker: WorkerKind::Thread, tasks, ..EngineConfig::new(connection) };
    let node = EngineNode::start(config)?;
    println!("service ready");
    std::io::stdin().lines().for_each(drop);
    let report = node.shutdown(DRAIN_LIMIT);
    assert!(report.finished, "{report}");
    Ok(())
}

/// `named TASKS`: the outcomes of calls by name.
pub fn call(options: &Options) -> Result<()> {
    let calls = options.client()?.load_balanced_view().map_named(TRIPLE, 0..options.number(1));
    println!("submitted");
    print(&outcomes(calls)?);
    Ok(())
}

/// `named-wrongly`: the outcome of a call with an argument of another type.
pub fn call_wrongly(options: &Options) -> Result<()> {
    print(&outcomes(options.client()?.load_balanced_view().apply_named(TRIPLE_TEXT, "three".to_owned()))?);
    Ok(())
}

/// `named-sharing`: the outcomes of calls by name with a list that they share, and of one without it.
pub fn call_sharing(options: &Options) -> Result<()> {
    let view = options.client()?.load_balanced_view();
    let numbers: Vec<u64> = (0..100_000).map(|number| number % 1_000).collect();
    let counted = outcomes(view.map_named_with(COUNT, &numbers, [0, 999, 1_000]))?;
    print(&(counted, outcomes(view.map_named(COUNT, [(numbers, 0)]))?));
    Ok(())
}

/// `named-required TASKS`: the outcomes of a function of this program, on engines that offer a named task.
pub fn where_offered(options: &Options) -> Result<()> {
    let view = options.client()?.load_balanced_view().require_task(TRIPLE);
    print(&outcomes(view.map(|number: u64| number + 1, 0..options.number(1)))?);
    Ok(())
}
