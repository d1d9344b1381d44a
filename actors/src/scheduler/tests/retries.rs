//! Tasks that fail and are tried again.

use super::*;
use crate::task::{Cause, Retries};

fn retrying(id: u128, chunk: u32, failures: u32, pause_us: u64) -> JobSpec {
    let retries = Retries { failures, pause_us };
    JobSpec { options: TaskOptions { retries, ..TaskOptions::default() }, ..fixed(id, chunk) }
}

impl Rig {
    /// The engine reports so many tasks of its first batch, of which those at these offsets fail. Returns the tasks that are tried
    /// again.
    fn report(&mut self, engine: u32, tasks: u32, failed: &[u32]) -> Vec<u32> {
        let (batch, first, _) = self.running(engine);
        let failed: Vec<Failure> = failed.iter().map(|at| Failure { at: *at, may_pass: true }).collect();
        self.scheduler.reported(Time(self.now), EngineId(engine), batch, (first, tasks), 1, &failed).unwrap().1
    }

    fn pass(&mut self, us: u64) {
        self.now += us;
        self.scheduler.tick(Time(self.now));
    }
}

#[test]
fn a_task_that_fails_runs_again_when_its_batch_has_ended_and_its_pause_is_over() {
    let mut rig = Rig::plain(1);
    rig.submit(retrying(1, 4, 2, 100), 4);
    assert_eq!(rig.sent(), [(1, 1, 0, 4, 1)]);
    assert_eq!(rig.report(1, 2, &[1]), [1]);
    rig.pass(1_000);
    assert_eq!(rig.sent(), [], "its batch still runs");
    assert!(rig.report(1, 2, &[]).is_empty());
    rig.pass(99);
    assert_eq!(rig.sent(), []);
    rig.pass(1);
    assert_eq!(rig.sent(), [(1, 1, 1, 1, 2)]);
    assert_eq!(rig.report(1, 1, &[0]), [1]);
    rig.pass(199);
    assert_eq!(rig.sent(), [], "twice as long");
    rig.pass(1);
    assert_eq!(rig.sent(), [(1, 1, 1, 1, 3)]);
    rig.scheduler.close_job(JobId::from_u128(1)).unwrap();
    assert!(rig.report(1, 1, &[0]).is_empty(), "this was the last attempt");
    assert_eq!(rig.commands(), [Command::Finished { job: JobId::from_u128(1) }]);
}

#[test]
fn what_would_fail_again_or_was_aborted_is_not_tried_again() {
    let mut rig = Rig::plain(1);
    let id = JobId::from_u128(1);
    rig.submit(retrying(1, 4, 9, 100), 4);
    let (batch, ..) = rig.running(1);
    rig.commands();
    rig.scheduler.cancel(Time(0), id, 1, 1);
    let failed = [0, 1, 2].map(|at| Failure { at, may_pass: at > 0 });
    let again = rig.scheduler.reported(Time(0), EngineId(1), batch, (0, 4), 1, &failed).unwrap().1;
    assert_eq!(again, [2]);
    rig.commands();
    // While it pauses it is aborted like any other that waits.
    assert_eq!(rig.scheduler.cancel(Time(0), id, 0, 4), met(1, 0));
    let settle = Command::Settle { job: id, first: 2, count: 1, attempt: 1, engine: None, cause: Cause::Aborted };
    assert_eq!(rig.commands(), [settle]);
    assert_eq!(rig.scheduler.next_alarm(), None);
}

#[test]
fn failures_and_losses_are_both_attempts_and_known_after_a_restart() {
    let mut rig = Rig::new(Settings::default());
    let pending = [Suspended { first: 0, count: 1, tries: Tries { losses: 1, failures: 2 } }];
    let past = Past { total: 1, closed: true, ..Past::default() };
    rig.scheduler.restore_job(retrying(1, 1, 3, 0), &past, Weight::default(), &pending).unwrap();
    rig.join(1);
    assert_eq!(rig.sent(), [(1, 1, 0, 1, 4)]);
    assert_eq!(rig.report(1, 1, &[0]), [0]);
    let tries = Tries { losses: 1, failures: 3 };
    assert_eq!(rig.commands(), [Command::Tried { job: JobId::from_u128(1), first: 0, count: 1, tries }]);
    assert_eq!(Tries::of_kept(tries.kept()), tries);
    assert_eq!(Tries { losses: 2, failures: 0 }.kept(), 2, "as files have it in which nothing fails");
}

#[test]
fn a_task_bound_to_an_engine_is_not_tried_again_without_it() {
    let mut rig = Rig::plain(1);
    let direct = Placement::Direct(vec![(EngineId(1), 2)]);
    rig.submit(JobSpec { placement: direct, ..retrying(1, 2, 3, 100) }, 2);
    rig.sent();
    assert_eq!(rig.report(1, 1, &[0]), [0]);
    rig.commands();
    rig.lose(1);
    let commands = rig.commands();
    assert!(matches!(commands[..], [Command::Settle { first: 1, count: 1, .. }]), "{commands:?}");
    rig.pass(100);
    let commands = rig.commands();
    let [Command::Settle { first: 0, cause: Cause::EngineLost { .. }, .. }] = &commands[..] else { panic!("{commands:?}") };
}

#[test]
fn how_many_engines_may_be_lost_is_the_clients_choice() {
    let mut rig = Rig::plain(1);
    let options = TaskOptions { losses_max: Some(0), ..TaskOptions::default() };
    rig.submit(JobSpec { options, ..fixed(1, 1) }, 1);
    rig.sent();
    rig.lose(1);
    let commands = rig.commands();
    let [Command::Settle { cause: Cause::Poisoned { losses: 1 }, .. }] = &commands[..] else { panic!("{commands:?}") };
}
