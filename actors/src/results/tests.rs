//! Both backends do the same.

use super::{
    KeepRun, MemoryLimits,
    backend::{Answer, Done, FirstPending, Question, Viewer, Write},
    memory::Memory,
    now_us,
    sqlite::Direct,
    testing::{JOB, Keeps, aborted, ada, close, header, keep, packed, ran},
};
use crate::scheduler::{Known, Located, Whereabouts};
use crate::task::{Cause, End, EngineId, JobId, PackedBuilder};
use crate::wire::{JobCounts, Run, RunBody, SHARDS, StoreRefusal};

impl Keeps for Memory {
    fn apply(&mut self, write: Write) -> Option<Done> {
        let done = Memory::apply(self, write, now_us());
        self.check_invariants();
        done
    }

    fn answer(&mut self, question: Question) -> Answer {
        Memory::answer(self, question)
    }
}

fn both(test: impl Fn(&mut dyn Keeps)) {
    test(&mut Memory::new(MemoryLimits::default()));
    test(&mut Direct::new());
}

fn purge(runs: &[(JobId, u32, u32)]) -> Write {
    Write::Purge { viewer: ada().into(), runs: runs.to_vec() }
}

#[test]
fn the_first_outcome_of_a_task_stands() {
    both(|store| {
        store.apply(keep(JOB, 0, 10));
        assert_eq!(store.record(JOB, ran(2, 3, &[])).map(|run| run.first), Some(2));
        for (first, count) in [(2, 3), (0, 3), (4, 1), (3, 5), (0, 10), (9, 2), (u32::MAX, 0)] {
            assert_eq!(store.record(JOB, ran(first.min(90), count, &[])), None, "{first}+{count}");
        }
        assert!(store.record(JOB, ran(5, 5, &[0])).is_some());
        assert!(store.record(JobId::from_u128(8), ran(0, 1, &[])).is_none(), "of no job");
        assert_eq!(store.info(JOB).unwrap().counts, JobCounts { submitted: 10, done: 8, failed: 1 });
        assert_eq!(store.everything(JOB, 1).iter().map(|run| run.first).collect::<Vec<_>>(), [2, 5]);
    });
}

#[test]
fn a_run_comes_back_as_recorded() {
    both(|store| {
        store.apply(keep(JOB, 0, 10));
        let mut expected = Vec::new();
        for run in [ran(0, 3, &[]), ran(3, 2, &[1]), aborted(5, 5)] {
            let recorded = store.record(JOB, run.clone()).unwrap();
            assert!(recorded.submitted_us > 1_000_000_000_000_000, "the store knows when it was submitted");
            assert_eq!(Run { submitted_us: 0, ..recorded.clone() }, run);
            expected.push(recorded);
        }
        for bytes_max in [1, 400, 1 << 20] {
            assert_eq!(store.everything(JOB, bytes_max), expected);
        }
    });
}

#[test]
fn a_job_ends_when_it_is_closed_and_every_task_has_an_outcome() {
    both(|store| {
        assert_eq!(store.apply(keep(JOB, 0, 2)), Some(Done::Kept(Ok(false))));
        store.record(JOB, ran(0, 2, &[]));
        assert!(!store.info(JOB).unwrap().ended, "more may come");
        assert_eq!(store.apply(keep(JOB, 2, 1)), Some(Done::Kept(Ok(false))));
        assert_eq!(store.apply(close(JOB, 3)), Some(Done::Kept(Ok(false))));
        let Some(Done::Recorded(Some(_), true)) = store.apply(Write::Record { job: JOB, run: ran(2, 1, &[]) }) else {
            panic!("it has ended")
        };
        assert!(store.info(JOB).unwrap().ended);
        assert_eq!(store.apply(Write::Settle), Some(Done::Settled));
    });
}

