//! What becomes of jobs and engines when the controller is started again, and of engines that come back.

use super::*;
use crate::task::Cause;

const JOB: u128 = 1;

fn id() -> JobId {
    JobId::from_u128(JOB)
}

fn direct(placement: &[(u32, u32)]) -> JobSpec {
    JobSpec {
        placement: Placement::Direct(placement.iter().map(|(engine, count)| (EngineId(*engine), *count)).collect()),
        ..fixed(JOB, 4)
    }
}

fn suspended(first: u32, end: u32, losses: u32) -> Suspended {
    Suspended { first, count: end - first, tries: Tries { losses, failures: 0 } }
}

/// A batch of an earlier life of the controller.
fn claim(batch: u64, first: u32, end: u32) -> Claim {
    Claim { batch: BatchId(batch), job: id(), first, end, attempt: 1, started: true }
}

impl Rig {
    /// A scheduler that has just been started again and whose earlier life gave out 999 batches.
    fn restarted(prefetch: usize) -> Self {
        let mut rig = Self::new(Settings { prefetch, first_batch: 1_000, ..Settings::default() });
        rig.scheduler.pause();
        rig
    }

    fn restore(&mut self, spec: JobSpec, total: u32, pending: &[Suspended]) {
        let past = Past { total, closed: true, ..Past::default() };
        self.scheduler.restore_job(spec, &past, Weight::default(), pending).unwrap();
    }

    /// An engine comes back. Says for each claim from where on it is kept.
    fn rejoin(&mut self, engine: u32, claims: &[Claim]) -> Vec<Option<u32>> {
        let verdicts = self.scheduler.engine_rejoined(Time(self.now), super::plain_engine(engine), claims);
        self.scheduler.check_invariants();
        let from = |verdict| match verdict {
            Verdict::Kept { from } => Some(from),
            Verdict::Dropped => None,
        };
        verdicts.into_iter().map(from).collect()
    }

    fn resume(&mut self) {
        self.scheduler.resume(Time(self.now));
    }

    fn counts(&self) -> (u32, u32, u32) {
        let counts = self.scheduler.counts(id()).unwrap();
        (counts.queued, counts.active, counts.done)
    }
}

#[test]
fn what_ran_through_the_restart_goes_on_and_the_rest_is_given_out_after() {
    let mut rig = Rig::restarted(1);
    rig.restore(fixed(JOB, 4), 20, &[suspended(2, 8, 0), suspended(12, 20, 0)]);
    assert_eq!(rig.counts(), (14, 0, 6));
    let waiting = Claim { started: false, ..claim(8, 4, 8) };
    assert_eq!(rig.rejoin(1, &[claim(7, 0, 4), waiting]), [Some(2), Some(4)]);
    rig.join(2);
    assert_eq!(rig.commands(), [], "nothing is given out yet");
    assert_eq!(rig.counts(), (8, 6, 6));
    let accepted = rig.scheduler.progress(Time(0), EngineId(1), BatchId(7), 2, 2, 10);
    assert_eq!(accepted, Ok(Accepted { job: id(), attempt: 1 }));
    assert_eq!(rig.commands(), []);
    rig.resume();
    assert_eq!(rig.sent(), [(2, 1, 12, 4, 1), (1, 1, 16, 4, 1)]);
    assert_eq!(rig.running(2).0, BatchId(1_000), "above all earlier ones");
    for engine in [1, 1, 2] {
        rig.end(engine, 10);
    }
    assert_eq!(rig.commands(), [Command::Finished { job: id() }]);
}

