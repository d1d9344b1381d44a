//! Jobs that choose their engines.

use super::*;
use crate::task::{Cause, Equipment, Selection};

fn label(value: &str) -> Selection {
    Selection { labels: [("site".to_string(), value.to_string())].into(), ..Selection::default() }
}

fn engines<const N: usize>(ids: [u32; N]) -> Selection {
    Selection { engines: Some(ids.map(EngineId).into()), ..Selection::default() }
}

fn choosing(selection: Selection, spec: JobSpec) -> JobSpec {
    JobSpec { options: TaskOptions { selection, ..spec.options.clone() }, ..spec }
}

impl Rig {
    fn join_at(&mut self, engine: u32, site: &str) {
        let labels = [("site".to_string(), site.to_string())].into();
        let equipment = Equipment { labels, resources: [("memory".to_string(), u64::from(engine))].into() };
        let spec = EngineSpec { id: EngineId(engine), capability: process(), equipment: equipment.into() };
        self.scheduler.engine_rejoined(Time(self.now), spec, &[]);
    }

    /// How tasks have ended since the last look: how many of which job, and why. Dispatches are passed over.
    fn ended(&mut self) -> Vec<(u128, u32, Cause)> {
        let ended = |command: Command| match command {
            Command::Settle { job, count, cause, .. } => Some((number(job), count, cause)),
            _ => None,
        };
        self.commands().into_iter().filter_map(ended).collect()
    }

    fn waits(&self) -> Option<String> {
        self.scheduler.status().clients[0].waits.clone()
    }
}

#[test]
fn engines_are_told_apart_only_as_far_as_open_jobs_ask() {
    let mut rig = Rig::plain(0);
    (1..=50).for_each(|engine| rig.join_at(engine, &format!("site {}", engine / 2)));
    let kinds = |rig: &Rig| rig.scheduler.kinds.len();
    assert_eq!(kinds(&rig), 1);
    rig.submit(choosing(label("site 3"), fixed(1, 1)), 3);
    assert_eq!(rig.sent(), [(7, 1, 0, 1, 1), (6, 1, 1, 1, 1)]);
    assert_eq!(kinds(&rig), 2);
    let many = Selection { resources: [("memory".to_string(), 30)].into(), ..Selection::default() };
    rig.submit(choosing(many, fixed(2, 1)), 1);
    assert_eq!(kinds(&rig), 3);
    rig.submit(choosing(engines([1, 6]), fixed(3, 1)), 1);
    assert_eq!(rig.sent().iter().map(|sent| sent.1).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(kinds(&rig), 5, "of engines 6 and 7 there are two kinds now, and of engine 1 and the others");
    (1..=3).for_each(|job| rig.scheduler.close_job(JobId::from_u128(job)).unwrap());
    while let Some(engine) = (1..=50).find(|engine| rig.batch(*engine, 0).is_some()) {
        rig.end(engine, 10);
        let _ = rig.commands();
    }
    assert_eq!((kinds(&rig), rig.scheduler.demands.len(), rig.scheduler.jobs.len()), (1, 0, 0));
}

#[test]
fn tasks_wait_for_a_label_and_a_resource_that_no_engine_has() {
    let mut rig = Rig::plain(2);
    rig.submit(choosing(label("a"), fixed(1, 1)), 2);
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.waits().unwrap(), "no connected engine that could run its tasks has the label site=a");
    rig.join_at(5, "b");
    assert_eq!(rig.sent(), []);
    rig.join_at(6, "a");
    assert_eq!(rig.sent(), [(6, 1, 0, 1, 1)]);
    assert_eq!(rig.waits().unwrap(), "all engines are busy");
    rig.end(6, 10);
    assert_eq!(rig.sent(), [(6, 1, 1, 1, 1)]);
    rig.lose(6);
    let commands = rig.commands();
    assert!(commands.iter().all(|command| matches!(command, Command::Tried { .. })), "it waits for another one: {commands:?}");
}

#[test]
fn tasks_that_name_engines_go_to_these_and_end_with_the_last_of_them() {
    let mut rig = Rig::plain(4);
    rig.submit(choosing(engines([2, 3, 9]), fixed(1, 1)), 4);
    let mut sent = rig.sent();
    sent.sort_unstable();
    assert_eq!(sent.iter().map(|sent| sent.0).collect::<Vec<_>>(), [2, 3]);
    rig.lose(3);
    assert_eq!(rig.ended(), [], "engine 2 is left");
    rig.scheduler.engine_draining(EngineId(2));
    let ended = rig.ended();
    let Cause::EngineLost { detail } = &ended[0].2 else { panic!("{ended:?}") };
    assert_eq!(detail, "none of the engines that it may run on is connected and takes tasks: 2, 3, 9");
    assert_eq!(ended.iter().map(|ended| ended.1).sum::<u32>(), 3, "the one that runs does so to its end");
    rig.end(2, 10);
    rig.submit(choosing(engines([2, 3]), spec(2)), 5);
    assert_eq!(rig.ended().iter().map(|ended| ended.1).sum::<u32>(), 5, "who comes later fails at once");
}

#[test]
fn tasks_that_name_one_engine_are_bound_to_it_and_give_way_to_higher_priorities() {
    let mut rig = Rig::plain(2);
    rig.submit(choosing(engines([1]), fixed(1, 1)), 2);
    rig.submit(prioritised(-1, choosing(engines([1]), fixed(2, 1))), 1);
    rig.submit(prioritised(1, fixed(3, 1)), 3);
    assert_eq!(rig.sent(), [(1, 1, 0, 1, 1), (2, 3, 0, 1, 1)]);
    let mut order = Vec::new();
    for _ in 0..4 {
        rig.end(1, 10);
        order.extend(rig.sent().iter().map(|sent| sent.1));
    }
    assert_eq!(order, [3, 3, 1, 2]);
    rig.submit(choosing(engines([7]), spec(4)), 2);
    let ended = rig.ended();
    assert!(matches!(&ended[..], [(4, 2, Cause::EngineLost { detail })] if detail == "engine 7 is not connected"), "{ended:?}");
}

#[test]
fn tasks_that_name_engines_without_what_they_require_fail_at_once() {
    let mut rig = Rig::plain(0);
    rig.join_at(1, "a");
    rig.join_at(2, "a");
    for (job, ids, detail) in [
        (1, [1, 1], "engine 1 does not have 3 of the resource memory"),
        (2, [1, 2], "engine 1 does not have 3 of the resource memory"),
    ] {
        let selection = Selection { resources: [("memory".to_string(), 3)].into(), ..engines(ids) };
        rig.submit(choosing(selection, spec(job)), 2);
        let ended = rig.ended();
        let Cause::UnmetDependency { detail: found } = &ended[0].2 else { panic!("{ended:?}") };
        assert_eq!((found.as_str(), ended.len()), (detail, 1));
    }
}

#[test]
fn engines_that_are_named_may_come_back_as_long_as_nothing_is_given_out() {
    for back in [true, false] {
        let mut rig = Rig::plain(0);
        rig.scheduler.pause();
        rig.submit(choosing(engines([4, 5]), fixed(1, 1)), 2);
        rig.join(3);
        if back {
            rig.join(5);
        }
        assert_eq!(rig.ended(), []);
        rig.scheduler.resume(Time(0));
        match back {
            true => assert_eq!(rig.sent(), [(5, 1, 0, 1, 1)]),
            false => assert_eq!(rig.ended().iter().map(|ended| ended.1).sum::<u32>(), 2),
        }
    }
}
