//! Programs whose tasks the scheduler has to choose among.

use std::{collections::BTreeSet, thread, time::Duration};

use engineroom::Result;
use engineroom_tests::SOON;
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