#[test]
fn a_job_stays_its_owners_and_is_not_kept_twice() {
    both(|store| {
        store.apply(keep(JOB, 0, 4));
        store.apply(keep(JOB, 0, 4));
        assert_eq!(store.info(JOB).unwrap().counts.submitted, 4);
        let Write::Keep(mut run) = keep(JOB, 0, 4) else { unreachable!() };
        run.open = run.open.map(|(owner, header)| (super::Owner { name: "bob".into(), ..owner }, header));
        let Some(Done::Kept(Err(text))) = store.apply(Write::Keep(run)) else { panic!("another's") };
        assert!(text.contains("another client"), "{text}");
        for question in [
            Question::Status { viewer: "bob".into(), runs: vec![(JOB, 0, 4)] },
            Question::FirstPending { viewer: "bob".into(), job: JOB, first: 0, end: 4 },
        ] {
            match store.answer(question) {
                Answer::Status(status) => assert_eq!((status.unknown, status.total), (4, 4)),
                Answer::FirstPending(first) => assert_eq!(first, FirstPending::Unknown),
                other => panic!("{other:?}"),
            }
        }
        let refused = Some(Done::Purged(Err(StoreRefusal::Unknown(JOB))));
        assert_eq!(store.apply(Write::Purge { viewer: "bob".into(), runs: vec![(JOB, 0, 4)] }), refused);
        let admin = Viewer { admin: true, ..Viewer::from("bob") };
        let Answer::Status(status) = store.answer(Question::Status { viewer: admin.clone(), runs: vec![(JOB, 0, 4)] }) else {
            panic!("an admin is answered")
        };
        assert_eq!((status.pending, status.unknown), (4, 0), "an admin sees all");
        let pending = Some(Done::Purged(Err(StoreRefusal::Pending(4))));
        assert_eq!(store.apply(Write::Purge { viewer: admin, runs: vec![(JOB, 0, 4)] }), pending);
    });
}

#[test]
fn status_counts_parts_of_runs() {
    both(|store| {
        store.apply(keep(JOB, 0, 10));
        store.record(JOB, ran(2, 4, &[1, 2]));
        store.record(JOB, aborted(8, 2));
        for (first, count, expected) in [
            (1, 3, [1, 1, 1, 0]),
            (0, 10, [4, 2, 4, 0]),
            (8, 5, [0, 0, 2, 3]),
            (9, 1, [0, 0, 1, 0]),
            (3, 2, [0, 0, 2, 0]),
            (40, 2, [0, 0, 0, 2]),
        ] {
            let status = store.status(JOB, first, count);
            let counts = [status.pending, status.succeeded, status.failed, status.unknown];
            assert_eq!((counts, status.total), (expected, u64::from(count)), "{first}+{count}");
        }
        assert_eq!(store.status(JobId::from_u128(8), 0, 4).unknown, 4);
    });
}

#[test]
fn the_first_task_that_has_not_ended() {
    both(|store| {
        store.apply(keep(JOB, 0, 10));
        for first in [0, 1, 3] {
            store.record(JOB, ran(first, 1, &[]));
        }
        store.record(JOB, ran(6, 4, &[]));
        store.apply(purge(&[(JOB, 0, 2), (JOB, 7, 2)]));
        for (first, end, expected) in [
            (0, 10, FirstPending::At(2)),
            (0, 2, FirstPending::None),
            (3, 10, FirstPending::At(4)),
            (6, 10, FirstPending::None),
            (7, 8, FirstPending::None),
            (5, 5, FirstPending::None),
            (0, 11, FirstPending::Unknown),
        ] {
            let question = Question::FirstPending { viewer: ada().into(), job: JOB, first, end };
            let Answer::FirstPending(found) = store.answer(question) else { panic!("another answer") };
            assert_eq!(found, expected, "{first}..{end}");
        }
    });
}

#[test]
fn purged_outcomes_are_gone_and_their_neighbours_are_not() {
    both(|store| {
        store.apply(keep(JOB, 0, 20));
        store.record(JOB, ran(0, 10, &[2, 5]));
        store.record(JOB, ran(10, 5, &[]));
        assert_eq!(store.apply(purge(&[(JOB, 14, 2)])), Some(Done::Purged(Err(StoreRefusal::Pending(1)))));
        assert_eq!(store.status(JOB, 0, 20).evicted, 0, "all or nothing");
        assert_eq!(store.apply(purge(&[(JOB, 3, 4), (JOB, 9, 3)])), Some(Done::Purged(Ok(7))));
        assert_eq!(store.apply(purge(&[(JOB, 3, 4)])), Some(Done::Purged(Ok(0))), "they are gone already");
        let status = store.status(JOB, 0, 20);
        assert_eq!((status.evicted, status.failed, status.succeeded, status.pending), (7, 1, 7, 5));
        let left: Vec<_> = store.everything(JOB, 1 << 20).into_iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(left, [(0, 3), (3, 4), (7, 2), (9, 3), (12, 3)]);
        let all = store.everything(JOB, 1 << 20);
        let RunBody::Ran(outcomes) = &all[2].body else { panic!("it ran") };
        assert_eq!(outcomes.values, packed(7, 2, 100), "each keeps its value");
        assert_eq!(all[1].body, RunBody::Ended(Cause::Evicted));
        assert!(store.record(JOB, ran(4, 1, &[])).is_none(), "the first outcome stood, although it is gone");
    });
}

