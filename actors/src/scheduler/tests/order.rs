//! Who goes next, and how much at once.

use super::*;

#[test]
fn one_job_goes_in_ascending_order_to_whoever_is_free() {
    let mut rig = Rig::plain(2);
    rig.submit(fixed(1, 2), 7);
    assert_eq!(rig.sent(), [(2, 1, 0, 2, 1), (1, 1, 2, 2, 1)]);
    rig.end(1, 10);
    assert_eq!(rig.sent(), [(1, 1, 4, 2, 1)]);
    rig.end(2, 10);
    assert_eq!(rig.sent(), [(2, 1, 6, 1, 1)]);
}

#[test]
fn idle_engines_come_before_waiting_slots() {
    let mut rig = Rig::with_prefetch(2, 1);
    rig.submit(fixed(1, 1), 5);
    let engines: Vec<_> = rig.sent().iter().map(|sent| sent.0).collect();
    assert_eq!(engines, [2, 1, 2, 1], "both run before one waits, and the fifth task has no place");
}

#[test]
fn a_million_single_tasks_stay_one_interval() {
    let mut rig = Rig::plain(0);
    rig.scheduler.open_job(spec(1)).unwrap();
    for index in 0..1_000_000 {
        assert_eq!(rig.scheduler.extend_job(Time(0), JobId::from_u128(1), 1, Weight::default()), Ok(index));
    }
    let job = rig.scheduler.jobs.iter().next().unwrap().1;
    assert_eq!(job.parts[0].pending.spans().count(), 1);
    assert_eq!(job.queued, 1_000_000);
}

#[test]
fn higher_priority_goes_first() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 1), 3);
    rig.submit(prioritised(5, fixed(2, 1)), 1);
    rig.submit(prioritised(7, fixed(3, 1)), 1);
    rig.submit(prioritised(-1, fixed(4, 1)), 1);
    (0..6).for_each(|_| rig.end(1, 10));
    let jobs: Vec<_> = rig.sent().iter().map(|sent| sent.1).collect();
    assert_eq!(jobs, [1, 3, 2, 1, 1, 4]);
}

#[test]
fn jobs_of_one_client_go_in_order_of_submission() {
    let mut rig = Rig::plain(1);
    (1..=3).for_each(|job| rig.submit(fixed(job, 1), 2));
    (0..6).for_each(|_| rig.end(1, 10));
    let jobs: Vec<_> = rig.sent().iter().map(|sent| sent.1).collect();
    assert_eq!(jobs, [1, 1, 2, 2, 3, 3]);
}

#[test]
fn clients_share_time_not_tasks() {
    // The tasks of client 1 take three times as long, so it runs a third as many.
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 1), 1_000);
    rig.submit(JobSpec { client: ClientKey(2), ..fixed(2, 1) }, 1_000);
    for _ in 0..400 {
        let first = rig.scheduler.status().engines[0].running.as_ref().map(|running| number(running.job));
        rig.end(1, if first == Some(1) { 3_000 } else { 1_000 });
    }
    let sent = rig.sent();
    let first = sent.iter().filter(|sent| sent.1 == 1).count();
    assert!((95..=105).contains(&first), "{first} of 400 were tasks of client 1");
}

#[test]
fn a_client_that_was_away_has_saved_nothing_up() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 1), 1_000);
    (0..100).for_each(|_| rig.end(1, 1_000));
    rig.submit(JobSpec { client: ClientKey(2), ..fixed(2, 1) }, 1_000);
    rig.sent();
    (0..100).for_each(|_| rig.end(1, 1_000));
    let late = rig.sent().iter().filter(|sent| sent.1 == 2).count();
    assert!((48..=52).contains(&late), "{late} of 100 were tasks of the late client");
}

#[test]
fn a_newcomer_does_not_wait_for_those_before_it() {
    // Nothing of client 1 is queued most of the time: what it used is not held against client 2 nor the other way round.
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 1), 1);
    for _ in 0..50 {
        rig.end(1, 100_000);
        rig.scheduler.extend_job(Time(rig.now), JobId::from_u128(1), 1, Weight::default()).unwrap();
    }
    rig.submit(JobSpec { client: ClientKey(2), ..fixed(2, 1) }, 100);
    rig.scheduler.extend_job(Time(rig.now), JobId::from_u128(1), 50, Weight::default()).unwrap();
    rig.sent();
    (0..20).for_each(|_| rig.end(1, 100_000));
    let old = rig.sent().iter().filter(|sent| sent.1 == 1).count();
    assert!((8..=12).contains(&old), "{old} of 20 were tasks of the client that had used much");
}

#[test]
fn batches_grow_with_what_was_measured_and_shrink_to_the_end() {
    let mut rig = Rig::plain(1);
    rig.submit(spec(1), 3_000);
    let mut sizes = vec![];
    while let Some(sent) = rig.sent().first() {
        sizes.push(sent.3);
        rig.end(1, 10);
    }
    assert_eq!(sizes[..5], [1, 8, 64, 400, 400], "by eight, then 4 ms of work");
    assert_eq!(sizes.iter().sum::<u32>(), 3_000);
    assert_eq!(sizes[sizes.len() - 4..], [66, 33, 20, 12], "half of what is left, down to 200 µs of work: {sizes:?}");
}

