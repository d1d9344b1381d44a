//! Programs whose tasks tell something while they run.

use std::{fs, path::Path, thread, time::Duration};

use engineroom::{OutputStream, Result, TaskContext};
use engineroom_tests::{outcomes, wait_for};
use serde_json::json;

use crate::{Options, print};

/// How long one look waits for the next.
const LOOK: Duration = Duration::from_millis(5);

/// Publishes numbers and says that it is half done, until there is a file; then one last number. Half of them panic after that.
fn tell((number, file): (u64, String)) -> u64 {
    let task = TaskContext::current().expect("this is a task");
    task.progress(0.5);
    for step in 1.. {
        task.publish(&(number, step)).expect("it is short");
        if Path::new(&file).exists() {
            break;
        }
        thread::sleep(LOOK);
    }
    let long = task.publish(&"x".repeat(20_000)).expect_err("it is too long");
    assert!(long.to_string().contains("16384"), "{long}");
    task.publish(&(number, 0)).expect("it is short");
    assert!(number % 2 == 0, "asked to");
    number
}

/// `tell FILE`: two tasks that tell something, whose news are waited for before they may end. Prints their outcomes, and what they
/// told before and after.
pub fn tell_while_running(options: &Options) -> Result<()> {
    let file = &options.arguments[1];
    let mut told = options.client()?.load_balanced_view().chunk_size(1).map(tell, (0..2).map(|number| (number, file.clone())));
    let at_first = told.task_progress();
    // The second value of each, so that it is known to come by and by.
    let published = |place| Ok::<_, engineroom::Error>(told.published::<(u64, u64)>(place)?.filter(|(_, step)| *step > 1));
    for place in 0..2 {
        wait_for("a second value", || published(place).transpose())?;
    }
    let halfway = told.task_progress();
    let running = [told.published::<(u64, u64)>(0)?, told.published::<(u64, u64)>(1)?];
    let wrong = told.published::<String>(0).map_err(|error| error.to_string());
    fs::write(file, "").expect("a file of the test");
    told.wait(None)?;
    let last = [told.published::<(u64, u64)>(0)?, told.published::<(u64, u64)>(1)?];
    print(&json!({
        "at_first": at_first, "halfway": halfway, "running": running, "wrong": wrong, "last": last, "done": told.task_progress(),
        "outcomes": outcomes(told)?,
    }));
    Ok(())
}

/// `follow FILE`: a task that writes lines until there is a file, which is made when the second of them has been seen, and tasks that
/// write one line. Prints all that was shown, and whether the first task was running when it was.
pub fn follow(options: &Options) -> Result<()> {
    let file = options.arguments[1].clone();
    let write = |(number, file): (u64, String)| {
        eprintln!("task {number}");
        for line in 0.. {
            println!("line {line} of {number}");
            if number > 0 || Path::new(&file).exists() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!("end of {number}");
    };
    let inputs = (0..4).map(|number| (number, file.clone()));
    let mut result = options.client()?.load_balanced_view().chunk_size(1).map(write, inputs);
    let mut shown = vec![[String::new(), String::new()]; 4];
    result.follow_output(|task, stream, text| {
        let streams = &mut shown[task.index as usize];
        streams[usize::from(stream == OutputStream::Stderr)] += text;
        if streams[0].contains("line 1 of 0") {
            fs::write(&file, "").expect("a file of the test");
        }
    })?;
    let whole = outcomes(result)?.into_iter().map(|outcome: engineroom_tests::Outcome<()>| [outcome.stdout, outcome.stderr]);
    print(&(shown, whole.collect::<Vec<_>>()));
    Ok(())
}
