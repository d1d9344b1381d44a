use super::*;
use crate::code::{Function, FunctionRef};
use crate::task::{EngineId, JobId};

fn dispatch(batch: u64, first: u32, count: u32) -> Dispatch {
    let mut arguments = PackedBuilder::default();
    (0..count).for_each(|_| arguments.push(b"x"));
    let reference = FunctionRef::Named { name: "f".into() };
    let function = Function { reference, name: "f".into() };
    let (engine, job) = (EngineId(1), JobId::from_u128(1));
    Dispatch {
        engine,
        batch: BatchId(batch),
        job,
        first,
        attempt: 1,
        function,
        arguments: arguments.build(),
        shared: None,
        time_limit_ms: 0,
    }
}

fn values(count: u32) -> Outcomes {
    let mut values = PackedBuilder::default();
    (0..count).for_each(|_| values.push(b"v"));
    Outcomes { values: values.build(), timings: vec![Timing::default(); count as usize], ..Outcomes::default() }
}

/// A slot whose worker has batch 1, of tasks from 0 on.
fn running(count: u32) -> Slot {
    let mut slot = Slot::default();
    slot.dispatched(dispatch(1, 0, count));
    assert!(slot.begin());
    assert!(matches!(slot.step(&mut Vec::new()), Step::Run { first: 0, .. }));
    slot
}

const CRASH: WorkerExit = WorkerExit::Signal(6);

/// Runs a slot to its end with a worker that crashes at `culprits`, having reported only every `flush` tasks.
/// Gives each task's outcome: whether it has a value.
fn run(slot: &mut Slot, batch: u64, culprits: &[u32], flush: u32) -> Vec<(u32, Option<Cause>)> {
    let (mut reports, mut outcomes) = (Vec::new(), Vec::new());
    assert!(slot.begin());
    loop {
        let step = slot.step(&mut reports);
        let Step::Run { first, count, careful } = step else { break };
        let flush = if careful { 1 } else { flush };
        let mut next = first;
        while next < first + count {
            let end = (next + flush).min(first + count);
            if culprits.iter().any(|culprit| (next..end).contains(culprit)) {
                slot.worker_crashed(CRASH, "boom", &mut reports);
                break;
            }
            let (report, _) = slot.progressed(BatchId(batch), next, values(end - next)).expect("it is about what runs");
            reports.push(report);
            next = end;
        }
    }
    for report in reports {
        for offset in 0..report.outcomes.len() as u32 {
            outcomes.push((report.first + offset, report.outcomes.failure(offset).cloned()));
        }
    }
    outcomes
}

#[test]
fn a_crash_costs_its_own_task_only_whatever_was_reported() {
    for flush in [1, 2, 3, 10, 100] {
        for culprits in [&[][..], &[10], &[29], &[15, 16, 20], &[10, 11, 12]] {
            let mut slot = Slot::default();
            slot.dispatched(dispatch(1, 10, 20));
            let outcomes = run(&mut slot, 1, culprits, flush);
            assert_eq!(outcomes.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (10..30).collect::<Vec<_>>());
            for (index, failure) in outcomes {
                assert_eq!(failure.is_some(), culprits.contains(&index), "task {index}, flush {flush}, {culprits:?}");
            }
        }
    }
}

#[test]
fn a_crash_at_the_task_that_the_worker_was_at_needs_no_second_run() {
    let mut slot = Slot::default();
    slot.dispatched(dispatch(1, 0, 5));
    slot.begin();
    let mut reports = Vec::new();
    slot.step(&mut reports);
    slot.progressed(BatchId(1), 0, values(2));
    slot.running_at(BatchId(1), 2);
    slot.worker_crashed(CRASH, "", &mut reports);
    assert_eq!((reports.len(), reports[0].first), (1, 2));
    assert!(matches!(slot.step(&mut reports), Step::Run { first: 3, count: 2, careful: false }));
}

#[test]
fn stopped_tasks_are_skipped_and_the_others_run() {
    let mut slot = Slot::default();
    slot.dispatched(dispatch(1, 0, 10));
    slot.stop(BatchId(1), 0, 2);
    slot.stop(BatchId(1), 5, 3);
    slot.stop(BatchId(1), 6, 3);
    let stopped: Vec<u32> =
        run(&mut slot, 1, &[], 1).iter().filter(|(_, cause)| cause.is_some()).map(|(index, _)| *index).collect();
    assert_eq!(stopped, [0, 1, 5, 6, 7, 8]);
}

