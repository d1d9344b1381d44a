//! Waiting batches move to idle engines.

use super::*;

/// Two engines; engine 1 runs task 0 and holds task 2, engine 2 has ended tasks 1 and 3 of which each took `task_us`.
fn unbalanced(task_us: u64) -> (Rig, BatchId) {
    let mut rig = Rig::with_prefetch(2, 1);
    rig.submit(fixed(1, 1), 4);
    assert_eq!(rig.sent().iter().map(|sent| (sent.0, sent.2)).collect::<Vec<_>>(), [(2, 0), (1, 1), (2, 2), (1, 3)]);
    rig.end(1, task_us);
    rig.end(1, task_us);
    let (waiting, ..) = rig.batch(2, 1).unwrap();
    (rig, waiting)
}

#[test]
fn a_waiting_batch_goes_to_an_idle_engine() {
    // When the second task ends, the one at the other engine is as long overdue as it took.
    let (mut rig, batch) = unbalanced(5_000);
    assert_eq!(rig.commands(), [Command::Retract { engine: EngineId(2), batch }]);
    assert!(!rig.scheduler.needs_tick());
    rig.scheduler.retracted(Time(rig.now), EngineId(2), batch);
    assert_eq!(rig.sent(), [(1, 1, 2, 1, 1)], "the attempt is still the first: it was not started");
}

#[test]
fn a_batch_that_has_started_stays() {
    let (mut rig, batch) = unbalanced(5_000);
    rig.commands();
    rig.scheduler.retract_refused(EngineId(2), batch);
    assert_eq!(rig.commands(), [], "it is not asked for again");
    rig.scheduler.tick(Time(rig.now + 1_000_000));
    assert_eq!(rig.commands(), []);
    rig.end(2, 5_000);
    rig.end(2, 5_000);
    assert_eq!(rig.scheduler.counts(JobId::from_u128(1)).map(|counts| counts.done), Some(4));
}

#[test]
fn a_batch_that_ends_while_it_is_asked_for_has_ended() {
    let (mut rig, batch) = unbalanced(5_000);
    rig.commands();
    rig.end(2, 5_000);
    rig.end(2, 5_000);
    rig.scheduler.retract_refused(EngineId(2), batch);
    rig.scheduler.retracted(Time(rig.now), EngineId(2), batch);
    assert_eq!(rig.commands(), []);
    assert_eq!(rig.scheduler.counts(JobId::from_u128(1)).map(|counts| counts.done), Some(4));
}

#[test]
fn a_batch_that_starts_soon_stays_until_that_proves_wrong() {
    let (mut rig, batch) = unbalanced(400);
    assert_eq!(rig.commands(), []);
    assert!(rig.scheduler.needs_tick());
    rig.scheduler.tick(Time(rig.now + 100));
    assert_eq!(rig.commands(), [], "it is late by less than is worth a retraction");
    rig.scheduler.tick(Time(rig.now + 500));
    assert_eq!(rig.commands(), [Command::Retract { engine: EngineId(2), batch }]);
    rig.scheduler.tick(Time(rig.now + 9_000));
    assert_eq!(rig.commands(), [], "once");
}

#[test]
fn an_engine_that_joins_takes_what_waits() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 1), 2);
    rig.sent();
    let (batch, ..) = rig.batch(1, 1).unwrap();
    rig.join(2);
    assert_eq!(rig.commands(), [Command::Retract { engine: EngineId(1), batch }], "nobody knows how long the first task takes");
    rig.lose(1);
    let mut sent = rig.sent();
    sent.sort_unstable_by_key(|sent| sent.2);
    assert_eq!(sent, [(2, 1, 0, 1, 2)], "a suspect goes alone");
    rig.end(2, 10);
    assert_eq!(rig.sent(), [(2, 1, 1, 1, 1)]);
}

#[test]
fn the_longest_wait_ends_first() {
    let mut rig = Rig::with_prefetch(3, 1);
    // What is known: a task of job 1 takes 100 ms. Engines 3, 2 and 1 run 1, 3 and 2 of them, and one waits at each.
    rig.submit(fixed(1, 1), 1);
    rig.end(3, 100_000);
    for count in [1, 3, 2] {
        rig.submit(fixed(10 + count, 100), 0);
    }
    rig.sent();
    let chunks = [(20, 1), (21, 3), (22, 2)];
    for (id, count) in chunks {
        rig.submit(fixed(id, 8), count);
    }
    (30..33).for_each(|id| rig.submit(fixed(id, 1), 1));
    let places: Vec<_> = rig.sent().iter().map(|sent| (sent.0, sent.1)).collect();
    assert_eq!(places, [(3, 20), (2, 21), (1, 22), (3, 30), (2, 31), (1, 32)]);
    // Report the first task of each longer batch: a task takes 100 ms, so engine 2 has 200 ms before it and engine 1 has 100.
    for engine in [2, 1] {
        let (batch, first, _) = rig.running(engine);
        rig.scheduler.progress(Time(rig.now), EngineId(engine), batch, first, 1, 100_000).unwrap();
    }
    rig.end(3, 10);
    rig.end(3, 10);
    let (batch, ..) = rig.batch(2, 1).unwrap();
    assert_eq!(rig.commands(), [Command::Retract { engine: EngineId(2), batch }]);
}
