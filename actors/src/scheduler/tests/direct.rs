//! Tasks that are bound to engines.

use super::*;
use crate::task::{Cause, Retries};

fn direct(id: u128, placement: &[(u32, u32)]) -> JobSpec {
    JobSpec {
        placement: Placement::Direct(placement.iter().map(|(engine, count)| (EngineId(*engine), *count)).collect()),
        ..fixed(id, 2)
    }
}

fn lost(first: u32, count: u32, at: Option<u32>, detail: &str) -> Command {
    let cause = Cause::EngineLost { detail: detail.into() };
    Command::Settle { job: JobId::from_u128(1), first, count, attempt: at.is_some().into(), engine: at.map(EngineId), cause }
}

#[test]
fn each_engine_gets_its_own() {
    let mut rig = Rig::plain(2);
    rig.submit(direct(1, &[(1, 3), (2, 2), (1, 1)]), 6);
    assert_eq!(rig.sent(), [(1, 1, 0, 2, 1), (2, 1, 3, 2, 1)]);
    rig.end(1, 10);
    rig.end(1, 10);
    rig.end(2, 10);
    assert_eq!(rig.sent(), [(1, 1, 2, 1, 1), (1, 1, 5, 1, 1)]);
}

#[test]
fn what_is_bound_goes_before_what_is_not() {
    let mut rig = Rig::plain(1);
    rig.submit(prioritised(9, fixed(2, 1)), 2);
    rig.submit(direct(1, &[(1, 2)]), 2);
    rig.end(1, 10);
    rig.end(1, 10);
    assert_eq!(rig.sent().iter().map(|sent| sent.1).collect::<Vec<_>>(), [2, 1, 2]);
}

#[test]
fn a_direct_job_grows_through_its_placement() {
    let mut rig = Rig::plain(2);
    let (job, count) = (JobId::from_u128(1), 2);
    rig.submit(direct(1, &[(1, 1), (2, 2)]), 1);
    assert_eq!(rig.scheduler.extend_job(Time(0), job, 1, Weight::default()), Ok(1));
    assert_eq!(
        rig.scheduler.extend_job(Time(0), job, count, Weight::default()),
        Err(ExtendError::TooManyTasks { job, room: 1, count })
    );
    assert_eq!(rig.sent(), [(1, 1, 0, 1, 1), (2, 1, 1, 1, 1)]);
}

#[test]
fn tasks_of_an_engine_that_is_not_there_fail_at_once() {
    let mut rig = Rig::plain(1);
    rig.submit(direct(1, &[(1, 1), (7, 3)]), 4);
    assert_eq!(rig.commands()[1..], [lost(1, 3, None, "engine 7 is not connected")]);
}

#[test]
fn tasks_of_an_engine_that_cannot_run_them_fail_at_once() {
    let mut rig = Rig::plain(1);
    rig.submit(JobSpec { requirement: Requirement::Named { name: "sum".into() }, ..direct(1, &[(1, 2)]) }, 2);
    let cause = Cause::FunctionUnknown { function: "named \"sum\"".into(), detail: "it offers no task named \"sum\"".into() };
    assert_eq!(
        rig.commands(),
        [Command::Settle { job: JobId::from_u128(1), first: 0, count: 2, attempt: 0, engine: None, cause }]
    );
}

#[test]
fn tasks_of_an_engine_that_is_lost_fail_wherever_they_are() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(direct(1, &[(1, 9)]), 9);
    let (batch, ..) = rig.running(1);
    rig.scheduler.progress(Time(0), EngineId(1), batch, 0, 1, 5).unwrap();
    rig.sent();
    rig.scheduler.close_job(JobId::from_u128(1)).unwrap();
    rig.lose(1);
    let why = "it went away";
    let end = Command::Finished { job: JobId::from_u128(1) };
    let never_sent = lost(4, 5, None, "engine 1: it went away");
    assert_eq!(rig.commands(), [never_sent, lost(2, 2, Some(1), why), lost(1, 1, Some(1), why), end]);
}

#[test]
fn an_engine_that_drains_ends_what_it_runs_and_no_more() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(direct(1, &[(1, 9)]), 9);
    rig.sent();
    let (waiting, ..) = rig.batch(1, 1).unwrap();
    rig.scheduler.engine_draining(EngineId(1));
    rig.scheduler.engine_draining(EngineId(1));
    let why = "engine 1 is leaving and takes no more tasks";
    assert_eq!(rig.commands(), [lost(4, 5, None, why), Command::Retract { engine: EngineId(1), batch: waiting }]);
    rig.scheduler.retracted(Time(0), EngineId(1), waiting);
    assert_eq!(rig.commands(), [lost(2, 2, Some(1), why)]);
    rig.end(1, 5);
    assert_eq!(rig.commands(), []);
    rig.submit(direct(2, &[(1, 1)]), 1);
    rig.submit(spec(3), 1);
    assert_eq!(rig.commands().len(), 1, "the direct task fails; the other waits");
    assert_eq!(rig.scheduler.counts(JobId::from_u128(3)).map(|counts| counts.queued), Some(1));
}

#[test]
fn a_task_that_fails_is_tried_again_at_its_own_engine() {
    let mut rig = Rig::plain(2);
    let retries = Retries { failures: 1, pause_us: 0 };
    rig.submit(JobSpec { options: TaskOptions { retries, ..TaskOptions::default() }, ..direct(1, &[(1, 1), (2, 1)]) }, 2);
    assert_eq!(rig.sent(), [(1, 1, 0, 1, 1), (2, 1, 1, 1, 1)]);
    rig.end(1, 10);
    let (batch, first, _) = rig.running(2);
    let failed = [Failure { at: 0, may_pass: true }];
    rig.scheduler.reported(Time(rig.now), EngineId(2), batch, (first, 1), 1, &failed).unwrap();
    rig.scheduler.tick(Time(rig.now));
    assert_eq!(rig.sent(), [(2, 1, 1, 1, 2)], "engine 1 is idle, and not asked");
}
