use super::Direct;
use crate::results::{
    backend::{Answer, Question, Write},
    testing::{Keeps, aborted, ada, close, keep, ran},
};
use crate::task::{EngineId, JobId, MessageId, TaskFilter, TaskRecord, TaskState};
use crate::wire::{QueryTasks, TaskPage};

/// Jobs of shard 1, the higher number the newer.
const OLD: JobId = JobId::from_u128(1);
const MIDDLE: JobId = JobId::from_u128(65);
const NEW: JobId = JobId::from_u128(129);

fn page(store: &mut Direct, owner: &str, filter: &TaskFilter, after: Option<MessageId>, limit: u32) -> TaskPage {
    let query = QueryTasks { shard: 1, filter: filter.clone(), after, limit };
    let Answer::Records(Ok(page)) = store.answer(Question::Records { viewer: owner.into(), query: Box::new(query) }) else {
        panic!("another answer")
    };
    page
}

/// All pages, and how many there were.
fn all(store: &mut Direct, filter: &TaskFilter, limit: u32) -> (Vec<TaskRecord>, usize) {
    let (mut records, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = page(store, "ada", filter, after, limit);
        records.extend(page.records);
        pages += 1;
        assert!(page.next.is_none() || page.next != after, "a page goes on");
        after = page.next;
        if after.is_none() {
            return (records, pages);
        }
    }
}

fn ids(records: &[TaskRecord]) -> Vec<(u128, u32)> {
    let number = |job: JobId| u128::from_be_bytes(*job.as_bytes());
    records.iter().map(|record| (number(record.id.job), record.id.index)).collect()
}

/// Old: 0 to 3 ran, 1 failed, closed. Middle: 2 was aborted, 3 and 4 ran, 4 was purged. New: pending.
fn filled() -> Direct {
    let mut store = Direct::new();
    store.now_us = Some(5_000_000);
    store.apply(keep(OLD, 0, 4));
    store.record(OLD, ran(0, 4, &[1]));
    store.apply(close(OLD, 4));
    store.now_us = Some(6_000_000);
    store.apply(keep(MIDDLE, 0, 6));
    store.record(MIDDLE, ran(3, 2, &[]));
    store.record(MIDDLE, aborted(2, 1));
    store.apply(Write::Purge { viewer: ada().into(), runs: vec![(MIDDLE, 4, 1)] });
    store.now_us = Some(7_000_000);
    store.apply(keep(NEW, 0, 2));
    store
}

#[test]
fn tasks_are_listed_newest_job_first_whatever_the_size_of_pages() {
    let mut store = filled();
    let expected = [(129, 0), (129, 1), (65, 0), (65, 1), (65, 2), (65, 3), (65, 4), (65, 5), (1, 0), (1, 1), (1, 2), (1, 3)];
    for limit in [1, 2, 3, 5, 12, 13, 5000, 0] {
        let (records, pages) = all(&mut store, &TaskFilter::default(), limit);
        assert_eq!(ids(&records), expected, "limit {limit}");
        assert!(limit != 1 || pages >= 12);
    }
    assert!(page(&mut store, "bob", &TaskFilter::default(), None, 100).records.is_empty(), "of another owner");
}

#[test]
fn filters_leave_what_they_say() {
    let mut store = filled();
    let with = |change: &dyn Fn(&mut TaskFilter)| {
        let mut filter = TaskFilter::default();
        change(&mut filter);
        filter
    };
    let states = |states: &[TaskState]| TaskFilter { states: states.to_vec(), ..TaskFilter::default() };
    type Case = (&'static str, TaskFilter, Vec<(u128, u32)>);
    let cases: Vec<Case> = vec![
        ("failed", states(&[TaskState::Failed]), vec![(1, 1)]),
        ("aborted", states(&[TaskState::Aborted]), vec![(65, 2)]),
        ("evicted or failed", states(&[TaskState::Evicted, TaskState::Failed]), vec![(65, 4), (1, 1)]),
        ("pending", states(&[TaskState::Pending]), vec![(129, 0), (129, 1), (65, 0), (65, 1), (65, 5)]),
        ("succeeded", states(&[TaskState::Succeeded]), vec![(65, 3), (1, 0), (1, 2), (1, 3)]),
        ("job", with(&|filter| filter.job = Some(NEW)), vec![(129, 0), (129, 1)]),
        ("label", with(&|filter| filter.label = Some("morning".into())), vec![]),
        ("function", with(&|filter| filter.function = Some("mul".into())), ids(&all(&mut store, &TaskFilter::default(), 99).0)),
        ("engine", with(&|filter| filter.engine = Some(EngineId(3))), vec![(65, 3), (1, 0), (1, 1), (1, 2), (1, 3)]),
        ("other engine", with(&|filter| filter.engine = Some(EngineId(4))), vec![]),
        ("submitted after", with(&|filter| filter.submitted_after_us = Some(7_000_000)), vec![(129, 0), (129, 1)]),
        ("submitted before", with(&|filter| filter.submitted_before_us = Some(6_000_000)), vec![(1, 0), (1, 1), (1, 2), (1, 3)]),
        ("completed after", with(&|filter| filter.completed_after_us = Some(1_000_003)), vec![(65, 2), (1, 2), (1, 3)]),
        ("completed before", with(&|filter| filter.completed_before_us = Some(1_000_002)), vec![(65, 3), (1, 0)]),
        ("own", with(&|filter| filter.owner = Some("ada".into())), ids(&all(&mut store, &TaskFilter::default(), 99).0)),
        ("of another", with(&|filter| filter.owner = Some("bob".into())), vec![]),
    ];
    for (name, filter, expected) in cases {
        for limit in [1, 100] {
            assert_eq!(ids(&all(&mut store, &filter, limit).0), expected, "{name}, limit {limit}");
        }
    }
}

#[test]
fn a_record_says_what_there_is_to_say() {
    let mut store = filled();
    let (records, _) = all(&mut store, &TaskFilter { job: Some(OLD), ..TaskFilter::default() }, 100);
    let failed = &records[1];
    assert_eq!((failed.state, failed.engine, failed.attempt), (TaskState::Failed, Some(EngineId(3)), 1));
    assert_eq!((failed.submitted_us, failed.started_us, failed.completed_us), (5_000_000, Some(1_000_001), Some(1_000_002)));
    assert_eq!((failed.label.as_deref(), &*failed.function, &*failed.owner), (Some("evening"), "simulate", "ada"));
    assert!(failed.error.as_ref().is_some_and(|error| error.contains("no worker")), "{failed:?}");
    assert!(records[0].error.is_none());
}

#[test]
fn a_page_looks_at_a_bounded_number_of_tasks() {
    let mut store = Direct::new();
    store.apply(keep(OLD, 0, 50_000));
    (0..50).for_each(|run| drop(store.record(OLD, ran(run * 1000, 1000, &[7]))));
    let failed = TaskFilter { states: vec![TaskState::Failed], ..TaskFilter::default() };
    let (records, pages) = all(&mut store, &failed, 1000);
    assert_eq!(records.len(), 50);
    assert!(pages > 2, "{pages} pages");
}
