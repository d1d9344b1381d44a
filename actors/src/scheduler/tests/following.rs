//! Jobs that run where others ran.

use std::collections::BTreeSet;

use super::*;
use crate::task::{Cause, Condition, End, Quorum, Selection};

/// A job that follows job 1 as a whole.
fn following(id: u128, quorum: Quorum) -> JobSpec {
    let follow = vec![Condition { runs: vec![(JobId::from_u128(1), 0, u32::MAX)], quorum, end: End::Succeeded }];
    JobSpec { options: TaskOptions { follow, ..TaskOptions::default() }, ..fixed(id, 1) }
}

fn ids<const N: usize>(ids: [u32; N]) -> BTreeSet<EngineId> {
    ids.map(EngineId).into()
}

/// A job that ended long ago, of so many tasks.
fn known(tasks: u32) -> Option<Known> {
    Some(Known { submitted: tasks, ended: true, succeeded: tasks, failed: 0, dropped: 0 })
}

impl Rig {
    /// Submits a job, answers what it asks of the store, and says what it decides beyond that: how its tasks end, and where it is
    /// bound to.
    fn follow(&mut self, spec: JobSpec, located: Located) -> (Vec<Command>, Option<BTreeSet<EngineId>>) {
        self.submit(spec, 2);
        for command in self.decided() {
            let Command::Count { ticket, .. } = command else { panic!("unexpected {command:?}") };
            self.scheduler.counted(Time(self.now), ticket, known(3));
        }
        self.locate(&located)
    }

    fn locate(&mut self, located: &Located) -> (Vec<Command>, Option<BTreeSet<EngineId>>) {
        let (mut rest, mut bound) = (Vec::new(), None);
        loop {
            let commands = self.decided();
            if commands.is_empty() {
                self.scheduler.check_invariants();
                return (rest, bound);
            }
            for command in commands {
                match command {
                    Command::Locate { ticket, .. } => self.scheduler.located(Time(self.now), ticket, located.clone()),
                    Command::Released { engines, .. } => bound = engines,
                    other => rest.push(other),
                }
            }
        }
    }
}

fn why(commands: &[Command]) -> &str {
    match commands {
        [Command::Settle { cause: Cause::ImpossibleDependency { detail }, count: 2, .. }] => detail,
        other => panic!("unexpected {other:?}"),
    }
}

fn engines(commands: &[Command]) -> Vec<u32> {
    commands.iter().map(|command| sent(command).unwrap_or_else(|| panic!("unexpected {command:?}")).0).collect()
}

#[test]
fn a_job_is_bound_to_where_others_ran_before_a_task_of_it_is_sent() {
    for (quorum, ran, expected) in
        [(Quorum::All, ids([2]), &[2][..]), (Quorum::Any, ids([2]), &[2]), (Quorum::Any, ids([2, 3, 9]), &[3, 2])]
    {
        let mut rig = Rig::plain(4);
        let (commands, bound) = rig.follow(following(2, quorum), Located { engines: ran.clone(), nowhere: 0 });
        assert_eq!((engines(&commands), bound), (expected.to_vec(), Some(ran)), "{quorum:?}");
    }
}

#[test]
fn what_was_to_be_where_no_engine_is_fails_at_once_and_says_why() {
    let mut rig = Rig::plain(4);
    let located = |engines, nowhere| Located { engines, nowhere };
    let mut follow = |id, quorum, located| why(&rig.follow(following(id, quorum), located).0).to_owned();
    assert!(follow(2, Quorum::All, located(ids([1, 2]), 0)).contains("ran on several engines"));
    assert!(follow(3, Quorum::All, located(ids([1]), 2)).contains("it is not known where 2 of the tasks that it follows ran"));
    assert!(follow(4, Quorum::Any, located(ids([]), 7)).contains("none of the tasks that it follows ran"));
    assert!(follow(5, Quorum::All, located(ids([8]), 0)).ends_with("have left: 8"));
    let mut nothing = following(8, Quorum::All);
    nothing.options.follow[0].runs.clear();
    rig.submit(nothing, 2);
    assert!(why(&rig.decided()).contains("none of the tasks that it follows ran"));
    let selection = Selection { engines: Some(ids([3, 4])), ..Selection::default() };
    let mut elsewhere = following(6, Quorum::Any);
    elsewhere.options.selection = selection.clone();
    assert!(why(&rig.follow(elsewhere, located(ids([1, 2]), 0)).0).contains("may not run on the engines"));
    let mut partly = following(7, Quorum::Any);
    partly.options.selection = selection;
    let (commands, bound) = rig.follow(partly, located(ids([1, 3]), 0));
    assert_eq!((engines(&commands), bound), (vec![3], Some(ids([3]))));
}

#[test]
fn while_engines_may_come_back_nothing_is_decided_about_where_they_are() {
    // Nothing was submitted before the restart, or something was.
    for wait in [Scheduler::expect_engines, Scheduler::pause] {
        let mut rig = Rig::plain(1);
        wait(&mut rig.scheduler);
        let located = Located { engines: ids([7]), nowhere: 0 };
        assert_eq!(rig.follow(following(2, Quorum::All), located.clone()), (vec![], None));
        rig.join(7);
        rig.scheduler.resume(Time(0));
        let (commands, bound) = rig.locate(&located);
        assert_eq!((engines(&commands), bound), (vec![7], Some(ids([7]))));
    }
}

#[test]
fn what_was_decided_is_taken_up_after_a_restart() {
    for (bound, expected) in [(ids([2]), &[2][..]), (ids([2, 3]), &[3, 2])] {
        let mut rig = Rig::new(Settings { prefetch: 0, ..Settings::default() });
        rig.scheduler.pause();
        let past = Past { total: 2, closed: true, released: true, engines: Some(bound), ..Past::default() };
        let pending = [Suspended { first: 0, count: 2, tries: Tries::default() }];
        rig.scheduler.restore_job(following(5, Quorum::Any), &past, Weight::default(), &pending).unwrap();
        (1..=3).for_each(|engine| rig.join(engine));
        rig.scheduler.resume(Time(0));
        let mut sent: Vec<u32> = rig.sent().iter().map(|sent| sent.0).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(sent, expected);
    }
}