#[test]
fn batches_are_half_as_large_while_others_wait() {
    let mut rig = Rig::plain(1);
    rig.submit(spec(1), 100_000);
    (0..4).for_each(|_| rig.end(1, 10));
    assert_eq!(rig.sent().last().map(|sent| sent.3), Some(400));
    rig.submit(JobSpec { client: ClientKey(2), ..prioritised(-1, spec(2)) }, 1);
    rig.end(1, 10);
    assert_eq!(rig.sent().last().map(|sent| sent.3), Some(200));
}

#[test]
fn tasks_wait_for_an_engine_that_can_run_them() {
    let mut rig = Rig::plain(1);
    let named = |id, name: &str| JobSpec { requirement: Requirement::Named { name: name.into() }, ..fixed(id, 1) };
    rig.submit(named(1, "sum"), 2);
    rig.submit(named(2, "other"), 1);
    assert_eq!(rig.sent(), []);
    let capability = Capability { names: ["sum".to_string()].into(), ..process() };
    rig.scheduler.engine_joined(Time(0), EngineId(2), capability);
    assert_eq!(rig.sent(), [(2, 1, 0, 1, 1)]);
    rig.submit(fixed(3, 1), 1);
    assert_eq!(rig.sent(), [(1, 3, 0, 1, 1)]);
}

#[test]
fn what_an_engine_may_not_report_is_refused_and_changes_nothing() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 4), 8);
    let (batch, ..) = rig.running(1);
    let step = |expected, left, first, count| Refused::OutOfStep { batch, expected, left, first, count };
    let unknown = |batch| Refused::UnknownBatch { engine: EngineId(1), batch };
    let mut report = |engine, batch, first, count| rig.scheduler.progress(Time(0), EngineId(engine), batch, first, count, 10);
    assert_eq!(report(2, batch, 0, 1), Err(Refused::UnknownEngine(EngineId(2))));
    assert_eq!(report(1, BatchId(99), 0, 1), Err(unknown(BatchId(99))));
    assert_eq!(report(1, batch, 1, 1), Err(step(0, 4, 1, 1)));
    assert_eq!(report(1, batch, 0, 5), Err(step(0, 4, 0, 5)));
    assert_eq!(report(1, batch, 0, 0), Err(step(0, 4, 0, 0)));
    assert_eq!(report(1, batch, 0, 3), Ok(Accepted { job: JobId::from_u128(1), attempt: 1 }));
    assert_eq!(report(1, batch, 0, 3), Err(step(3, 1, 0, 3)));
    assert!(report(1, batch, 3, 1).is_ok());
    assert_eq!(report(1, batch, 3, 1), Err(unknown(batch)));
    assert_eq!(rig.scheduler.counts(JobId::from_u128(1)), Some(JobCounts { queued: 0, active: 4, done: 4 }));
}

#[test]
fn a_job_finishes_once_it_is_closed_and_done() {
    let id = JobId::from_u128(1);
    let mut rig = Rig::plain(1);
    rig.submit(spec(1), 1);
    rig.end(1, 10);
    rig.sent();
    rig.scheduler.close_job(id).unwrap();
    assert_eq!(rig.commands(), [Command::Finished { job: id }]);
    assert_eq!(rig.scheduler.close_job(id), Err(UnknownJob(id)));
    assert_eq!(rig.scheduler.extend_job(Time(0), id, 1, Weight::default()), Err(ExtendError::UnknownJob(id)));
    assert_eq!(rig.scheduler.counts(id), None);

    rig.submit(spec(2), 1);
    rig.scheduler.close_job(JobId::from_u128(2)).unwrap();
    assert_eq!(
        rig.scheduler.extend_job(Time(0), JobId::from_u128(2), 1, Weight::default()),
        Err(ExtendError::Closed(JobId::from_u128(2)))
    );
    rig.sent();
    rig.end(1, 10);
    assert_eq!(rig.commands(), [Command::Finished { job: JobId::from_u128(2) }]);
}

#[test]
fn bounds_are_kept() {
    let mut rig = Rig::new(Settings { jobs_max: 2, placement_max: 2, ..Settings::default() });
    let open = |rig: &mut Rig, spec| rig.scheduler.open_job(spec);
    let direct = |id, placement: &[u32]| JobSpec {
        placement: Placement::Direct(placement.iter().map(|count| (EngineId(1), *count)).collect()),
        ..spec(id)
    };
    assert_eq!(open(&mut rig, direct(1, &[1, 1, 1])), Err(OpenError::PlacementTooLong { parts: 3, max: 2 }));
    assert_eq!(open(&mut rig, direct(1, &[u32::MAX, 1])), Err(OpenError::PlacementTooLarge { max: u32::MAX }));
    assert_eq!(open(&mut rig, spec(1)), Ok(()));
    assert_eq!(open(&mut rig, spec(1)), Err(OpenError::Exists(JobId::from_u128(1))));
    assert_eq!(open(&mut rig, spec(2)), Ok(()));
    assert_eq!(open(&mut rig, spec(3)), Err(OpenError::TooManyJobs { max: 2 }));
    let (job, count) = (JobId::from_u128(1), 2);
    assert_eq!(rig.scheduler.extend_job(Time(0), job, u32::MAX - 1, Weight::default()), Ok(0));
    assert_eq!(
        rig.scheduler.extend_job(Time(0), job, count, Weight::default()),
        Err(ExtendError::TooManyTasks { job, room: 1, count })
    );
    assert_eq!(rig.scheduler.extend_job(Time(0), job, 1, Weight::default()), Ok(u32::MAX - 1));
    rig.scheduler.check_invariants();
    rig.join(1);
    rig.scheduler.check_invariants();
}
