//! Programs with maps of which inputs are drawn as results are taken, or come from several places.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
};

use engineroom::{MessageId, Result};
use engineroom_tests::{SOON, wait_for, wait_for_file};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Options, print};

/// How many results of a lazy map may be outstanding here.
const OUTSTANDING: u32 = 10;

fn gate() -> PathBuf {
    std::env::current_dir().expect("the test's directory").join("gate")
}

/// What is not decoded as it is encoded.
#[derive(Debug, Deserialize)]
struct OneWay(#[expect(dead_code, reason = "it cannot be read")] u32);

impl Serialize for OneWay {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str("no number")
    }
}

/// Number 0 waits for the gate.
fn gated((number, gate): (u32, PathBuf)) -> u32 {
    if number == 0 {
        wait_for_file(&gate);
    }
    number
}

/// `lazy-bounded`: an endless map of which few results are taken. Prints how many of its inputs were drawn.
pub fn bounded(options: &Options) -> Result<()> {
    let client = options.client()?;
    let drawn = Arc::new(AtomicU32::new(0));
    let counter = drawn.clone();
    let inputs = (0_u32..).inspect(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
    let view = client.load_balanced_view().max_outstanding(OUTSTANDING.into());
    let mut map = view.map_lazy(|number: u32| 2 * number, inputs);
    let taken = map.by_ref().take(5).collect::<Result<Vec<_>>>()?;
    assert_eq!(taken, [0, 2, 4, 6, 8]);
    // All that may be outstanding has ended, and is not read.
    let job = map.job_id();
    client.flush(SOON)?;
    let ids = (5..OUTSTANDING).map(|index| MessageId { job, index });
    assert!(client.wait(ids, SOON)?);
    assert_eq!(view.max_outstanding(u64::MAX).map_lazy(|number: u32| number, 0..100).sum::<Result<u32>>()?, 4950);

    // A result that cannot be read ends the map, and with it the drawing of inputs.
    let (draws, ended) = mpsc::channel::<()>();
    let inputs = (0_u32..).inspect(move |_| _ = &draws);
    let mut unreadable = view.map_lazy(OneWay, inputs);
    assert!(unreadable.next().expect("an error").is_err());
    drop(unreadable);
    assert_eq!(ended.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
    print(&drawn.load(Ordering::Relaxed));
    Ok(())
}

/// `lazy-completed`: results as the tasks end, of a map whose first task ends last.
pub fn completed(options: &Options) -> Result<()> {
    let client = options.client()?;
    let gate = gate();
    let view = client.load_balanced_view().chunk_size(1).max_outstanding(OUTSTANDING.into());
    let inputs = (0..100).map({
        let gate = gate.clone();
        move |number| (number, gate.clone())
    });
    let mut seen = Vec::new();
    for (number, result) in view.map_lazy(gated, inputs.clone()).as_completed() {
        assert_eq!(number, result?);
        seen.push(number);
        if seen.len() == OUTSTANDING as usize - 1 {
            // The others wait for a place; the first task holds one.
            assert!(!seen.contains(&0), "{seen:?}");
            fs::write(&gate, "").expect("the test's directory");
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..100).collect::<Vec<_>>());

    // Two in order, the others as they come.
    let mut map = view.map_lazy(gated, inputs.clone());
    assert_eq!(map.by_ref().take(2).collect::<Result<Vec<_>>>()?, [0, 1]);
    let mut rest: Vec<u32> = map.as_completed().map(|(number, _)| number).collect();
    rest.sort_unstable();
    assert_eq!(rest, (2..100).collect::<Vec<_>>());

    // One that is dropped before its end is aborted.
    let mut endless = view.map_lazy(gated, (1..).map(move |number| (number, gate.clone()))).as_completed();
    assert!(endless.next().is_some());
    drop(endless);
    wait_for("the end of the endless map", || {
        let status = client.status().ok()?;
        status.engines.iter().all(|engine| engine.tasks == 0).then_some(())
    });
    print(&"as it should be");
    Ok(())
}

/// `zipped`: maps over several inputs at once, as tuples; of a fallible function, lazily.
pub fn zipped(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let (bases, exponents, moduli) = ([2_u64, 3, 5], [10_u32, 5, 3], [1000_u64, 100, 7]);
    let power = |((base, exponent), modulus): ((u64, u32), u64)| base.pow(exponent) % modulus;
    let results = view.map(power, bases.into_iter().zip(exponents).zip(moduli)).get()?;
    assert_eq!(results, [24, 43, 6]);

    let divide = |(a, b): (u32, u32)| a.checked_div(b).ok_or("division by zero");
    let mut quotients = view.try_map_lazy(divide, [8, 9, 10].into_iter().zip([2, 0, 5]));
    assert_eq!(quotients.next().expect("three")?, 4);
    assert!(quotients.next().expect("three").is_err_and(|error| error.to_string().contains("division by zero")));
    assert_eq!(quotients.next().expect("three")?, 2);
    assert!(quotients.next().is_none());
    print(&"as it should be");
    Ok(())
}