#[test]
fn a_running_task_that_is_stopped_is_aborted_and_the_others_run() {
    let (mut slot, mut reports) = (running(4), Vec::new());
    slot.stop(BatchId(1), 1, 1);
    assert!(!slot.is_at_stopped(), "the task that runs is not to be stopped");
    slot.progressed(BatchId(1), 0, values(1));
    assert!(slot.is_at_stopped());
    slot.worker_left();
    assert!(matches!(slot.step(&mut reports), Step::Run { first: 2, count: 2, careful: false }));
    assert_eq!(reports[0].outcomes.failure(0), Some(&Cause::Aborted));
    assert!(!slot.is_at_stopped());
}

#[test]
fn a_worker_that_is_stopped_takes_nobody_along() {
    // Alone, at the first of several, and after a crash whose culprit is looked for.
    for (count, careful) in [(1, false), (5, false), (5, true)] {
        let (mut slot, mut reports) = (running(count), Vec::new());
        if careful {
            slot.worker_crashed(CRASH, "", &mut reports);
            slot.step(&mut reports);
        }
        slot.worker_left();
        let again = slot.step(&mut reports);
        let Step::Run { first: 0, count: left, careful: again } = again else { panic!("{again:?}") };
        assert_eq!((left, again, reports.len()), (count, careful, 0));
    }
}

#[test]
fn a_crash_after_a_stop_is_blamed_on_its_task() {
    let (mut slot, mut reports) = (running(3), Vec::new());
    slot.stop(BatchId(1), 0, 1);
    assert!(slot.is_at_stopped());
    slot.worker_left();
    slot.step(&mut reports);
    slot.running_at(BatchId(1), 1);
    slot.worker_crashed(CRASH, "", &mut reports);
    let causes: Vec<_> = reports.iter().map(|report| (report.first, report.outcomes.failure(0).cloned())).collect();
    let crashed = Cause::WorkerCrashed { exit: CRASH, last_output: String::new() };
    assert_eq!(causes, [(0, Some(Cause::Aborted)), (1, Some(crashed))]);
}

#[test]
fn a_batch_that_is_over_is_not_given_back() {
    let end = |slot: &mut Slot, id: u64| {
        slot.dispatched(dispatch(id, 0, 1));
        run(slot, id, &[], 1);
    };
    let mut slot = Slot::default();
    (0..=REMEMBERED_MAX as u64).for_each(|id| end(&mut slot, id));
    assert!(!slot.retract(BatchId(1)) && !slot.retract(BatchId(REMEMBERED_MAX as u64)));
    slot.dispatched(dispatch(1000, 0, 2));
    slot.begin();
    slot.fail_running("no worker", &mut Vec::new());
    assert!(!slot.retract(BatchId(1000)), "it has failed");
    slot.dispatched(dispatch(1001, 0, 2));
    assert!(slot.retract(BatchId(1001)), "it waits");
    assert!(slot.retract(BatchId(0)), "more are not remembered");
}

#[test]
fn a_stop_that_overtakes_its_batch_still_holds() {
    let mut slot = Slot::default();
    slot.stop(BatchId(1), 1, 2);
    slot.stop(BatchId(2), 0, 9);
    slot.stop(BatchId(1), 4, 1);
    slot.dispatched(dispatch(1, 0, 6));
    let aborted = |outcomes: Vec<(u32, Option<Cause>)>| -> Vec<u32> {
        outcomes.iter().filter(|(_, cause)| *cause == Some(Cause::Aborted)).map(|(index, _)| *index).collect()
    };
    assert_eq!(aborted(run(&mut slot, 1, &[], 1)), [1, 2, 4]);
    // It has ended: nothing is remembered.
    slot.stop(BatchId(1), 0, 6);
    assert_eq!(slot.stopped.0, [(BatchId(2), 0, 9)]);
    (10..200).for_each(|batch| slot.stop(BatchId(batch), 0, 1));
    assert_eq!(slot.stopped.0.len(), REMEMBERED_MAX);
    slot.dispatched(dispatch(199, 0, 2));
    assert_eq!(aborted(run(&mut slot, 199, &[], 1)), [0]);
}

#[test]
fn many_failures_share_the_space_for_their_text() {
    for (count, each) in [(1, 10_000), (8, 10_000), (1 << 12, 1 << 10), (1 << 16, DETAIL_BYTES_MIN)] {
        let (mut slot, mut reports) = (running(count), Vec::new());
        slot.fail_running(&"é".repeat(5000), &mut reports);
        let Some(Cause::WorkerUnavailable { detail }) = reports[0].outcomes.failure(count - 1) else { panic!("{count}") };
        assert_eq!(detail.len(), each);
    }
}