#[test]
fn old_jobs_of_one_owner_are_purged() {
    both(|store| {
        for number in [1, 65, 129] {
            let job = JobId::from_u128(number);
            store.apply(keep(job, 0, 3));
            store.record(job, ran(0, 3, &[]));
            if number != 129 {
                store.apply(close(job, 3));
            }
        }
        let older = |owner: &str, before_us| Write::PurgeOlder { viewer: owner.into(), shard: 1, before_us };
        for (owner, before_us, expected) in
            [("ada", 5, 0), ("bob", u64::MAX >> 1, 0), ("ada", u64::MAX >> 1, 6), ("ada", u64::MAX >> 1, 0)]
        {
            assert_eq!(store.apply(older(owner, before_us)), Some(Done::Purged(Ok(expected))), "{owner} {before_us}");
        }
        assert_eq!(store.status(JobId::from_u128(129), 0, 3).succeeded, 3, "it has not ended");
    });
}

#[test]
fn a_purge_by_age_ends_also_at_the_last_id_that_there_can_be() {
    both(|store| {
        let job = JobId::from_u128(u128::MAX);
        store.apply(keep(job, 0, 3));
        store.record(job, ran(0, 3, &[]));
        store.apply(close(job, 3));
        let older = || Write::PurgeOlder { viewer: "ada".into(), shard: job.shard(SHARDS) as u32, before_us: u64::MAX >> 1 };
        for expected in [3, 0] {
            assert_eq!(store.apply(older()), Some(Done::Purged(Ok(expected))));
        }
    });
}

#[test]
fn pages_keep_to_the_ranges_and_the_bytes() {
    both(|store| {
        store.apply(keep(JOB, 0, 30));
        (0..10).for_each(|run| drop(store.record(JOB, ran(run * 3, 3, &[]))));
        let firsts = |page: &super::backend::Page| page.runs.iter().map(|run| run.first).collect::<Vec<_>>();
        let page = store.page(JOB, &[(4, 5), (5, 7), (20, 22)], 1 << 20);
        assert_eq!((firsts(&page), page.until), (vec![3, 6, 18, 21], 22), "whole runs, each once");
        let page = store.page(JOB, &[(0, 7), (20, 22)], 1);
        assert_eq!((firsts(&page), page.until), (vec![0], 3));
        assert!(store.page(JobId::from_u128(8), &[(0, 5)], 1).runs.is_empty());
    });
}

/// Numbers that look random, the same each time.
fn numbers(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(below.max(1))) as u32
    }
}

#[test]
fn both_backends_agree_whatever_is_done() {
    const TASKS: u32 = 40;
    for seed in 0..60 {
        let mut number = numbers(seed);
        let (mut memory, mut disk) = (Memory::new(MemoryLimits::default()), Direct::new());
        let stores: [&mut dyn Keeps; 2] = [&mut memory, &mut disk];
        let mut submitted = [0; 2];
        let both = |write: &dyn Fn() -> Write, stores: &mut [&mut dyn Keeps; 2]| {
            let [one, other] = stores.each_mut().map(|store| store.apply(write()));
            let plain = |done: Option<Done>| match done {
                Some(Done::Recorded(run, ended)) => Some(Done::Recorded(run.map(|run| Run { submitted_us: 0, ..run }), ended)),
                done => done,
            };
            assert_eq!(plain(one), plain(other), "seed {seed}: {:?}", write());
        };
        let mut stores = stores;
        for _ in 0..60 {
            let job = number(2);
            let id = JobId::from_u128(u128::from(job) + 1);
            let (first, count) = (number(TASKS), 1 + number(8));
            match number(10) {
                0..=2 if submitted[job as usize] < TASKS => {
                    let from = submitted[job as usize];
                    both(&|| keep(id, from, count), &mut stores);
                    submitted[job as usize] += count;
                }
                3..=6 => {
                    both(&|| Write::Record { job: id, run: ran(first, count, if count > 3 { &[1] } else { &[] }) }, &mut stores)
                }
                7 => both(&|| Write::Record { job: id, run: aborted(first, count) }, &mut stores),
                8 => both(&|| Write::Take { job: id, owner: ada(), runs: vec![first] }, &mut stores),
                _ => both(&|| purge(&[(id, first, count)]), &mut stores),
            }
            let (from, count) = (number(TASKS), number(TASKS));
            let [one, other] = stores.each_mut().map(|store| {
                let pending = Question::FirstPending { viewer: ada().into(), job: id, first: from, end: from + count };
                let mut everything = store.everything(id, 500);
                everything.iter_mut().for_each(|run| run.submitted_us = 0);
                (store.info(id), store.status(id, from, count), format!("{:?}", store.answer(pending)), everything)
            });
            assert_eq!(one, other, "seed {seed}");
        }
    }
}

