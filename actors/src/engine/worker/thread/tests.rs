use std::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use super::*;
use crate::{
    code::{Function, TaskName},
    engine::worker::{
        TaskContext, Worker,
        testing::{OWN, batch, results},
    },
    task::{BatchId, BundleHash, Cause, JobId, MessageId},
};

fn worker(tasks: Tasks) -> (Worker, Receiver<WorkerEvent>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let sink = Arc::new(move |event| drop(sender.lock().unwrap().send(event)));
    (Worker::thread(Some(OWN), tasks, SharedValues::default(), sink).unwrap(), events)
}

/// The reports until so many tasks have ended.
fn reports(events: &Receiver<WorkerEvent>, tasks: usize) -> Vec<Report> {
    let mut reports: Vec<Report> = Vec::new();
    while reports.iter().map(|report| report.outcomes.len()).sum::<usize>() < tasks {
        match events.recv().unwrap() {
            WorkerEvent::Report(report) => reports.push(report),
            WorkerEvent::Told(_) => {}
            other => panic!("{other:?}"),
        }
    }
    reports
}

/// A task that tells that it has begun, and ends when it is allowed to.
fn gated() -> (Tasks, Receiver<u32>, Sender<()>) {
    let (began_sender, began) = channel();
    let (go, gate) = channel();
    let both = Mutex::new((began_sender, gate));
    let task = move |x: u32| {
        let both = both.lock().unwrap();
        both.0.send(x).unwrap();
        both.1.recv().unwrap();
        x
    };
    (Tasks::new().register(TaskName::new("gated"), task), began, go)
}

fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
    if text == "panic" {
        panic!("asked to");
    }
    text.parse()
}

#[test]
fn tasks_have_their_own_outcomes_and_context() {
    let (worker, events) = worker(Tasks::new());
    let whoami = |x: u32| {
        let task = TaskContext::current().unwrap();
        (task.id.index + x, task.engine.0, task.attempt)
    };
    let run = batch(1, Function::of_program(whoami, OWN).unwrap(), 0..5000_u32);
    worker.run(Run { first: 100, ..run }).unwrap();
    let results = results::<(u32, u32, u32)>(&reports(&events, 5000));
    assert!(results.into_iter().eq((0..5000).map(|x| Ok((100 + 2 * x, 9, 3)))));
    assert!(TaskContext::current().is_none());
}

#[test]
fn a_failing_task_does_not_fail_its_neighbours() {
    let (worker, events) = worker(Tasks::new());
    let function = Function::of_program_fallible(parse, OWN).unwrap();
    worker.run(batch(1, function.clone(), ["1", "panic", "x", "4"])).unwrap();
    let all = results::<u32>(&reports(&events, 4));
    assert_eq!((&all[0], &all[3]), (&Ok(1), &Ok(4)));
    assert!(matches!(&all[1], Err(Cause::Panicked { message, location: Some(at), .. })
        if message == "asked to" && at.contains("tests.rs:")));
    assert!(matches!(&all[2], Err(Cause::ReturnedError { .. })));
    worker.run(batch(2, function, [17])).unwrap();
    assert!(matches!(&results::<u32>(&reports(&events, 1))[0], Err(Cause::WrongArgument { .. })));
}

#[test]
fn functions_of_other_programs_and_names_are_unknown() {
    let (worker, events) = worker(Tasks::new());
    let other = Function::of_program(|x: u32| x, BundleHash([8; 32])).unwrap();
    for (id, function) in [(1, other), (2, Function::named("none"))] {
        worker.run(batch(id, function, [1, 2])).unwrap();
        let all = results::<u32>(&reports(&events, 2));
        assert!(all.iter().all(|result| matches!(result, Err(Cause::FunctionUnknown { .. }))), "{all:?}");
    }
}

#[test]
fn cancelled_tasks_do_not_run() {
    let (tasks, began, go) = gated();
    let (worker, events) = worker(tasks);
    worker.run(batch(1, Function::named("gated"), 0..6_u32)).unwrap();
    assert_eq!(began.recv(), Ok(0));
    assert!(worker.cancel(BatchId(1), 2, 3));
    assert!(!worker.cancel(BatchId(2), 2, 3));
    for next in [1, 5] {
        go.send(()).unwrap();
        assert_eq!(began.recv(), Ok(next));
    }
    go.send(()).unwrap();
    let aborted = Err(Cause::Aborted);
    let expected = [Ok(0), Ok(1), aborted.clone(), aborted.clone(), aborted, Ok(5)];
    assert_eq!(results::<u32>(&reports(&events, 6)), expected);
}

#[test]
fn a_running_task_that_is_told_that_it_is_cancelled_ends_as_aborted() {
    let (sender, began) = channel();
    let sender = Mutex::new(sender);
    let patient = move |x: u32| {
        sender.lock().unwrap().send(x).unwrap();
        while !TaskContext::current().unwrap().is_cancelled() {
            thread::yield_now();
        }
        x
    };
    let (worker, events) = worker(Tasks::new().register(TaskName::new("patient"), patient));
    worker.run(batch(1, Function::named("patient"), [7_u32])).unwrap();
    began.recv().unwrap();
    assert!(worker.cancel(BatchId(1), 0, 1));
    assert_eq!(results::<u32>(&reports(&events, 1)), [Err(Cause::Aborted)]);
}

