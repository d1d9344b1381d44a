//! What becomes of tasks whose engine is lost.

use super::*;
use crate::task::Cause;

#[test]
fn waiting_batches_come_back_without_blame_and_running_ones_with() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 16), 48);
    let (batch, ..) = rig.running(1);
    rig.scheduler.progress(Time(0), EngineId(1), batch, 0, 3, 30).unwrap();
    rig.lose(1);
    rig.sent();
    rig.join(2);
    // 13 of the running batch suspected, an eighth of its 16 at once; the others as before.
    assert_eq!(rig.sent(), [(2, 1, 3, 2, 2), (2, 1, 5, 2, 2)]);
    (0..7).for_each(|_| rig.end(2, 10));
    let sent = rig.sent();
    assert_eq!(sent[4..], [(2, 1, 15, 1, 2), (2, 1, 16, 16, 1), (2, 1, 32, 16, 1)], "{sent:?}");
}

#[test]
fn a_waiting_batch_that_reports_has_started() {
    let mut rig = Rig::with_prefetch(2, 1);
    rig.submit(fixed(1, 4), 16);
    let (second, first, _) = rig.batch(1, 1).unwrap();
    rig.scheduler.progress(Time(0), EngineId(1), second, first, 1, 10).unwrap();
    rig.sent();
    rig.lose(1);
    rig.lose(2);
    rig.join(3);
    // Of the four batches that came back, only the one that waited at engine 2 is not suspected.
    while rig.batch(3, 0).is_some() {
        rig.end(3, 10);
    }
    let mut sent = rig.sent();
    sent.sort_unstable_by_key(|sent| sent.2);
    let attempts: Vec<_> = sent.iter().map(|sent| (sent.2, sent.3, sent.4)).collect();
    assert_eq!(attempts.iter().filter(|sent| sent.2 == 1).count(), 1, "{attempts:?}");
    assert_eq!(attempts.iter().map(|sent| sent.1).sum::<u32>(), 15, "{attempts:?}");
}

#[test]
fn a_lost_attempt_does_not_count_later() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 1), 1);
    let (batch, ..) = rig.running(1);
    rig.lose(1);
    assert_eq!(rig.scheduler.progress(Time(0), EngineId(1), batch, 0, 1, 5), Err(Refused::UnknownEngine(EngineId(1))));
    rig.join(2);
    let refused = Err(Refused::UnknownBatch { engine: EngineId(2), batch });
    assert_eq!(rig.scheduler.progress(Time(0), EngineId(2), batch, 0, 1, 5), refused);
    rig.end(2, 5);
    assert_eq!(rig.scheduler.counts(JobId::from_u128(1)), Some(JobCounts { queued: 0, active: 0, done: 1 }));
}

#[test]
fn the_task_that_brings_engines_down_is_found_and_no_other() {
    for poison_losses in 1..5 {
        let mut rig = Rig::new(Settings { poison_losses, prefetch: 1, ..Settings::default() });
        rig.submit(fixed(1, 64), 200);
        let (mut engine, mut settled) = (0, vec![]);
        while rig.scheduler.counts(JobId::from_u128(1)).unwrap().done < 200 {
            engine += 1;
            rig.join(engine);
            // The engine runs all that it is given until it meets task 100.
            while let Some((batch, first, count)) = rig.batch(engine, 0) {
                let healthy = if (first..first + count).contains(&100) { 100 - first } else { count };
                if healthy > 0 {
                    rig.scheduler.progress(Time(0), EngineId(engine), batch, first, healthy, 10).unwrap();
                }
                if healthy < count {
                    rig.lose(engine);
                    break;
                }
            }
            settled.extend(rig.commands().into_iter().filter(|command| matches!(command, Command::Settle { .. })));
        }
        let [Command::Settle { first: 100, count: 1, attempt, engine: Some(_), cause: Cause::Poisoned { losses }, .. }] =
            settled[..]
        else {
            panic!("{settled:?}");
        };
        assert_eq!(attempt, losses);
        // With a single loss allowed, the batch that it was in had to be lost before it could be alone.
        assert_eq!(losses, poison_losses.max(2));
        assert_eq!(engine, losses + 1, "engines lost, and the one that ran the rest");
    }
}

#[test]
fn nothing_waits_behind_a_suspect() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 1), 4);
    rig.sent();
    rig.lose(1);
    rig.join(2);
    assert_eq!(rig.sent(), [(2, 1, 0, 1, 2)], "task 1 stays in the queue");
    rig.end(2, 10);
    assert_eq!(rig.sent(), [(2, 1, 1, 1, 1), (2, 1, 2, 1, 1)]);
}

#[test]
fn tasks_that_were_to_be_aborted_are_not_tried_again() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 8), 8);
    let id = JobId::from_u128(1);
    assert_eq!(rig.scheduler.cancel(Time(0), id, 2, 3), met(0, 3));
    assert_eq!(rig.scheduler.cancel(Time(0), id, 3, 4), met(0, 2));
    let (batch, ..) = rig.running(1);
    let cancel = |first, count| Command::Cancel { engine: EngineId(1), batch, first, count };
    assert_eq!(rig.commands()[1..], [cancel(2, 3), cancel(5, 2)]);
    rig.lose(1);
    let (attempt, engine) = (1, Some(EngineId(1)));
    let aborted = Command::Settle { job: id, first: 2, count: 5, attempt, engine, cause: Cause::Aborted };
    let lost = |first, count| Command::Tried { job: id, first, count, tries: Tries { losses: 1, failures: 0 } };
    assert_eq!(rig.commands(), [lost(0, 2), aborted, lost(7, 1)]);
    assert_eq!(rig.scheduler.counts(id), Some(JobCounts { queued: 3, active: 0, done: 5 }));
}

#[test]
fn queued_tasks_are_aborted_at_once_by_interval() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 2), 10);
    rig.commands();
    let id = JobId::from_u128(1);
    let settle = |first, count| Command::Settle { job: id, first, count, attempt: 0, engine: None, cause: Cause::Aborted };
    assert_eq!(rig.scheduler.cancel(Time(0), id, 4, 3), met(3, 0));
    assert_eq!(rig.commands(), [settle(4, 3)]);
    assert_eq!(rig.scheduler.cancel(Time(0), id, 3, u32::MAX), met(4, 0));
    assert_eq!(rig.commands(), [settle(3, 1), settle(7, 3)]);
    assert_eq!(rig.scheduler.cancel(Time(0), id, 50, 1), CancelCounts::default());
    assert_eq!(rig.scheduler.cancel(Time(0), JobId::from_u128(2), 0, 1), CancelCounts::default());
    rig.end(1, 10);
    assert_eq!(rig.sent(), [(1, 1, 2, 1, 1)]);
}