#[test]
fn a_claim_is_kept_only_if_all_of_it_is_still_wanted() {
    let unknown = JobId::from_u128(9);
    for (what, claim, expected) in [
        ("queued", claim(7, 4, 8), Some(4)),
        ("partly ended", claim(7, 2, 8), Some(4)),
        ("all ended", claim(7, 0, 4), None),
        ("a hole", claim(7, 4, 9), None),
        ("beyond the hole", claim(7, 4, 20), None),
        ("up to the end", claim(7, 12, 20), Some(12)),
        ("beyond the end", claim(7, 12, 21), None),
        ("far beyond the end", claim(7, 12, u32::MAX), None),
        ("empty", claim(7, 5, 5), None),
        ("backwards", claim(7, 6, 5), None),
        ("another job", Claim { job: unknown, ..claim(7, 4, 8) }, None),
        ("a number that was not given out", claim(1_000, 4, 8), None),
        ("no attempt", Claim { attempt: 0, ..claim(7, 4, 8) }, None),
        ("a loss that was not kept", Claim { attempt: 2, ..claim(7, 4, 8) }, Some(4)),
        ("more losses than there can be", Claim { attempt: 4, ..claim(7, 4, 8) }, None),
        ("an absurd attempt", Claim { attempt: u32::MAX, ..claim(7, 4, 8) }, None),
        ("the attempt that was counted as lost", Claim { attempt: 2, ..claim(7, 30, 32) }, Some(30)),
        ("the attempt after it", Claim { attempt: 3, ..claim(7, 30, 32) }, Some(30)),
        ("an old attempt", claim(7, 30, 32), None),
        ("two attempts", Claim { attempt: 2, ..claim(7, 28, 32) }, Some(28)),
        ("two attempts, one of them old", claim(7, 28, 32), None),
    ] {
        let mut rig = Rig::restarted(1);
        // Tasks 8, 9 and 20 to 24 have ended.
        let pending = [suspended(4, 8, 0), suspended(10, 20, 0), suspended(25, 30, 1), suspended(30, 32, 2)];
        rig.restore(fixed(JOB, 4), 32, &pending);
        assert_eq!(rig.rejoin(1, &[claim]), [expected], "{what}");
        let (queued, active, done) = rig.counts();
        let kept = expected.map_or(0, |from| claim.end - from);
        assert_eq!((queued, active, done), (21 - kept, kept, 11), "{what}");
        let attempt = claim.attempt;
        rig.commands();
        if let Some(from) = expected {
            let accepted = rig.scheduler.progress(Time(0), EngineId(1), claim.batch, from, 1, 5);
            assert_eq!(accepted, Ok(Accepted { job: id(), attempt }), "{what}");
            // Without blame it comes back as it was.
            rig.rejoin(1, &[]);
            assert_eq!(rig.counts(), (20, 0, 12), "{what}");
        }
    }
}

#[test]
fn what_is_claimed_twice_is_kept_once() {
    let mut rig = Rig::restarted(4);
    rig.restore(fixed(JOB, 4), 20, &[suspended(0, 20, 0)]);
    let claims = [
        claim(1, 0, 4),
        claim(1, 4, 8),
        claim(2, 2, 6),
        claim(3, 3, 4),
        claim(4, 4, 8),
        claim(4, 4, 8),
        claim(5, 0, 9),
        claim(6, 16, 20),
    ];
    let kept = [Some(0), None, None, None, Some(4), None, None, Some(16)];
    assert_eq!(rig.rejoin(1, &claims), kept);
    // Another engine wants the same tasks. A number is looked up with its engine: one that lies about it harms nobody.
    assert_eq!(rig.rejoin(2, &[claim(1, 0, 4), claim(9, 0, 4), claim(6, 8, 12), claim(10, 8, 12)]), [None, None, Some(8), None]);
    rig.scheduler.progress(Time(0), EngineId(2), BatchId(6), 8, 4, 1).unwrap();
    assert_eq!(rig.batch(1, 2).map(|(batch, first, _)| (batch, first)), Some((BatchId(6), 16)), "the other one is untouched");
    assert_eq!(rig.counts(), (4, 12, 4));
    rig.resume();
    assert_eq!(rig.sent(), [(2, 1, 12, 4, 1)]);
}

#[test]
fn an_engine_brings_a_bounded_number_of_batches() {
    let mut rig = Rig::restarted(1);
    rig.restore(fixed(JOB, 4), 2_000, &[suspended(0, 2_000, 0)]);
    let claims: Vec<_> = (0..900).map(|n| claim(u64::from(n) + 1, n, n + 1)).collect();
    let kept = rig.rejoin(1, &claims);
    let bound = 2 + crate::scheduler::rejoin::CLAIMS_MAX;
    assert!(kept[..bound].iter().all(Option::is_some) && kept[bound..].iter().all(Option::is_none));
}

#[test]
fn claims_of_an_engine_that_cannot_run_them_are_dropped() {
    let mut rig = Rig::restarted(1);
    rig.restore(JobSpec { requirement: Requirement::Named { name: "sum".into() }, ..fixed(JOB, 4) }, 4, &[suspended(0, 4, 0)]);
    assert_eq!(rig.rejoin(1, &[claim(1, 0, 4)]), [None]);
}

