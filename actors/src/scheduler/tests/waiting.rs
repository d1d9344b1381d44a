//! Jobs that wait for others, and tasks that do not wait for ever.

use super::*;
use crate::task::{Cause, Condition, End, Quorum};

fn after(id: u128, on: &[(u128, u32, u32)]) -> JobSpec {
    let runs = on.iter().map(|(job, first, count)| (JobId::from_u128(*job), *first, *count)).collect();
    let after = vec![Condition { runs, quorum: Quorum::All, end: End::Succeeded }];
    JobSpec { options: TaskOptions { after, ..TaskOptions::default() }, ..spec(id) }
}

const WHOLE: u32 = u32::MAX;

impl Rig {
    /// Answers all questions to the store: nothing of these jobs has ended, and none of them has ended as a whole. Returns the
    /// other commands.
    fn answer(&mut self, submitted: u32) -> Vec<Command> {
        let mut others = Vec::new();
        for command in self.commands() {
            match command {
                Command::Count { ticket, .. } => {
                    self.scheduler.counted(Time(self.now), ticket, Some(Known { submitted, ..Known::default() }));
                }
                other => others.push(other),
            }
        }
        others.extend(self.commands());
        others
    }

    /// The engine ends its first batch, of which these tasks fail.
    fn fail(&mut self, engine: u32, failed: &[u32]) {
        let (batch, first, count) = self.running(engine);
        let failed: Vec<Failure> = failed.iter().map(|at| Failure { at: *at, may_pass: true }).collect();
        self.scheduler.reported(Time(self.now), EngineId(engine), batch, (first, count), 1, &failed).unwrap();
    }

    fn close(&mut self, job: u128) {
        self.scheduler.close_job(JobId::from_u128(job)).unwrap();
    }
}

fn causes(commands: &[Command]) -> Vec<(u128, u32, u32, &'static str)> {
    let cause = |command: &Command| match command {
        Command::Settle { job, first, count, cause, .. } => {
            let name = match cause {
                Cause::UnmetDependency { .. } => "unmet",
                Cause::ImpossibleDependency { .. } => "impossible",
                Cause::QueueTimeout { .. } => "late",
                other => panic!("{other}"),
            };
            Some((number(*job), *first, *count, name))
        }
        _ => None,
    };
    commands.iter().filter_map(cause).collect()
}

#[test]
fn a_million_tasks_wait_for_a_million_as_one() {
    let mut rig = Rig::plain(1);
    rig.submit(spec(1), 1_000_000);
    rig.submit(after(2, &[(1, 0, WHOLE)]), 1_000_000);
    rig.answer(1_000_000);
    rig.close(1);
    let of = |rig: &Rig, job: u128| rig.scheduler.counts(JobId::from_u128(job)).unwrap_or_default();
    while of(&rig, 1).active > 0 {
        assert_eq!(of(&rig, 2).queued, 1_000_000, "nothing is given out before all have ended");
        rig.end(1, 1);
        rig.commands();
    }
    assert!(of(&rig, 2).active > 0);
}

#[test]
fn single_tasks_are_waited_for_from_the_moment_at_which_the_store_was_asked() {
    let mut rig = Rig::plain(2);
    rig.submit(fixed(1, 1), 4);
    rig.commands();
    rig.end(1, 1); // task 0
    rig.submit(after(2, &[(1, 0, 1), (1, 2, 2)]), 1);
    let asked = rig.commands();
    // Before the answers come, task 2 ends.
    rig.end(1, 1);
    let tickets: Vec<Ticket> = asked
        .iter()
        .filter_map(|command| if let Command::Count { ticket, .. } = command { Some(*ticket) } else { None })
        .collect();
    let known = |succeeded| Some(Known { submitted: 4, succeeded, ..Known::default() });
    rig.scheduler.counted(Time(0), tickets[0], known(1));
    rig.scheduler.counted(Time(0), tickets[1], known(0));
    rig.scheduler.counted(Time(0), tickets[1], known(2)); // never twice
    assert_eq!(rig.sent(), [(1, 1, 3, 1, 1)]);
    rig.end(1, 1);
    let commands = rig.commands();
    assert!(commands.contains(&Command::Released { job: JobId::from_u128(2), engines: None }), "{commands:?}");
}

#[test]
fn who_waits_in_vain_is_told_at_once_and_so_is_who_comes_later() {
    let mut rig = Rig::plain(1);
    rig.submit(fixed(1, 2), 10);
    rig.submit(after(2, &[(1, 0, WHOLE)]), 5);
    rig.answer(10);
    rig.fail(1, &[1]);
    assert_eq!(causes(&rig.commands()), [(2, 0, 5, "unmet")], "of ten tasks one has failed");
    rig.scheduler.extend_job(Time(0), JobId::from_u128(2), 3, Weight::default()).unwrap();
    assert_eq!(causes(&rig.commands()), [(2, 5, 3, "unmet")]);
    // One that the store does not know, one that the job will never have.
    rig.submit(after(3, &[(99, 0, 1)]), 2);
    let commands = rig.commands();
    let Some(Command::Count { ticket, .. }) = commands.first() else { panic!("{commands:?}") };
    rig.scheduler.counted(Time(0), *ticket, None);
    assert_eq!(causes(&rig.commands()), [(3, 0, 2, "impossible")]);
    rig.submit(after(4, &[(1, 9, 2)]), 2);
    rig.answer(10);
    rig.close(1);
    (0..4).for_each(|_| rig.end(1, 1));
    assert_eq!(causes(&rig.commands()), [(4, 0, 2, "impossible")]);
}

