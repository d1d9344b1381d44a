//! Programs whose tasks leave traces, and programs that leave before their tasks have ended.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    thread,
    time::Duration,
};

use engineroom::{JobId, Result};
use engineroom_tests::{SOON, outcomes, recorded};

use crate::{Options, print};

/// Notes in a file that it runs, sleeps and squares.
fn logged((number, millis, file): (u64, u64, String)) -> u64 {
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("a file to write to");
    // One write, which the system appends as a whole.
    file.write_all(format!("{number}\n").as_bytes()).expect("written");
    thread::sleep(Duration::from_millis(millis));
    number * number
}

/// `logged-map TASKS MILLIS FILE`: the outcomes of tasks that note in a file that they run.
pub fn logged_map(options: &Options) -> Result<()> {
    let (millis, file) = (options.number(2), &options.arguments[3]);
    let inputs = (0..options.number(1)).map(|number| (number, millis, file.clone()));
    let tasks = options.client()?.load_balanced_view().map(logged, inputs);
    println!("submitted");
    print(&outcomes(tasks)?);
    Ok(())
}

/// `leave close|drop|flush TASKS FILE`: writes the message ids of single submissions to a file, in their order, and leaves: in an
/// orderly way, or, after everything was acknowledged, by waiting to be killed.
pub fn leave(options: &Options) -> Result<()> {
    let (how, file) = (options.arguments[1].as_str(), &options.arguments[3]);
    let client = options.client()?;
    let view = client.load_balanced_view();
    let tasks: Vec<_> = (0..options.number(2)).map(|number| view.apply(|x: u64| x * x, number)).collect();
    let ids: Vec<String> = tasks.iter().flat_map(|task| task.message_ids()).map(|id| id.to_string()).collect();
    fs::write(file, ids.join("\n")).expect("written");
    match how {
        "close" => client.close()?,
        "drop" => drop((tasks, view, client)),
        _ => {
            client.flush(SOON)?;
            println!("acknowledged");
            thread::sleep(SOON);
        }
    }
    Ok(())
}

/// `many TASKS FILE`: a lazy map over that many numbers, all results read; writes the job's id to a file.
pub fn many(options: &Options) -> Result<()> {
    let client = options.client()?;
    let results = client.load_balanced_view().map_lazy(|x: u64| x * 3, 0..options.number(1));
    let job = results.job_id();
    let mut next = 0;
    for value in results {
        assert_eq!(value?, next * 3);
        next += 1;
    }
    fs::write(&options.arguments[2], job.to_string()).expect("written");
    print(&next);
    Ok(())
}

/// Sleeps, and repeats a letter that its number picks.
fn text((number, millis, bytes): (u64, u64, u64)) -> String {
    thread::sleep(Duration::from_millis(millis));
    letter(number).to_string().repeat(bytes as usize)
}

fn letter(number: u64) -> char {
    char::from(b'a' + (number % 26) as u8)
}

/// `texts TASKS MILLIS BYTES FILE`: results of that many bytes. Writes the job's id to a file and prints how many are right.
pub fn texts(options: &Options) -> Result<()> {
    let [tasks, millis, bytes] = [1, 2, 3].map(|place| options.number(place));
    let map = options.client()?.load_balanced_view().map(text, (0..tasks).map(|number| (number, millis, bytes)));
    fs::write(&options.arguments[4], map.message_ids()[0].job.to_string()).expect("written");
    println!("submitted");
    let right = |(number, text): (u64, &String)| text.len() as u64 == bytes && text.chars().all(|c| c == letter(number));
    print(&(0..).zip(&map.get()?).filter(|pair| right(*pair)).count());
    Ok(())
}

/// `unread TASKS BYTES`: results of that many bytes, not read before standard input ends. Prints how many are right.
pub fn unread(options: &Options) -> Result<()> {
    let (tasks, bytes) = (options.number(1), options.number(2));
    let results = options.client()?.load_balanced_view().map_lazy(text, (0..tasks).map(move |number| (number, 0, bytes)));
    println!("submitted");
    std::io::stdin().lines().for_each(drop);
    let mut right = 0;
    for (number, text) in (0..).zip(results) {
        let text = text?;
        right += u64::from(text.len() as u64 == bytes && text.chars().all(|c| c == letter(number)));
    }
    print(&right);
    Ok(())
}

/// `recorded JOB`: the index and state of each task of a job.
pub fn show_recorded(options: &Options) -> Result<()> {
    let job: JobId = options.arguments[1].parse().unwrap_or_else(|_| panic!("{:?} is the id of a job", options.arguments[1]));
    print(&recorded(&options.client()?, job)?);
    Ok(())
}