#[test]
fn a_task_that_has_overrun_its_time_says_so_whatever_it_returns() {
    let (tasks, began, go) = gated();
    let (worker, events) = worker(tasks);
    worker.run(batch(1, Function::named("gated"), [7_u32, 8])).unwrap();
    began.recv().unwrap();
    worker.overrun(BatchId(1), 0, Duration::from_millis(5));
    go.send(()).unwrap();
    go.send(()).unwrap();
    let all = results::<u32>(&reports(&events, 2));
    assert!(matches!(all[0], Err(Cause::TimeLimit { limit_ms: 5, ran_ms: Some(_) })), "{all:?}");
    assert_eq!(all[1], Ok(8));
}

#[test]
fn values_stay_with_a_worker_from_task_to_task() {
    let (first, events) = worker(Tasks::new());
    let count = |step: u32| {
        let namespace = TaskContext::current().unwrap().namespace().clone();
        let sum = namespace.get::<u32>("sum").map_or(0, |sum| *sum) + step;
        namespace.set("sum", sum).map(|()| sum)
    };
    let function = Function::of_program_fallible(count, OWN).unwrap();
    first.run(batch(1, function.clone(), [1_u32, 2])).unwrap();
    first.run(batch(2, function.clone(), [3_u32])).unwrap();
    assert_eq!(results::<u32>(&reports(&events, 2)), [Ok(1), Ok(3)]);
    assert_eq!(results::<u32>(&reports(&events, 1)), [Ok(6)]);
    let (other, events) = worker(Tasks::new());
    other.run(batch(1, function, [1_u32])).unwrap();
    assert_eq!(results::<u32>(&reports(&events, 1)), [Ok(1)], "another engine has a namespace of its own");
}

#[test]
fn a_killed_thread_aborts_what_it_has_and_serves_on() {
    let (tasks, began, go) = gated();
    let (worker, events) = worker(tasks);
    worker.run(batch(1, Function::named("gated"), 0..3_u32)).unwrap();
    worker.run(batch(2, Function::named("gated"), 0..1_u32)).unwrap();
    began.recv().unwrap();
    worker.kill();
    worker.run(batch(3, Function::named("gated"), 5..6_u32)).unwrap();
    go.send(()).unwrap();
    go.send(()).unwrap();
    let all = reports(&events, 5);
    let of = |id| results::<u32>(&all.iter().filter(|report| report.batch == BatchId(id)).cloned().collect::<Vec<_>>());
    assert_eq!(of(1), [Ok(0), Err(Cause::Aborted), Err(Cause::Aborted)]);
    assert_eq!((of(2), of(3)), (vec![Err(Cause::Aborted)], vec![Ok(5)]));
}

#[test]
fn an_early_outcome_does_not_wait_for_a_long_task() {
    let (tasks, began, go) = gated();
    let (worker, events) = worker(tasks);
    worker.run(batch(1, Function::named("gated"), 0..2_u32)).unwrap();
    go.send(()).unwrap();
    began.recv().unwrap();
    assert_eq!(results::<u32>(&reports(&events, 1)), [Ok(0)]);
    go.send(()).unwrap();
    assert_eq!(results::<u32>(&reports(&events, 1)), [Ok(1)]);
}

#[test]
fn a_worker_takes_so_many_batches_and_no_nonsense() {
    let (tasks, began, go) = gated();
    let (worker, _events) = worker(tasks);
    for id in 0..RUNS_MAX as u64 {
        worker.run(batch(id, Function::named("gated"), [0_u32])).unwrap();
    }
    began.recv().unwrap();
    assert_eq!(worker.run(batch(99, Function::named("gated"), [0_u32])), Err(RunError::Busy));
    assert!(matches!(worker.run(batch::<u32>(99, Function::named("gated"), [])), Err(RunError::Flawed(_))));
    drop(go);
}

#[test]
fn a_dropped_worker_is_not_heard_of_any_more() {
    let (tasks, began, go) = gated();
    let (worker, events) = worker(tasks);
    worker.run(batch(1, Function::named("gated"), 0..3_u32)).unwrap();
    began.recv().unwrap();
    drop(worker);
    go.send(()).unwrap();
    // The thread drops the sender at its end.
    let outcomes = |event| matches!(event, WorkerEvent::Report(report) if !report.outcomes.is_empty());
    assert!(!events.iter().any(outcomes), "what it was told before was only that a task takes long");
    assert!(began.try_recv().is_err(), "no further task has begun");
}

#[test]
fn a_task_knows_its_message_id() {
    let (worker, events) = worker(Tasks::new());
    let mine = |()| TaskContext::current().unwrap().id;
    worker.run(batch(1, Function::of_program(mine, OWN).unwrap(), [(), ()])).unwrap();
    let expected = |index| Ok(MessageId { job: JobId::from_u128(1), index });
    assert_eq!(results::<MessageId>(&reports(&events, 2)), [expected(0), expected(1)]);
}