#[test]
fn a_long_chain_runs_one_by_one_and_falls_as_a_whole() {
    const LINKS: u128 = 1_000;
    for fails in [false, true] {
        let mut rig = Rig::plain(1);
        for link in 1..=LINKS {
            let spec = if link == 1 { spec(1) } else { after(link, &[(link - 1, 0, WHOLE)]) };
            rig.scheduler.open_job(spec).unwrap();
            rig.scheduler.extend_job(Time(0), JobId::from_u128(link), 1, Weight::default()).unwrap();
            rig.scheduler.close_job(JobId::from_u128(link)).unwrap();
            let tickets: Vec<Ticket> = rig
                .scheduler
                .commands()
                .filter_map(|command| if let Command::Count { ticket, .. } = command { Some(ticket) } else { None })
                .collect();
            for ticket in tickets {
                rig.scheduler.counted(Time(0), ticket, Some(Known { submitted: 1, ..Known::default() }));
            }
        }
        let mut ended = 0;
        while rig.batch(1, 0).is_some() {
            if fails {
                rig.fail(1, &[0])
            } else {
                rig.end(1, 1)
            }
            ended += rig.decided().iter().filter(|command| matches!(command, Command::Finished { .. })).count() as u128;
        }
        assert_eq!(ended, LINKS);
    }
}

#[test]
fn tasks_that_are_not_sent_in_time_fail_and_those_that_wait_at_an_engine_are_asked_back() {
    let mut rig = Rig::with_prefetch(1, 1);
    let options = TaskOptions { queue_timeout_us: Some(1_000), ..TaskOptions::default() };
    rig.submit(JobSpec { options, ..fixed(1, 1) }, 5);
    assert_eq!(rig.sent(), [(1, 1, 0, 1, 1), (1, 1, 1, 1, 1)]);
    assert_eq!(rig.scheduler.next_alarm(), Some(Time(1_000)));
    rig.scheduler.tick(Time(999));
    assert_eq!(rig.commands(), []);
    rig.scheduler.tick(Time(1_000));
    let waiting = rig.batch(1, 1).unwrap().0;
    let commands = rig.commands();
    assert_eq!(causes(&commands), [(1, 2, 3, "late")]);
    assert!(commands.contains(&Command::Retract { engine: EngineId(1), batch: waiting }), "{commands:?}");
    rig.scheduler.retracted(Time(1_001), EngineId(1), waiting);
    assert_eq!(causes(&rig.commands()), [(1, 1, 1, "late")]);
    assert_eq!(rig.scheduler.next_alarm(), None);
    // The one that runs is lost, and so has been sent before: it runs again, however late.
    rig.lose(1);
    rig.join(2);
    assert_eq!(rig.sent(), [(2, 1, 0, 1, 2)]);
}

#[test]
fn after_a_restart_the_time_before_counts_and_who_was_released_does_not_wait_again() {
    let mut rig = Rig::new(Settings::default());
    rig.scheduler.pause();
    let pending = |count| [Suspended { first: 0, count, tries: Tries::default() }];
    let past = |waited: Vec<(u32, u64)>, released| Past { total: 2, closed: true, released, waited, ..Past::default() };
    let options = TaskOptions { queue_timeout_us: Some(1_000), ..TaskOptions::default() };
    let spec = JobSpec { options, ..fixed(1, 1) };
    rig.scheduler.restore_job(spec, &past(vec![(1, 5_000), (2, 400)], false), Weight::default(), &pending(2)).unwrap();
    rig.scheduler.restore_job(after(2, &[(1, 0, WHOLE)]), &past(vec![], true), Weight::default(), &pending(2)).unwrap();
    rig.scheduler.restore_job(after(3, &[(1, 0, WHOLE)]), &past(vec![], false), Weight::default(), &pending(2)).unwrap();
    let asked = rig.commands();
    assert!(matches!(asked[..], [Command::Count { ticket, .. }] if ticket.job == JobId::from_u128(3)), "{asked:?}");
    rig.scheduler.tick(Time(10));
    assert_eq!(rig.commands(), [], "the engines that may have them are not back");
    rig.scheduler.resume(Time(20));
    rig.scheduler.tick(Time(20));
    assert_eq!(causes(&rig.commands()), [(1, 0, 1, "late")]);
    assert_eq!(rig.scheduler.next_alarm(), Some(Time(600)));
    rig.join(1);
    assert_eq!(rig.sent().iter().map(|sent| sent.1).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn direct_tasks_that_wait_for_others_go_to_their_engines_afterwards() {
    let mut rig = Rig::plain(2);
    rig.submit(spec(1), 1);
    rig.close(1);
    let placement = Placement::Direct(vec![(EngineId(1), 1), (EngineId(2), 2)]);
    rig.submit(JobSpec { placement, chunk: fixed(2, 2).chunk, ..after(2, &[(1, 0, WHOLE)]) }, 3);
    let before: Vec<Sent> = rig.answer(1).iter().filter_map(sent).collect();
    assert_eq!(before.iter().map(|sent| sent.1).collect::<Vec<_>>(), [1]);
    rig.end(before[0].0, 10);
    let after: Vec<Sent> = rig.commands().iter().filter_map(sent).collect();
    assert_eq!(after, [(1, 2, 0, 1, 1), (2, 2, 1, 2, 1)]);
}
