//! Programs whose tasks the scheduler has to choose among.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    thread,
    time::Duration,
};

use engineroom::{Dependency, JobId, Result, TaskContext};
use engineroom_tests::{SOON, outcomes};
use serde_json::json;

use crate::{Options, print};

fn nap((number, millis): (u64, u64)) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    number
}

/// `priorities PRIORITY...`: a map of two tasks and two single tasks of each priority. Says "submitted", and prints the priorities
/// in the order in which the tasks started, and how many jobs there were.
pub fn priorities(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let priorities: Vec<i32> = options.arguments[1..].iter().map(|text| text.parse().expect("a priority")).collect();
    let (mut maps, mut singles) = (Vec::new(), Vec::new());
    for priority in priorities {
        maps.push((priority, view.priority(priority).map(nap, [(0, 5), (1, 5)])));
        // Derived anew for each call, and yet in one job.
        singles.extend((2..4).map(|number| (priority, view.priority(priority).apply(nap, (number, 5)))));
    }
    client.flush(SOON)?;
    println!("submitted");
    let ids = maps.iter().flat_map(|(_, map)| map.message_ids()).chain(singles.iter().flat_map(|(_, task)| task.message_ids()));
    let jobs: BTreeSet<_> = ids.map(|id| id.job).collect();
    let mut starts = Vec::new();
    for (priority, mut map) in maps {
        starts.extend(map.metadata()?.into_iter().map(|task| (task.started, priority)));
    }
    for (priority, mut task) in singles {
        starts.extend(task.metadata()?.into_iter().map(|task| (task.started, priority)));
    }
    starts.sort_by_key(|(started, _)| *started);
    print(&json!({ "order": starts.iter().map(|(_, priority)| *priority).collect::<Vec<_>>(), "jobs": jobs.len() }));
    Ok(())
}

/// `after TASKS MILLIS`: a map of that many tasks, and one as long that waits for it. Says "submitted", and prints their sums and
/// whether the first has ended before the second has started.
pub fn after(options: &Options) -> Result<()> {
    let (tasks, millis) = (options.number(1), options.number(2));
    let client = options.client()?;
    let view = client.load_balanced_view();
    let inputs = || (0..tasks).map(move |number| (number, millis));
    let mut first = view.map(nap, inputs());
    let mut second = view.after(&first).map(nap, inputs());
    client.flush(SOON)?;
    println!("submitted");
    let in_order = if tasks > 10_000 {
        true
    } else {
        let ended = first.metadata()?.into_iter().map(|task| task.completed).max();
        let started = second.metadata()?.into_iter().map(|task| task.started).min();
        ended <= started
    };
    print(&json!({ "sums": [first.get()?.iter().sum::<u64>(), second.get()?.iter().sum::<u64>()], "in_order": in_order }));
    Ok(())
}

/// `chain LINKS`: single tasks, each after the one before. Prints whether they ran in their order.
pub fn chain(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let mut links = vec![view.apply(nap, (0, 0))];
    for number in 1..options.number(1) {
        let link = view.after(&links[links.len() - 1]).apply(nap, (number, 0));
        links.push(link);
    }
    let mut starts = Vec::new();
    for link in &mut links {
        starts.extend(link.metadata()?.into_iter().map(|task| task.started));
    }
    print(&(starts.len() == links.len() && starts.iter().all(Option::is_some) && starts.is_sorted()));
    Ok(())
}

