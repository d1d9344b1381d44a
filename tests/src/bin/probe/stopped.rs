//! Programs whose tasks are stopped: because they are aborted, or take too long.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use engineroom::{Cause, Cluster, ClusterStatus, Result, TaskContext};
use engineroom_tests::{SOON, outcomes, wait_for};
use serde_json::json;

use crate::{Options, print, work::nap};

/// How long one look waits for the next.
const LOOK: Duration = Duration::from_millis(10);

/// `abort-million TASKS`: tasks of an hour for one engine, and one task for it that waits behind them. Prints what was met when they
/// were aborted, how long the answer took, what became of how many of them, and which engine ran the one that waited.
pub fn abort_million(options: &Options) -> Result<()> {
    let tasks = options.number(1);
    let client = options.client()?;
    let engine = client.engine_ids();
    let hours = client.load_balanced_view().map(nap, (0..tasks).map(|number| (number, 3_600_000)));
    client.flush(SOON)?;
    let mut next = client.direct_view_on(&engine)?.map(nap, [(3, 0)]);
    let busy = |status: ClusterStatus| status.engines.iter().any(|engine| engine.tasks > 0).then_some(());
    wait_for("a task at an engine", || client.status().map(busy).transpose())?;
    let began = Instant::now();
    let met = hours.abort()?;
    let took_ms = began.elapsed().as_millis();
    let ran_on = next.metadata()?[0].engine.map(|engine| engine.0);
    let freed_ms = began.elapsed().as_millis();
    let again = hours.abort()?;
    let aborted =
        hours.results()?.iter().filter(|ended| ended.as_ref().is_err_and(|error| error.cause == Cause::Aborted)).count();
    print(&json!({
        "met": met, "again": again, "aborted": aborted, "ran_on": ran_on, "took_ms": took_ms, "freed_ms": freed_ms,
    }));
    Ok(())
}

/// `abort-thread`: one task that asks whether it is cancelled and one that does not, in threads of this process, aborted while they
/// run. Prints what was met and what became of them.
pub fn abort_thread() -> Result<()> {
    static RUNNING: AtomicU32 = AtomicU32::new(0);
    static GO_ON: AtomicBool = AtomicBool::new(true);
    let task = |asks: bool| {
        let task = TaskContext::current().expect("this is a task");
        RUNNING.fetch_add(1, Ordering::SeqCst);
        while GO_ON.load(Ordering::SeqCst) && !(asks && task.is_cancelled()) {
            thread::sleep(LOOK);
        }
        asks
    };
    let client = Cluster::local(2)?.client()?;
    let view = client.direct_view()?;
    let (asking, deaf) = (view.map(task, [true]), client.direct_view_on(&view.targets()[1..])?.map(task, [false]));
    wait_for("two running tasks", || (RUNNING.load(Ordering::SeqCst) == 2).then_some(()));
    let met = [asking.abort()?, deaf.abort()?];
    let asked = outcomes(asking)?;
    let still_runs = !deaf.ready();
    GO_ON.store(false, Ordering::SeqCst);
    print(&json!({ "met": met, "asked": asked, "still_runs": still_runs, "deaf": outcomes(deaf)? }));
    Ok(())
}

/// `time-limit LIMIT MILLIS...`: naps of those lengths with a limit of so many milliseconds, and those that took too long once more,
/// by their ids. Prints the outcomes of both.
pub fn time_limit(options: &Options) -> Result<()> {
    let client = options.client()?;
    let limit = Duration::from_millis(options.number(1));
    let naps = (2..options.arguments.len() as u64).map(|place| (place, options.number(place as usize)));
    // All in one batch.
    let view = client.load_balanced_view().chunk_size(1000).time_limit(limit);
    let first = outcomes(view.map(nap, naps))?;
    let ids: Vec<_> = first.iter().filter(|outcome| outcome.result.is_err()).map(|outcome| outcome.id.parse()).collect();
    let ids = ids.into_iter().map(|id| id.expect("a message id"));
    let again = outcomes(client.resubmit::<u64>(ids)?)?;
    print(&(first, again));
    Ok(())
}

/// `time-limit-thread`: in threads of this process, one task that asks whether it has taken too long, and one that does not. Prints
/// the outcomes.
pub fn time_limit_thread() -> Result<()> {
    let limit = Duration::from_millis(50);
    let task = |asks: bool| {
        let task = TaskContext::current().expect("this is a task");
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end && !(asks && task.is_cancelled()) {
            thread::sleep(LOOK);
        }
        asks
    };
    let client = Cluster::local(1)?.client()?;
    print(&outcomes(client.load_balanced_view().time_limit(limit).map(task, [true, false]))?);
    Ok(())
}
