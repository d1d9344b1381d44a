//! Programs whose tasks share a large value.

use std::{fs::OpenOptions, io::Write, process, thread, time::Duration};

use engineroom::{Client, Cluster, Result};
use engineroom_tests::outcomes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Options, print};

/// How many bytes a number has that is as large as can be, in MessagePack.
const NUMBER_BYTES: u64 = 9;

/// Squares. Whoever decodes it notes that in a file.
#[derive(Serialize)]
struct Table {
    file: String,
    numbers: Vec<u64>,
}

impl Table {
    /// A table of the squares of that many numbers, filled up to so many MiB.
    fn new(tasks: u64, mib: u64, file: &str) -> Self {
        let filling = (mib << 20) / NUMBER_BYTES;
        Self {
            file: file.into(),
            numbers: (0..tasks).map(|number| number * number).chain((0..filling).map(|_| u64::MAX)).collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Plain {
            file: String,
            numbers: Vec<u64>,
        }
        let Plain { file, numbers } = Plain::deserialize(deserializer)?;
        note(&file, &format!("decoded {}", process::id()));
        Ok(Self { file, numbers })
    }
}

fn note(file: &str, line: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("a file to write to");
    // One write, which the system appends as a whole.
    file.write_all(format!("{line}\n").as_bytes()).expect("written");
}

/// Sleeps and looks a number up. One number ends the process.
fn look_up(table: &Table, (number, millis, deadly): (u64, u64, u64)) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    if number == deadly {
        process::abort();
    }
    note(&table.file, &format!("ran {number}"));
    table.numbers[number as usize]
}

/// `shared-map MIB TASKS MILLIS DEADLY FILE`: the outcomes of that many tasks, which share a table of that many MiB. What happens
/// is noted in a file.
pub fn map(options: &Options) -> Result<()> {
    let [mib, tasks, millis, deadly] = [1, 2, 3, 4].map(|place| options.number(place));
    let table = Table::new(tasks, mib, &options.arguments[5]);
    let inputs = (0..tasks).map(|number| (number, millis, deadly));
    let looked_up = options.client()?.load_balanced_view().map_with(&table, look_up, inputs);
    println!("submitted");
    print(&outcomes(looked_up)?);
    Ok(())
}

/// `shared-embedded`: maps of all kinds in a cluster of this process, several at a time. Prints the sum of the results of each.
pub fn embedded() -> Result<()> {
    let client = Cluster::local(2)?.client()?;
    let view = client.load_balanced_view();
    let [words, other] = ["one two three", "four"].map(|text| text.split(' ').map(String::from).collect::<Vec<_>>());
    let length = |words: &Vec<String>, at: usize| words.get(at).map_or(0, String::len);
    let checked = |words: &Vec<String>, at: usize| words.get(at).map(String::len).ok_or("there is none");
    let maps = [&words, &other, &words].map(|shared| view.map_with(shared, length, 0..100));
    let direct = client.direct_view()?.map_with(&words, length, 0..3);
    let tried = view.try_map_with(&other, checked, 0..2).results()?;
    let lazy = view.map_lazy_with(&words, length, 0..3).sum::<Result<usize>>()?;
    assert_eq!(view.apply_with(&words, length, 2).get()?, "three".len());
    assert_eq!(view.try_apply_with(&words, checked, 1).get()?, "two".len());
    let missing = view.try_apply_with(&words, checked, 3).get().expect_err("there are three");
    assert!(missing.to_string().contains("there is none"), "{missing}");
    let lazily: Vec<_> = view.try_map_lazy_with(&other, checked, 0..2).map(|result| result.is_ok()).collect();
    assert_eq!(lazily, [true, false]);
    let mut sums = Vec::new();
    for map in maps.into_iter().chain([direct]) {
        sums.push(map.get()?.into_iter().sum::<usize>());
    }
    print(&(sums, lazy, tried.iter().filter(|result| result.is_ok()).count()));
    Ok(())
}

/// `shared-submit MIB TASKS FILE`: prints the message ids of such tasks and leaves.
pub fn submit(options: &Options) -> Result<()> {
    let client: Client = options.client()?;
    let [mib, tasks] = [1, 2].map(|place| options.number(place));
    let table = Table::new(tasks, mib, &options.arguments[3]);
    let looked_up = client.load_balanced_view().map_with(&table, look_up, (0..tasks).map(|number| (number, 0, tasks)));
    let ids: Vec<String> = looked_up.message_ids().iter().map(ToString::to_string).collect();
    client.close()?;
    print(&ids);
    Ok(())
}