#[test]
fn an_empty_run_only_closes() {
    both(|store| {
        let Write::Keep(run) = keep(JOB, 0, 0) else { unreachable!() };
        let empty = KeepRun { closed: true, arguments: PackedBuilder::default().build(), ..run };
        assert_eq!(store.apply(Write::Keep(empty)), Some(Done::Kept(Ok(true))));
        assert_eq!(header().label.as_deref(), Some("evening"));
    });
}

#[test]
fn tasks_are_counted_for_those_that_wait_for_them() {
    let count = |viewer: &str, first, count| Write::Count { viewer: viewer.to_owned().into(), job: JOB, first, count };
    both(|store| {
        let known =
            |succeeded, failed, ended| Some(Done::Counted(Some(Known { submitted: 10, ended, succeeded, failed, dropped: 0 })));
        store.apply(keep(JOB, 0, 10));
        store.record(JOB, ran(0, 4, &[1]));
        store.record(JOB, aborted(6, 2));
        assert_eq!(store.apply(count("ada", 0, u32::MAX)), known(3, 3, false), "all of them");
        assert_eq!(store.apply(count("ada", 1, 6)), known(2, 2, false), "some");
        assert_eq!(store.apply(count("ada", 9, 5)), known(0, 0, false), "some that are not there yet");
        assert_eq!(store.apply(count("eve", 0, 1)), Some(Done::Counted(None)), "another owner's");
        store.apply(close(JOB, 10));
        store.record(JOB, ran(4, 2, &[]));
        store.record(JOB, ran(8, 2, &[]));
        assert_eq!(store.apply(count("ada", 0, u32::MAX)), known(7, 3, true));
        store.apply(purge(&[(JOB, 0, 2)]));
        let dropped = Known { submitted: 10, ended: true, succeeded: 1, failed: 0, dropped: 2 };
        assert_eq!(store.apply(count("ada", 0, 3)), Some(Done::Counted(Some(dropped))), "the outcomes of two are gone");
    });
}

#[test]
fn where_tasks_ran_is_known_by_how_they_ended() {
    let located = |store: &mut dyn Keeps, viewer: &str, (first, count), end| {
        let question = Whereabouts { of: JOB, first, count, end, most: 2 };
        let answer = store.answer(Question::Whereabouts { viewer: viewer.to_owned().into(), question });
        let Answer::Whereabouts(Located { engines, nowhere }) = answer else { panic!("another answer") };
        (engines.iter().map(|engine| engine.0).collect::<Vec<_>>(), nowhere)
    };
    both(|store| {
        store.apply(keep(JOB, 0, 20));
        store.record(JOB, ran(0, 4, &[1]));
        store.record(JOB, Run { engine: Some(EngineId(5)), ..ran(4, 4, &[0, 1, 2, 3]) });
        store.record(JOB, aborted(8, 2));
        for (tasks, end, expected) in [
            ((0, u32::MAX), End::Succeeded, (vec![3], 0)),
            ((0, u32::MAX), End::Either, (vec![3, 5], 0)),
            ((2, 8), End::Failed, (vec![5], 2)),
            ((1, 1), End::Failed, (vec![3], 0)),
            ((1, 1), End::Succeeded, (vec![], 0)),
            ((9, 1), End::Either, (vec![], 1)),
            ((15, 9), End::Either, (vec![], 0)),
        ] {
            assert_eq!(located(store, "ada", tasks, end), expected, "{tasks:?} {end:?}");
        }
        assert_eq!(located(store, "eve", (0, 4), End::Either), (vec![], 0), "another owner's");
        store.record(JOB, ran(10, 10, &[]));
        store.apply(close(JOB, 20));
        store.apply(purge(&[(JOB, 0, 3)]));
        assert_eq!(located(store, "ada", (0, 4), End::Succeeded), (vec![3], 3), "it is forgotten where these ran");
    });
}