/// `conditions`: tasks that wait for what goes well, what fails, what is aborted and what was never submitted. Prints the outcomes.
pub fn conditions(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let even = |number: u64| if number.is_multiple_of(2) { Ok(number) } else { Err(format!("{number} is odd")) };
    let mixed = view.try_map(even, 0..4);
    let aborted = view.apply(nap, (0, 3_600_000));
    let unknown = Dependency::on(JobId::fresh());
    let cases = [
        ("all succeed", Dependency::on(&mixed)),
        ("one succeeds", Dependency::on(&mixed).any()),
        ("all fail", Dependency::on(&mixed).failed()),
        ("one fails", Dependency::on(&mixed).any().failed()),
        ("all end", Dependency::on(&mixed).ended()),
        ("a task succeeds", Dependency::on(mixed.message_ids()[2])),
        ("a task fails", Dependency::on(mixed.message_ids()[3])),
        ("it succeeds before it is aborted", Dependency::on(&aborted)),
        ("it is aborted", Dependency::on(&aborted).failed()),
        ("it was never submitted", unknown.clone()),
        ("one of them was", unknown.and(&mixed).any()),
    ];
    let waiting: Vec<_> = cases.into_iter().map(|(name, on)| (name, view.after(on).apply(nap, (7, 0)))).collect();
    client.flush(SOON)?;
    aborted.abort()?;
    let mut ends = Vec::new();
    for (name, task) in waiting {
        ends.push((name, outcomes(task)?.remove(0)));
    }
    // The job has ended by now.
    ends.push(("afterwards", outcomes(view.after(Dependency::on(&mixed).any().failed()).apply(nap, (7, 0)))?.remove(0)));
    ends.push(("afterwards, in vain", outcomes(view.after(&mixed).apply(nap, (7, 0)))?.remove(0)));
    print(&ends);
    Ok(())
}

/// `in-time TASKS LIMIT_MS`: tasks of a minute that wait for an engine for so long. Prints their ids and leaves.
pub fn in_time(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view().queue_timeout(Duration::from_millis(options.number(2)));
    let naps = view.map(nap, (0..options.number(1)).map(|number| (number, 60_000)));
    client.flush(SOON)?;
    print(&naps.message_ids().iter().map(ToString::to_string).collect::<Vec<_>>());
    client.close()
}

/// `retries TASKS DIRECTORY`: tasks of which every third fails, by an error or a panic, until its third attempt. They leave a mark in
/// the directory for each. Prints the outcomes.
pub fn retries(options: &Options) -> Result<()> {
    let directory = &options.arguments[2];
    let view = options.client()?.load_balanced_view().retries(2).retry_pause(Duration::from_millis(20));
    let attempt = |(number, directory): (u64, String)| {
        let before = (0..).take_while(|attempt| Path::new(&directory).join(format!("{number}-{attempt}")).exists()).count();
        fs::write(Path::new(&directory).join(format!("{number}-{before}")), "").expect("a mark");
        match number % 6 {
            0 if before < 2 => Err(format!("attempt {before} of task {number}")),
            3 if before < 2 => panic!("attempt {before} of task {number}"),
            _ => Ok(number * number),
        }
    };
    print(&outcomes(view.try_map(attempt, (0..options.number(1)).map(|number| (number, directory.clone()))))?);
    Ok(())
}

/// `each-option LIMIT_MS`: one task of each option, all of which end as their options have it: the third attempt fails, the time is
/// over, what was to succeed has failed, and two of a low and a high priority. Prints their ids, by these names.
pub fn each_option(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let limit = Duration::from_millis(options.number(1));
    let fails = |number: u64| -> Result<u64, String> { Err(format!("{number} fails")) };
    let failed = view.try_map(fails, [0]);
    let mut tasks = [
        ("low", view.priority(-5).map(nap, [(1, 0)])),
        ("high", view.priority(5).map(nap, [(2, 0)])),
        ("tried", view.retries(2).try_map(fails, [3])),
        ("limited", view.time_limit(limit).map(nap, [(4, 3_600_000)])),
        ("waiting", view.after(&failed).map(nap, [(5, 0)])),
    ];
    for (_, task) in &mut tasks {
        task.wait(Some(SOON))?;
    }
    let ids: BTreeMap<_, _> = tasks.iter().map(|(name, task)| (*name, task.message_ids()[0].to_string())).collect();
    print(&ids);
    client.close()
}

/// `turns TASKS`: the engines of single tasks, each submitted when the one before has ended.
pub fn turns(options: &Options) -> Result<()> {
    let view = options.client()?.load_balanced_view();
    let own_engine = |()| TaskContext::current().map(|task| task.engine);
    // The program travels to all engines before.
    view.chunk_size(1).map(nap, (0..20).map(|number| (number, 10))).get()?;
    let engines = (0..options.number(1)).map(|_| view.apply(own_engine, ()).get());
    print(&engines.collect::<Result<Vec<_>>>()?);
    Ok(())
}