#[test]
fn direct_tasks_wait_for_their_engine_until_it_is_given_up() {
    let mut rig = Rig::restarted(1);
    rig.restore(direct(&[(1, 4), (2, 4), (3, 4), (3, 2)]), 14, &[suspended(1, 14, 0)]);
    assert_eq!(rig.rejoin(2, &[claim(5, 0, 4), claim(6, 4, 6), claim(7, 4, 9)]), [None, Some(4), None]);
    assert_eq!(rig.rejoin(1, &[claim(5, 0, 4)]), [Some(1)]);
    // It is lost once more before anything is given out, and comes back.
    rig.lose(1);
    assert_eq!(rig.commands(), [Command::Tried { job: id(), first: 1, count: 3, tries: Tries { losses: 1, failures: 0 } }]);
    assert_eq!(rig.scheduler.cancel(Time(0), id(), 8, 2), met(2, 0));
    let aborted = Command::Settle { job: id(), first: 8, count: 2, attempt: 0, engine: None, cause: Cause::Aborted };
    assert_eq!(rig.commands(), [aborted]);
    assert_eq!(rig.rejoin(1, &[claim(5, 1, 4)]), [Some(1)]);
    assert_eq!(rig.commands(), []);
    rig.resume();
    let ended = |first, count| {
        let cause = Cause::EngineLost { detail: "engine 3 is not connected".into() };
        Command::Settle { job: id(), first, count, attempt: 0, engine: None, cause }
    };
    let commands = rig.commands();
    assert_eq!(commands[..2], [ended(10, 2), ended(12, 2)]);
    assert_eq!(commands[2..].iter().filter_map(sent).collect::<Vec<_>>(), [(2, 1, 6, 2, 1)]);
}

#[test]
fn direct_tasks_fail_if_their_engine_comes_back_and_cannot_run_them() {
    let mut rig = Rig::restarted(1);
    rig.restore(
        JobSpec { requirement: Requirement::Named { name: "sum".into() }, ..direct(&[(1, 4)]) },
        4,
        &[suspended(0, 4, 0)],
    );
    rig.join(1);
    let commands = rig.commands();
    assert!(
        matches!(commands[0], Command::Settle { first: 0, count: 4, cause: Cause::FunctionUnknown { .. }, .. }),
        "{commands:?}"
    );
    assert_eq!(commands[1..], [Command::Finished { job: id() }]);
}

#[test]
fn losses_survive_a_restart() {
    let mut rig = Rig::restarted(0);
    rig.restore(fixed(JOB, 16), 48, &[suspended(0, 16, 1), suspended(16, 18, 2), suspended(18, 48, 0)]);
    rig.resume();
    (1..=10).for_each(|engine| rig.join(engine));
    let sent = rig.sent();
    // An eighth of what was lost together; then one by one; then as ever.
    let expected = [(0, 2, 2), (2, 2, 2)];
    assert_eq!(sent[..2].iter().map(|sent| (sent.2, sent.3, sent.4)).collect::<Vec<_>>(), expected);
    assert_eq!(sent[8..].iter().map(|sent| (sent.2, sent.3, sent.4)).collect::<Vec<_>>(), [(16, 1, 3), (17, 1, 3)]);
    let mut rig = Rig::restarted(0);
    rig.restore(fixed(JOB, 16), 1, &[suspended(0, 1, 2)]);
    rig.resume();
    rig.join(1);
    assert_eq!(rig.sent(), [(1, 1, 0, 1, 3)]);
    rig.lose(1);
    let (attempt, engine, cause) = (3, Some(EngineId(1)), Cause::Poisoned { losses: 3 });
    let poisoned = Command::Settle { job: id(), first: 0, count: 1, attempt, engine, cause };
    assert_eq!(rig.commands(), [poisoned, Command::Finished { job: id() }]);
}

#[test]
fn losses_are_told_so_that_they_can_be_kept() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 4), 8);
    rig.sent();
    assert_eq!(rig.scheduler.cancel(Time(0), id(), 1, 1).active, 1);
    rig.commands();
    rig.lose(1);
    let lost = |first, count| Command::Tried { job: id(), first, count, tries: Tries { losses: 1, failures: 0 } };
    let aborted = Command::Settle { job: id(), first: 1, count: 1, attempt: 1, engine: Some(EngineId(1)), cause: Cause::Aborted };
    assert_eq!(rig.commands(), [lost(0, 1), aborted, lost(2, 2)], "those that waited are not suspected");
}

