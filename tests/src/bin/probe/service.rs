//! Named tasks: a program that embeds an engine node, and programs that call what it offers.

use std::time::Duration;

use engineroom::{ConnectionFile, EngineConfig, EngineNode, Result, TaskName, Tasks, WorkerKind};
use engineroom_tests::outcomes;

use crate::{Options, print};

const TRIPLE: TaskName<u64, u64> = TaskName::new("triple");

/// The same name with an argument that its engines do not take.
const TRIPLE_TEXT: TaskName<String, u64> = TaskName::new("triple");

/// How long the service's engine may take to finish what it runs.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// `service`: an engine that runs named tasks in a thread, until standard input ends.
pub fn serve(options: &Options) -> Result<()> {
    let connection = ConnectionFile::load(options.profile.engine_connection_file())?;
    let offset = options.number(1);
    let tasks = Tasks::new().register(TRIPLE, move |x| 3 * x + offset);
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
