//! Programs that look at results from all sides. Each checks what it sees itself.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use engineroom::{AsyncResult, Cause, Client, Error, MessageId, Result, TaskError, TaskState};
use engineroom_tests::{SOON, wait_for_file};
use serde::{Deserialize, Serialize};

use crate::{Options, print};

/// What a task does before it gives its number.
#[derive(Clone, Serialize, Deserialize)]
enum Work {
    Nothing,
    Nap {
        millis: u64,
    },
    /// Waits until this file is there.
    Await {
        file: PathBuf,
    },
    Fail,
    Write,
}

fn work((number, work): (u64, Work)) -> Result<u64, String> {
    match work {
        Work::Nothing => {}
        Work::Nap { millis } => thread::sleep(Duration::from_millis(millis)),
        Work::Await { file } => wait_for_file(&file),
        Work::Fail => return Err(format!("number {number} fails")),
        Work::Write => {
            println!("out {number}");
            eprintln!("err {number}");
        }
    }
    Ok(number)
}

fn hour() -> Work {
    Work::Nap { millis: 3_600_000 }
}

fn gate(name: &str) -> PathBuf {
    std::env::current_dir().expect("the test's directory").join(name)
}

fn open(gate: &Path) {
    fs::write(gate, "").expect("the test's directory");
}

fn submit(client: &Client, work_of_each: impl IntoIterator<Item = Work>) -> AsyncResult<u64> {
    client.load_balanced_view().label("handles").try_map(work, (0..).zip(work_of_each))
}

