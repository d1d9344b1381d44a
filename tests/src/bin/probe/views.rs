//! Programs with views of certain engines.

use std::io::{BufRead, stdin};

use engineroom::{EngineId, Engines, Error, Result, TaskContext};
use engineroom_tests::SOON;

use crate::{Options, print};

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
