//! A program that asks by ids for what it has only just submitted.

use std::thread;

use engineroom::{AsyncResult, Error, Result};
use engineroom_tests::SOON;
use serde::{Deserialize, Serialize};

use crate::{Options, print};

/// How long an argument is: so long that it is under way for a while.
const BYTES: usize = 4 << 20;
const TASKS: usize = 3;

/// What a task does with its argument.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Fate {
    /// Says how long it is.
    Ends,
    /// Nothing, until it is stopped.
    Stays,
}

fn length((text, fate): (String, Fate)) -> usize {
    loop {
        match fate {
            Fate::Ends => return text.len(),
            Fate::Stays => thread::park(),
        }
    }
}

/// `ask-at-once`: each question by ids, about tasks that the controller cannot have acknowledged yet.
pub fn at_once(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let submit = |fate| -> AsyncResult<usize> { view.map(length, vec![("x".repeat(BYTES), fate); TASKS]) };
    let lengths = vec![BYTES; TASKS];

    // Not even this program has travelled.
    let map = submit(Fate::Ends);
    let status = client.result_status(&map.message_ids())?;
    assert_eq!((status.total, status.unknown), (TASKS as u64, 0));
    let map = submit(Fate::Ends);
    assert!(client.wait(map.message_ids(), SOON)?);
    let map = submit(Fate::Ends);
    assert_eq!(client.get_result::<usize>(map.message_ids())?.get()?, lengths);
    let map = submit(Fate::Ends);
    assert_eq!(client.resubmit::<usize>(map.message_ids())?.get()?, lengths);
    let map = submit(Fate::Stays);
    let error = client.purge_results(map.message_ids()).expect_err("they have not ended");
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert_eq!(client.abort(map.message_ids())?.ended, 0);
    let map = submit(Fate::Stays);
    let met = client.abort(map.message_ids())?;
    assert_eq!((met.queued + met.active, met.ended), (TASKS as u32, 0));

    // Single tasks join a job that the controller knows.
    for round in 0..20 {
        let single = view.apply(length, ("x".repeat(BYTES), Fate::Ends));
        let ids = single.message_ids();
        match round % 2 {
            0 => assert_eq!(client.result_status(&ids)?.unknown, 0),
            _ => assert_eq!(client.get_result::<usize>(ids)?.get()?, lengths[..1]),
        }
    }
    print(&"as it should be");
    Ok(())
}