/// `handles-times`: times, engines and labels of tasks, by their handle and, in the end, by its ids.
pub fn times(options: &Options) -> Result<()> {
    let client = options.client()?;
    let gate = gate("times");
    let naps = (0..5).map(|_| Work::Nap { millis: 20 });
    let mut result = submit(&client, naps.chain([Work::Await { file: gate.clone() }, Work::Fail]));
    assert_eq!((result.ready(), result.successful(), result.wall_time(), result.speedup()), (false, None, None, None));
    assert!(!result.wait(Some(Duration::from_millis(30)))?);
    let early = result.elapsed();
    open(&gate);
    assert!(result.wait(Some(SOON))?);
    assert_eq!((result.ready(), result.successful()), (true, Some(false)));
    assert_eq!((result.progress().done, result.progress().total, result.progress().failed), (7, 7, 1));

    let (serial, wall) = (result.serial_time(), result.wall_time().expect("all have run"));
    assert!(early < result.elapsed() && result.elapsed() == result.elapsed(), "{early:?} {:?}", result.elapsed());
    assert!(serial >= Duration::from_millis(100), "{serial:?}");
    let speedup = result.speedup().expect("all have run");
    assert!((speedup - serial.as_secs_f64() / wall.as_secs_f64()).abs() < 1e-9, "{speedup}");

    let ids = result.message_ids();
    let metadata = result.metadata()?;
    let engines = client.engines();
    for (number, task) in metadata.iter().enumerate() {
        assert_eq!((task.id, task.attempt, task.label.as_deref()), (ids[number], 1, Some("handles")));
        assert_eq!(task.state, if number == 6 { TaskState::Failed } else { TaskState::Succeeded });
        let node = engines.iter().find(|engine| Some(engine.id) == task.engine).map(|engine| &engine.node);
        assert_eq!((task.node.as_ref(), node.is_some()), (node, true));
        // One machine, one clock; times are in whole microseconds.
        assert!(task.started <= task.completed && Some(task.submitted) <= task.started, "{task:?}");
        assert!(task.completed <= Some(task.received + Duration::from_micros(1)), "{task:?}");
    }
    drop(result);
    print(&ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    client.close()
}

/// `handles-order`: results in order and as they come, while others still run.
pub fn order(options: &Options) -> Result<()> {
    let client = options.client()?;
    let gates = ["first", "second"].map(gate);
    let tasks = |place: usize| submit(&client, [Work::Await { file: gates[place].clone() }, Work::Nothing]);
    let mut coming = tasks(0).as_completed();
    assert_eq!(coming.next().map(|(place, value)| (place, value.ok())), Some((1, Some(1))));
    open(&gates[0]);
    assert_eq!(coming.next().map(|(place, value)| (place, value.ok())), Some((0, Some(0))));
    assert!(coming.next().is_none());

    let result = tasks(1);
    let second = result.message_ids()[1];
    assert!(client.wait([second], SOON)?);
    let progress = result.progress();
    open(&gates[1]);
    assert_eq!(result.iter().collect::<Result<Vec<_>>>()?, [0, 1]);
    print(&(progress.done <= 1));
    Ok(())
}

/// `handles-failures`: waits that end at the first failure.
pub fn failures(options: &Options) -> Result<()> {
    let client = options.client()?;
    let gate = gate("failure");
    let failed = |error: &TaskError, id: MessageId| {
        assert!(matches!(&error.cause, Cause::ReturnedError { message, .. } if message == "number 1 fails"), "{error}");
        assert_eq!(error.id, id);
    };

    let mut result = submit(&client, [Work::Await { file: gate.clone() }, Work::Fail]);
    let ids = result.message_ids();
    failed(&result.first_error(Some(SOON))?.expect("one fails"), ids[1]);
    assert!(!result.ready());
    open(&gate);
    assert!(matches!(result.results()?[..], [Ok(0), Err(_)]));
    let mut well = submit(&client, [Work::Nothing, Work::Nothing]);
    assert_eq!((well.first_error(Some(SOON))?, well.successful()), (None, Some(true)));
    let mut endless = submit(&client, [hour()]);
    assert!(matches!(endless.first_error(Some(Duration::from_millis(20))), Err(Error::Timeout(_))));
    endless.abort()?;
    assert!(endless.wait(Some(SOON))?);

    // What runs is stopped, what waits never runs.
    let result = submit(&client, [hour(), Work::Fail, hour(), hour()]).fail_fast();
    let ids = result.message_ids();
    match result.get() {
        Err(Error::Task { error, total: 4, .. }) => failed(&error, ids[1]),
        other => panic!("{other:?}"),
    }
    assert!(client.wait(ids.iter().copied(), SOON)?);
    for (place, result) in client.get_result::<u64>(ids)?.results()?.into_iter().enumerate() {
        let cause = result.expect_err("none has a value").cause;
        assert!(place == 1 || cause == Cause::Aborted, "{place}: {cause}");
    }
    print(&"as it should be");
    Ok(())
}

/// `handles-composed`: results put together, taken apart and sorted by engine.
pub fn composed(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let singles: Vec<_> = (0..5).map(|number| view.try_apply(work, (number, Work::Nothing))).collect();
    let joined = client.join(singles)?;
    assert_eq!(joined.len(), 5);
    let others = submit(&client, (0..4).map(|_| Work::Write));
    let joined = client.join([joined, others])?;
    let ids = joined.message_ids();
    let (front, back) = joined.split_at(7)?;
    assert_eq!((front.message_ids(), back.message_ids()), (ids[..7].to_vec(), ids[7..].to_vec()));
    assert_eq!(front.get()?, [0, 1, 2, 3, 4, 0, 1]);
    let mut back = back;
    let output: Vec<_> = back.output()?.into_iter().map(|output| (output.stdout, output.stderr)).collect();
    assert_eq!(output, [2, 3].map(|number| (format!("out {number}\n"), format!("err {number}\n"))));
    let values = back.split()?.into_iter().map(AsyncResult::get);
    assert_eq!(values.collect::<Result<Vec<_>>>()?, [2, 3]);

    let other = options.client()?;
    let strangers = [submit(&client, [Work::Nothing]), submit(&other, [Work::Nothing])];
    let error = client.join(strangers).expect_err("of two clients");
    assert!(error.to_string().contains("different clients"), "{error}");

    let direct = client.direct_view()?;
    let engines = direct.targets();
    let sorted = direct.map(|number: u64| 10 * number, 0..4).by_engine()?;
    let expected = [(engines[0], vec![Ok(0), Ok(10)]), (engines[1], vec![Ok(20), Ok(30)])];
    assert_eq!(sorted, expected.into());
    print(&"as it should be");
    Ok(())
}
