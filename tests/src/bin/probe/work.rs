//! Programs that submit tasks which go well.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engineroom::{Client, Error, Result};
use engineroom_tests::{SOON, outcomes, wait_for_file};
use serde_json::json;

use crate::{Options, print};

/// How long one call waits that is repeated until something happens.
const SLICE: Duration = Duration::from_millis(100);

/// Sleeps and squares.
pub fn nap((number, millis): (u64, u64)) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    number * number
}

/// `sleep-map TASKS MILLIS`: the outcomes of that many naps.
pub fn sleep_map(options: &Options) -> Result<()> {
    let millis = options.number(2);
    let naps = options.client()?.load_balanced_view().map(nap, (0..options.number(1)).map(|number| (number, millis)));
    println!("submitted");
    print(&outcomes(naps)?);
    Ok(())
}

/// `big TASKS BYTES`: large arguments and results. Prints how many came back as they should.
pub fn big(options: &Options) -> Result<()> {
    let bytes = options.number(2) as usize;
    let inverted = |bytes: String| bytes.bytes().map(|byte| char::from(byte ^ 1)).collect::<String>();
    let letter = |number: u64| char::from(b'b' + (number % 20) as u8);
    let inputs = (0..options.number(1)).map(|number| letter(number).to_string().repeat(bytes));
    let results = options.client()?.load_balanced_view().map(inverted, inputs).get()?;
    let right = |(number, text): (u64, &String)| text.len() == bytes && text.bytes().all(|b| char::from(b ^ 1) == letter(number));
    print(&(0..).zip(&results).filter(|pair| right(*pair)).count());
    Ok(())
}

/// `flood TASKS`: keeps up to that many no-ops queued, until its standard input ends.
pub fn flood(options: &Options) -> Result<()> {
    let view = options.client()?.load_balanced_view().label("flood");
    let ended = thread::spawn(|| std::io::stdin().lines().count());
    let mut rounds = 0;
    while !ended.is_finished() {
        let mut job = view.map(|_: u64| (), 0..options.number(1));
        println!("queued");
        while !ended.is_finished() && !job.wait(Some(SLICE))? {}
        rounds += 1;
        if ended.is_finished() {
            job.abort()?;
        }
    }
    print(&rounds);
    Ok(())
}

/// `ping TASKS`: single tasks, one after the other. Prints the median round trip in microseconds.
pub fn ping(options: &Options) -> Result<()> {
    let view = options.client()?.load_balanced_view();
    view.apply(|x: u64| x, 0).get()?; // the program travels once
    let mut trips = Vec::new();
    for number in 0..options.number(1) {
        let began = Instant::now();
        let back = view.apply(|x: u64| x + 1, number).get()?;
        assert_eq!(back, number + 1);
        trips.push(began.elapsed().as_micros() as u64);
    }
    trips.sort_unstable();
    print(&trips[trips.len() / 2]);
    Ok(())
}

/// `submit TASKS MILLIS`: prints the message ids of that many naps and leaves.
pub fn submit(options: &Options) -> Result<()> {
    let client = options.client()?;
    let millis = options.number(2);
    let naps = client.load_balanced_view().map(nap, (0..options.number(1)).map(|number| (number, millis)));
    let ids: Vec<String> = naps.message_ids().iter().map(ToString::to_string).collect();
    client.close()?;
    print(&ids);
    Ok(())
}

/// `order JOBS`: jobs of one task each, submitted before this program has travelled. Prints their places in the order in which
/// the tasks started.
pub fn order(options: &Options) -> Result<()> {
    let view = options.client()?.load_balanced_view();
    let jobs: Vec<_> = (0..options.number(1)).map(|number| view.map(nap, [(number, 2)])).collect();
    let mut starts = Vec::new();
    for (place, mut job) in jobs.into_iter().enumerate() {
        starts.push((job.metadata()?[0].started, place));
    }
    starts.sort_unstable();
    print(&starts.iter().map(|(_, place)| *place).collect::<Vec<_>>());
    Ok(())
}