#[test]
fn an_engine_that_never_seemed_to_be_gone_goes_on() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 4), 16);
    rig.sent();
    rig.join(2);
    assert_eq!(rig.sent().len(), 2, "the other half");
    let (running, ..) = rig.running(1);
    let (waiting, ..) = rig.batch(1, 1).unwrap();
    rig.scheduler.progress(Time(0), EngineId(1), running, 0, 1, 10).unwrap();
    assert_eq!(rig.scheduler.cancel(Time(0), id(), 2, 4).active, 4);
    let cancel = |batch, first, count| Command::Cancel { engine: EngineId(1), batch, first, count };
    assert_eq!(rig.commands(), [cancel(running, 2, 2), cancel(waiting, 4, 2)]);

    // Its first batch goes on, what it was to abort included; the second one never reached it.
    assert_eq!(rig.rejoin(1, &[claim(running.0, 0, 4)]), [Some(1)]);
    assert_eq!(rig.running(1), (running, 1, 3));
    let aborted = Command::Settle { job: id(), first: 4, count: 2, attempt: 0, engine: None, cause: Cause::Aborted };
    let commands = rig.commands();
    assert_eq!(commands[..2], [aborted, cancel(running, 2, 2)], "{commands:?}");
    assert_eq!(commands[2..].iter().filter_map(sent).collect::<Vec<_>>(), [(1, 1, 6, 2, 1)]);
    // Its own reports count, once, and those of the batch that was taken back do not.
    assert!(rig.scheduler.progress(Time(0), EngineId(1), waiting, 4, 1, 10).is_err());
    assert!(rig.scheduler.progress(Time(0), EngineId(1), running, 0, 1, 10).is_err());
    assert_eq!(rig.scheduler.progress(Time(0), EngineId(1), running, 1, 3, 10), Ok(Accepted { job: id(), attempt: 1 }));
    assert_eq!(rig.scheduler.status().engines[0].completed, 4);
}

#[test]
fn a_lost_engine_that_comes_back_keeps_what_nobody_else_has() {
    let mut rig = Rig::with_prefetch(2, 1);
    rig.submit(fixed(1, 4), 16);
    rig.sent();
    let (running, ..) = rig.running(1);
    let held: Vec<_> = (0..2).map(|at| rig.batch(1, at).unwrap()).collect();
    rig.lose(1);
    rig.lose(2);
    rig.commands();
    let claims: Vec<_> = held.iter().map(|(batch, first, left)| claim(batch.0, *first, first + left)).collect();
    assert_eq!(rig.rejoin(1, &claims), [Some(held[0].1), Some(held[1].1)]);
    assert_eq!(rig.commands(), []);
    assert_eq!(rig.running(1).0, running);
    // The other one comes too late: the first engine has ended its own and was given the rest.
    rig.end(1, 1);
    rig.end(1, 1);
    let taken = rig.sent();
    let (_, _, first, count, _) = taken[0];
    assert_eq!(rig.rejoin(2, &[claim(2, first, first + count)]), [None]);
}

#[test]
fn a_stolen_batch_goes_on_where_it_was_if_its_engine_comes_back() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(fixed(1, 2), 4);
    rig.sent();
    let (waiting, first, count) = rig.batch(1, 1).unwrap();
    rig.join(2);
    assert_eq!(rig.commands(), [Command::Retract { engine: EngineId(1), batch: waiting }]);
    let (running, ..) = rig.running(1);
    let claims = [claim(running.0, 0, 2), Claim { started: false, ..claim(waiting.0, first, first + count) }];
    assert_eq!(rig.rejoin(1, &claims), [Some(0), Some(2)]);
    assert_eq!(rig.commands(), [Command::Retract { engine: EngineId(1), batch: waiting }], "it is asked anew");
    rig.scheduler.retracted(Time(0), EngineId(1), waiting);
    assert_eq!(rig.sent(), [(2, 1, 2, 2, 1)]);
}