#[test]
fn a_retraction_that_overtakes_its_batch_still_holds() {
    let mut slot = Slot::default();
    assert!(slot.retract(BatchId(1)));
    assert!(slot.dispatched(dispatch(1, 0, 4)));
    assert!(slot.is_idle());
    slot.dispatched(dispatch(2, 0, 4));
    slot.begin();
    assert!(!slot.retract(BatchId(2)), "it has started");
}

#[test]
fn reports_that_do_not_fit_are_refused() {
    let mut slot = Slot::default();
    slot.dispatched(dispatch(1, 0, 4));
    slot.begin();
    slot.step(&mut Vec::new());
    for (batch, first, count) in [(2, 0, 1), (1, 1, 1), (1, 0, 5), (1, 0, 0)] {
        assert!(slot.progressed(BatchId(batch), first, values(count)).is_none(), "{batch} {first} {count}");
    }
}

#[test]
fn a_batch_that_is_not_wanted_any_more_is_neither_run_nor_reported() {
    let mut slot = Slot::default();
    for batch in 1..=3 {
        slot.dispatched(dispatch(batch, 0, 4));
    }
    slot.begin();
    slot.step(&mut Vec::new());
    assert!(!slot.drop_batch(BatchId(2)) && !slot.drop_batch(BatchId(9)));
    assert!(slot.drop_batch(BatchId(1)), "its worker is to be stopped");
    assert!(slot.progressed(BatchId(1), 0, values(1)).is_none());
    assert!(slot.begin() && slot.current().is_some_and(|dispatch| dispatch.batch == BatchId(3)));
    assert!(slot.waits(BatchId(3)) != slot.current().is_some() && !slot.waits(BatchId(2)));
}

#[test]
fn tasks_whose_outcomes_are_there_already_are_skipped() {
    let mut slot = Slot::default();
    slot.dispatched(dispatch(1, 0, 6));
    slot.dispatched(dispatch(2, 10, 6));
    slot.begin();
    slot.step(&mut Vec::new());
    assert!(!slot.skip(BatchId(1), 0), "its worker is there");
    assert!(slot.skip(BatchId(1), 4));
    assert!(matches!(slot.step(&mut Vec::new()), Step::Run { first: 4, count: 2, .. }));
    assert!(slot.progressed(BatchId(1), 4, values(2)).is_some_and(|(_, done)| done));
    assert!(matches!(slot.step(&mut Vec::new()), Step::Idle));
    assert!(!slot.skip(BatchId(2), 13));
    slot.begin();
    assert!(matches!(slot.step(&mut Vec::new()), Step::Run { first: 13, count: 3, .. }));
    slot.dispatched(dispatch(3, 0, 2));
    assert!(!slot.skip(BatchId(3), 2) && !slot.waits(BatchId(3)), "nothing of it is left");
}

#[test]
fn a_task_whose_worker_is_killed_from_outside_is_tried_again() {
    let (mut slot, mut reports) = (running(2), Vec::new());
    for _ in 0..KILLS_MAX {
        assert!(slot.worker_killed());
        assert!(matches!(slot.step(&mut reports), Step::Run { first: 0, count: 2, .. }) && reports.is_empty());
    }
    slot.progressed(BatchId(1), 0, values(1));
    for _ in 0..KILLS_MAX {
        assert!(slot.worker_killed());
        assert!(matches!(slot.step(&mut reports), Step::Run { first: 1, count: 1, .. }) && reports.is_empty());
    }
    assert!(!slot.worker_killed(), "it may be the reason");
}

#[test]
fn a_task_that_takes_too_long_costs_itself_only() {
    let mut slot = running(5);
    slot.progressed(BatchId(1), 0, values(2)).expect("it is about what runs");
    assert_eq!(slot.next_task(), Some((BatchId(1), 2)));
    let mut reports = Vec::new();
    slot.overran(Duration::from_secs(3), &mut reports);
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!((report.first, report.outcomes.len(), report.outcomes.busy_us()), (2, 1, 3_000_000));
    assert_eq!(report.outcomes.failure(0), Some(&Cause::TimeLimit { limit_ms: 3000, ran_ms: None }));
    assert!(matches!(slot.step(&mut reports), Step::Run { first: 3, count: 2, careful: false }));
}