/// `abort TASKS`: tasks of an hour, aborted once standard input ends.
pub fn abort(options: &Options) -> Result<()> {
    let hours = (0..options.number(1)).map(|number| (number, 3_600_000));
    let naps = options.client()?.load_balanced_view().map(nap, hours);
    println!("submitted");
    std::io::stdin().lines().for_each(drop);
    let counts = naps.abort()?;
    println!("aborted {} queued and {} active", counts.queued, counts.active);
    print(&outcomes(naps)?);
    Ok(())
}

/// `direct MILLIS`: an `apply` and a `map` of three tasks an engine, on each engine.
pub fn direct(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.direct_view()?;
    let millis = options.number(1);
    let applied = view.apply(nap, (7, millis));
    let mapped = view.map(nap, (0..3 * view.targets().len() as u64).map(|number| (number, 1)));
    println!("submitted");
    let targets: Vec<u32> = view.targets().iter().map(|engine| engine.0).collect();
    print(&(targets, outcomes(applied)?, outcomes(mapped)?));
    Ok(())
}

/// `await-end`: waits for a task of an hour in slices, until the wait ends in something else than a timeout.
pub fn await_end(options: &Options) -> Result<()> {
    let mut nap = options.client()?.load_balanced_view().apply(nap, (1, 3_600_000));
    println!("submitted");
    let mut timeouts = 0;
    let end = Instant::now() + SOON;
    while Instant::now() < end {
        match nap.get_timeout(SLICE) {
            Err(Error::Timeout(_)) => timeouts += 1,
            ended => {
                print(&json!({ "timeouts": timeouts, "ended": ended.map_err(|error| error.to_string()) }));
                return Ok(());
            }
        }
        if timeouts == 1 {
            println!("waiting");
        }
    }
    print(&json!({ "timeouts": timeouts, "ended": null }));
    Ok(())
}

/// `timeouts`: waits that end by the caller's own time, with no engines there.
pub fn timeouts(options: &Options) -> Result<()> {
    let client = options.client()?;
    let engines = client.wait_for_engines(1, SLICE).map_err(|error| error.to_string());
    let direct = client.direct_view().map(|view| view.targets().len()).map_err(|error| error.to_string());
    let mut nap = client.load_balanced_view().apply(nap, (3, 0));
    println!("submitted");
    let early = nap.get_timeout(SLICE).map_err(|error| error.to_string());
    std::io::stdin().lines().for_each(drop);
    client.wait_for_engines(2, SOON)?;
    print(&json!({ "engines": engines, "direct": direct, "early": early, "late": nap.get_timeout(SOON)? }));
    Ok(())
}

/// `async`: results awaited, and results waited for by blocking, on a runtime of one thread.
pub fn run_async(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let awaited = runtime.block_on(async {
        let client = Client::connect_async(&options.profile).await?;
        let view = client.load_balanced_view();
        let awaited = view.map(nap, (0..10).map(|number| (number, 1))).await?;
        // Blocks the only thread of the runtime, in a task of it.
        let blocking = view.map(nap, (0..10).map(|number| (number, 1)));
        let blocked = tokio::spawn(async move { blocking.get() }).await.expect("the task does not panic")?;
        Ok::<_, Error>((awaited, blocked))
    })?;
    print(&awaited);
    Ok(())
}

/// `overfill MAPS GO`: maps whose arguments are more than a link holds, once there is a file GO. The sums of the lengths of the arguments.
pub fn overfill(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let length = |bytes: Bytes| bytes.len() as u64;
    view.apply(length, Bytes::new()).get()?;
    println!("ready");
    wait_for_file(Path::new(&options.arguments[2]));
    // Each argument is a part of its own; the last is small enough for a link that did not take those before.
    let arguments = [vec![Bytes::from(vec![7; 24_500]); 60], vec![Bytes::from(vec![7; 100])]].concat();
    let maps: Vec<_> = (0..options.number(1)).map(|_| view.map(length, arguments.clone())).collect();
    println!("submitted");
    let sums: Result<Vec<u64>> = maps.into_iter().map(|map| Ok(map.get()?.into_iter().sum())).collect();
    print(&sums?);
    Ok(())
}