#[test]
fn an_engine_that_was_about_to_leave_still_is_when_it_comes_back() {
    let mut rig = Rig::with_prefetch(1, 1);
    rig.submit(direct(&[(1, 8)]), 8);
    rig.sent();
    let (running, ..) = rig.running(1);
    rig.scheduler.engine_draining(EngineId(1));
    rig.commands();
    assert_eq!(rig.rejoin(1, &[claim(running.0, 0, 4)]), [Some(0)]);
    let commands = rig.commands();
    assert!(
        matches!(commands[..], [Command::Settle { first: 4, count: 4, cause: Cause::EngineLost { .. }, .. }]),
        "{commands:?}"
    );
}

#[test]
fn what_is_kept_must_fit_together() {
    let ended = suspended(0, 5, 0);
    for (what, spec, total, pending, fits) in [
        ("nothing", fixed(JOB, 1), 0, vec![], true),
        ("all ended", fixed(JOB, 1), 9, vec![], true),
        ("some queued", fixed(JOB, 1), 9, vec![ended, suspended(5, 9, 3)], true),
        ("beyond the end", fixed(JOB, 1), 4, vec![ended], false),
        ("overlapping", fixed(JOB, 1), 9, vec![ended, suspended(4, 9, 0)], false),
        ("out of order", fixed(JOB, 1), 9, vec![suspended(6, 9, 0), ended], false),
        ("empty", fixed(JOB, 1), 9, vec![suspended(3, 3, 0)], false),
        ("overflowing", fixed(JOB, 1), 9, vec![Suspended { first: 3, count: u32::MAX, tries: Tries::default() }], false),
        ("absurd losses", fixed(JOB, 1), 9, vec![suspended(0, 9, u32::MAX)], false),
        ("many losses", fixed(JOB, 1), 9, vec![suspended(0, 9, u32::MAX - 1)], true),
        ("more than the placement has", direct(&[(1, 2), (2, 2)]), 5, vec![], false),
        ("the whole placement", direct(&[(1, 2), (0, 0), (2, 2)]), 4, vec![suspended(1, 4, 0)], true),
    ] {
        let mut rig = Rig::restarted(1);
        let past = Past { total, closed: true, ..Past::default() };
        let result = rig.scheduler.restore_job(spec, &past, Weight::default(), &pending);
        assert_eq!(result, if fits { Ok(()) } else { Err(OpenError::Contradiction(id())) }, "{what}");
        let commands = rig.commands();
        let over = fits && pending.is_empty();
        assert_eq!(commands, if over { vec![Command::Finished { job: id() }] } else { vec![] }, "{what}");
        rig.resume();
        (1..=2).for_each(|engine| rig.join(engine));
        rig.commands();
        for _ in 0..40 {
            for engine in 1..=2 {
                if rig.batch(engine, 0).is_some() {
                    rig.end(engine, 1);
                }
            }
        }
        rig.commands();
        assert_eq!(rig.scheduler.counts(id()), None, "{what}: it comes to its end");
        assert_eq!(rig.scheduler.status().clients, [], "{what}");
    }
}

#[test]
fn an_open_job_grows_on_after_a_restart() {
    let mut rig = Rig::restarted(0);
    let past = Past { total: 6, ..Past::default() };
    rig.scheduler.restore_job(fixed(JOB, 4), &past, Weight::default(), &[suspended(2, 4, 0), suspended(4, 6, 1)]).unwrap();
    assert_eq!(rig.scheduler.restore_job(fixed(JOB, 4), &past, Weight::default(), &[]), Err(OpenError::Exists(id())));
    assert_eq!(rig.scheduler.extend_job(Time(0), id(), 3, Weight::default()), Ok(6));
    assert_eq!(rig.rejoin(1, &[claim(3, 6, 9)]), [Some(6)]);
    assert_eq!(rig.scheduler.extend_job(Time(0), id(), 3, Weight::default()), Ok(9));
    rig.join(2);
    rig.lose(1);
    rig.resume();
    assert_eq!(rig.counts(), (8, 2, 2));
    let taken: Vec<_> = (0..20).map_while(|_| rig.batch(2, 0).is_some().then(|| rig.end(2, 1))).collect();
    assert_eq!(rig.counts(), (0, 0, 12), "{}", taken.len());
    let mut indices: Vec<u32> = rig.commands().iter().filter_map(sent).flat_map(|sent| sent.2..sent.2 + sent.3).collect();
    assert!(indices.is_sorted(), "{indices:?}");
    indices.dedup();
    assert_eq!(indices.len(), 10);
}
