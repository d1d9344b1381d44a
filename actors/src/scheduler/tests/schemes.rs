//! Which engine gets a batch, of those that have room.

use super::*;

/// How often chance is asked.
const TRIALS: u64 = 4_000;

fn rig(scheme: Scheme, engines: u32, first_batch: u64) -> Rig {
    let mut rig = Rig::new(Settings { scheme, first_batch, ..Settings::default() });
    (1..=engines).for_each(|engine| rig.join(engine));
    rig
}

/// Which engine gets a task of a job of its own.
fn chosen(rig: &mut Rig, id: u128) -> u32 {
    rig.submit(fixed(id, 1), 1);
    rig.sent()[0].0
}

/// The engines that get tasks which come one after the other.
fn turns(scheme: Scheme) -> Vec<u32> {
    let mut rig = rig(scheme, 3, 1);
    (1..=7)
        .map(|id| {
            let engine = chosen(&mut rig, id);
            rig.end(engine, 10);
            engine
        })
        .collect()
}

/// How many of [`TRIALS`] tasks go to engine 1 of four, which runs something while the others are idle.
fn to_the_busy_one(scheme: Scheme) -> u64 {
    let busy = |trial: &u64| {
        let mut rig = rig(scheme, 4, 1 + 1_000 * trial);
        let placement = Placement::Direct(vec![(EngineId(1), 1)]);
        rig.submit(JobSpec { placement, ..fixed(1, 1) }, 1);
        assert_eq!(rig.sent().len(), 1);
        chosen(&mut rig, 2) == 1
    };
    (0..TRIALS).filter(busy).count() as u64
}

/// A share of the trials is what is expected, within five standard deviations. Chance has a seed: it is so always or never.
fn assert_share(found: u64, expected: f64, what: &str) {
    let (mean, deviation) = (TRIALS as f64 * expected, (TRIALS as f64 * expected * (1.0 - expected)).sqrt());
    assert!((found as f64 - mean).abs() <= 5.0 * deviation, "{what}: {found} of {TRIALS}, expected {mean:.0}");
}

#[test]
fn the_engine_that_worked_last_is_next_or_the_one_that_has_been_idle_for_longest() {
    assert_eq!(turns(Scheme::LeastLoaded), [3; 7]);
    assert_eq!(turns(Scheme::Lru), [1, 2, 3, 1, 2, 3, 1]);
    let drawn = turns(Scheme::Random);
    assert!((1..=3).all(|engine| drawn.contains(&engine)), "{drawn:?}");
    assert_eq!(drawn, turns(Scheme::Random), "the same seed draws the same");
}

#[test]
fn lru_takes_turns_through_engines_of_different_kinds() {
    let mut rig = rig(Scheme::Lru, 0, 1);
    let thread = Capability { worker: WorkerMode::Thread { bundle: Some(BundleHash([0xab; 32])) }, ..process() };
    for (engine, capability) in [(1, process()), (2, thread.clone()), (3, process()), (4, thread)] {
        rig.scheduler.engine_joined(Time(0), EngineId(engine), capability);
    }
    let turns: Vec<u32> = (1..=8)
        .map(|id| {
            let engine = chosen(&mut rig, id);
            rig.end(engine, 10);
            engine
        })
        .collect();
    assert_eq!(turns, [1, 2, 3, 4, 1, 2, 3, 4]);
}

#[test]
fn an_engine_that_runs_something_is_drawn_as_often_as_its_scheme_says() {
    assert_eq!(to_the_busy_one(Scheme::LeastLoaded), 0);
    assert_eq!(to_the_busy_one(Scheme::Lru), 0);
    assert_share(to_the_busy_one(Scheme::Random), 1.0 / 4.0, "one of four");
    // If both that are drawn are this one.
    assert_share(to_the_busy_one(Scheme::TwoBin), 1.0 / 16.0, "twice one of four");
    // It weighs a half, and each of the three others one.
    assert_share(to_the_busy_one(Scheme::Weighted), 1.0 / 49.0, "twice a half of three and a half");
}

#[test]
fn idle_engines_of_all_kinds_are_drawn_equally_often() {
    for scheme in [Scheme::Random, Scheme::TwoBin, Scheme::Weighted] {
        let mut rig = rig(scheme, 3, 7);
        let capability = Capability { names: std::iter::once("sum".to_owned()).collect(), ..process() };
        rig.scheduler.engine_joined(Time(0), EngineId(4), capability);
        let mut counts = [0; 5];
        for _ in 0..TRIALS {
            let engine = chosen(&mut rig, 1);
            counts[engine as usize] += 1;
            rig.scheduler.close_job(JobId::from_u128(1)).unwrap();
            rig.end(engine, 10);
            assert_eq!(rig.commands(), [Command::Finished { job: JobId::from_u128(1) }]);
        }
        (1..=4).for_each(|engine| assert_share(counts[engine], 0.25, scheme.name()));
    }
}

#[test]
fn an_engine_without_room_is_never_drawn() {
    for scheme in Scheme::ALL {
        let mut rig = rig(scheme, 3, 5);
        // Each runs one task and has one waiting, whatever is drawn.
        let mut engines: Vec<u32> = (1..=6).map(|id| chosen(&mut rig, id)).collect();
        engines.sort_unstable();
        assert_eq!(engines, [1, 1, 2, 2, 3, 3], "{scheme}");
        rig.submit(fixed(7, 1), 1);
        assert_eq!(rig.sent(), [], "{scheme}");
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    for scheme in Scheme::ALL {
        assert_eq!(scheme.to_string().parse(), Ok(scheme));
    }
    assert!("fair".parse::<Scheme>().is_err_and(|text| text.contains("least-loaded, lru, random, two-bin, weighted")));
}
