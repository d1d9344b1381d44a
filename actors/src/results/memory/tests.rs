use super::*;
use crate::task::{Cause, EngineId, Outcomes, PackedBuilder, Timing};
use crate::wire::RunBody;

const JOB: JobId = JobId::from_u128(7);

fn ran(first: u32, count: u32, failed: &[u32]) -> Run {
    let mut values = PackedBuilder::default();
    (0..count).for_each(|_| values.push(&[0; 100]));
    let outcomes = Outcomes {
        values: values.build(),
        timings: vec![Timing::default(); count as usize],
        failures: failed.iter().map(|at| (*at, Cause::Aborted)).collect(),
        ..Outcomes::default()
    };
    Run { first, count, engine: Some(EngineId(0)), attempt: 1, submitted_us: 0, body: RunBody::Ran(outcomes) }
}

fn store(tasks: u32) -> Memory {
    let mut memory = Memory::new(MemoryLimits { taken_bytes_max: 3_000, untaken_bytes_max: 100_000, ended_jobs_max: 2 });
    memory.open(JOB, "ada");
    memory.extend(JOB, tasks, 5);
    memory
}

#[test]
fn the_first_outcome_of_a_task_stands() {
    let mut memory = store(10);
    assert!(memory.record(JOB, ran(2, 3, &[])).is_some());
    for (first, count) in [(2, 3), (0, 3), (4, 1), (3, 5), (0, 10)] {
        assert!(memory.record(JOB, ran(first, count, &[])).is_none(), "{first}+{count}");
    }
    assert!(memory.record(JOB, ran(5, 5, &[0])).is_some());
    assert_eq!(memory.job(JOB), Some(("ada", JobCounts { submitted: 10, done: 8, failed: 1 })));
    memory.check_invariants();
}

#[test]
fn status_counts_parts_of_runs() {
    let mut memory = store(10);
    memory.record(JOB, ran(2, 4, &[1, 2]));
    let status = memory.status(JOB, 1, 3);
    assert_eq!((status.pending, status.succeeded, status.failed, status.unknown), (1, 1, 1, 0));
    let status = memory.status(JOB, 8, 5);
    assert_eq!((status.pending, status.unknown, status.total), (2, 3, 5));
    assert_eq!(memory.status(JobId::from_u128(8), 0, 4).unknown, 4);
}

#[test]
fn only_taken_results_make_room_and_say_so() {
    let mut memory = store(100);
    for first in (0..100).step_by(5) {
        memory.record(JOB, ran(first, 5, &[]));
        memory.check_invariants();
    }
    assert_eq!(memory.status(JOB, 0, 100).succeeded, 100, "nothing was taken, nothing is dropped");
    for first in (0..50).step_by(5) {
        memory.take(JOB, first);
        memory.check_invariants();
    }
    let status = memory.status(JOB, 0, 100);
    assert_eq!(status.evicted + status.succeeded, 100);
    assert!(status.evicted >= 30, "{status:?}");
    assert_eq!(memory.evicted_within(JOB, 0, 100), [(0, status.evicted as u32)]);
    assert_eq!(memory.status(JOB, 50, 50).succeeded, 50);
}

#[test]
fn a_store_of_results_that_nobody_takes_is_bounded_and_says_what_it_dropped() {
    let mut memory = store(1_000);
    for first in (0..1_000).step_by(5) {
        memory.record(JOB, ran(first, 5, &[]));
        memory.check_invariants();
    }
    let status = memory.status(JOB, 0, 1_000);
    assert!(status.evicted > 0 && status.succeeded > 0, "{status:?}");
    assert_eq!(memory.evicted_within(JOB, 0, 1_000), [(0, status.evicted as u32)]);
    assert!(memory.record(JOB, ran(0, 5, &[])).is_none(), "the first outcome stood, although it is gone");
}

#[test]
fn many_submissions_keep_bounded_times() {
    let mut memory = store(0);
    for at in 0..10_000 {
        memory.extend(JOB, 1, at);
    }
    memory.check_invariants();
    let run = memory.record(JOB, ran(9_999, 1, &[])).expect("it was submitted");
    assert!(run.submitted_us > 9_000);
}

#[test]
fn ended_jobs_are_forgotten_once_taken() {
    let mut memory = store(0);
    for number in 10..20 {
        let job = JobId::from_u128(number);
        memory.open(job, "ada");
        memory.extend(job, 1, 0);
        memory.record(job, ran(0, 1, &[]));
        memory.take(job, 0);
        memory.close(job);
        memory.check_invariants();
    }
    assert_eq!(memory.size().1, 3, "the two newest, and the one that has not ended");
}

#[test]
fn one_result_that_nobody_takes_does_not_make_lines_grow_behind_it() {
    let mut memory = store(1);
    memory.record(JOB, ran(0, 1, &[]));
    for number in 0..20_000 {
        // Many small jobs, which end and are forgotten.
        let job = JobId::from_u128(100 + number);
        memory.open(job, "ada");
        memory.extend(job, 1, 5);
        memory.record(job, ran(0, 1, &[]));
        memory.take(job, 0);
        memory.close(job);
    }
    memory.check_invariants();
    assert!(memory.run(JOB, 0).is_some());
    for line in [&memory.taken, &memory.untaken] {
        assert!(line.runs.len() <= 2 * SWEPT_MIN, "{}", line.runs.len());
    }
}
