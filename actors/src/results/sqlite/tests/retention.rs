use std::time::Duration;

use super::Direct;
use crate::results::{
    Retention,
    backend::{Answer, Done, Question, Write},
    testing::{Keeps, ada, close, keep, ran},
};
use crate::task::JobId;
use crate::wire::FetchTasks;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAY_US: u64 = 24 * 3600 * 1_000_000;
const START_US: u64 = 1000 * DAY_US;

fn retaining(age: Duration, bytes: u64, unfetched: Duration) -> Direct {
    let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    Direct::open(dir, Retention { age, bytes, unfetched }).unwrap()
}

/// Job `number`: ten tasks that ended on that day; taken or not.
fn ended(store: &mut Direct, number: u32, day: u64, taken: bool) -> JobId {
    let job = JobId::from_u128(u128::from(number));
    store.now_us = Some(START_US + day * DAY_US);
    store.apply(keep(job, 0, 10));
    store.apply(close(job, 10));
    store.record(job, ran(0, 10, &[1]));
    if taken {
        store.apply(Write::Take { job, owner: ada(), runs: vec![0] });
    }
    job
}

fn retain(store: &mut Direct, day: u64) {
    while store.writer.retain(START_US + day * DAY_US).unwrap() {}
}

fn has_arguments(store: &mut Direct, job: JobId) -> bool {
    let fetch = FetchTasks { job, ranges: vec![(0, 10)] };
    let Answer::Tasks(Ok(tasks)) = store.answer(Question::Tasks { viewer: ada().into(), fetch }) else { panic!("it is there") };
    !tasks.runs.is_empty()
}

#[test]
fn outcomes_go_by_age_and_say_so_and_their_job_goes_an_age_later() {
    let mut store = retaining(30 * DAY, u64::MAX, 7 * DAY);
    let (old, young) = (ended(&mut store, 1, 0, true), ended(&mut store, 2, 20, false));
    let pending = JobId::from_u128(3);
    store.apply(keep(pending, 0, 5));
    retain(&mut store, 29);
    assert_eq!(store.status(old, 0, 10).succeeded, 9);
    retain(&mut store, 31);
    let status = store.status(old, 0, 10);
    assert_eq!((status.evicted, status.failed, status.pending), (10, 0, 0));
    assert!(!has_arguments(&mut store, old));
    assert_eq!(store.status(young, 0, 10).succeeded, 9);
    retain(&mut store, 70);
    assert_eq!(store.status(old, 0, 10).unknown, 10);
    assert_eq!(store.status(young, 0, 10).evicted, 10);
    retain(&mut store, 10_000);
    assert_eq!(store.status(pending, 0, 5).pending, 5, "what is pending is kept");
    assert!(store.restored.jobs.is_empty());
    assert_eq!((store.writer.totals().jobs, store.reopened().restored.jobs.len()), (1, 1));
}

#[test]
fn over_its_bytes_a_store_drops_what_was_fetched_first_and_then_what_nobody_came_for() {
    let mut store = retaining(300 * DAY, u64::MAX, 7 * DAY);
    let jobs: Vec<JobId> = [(1, 0, false), (2, 1, true), (3, 2, true), (4, 12, false)]
        .map(|(number, day, taken)| ended(&mut store, number, day, taken))
        .to_vec();
    let one_job = store.writer.totals().bytes / 4;
    // Room for three jobs, two, one, and none; day 14.
    for (room, expected) in [(3, [9, 0, 9, 9]), (2, [9, 0, 0, 9]), (1, [0, 0, 0, 9]), (0, [0, 0, 0, 9])] {
        let dir = store.dir.clone();
        drop(store);
        let retention = Retention { age: 300 * DAY, bytes: room * one_job + room, unfetched: 7 * DAY };
        store = Direct::open(dir, retention).unwrap();
        retain(&mut store, 14);
        let left: Vec<u64> = jobs.iter().map(|job| store.status(*job, 0, 10).succeeded).collect();
        assert_eq!(left, expected, "room for {room}");
    }
    assert!(store.writer.is_over());
    let Some(Done::Kept(Err(text))) = store.apply(keep(JobId::from_u128(9), 0, 1)) else { panic!("it is refused") };
    assert!(text.contains("fetch or purge"), "{text}");
    store.apply(Write::Take { job: jobs[3], owner: ada(), runs: vec![0] });
    retain(&mut store, 14);
    assert_eq!(store.apply(keep(JobId::from_u128(9), 0, 1)), Some(Done::Kept(Ok(false))), "there is room again");
}

#[test]
fn the_bytes_that_are_counted_are_those_that_are_there() {
    let mut store = retaining(30 * DAY, u64::MAX, DAY);
    for number in 1..30 {
        ended(&mut store, number, u64::from(number), number % 2 == 0);
    }
    store.apply(Write::Purge { viewer: ada().into(), runs: vec![(JobId::from_u128(5), 2, 3), (JobId::from_u128(6), 0, 10)] });
    assert!(store.writer.totals().bytes > 0);
    retain(&mut store, 1000);
    assert_eq!((store.writer.totals().bytes, store.writer.totals().jobs), (0, 0));
}
