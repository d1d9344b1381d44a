//! Programs with views of certain engines.

use std::{
    io::{BufRead, stdin},
    time::Duration,
};

use engineroom::{EngineId, Engines, Error, Result, TaskContext};
use engineroom_tests::{SOON, outcomes};

use crate::{Options, print, work::nap};

/// The engine that runs the task.
fn own_engine((): ()) -> Option<EngineId> {
    TaskContext::current().map(|task| task.engine)
}

/// `views`: which engines views are of, before and after one more has joined. Waits for a line of standard input between.
pub fn views(options: &Options) -> Result<()> {
    let client = options.client()?;
    let views = [
        client.direct_view_on(Engines::all())?,
        client.direct_view_on(Engines::all().by_rank())?,
        client.direct_view_on(Engines::label("gpu", "yes"))?,
        client.direct_view_on(Engines::node(client.engines()[1].node.clone()))?,
        client.direct_view_on(1..3)?,
        client.direct_view_on([EngineId(2), EngineId(0)])?,
        client.direct_view_on(EngineId(1))?,
        client.direct_view()?,
    ];
    let rounds: Result<Vec<_>> = (0..2)
        .map(|round| {
            if round == 1 {
                println!("ready");
                stdin().lock().lines().next();
                client.wait_for_engines(5, SOON)?;
            }
            let ran = views.iter().map(|view| {
                let ran = view.apply(own_engine, ()).get()?;
                assert_eq!(ran, view.targets().into_iter().map(Some).collect::<Vec<_>>());
                Ok(ran)
            });
            ran.collect::<Result<Vec<_>>>()
        })
        .collect();
    let none = client.direct_view_on(Engines::label("gpu", "no"));
    assert!(matches!(none, Err(Error::NoEngines)), "{none:?}");
    print(&rounds?);
    Ok(())
}

/// `direct-options`: what options come to on the engines of a direct view. Prints the outcomes of tasks that always fail and are
/// tried twice again, of tasks after them, of tasks after something that goes well, and of tasks that wait behind others for too long.
pub fn direct_options(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.direct_view()?;
    let attempt = |()| -> std::result::Result<Option<EngineId>, String> { Err("always".into()) };
    let tried = view.retries(2).retry_pause(Duration::from_millis(5)).try_apply(attempt, ());
    let after_failures = view.after(&tried).apply(own_engine, ());
    let well = client.load_balanced_view().map(|number: u64| number, 0..10);
    let after = view.after(&well).apply(own_engine, ());
    let first = [outcomes(tried)?, outcomes(after_failures)?, outcomes(after)?];
    let busy = view.apply(nap, (0, 3_600_000));
    let late = outcomes(view.queue_timeout(Duration::from_millis(50)).apply(own_engine, ()))?;
    busy.abort()?;
    print(&(first, late));
    Ok(())
}
