//! Programs that leave values on engines.

use std::{fs::OpenOptions, io::Write, process};

use bytes::Bytes;
use engineroom::{Client, Distribution, NamespaceError, Result, TaskContext};
use engineroom_tests::{SOON, outcomes};
use serde_json::json;

use crate::{Options, print};

/// What the test looks for in a value that travels.
fn sum_of(name: String) -> std::result::Result<u64, NamespaceError> {
    let task = TaskContext::current().expect("this is a task");
    Ok(task.namespace().get::<Vec<u64>>(&name)?.iter().sum())
}

/// `values`: sets and fetches values on all engines, and prints what comes back.
pub fn values(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.direct_view()?;
    view.push("numbers", &vec![1_u64, 2, 3]).get()?;
    let sums = view.try_apply(sum_of, "numbers".into()).get()?;
    let pulled = view.pull::<Vec<u64>>("numbers").get()?;
    let wrong = view.pull::<String>("numbers").results()?;
    let wrong: Vec<String> = wrong.into_iter().map(|pulled| pulled.expect_err("not a text").to_string()).collect();
    // One engine has another value.
    let first = client.direct_view_on(&view.targets()[..1])?;
    first.push("numbers", &vec![7_u64]).get()?;
    let differing = view.pull::<Vec<u64>>("numbers").get()?;
    first.clear().get()?;
    print(&json!({
        "sums": sums, "pulled": pulled, "wrong": wrong, "differing": differing,
        "cleared": outcomes(view.pull::<Vec<u64>>("numbers"))?,
    }));
    Ok(())
}

/// `scatter`: lists of the lengths that matter, scattered and gathered. Prints how many came back as they were, and how many there
/// were.
pub fn scatter(options: &Options) -> Result<()> {
    let view = options.client()?.direct_view()?;
    let engines = view.targets().len();
    let mut right = 0;
    let lengths = [0, 1, engines - 1, engines, engines + 1, 1000];
    for length in lengths {
        for distribution in [Distribution::Block, Distribution::Cyclic] {
            let values: Vec<String> = (0..length).map(|number| format!("number {number}")).collect();
            view.scatter("values", values.clone(), distribution).get()?;
            let parts = view.pull::<Vec<String>>("values").get()?;
            let spread = parts.iter().all(|part| part.len() == length / engines || part.len() == length / engines + 1);
            right += usize::from(spread && view.gather::<String>("values", distribution).get_timeout(SOON)? == values);
        }
    }
    print(&(right, 2 * lengths.len()));
    Ok(())
}

/// `broadcast MIB`: sets a value of so many MiB on all engines. Prints how many of them have it.
pub fn broadcast(options: &Options) -> Result<()> {
    let view = options.client()?.direct_view()?;
    let mut value = vec![0; (options.number(1) << 20) as usize];
    for (number, part) in (1_u64..).zip(value.chunks_exact_mut(8)) {
        part.copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    let value = Bytes::from(value);
    view.broadcast("value", &value).get()?;
    let has_it = |expected: [u8; 32]| {
        let task = TaskContext::current().expect("this is a task");
        Ok::<_, NamespaceError>(blake3::hash(&task.namespace().get::<Bytes>("value")?) == expected)
    };
    let expected = *blake3::hash(&value).as_bytes();
    print(&view.try_apply(has_it, expected).get()?.into_iter().filter(|has_it| *has_it).count());
    Ok(())
}

/// `lost-value`: a value on an engine whose worker then crashes. Prints what became of both.
pub fn lost_value(options: &Options) -> Result<()> {
    let client: Client = options.client()?;
    let view = client.direct_view()?;
    view.push("number", &5_u64).get()?;
    let first = client.direct_view_on(&view.targets()[..1])?;
    let crashed = outcomes(first.apply(|()| process::abort(), ()))?;
    let crashed: Vec<_> = crashed.into_iter().map(|outcome: engineroom_tests::Outcome<()>| outcome.result.is_err()).collect();
    print(&(crashed, outcomes(view.pull::<u64>("number"))?));
    Ok(())
}

/// `seeds TASKS FILE`: the seed of each task. The first one notes that it has run, and ends its engine's process when it is the first
/// time.
pub fn seeds(options: &Options) -> Result<()> {
    let file = options.arguments[2].clone();
    let tasks = options.number(1);
    let seed = |(number, file): (u64, String)| {
        let task = TaskContext::current().expect("this is a task");
        if number == 0 {
            let mut file = OpenOptions::new().append(true).create(true).open(file).expect("a file to write to");
            file.write_all(format!("{}\n", task.seed()).as_bytes()).expect("written");
            if task.attempt == 1 {
                rustix::process::kill_process(rustix::process::getppid().expect("an engine"), rustix::process::Signal::KILL)
                    .expect("one's own");
            }
        }
        (task.id.to_string(), task.seed())
    };
    let seeds = options.client()?.load_balanced_view().map(seed, (0..tasks).map(|number| (number, file.clone())));
    println!("submitted");
    print(&seeds.get()?);
    Ok(())
}
