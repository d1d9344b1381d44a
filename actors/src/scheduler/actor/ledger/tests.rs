use engineroom_runtime::proto::handshake::Incarnation;

use super::{checks::HEADER_TEXT_BYTES_MAX, *};
use crate::scheduler::{Capability, Command, Settings, WorkerMode};
use crate::task::{Condition, End, EngineId, PackedBuilder, Quorum, Selection, TaskOptions};

/// A ledger with its core, and a client and its rival.
pub struct Rig {
    pub ledger: Ledger,
    pub core: Scheduler,
}

pub const ADA: u64 = 1;
pub const BOB: u64 = 2;

impl Rig {
    pub fn new() -> Self {
        Self { ledger: Ledger::default(), core: Scheduler::new(Settings::default()) }
    }

    fn with_engine() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut rig = Self { ledger: Ledger::default(), core: Scheduler::new(settings) };
        let capability = Capability { target: "a".into(), worker: WorkerMode::Process, names: ["sum".to_owned()].into() };
        rig.core.engine_joined(Time(0), EngineId(1), capability);
        rig
    }

    pub fn submit(&mut self, client: u64, submit: Submit) -> Result<Admission, SubmitRefusal> {
        let owner = Owner { name: "someone".into(), incarnation: Incarnation::from_u128(client.into()) };
        let id = submit.job;
        let answer = self.ledger.submit(&mut self.core, (ClientKey(client), &owner), submit);
        if let Ok(Admission { keep: Some(keep), .. }) = &answer {
            assert_eq!(keep.job, id);
            let before = self.ledger.runs_kept(id);
            assert_eq!(self.ledger.kept(&mut self.core, Time(0), id), before + 1);
        }
        self.core.check_invariants();
        answer
    }

    /// Carries out what the core wants, with engines that end all tasks at once.
    fn run(&mut self) {
        loop {
            let commands: Vec<Command> = self.core.commands().collect();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                match command {
                    Command::Dispatch { engine, batch, job, first, count, .. } => {
                        let arguments = self.ledger.job(job).unwrap().arguments.slice(first, count).unwrap();
                        assert_eq!(arguments.len(), count as usize);
                        self.core.progress(Time(1), engine, batch, first, count, 1).unwrap();
                        self.ledger.end_tasks(job, first, count);
                    }
                    Command::Finished { job } => drop(self.ledger.finish(job)),
                    Command::Settle { job, first, count, .. } => drop(self.ledger.end_tasks(job, first, count)),
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    }

    /// All that is kept, for comparisons.
    fn state(&self) -> String {
        format!("{:?} {:?}", self.ledger, self.core.status())
    }
}

pub fn id(number: u128) -> JobId {
    JobId::from_u128(number)
}

fn header() -> JobHeader {
    let function = Function { reference: FunctionRef::Named { name: "sum".into() }, name: "sum".into() };
    let (target, direct, label, options) = Default::default();
    JobHeader { function, target, direct, chunk: 0, label, subscription: 7, window_bytes: 100, shared: None, options }
}

fn packed(count: u32, bytes: usize) -> Packed {
    let mut builder = PackedBuilder::default();
    (0..count).for_each(|_| builder.push(&vec![0; bytes]));
    builder.build()
}

pub fn opening(job: u128, count: u32, closed: bool) -> Submit {
    Submit { job: id(job), open: Some(header()), first: 0, arguments: packed(count, 10), closed }
}

fn more(job: u128, first: u32, count: u32, closed: bool) -> Submit {
    Submit { job: id(job), open: None, first, arguments: packed(count, 10), closed }
}

/// As that one, of a job that waits for another.
pub fn after(job: u128, mut submit: Submit) -> Submit {
    let condition = Condition { runs: vec![(id(job), 0, u32::MAX)], quorum: Quorum::All, end: End::Succeeded };
    let options = TaskOptions { after: vec![condition], ..TaskOptions::default() };
    submit.open.iter_mut().for_each(|header| *header.options = options.clone());
    submit
}

/// Whether the client is subscribed, and what is kept: how many tasks, and whether they are the last.
fn seen(admission: &Admission) -> (bool, Option<(usize, bool)>) {
    let subscribed = admission.subscribe.inspect(|subscribe| assert_eq!(*subscribe, (7, 100)));
    (subscribed.is_some(), admission.keep.as_ref().map(|keep| (keep.arguments.len(), keep.closed)))
}

/// What was refused, and that nothing of it was kept.
fn refused(rig: &mut Rig, client: u64, submit: Submit) -> String {
    let before = rig.state();
    let refusal = rig.submit(client, submit).expect_err("it is refused");
    // An opening that is taken back leaves a word to the world, which concerns nobody.
    let commands: Vec<Command> = rig.core.commands().collect();
    assert!(commands.iter().all(|command| matches!(command, Command::Finished { .. })), "{commands:?}");
    assert_eq!(rig.state(), before, "something was kept: {refusal:?}");
    match refusal {
        SubmitRefusal::NoSharedValue => unreachable!("the ledger knows nothing of values"),
        SubmitRefusal::UnknownJob => "unknown".into(),
        SubmitRefusal::Invalid(text) | SubmitRefusal::NotKept(text) => text,
    }
}

#[test]
fn a_submission_that_comes_again_has_no_effect() {
    let mut rig = Rig::new();
    let runs = || [opening(1, 3, false), more(1, 3, 2, false), more(1, 5, 0, false), more(1, 5, 0, true)];
    for (run, expected) in runs().into_iter().zip([Some((3, false)), Some((2, false)), None, Some((0, true))]) {
        let subscribes = run.open.is_some();
        assert_eq!(seen(&rig.submit(ADA, run).unwrap()), (subscribes, expected));
    }
    let before = rig.state();
    for run in runs() {
        let subscribes = run.open.is_some();
        assert_eq!(seen(&rig.submit(ADA, run).unwrap()), (subscribes, None));
    }
    assert_eq!(rig.state(), before);
}

#[test]
fn a_submission_that_comes_again_after_the_end_does_not_run_again() {
    let mut rig = Rig::with_engine();
    rig.submit(ADA, opening(1, 3, false)).unwrap();
    rig.submit(ADA, more(1, 3, 2, true)).unwrap();
    rig.run();
    assert!(rig.ledger.job(id(1)).is_none(), "it has finished");
    assert_eq!(seen(&rig.submit(ADA, opening(1, 3, false)).unwrap()), (true, None));
    assert_eq!(seen(&rig.submit(ADA, more(1, 3, 2, true)).unwrap()), (false, None));
    assert_eq!(rig.core.commands().count(), 0);
    assert!(refused(&mut rig, ADA, more(1, 5, 1, true)).contains("has ended"));
    assert!(refused(&mut rig, BOB, opening(1, 3, false)).contains("another client"));
    assert_eq!(rig.ledger.account(ClientKey(ADA)), Account::default(), "nothing is held for it");
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut rig = Rig::new();
    rig.submit(ADA, opening(1, 3, false)).unwrap();
    rig.submit(ADA, opening(2, 1, true)).unwrap();
    rig.core.commands().count();
    let long = JobHeader { target: "x".repeat(HEADER_TEXT_BYTES_MAX + 1), ..header() };
    let direct = JobHeader { direct: vec![(EngineId(1), 2)], ..header() };
    let large = JobHeader { direct: vec![(EngineId(1), u32::MAX), (EngineId(2), 1)], ..header() };
    let chosen = |engines: u32| {
        let selection = Selection { engines: Some((0..engines).map(EngineId).collect()), ..Selection::default() };
        Box::new(TaskOptions { selection, ..TaskOptions::default() })
    };
    let many = JobHeader { options: chosen(1_001), ..header() };
    let both = JobHeader { options: chosen(2), ..direct.clone() };
    let label = JobHeader { label: Some("x".repeat(HEADER_TEXT_BYTES_MAX + 1)), ..header() };
    let empty = Condition { runs: Vec::new(), quorum: Quorum::All, end: End::Succeeded };
    let conditions = Box::new(TaskOptions { after: vec![empty; 1_025], ..TaskOptions::default() });
    let conditions = JobHeader { options: conditions, ..header() };
    let with = |header, run| Submit { open: Some(header), ..run };
    for (what, client, submit, expected) in [
        ("of another, with a header", BOB, opening(1, 3, false), "another client"),
        ("of another", BOB, more(1, 3, 1, false), "another client"),
        ("never heard of", ADA, more(9, 0, 1, false), "unknown"),
        ("a gap", ADA, more(1, 4, 1, false), "start at 4, but 3 are there"),
        ("an overlap", ADA, more(1, 2, 2, false), "start at 2, but 3 are there"),
        ("beyond all numbers", ADA, more(1, u32::MAX, 2, false), "at most"),
        ("closed before", ADA, more(2, 1, 1, true), "is closed"),
        ("begins in the middle", ADA, with(header(), more(9, 1, 1, false)), "start at 1, but 0 are there"),
        ("names too long", ADA, with(long, more(9, 0, 1, false)), "names"),
        ("a label too long", ADA, with(label, more(9, 0, 1, false)), "names"),
        ("too many conditions, of nothing", ADA, with(conditions, more(9, 0, 1, false)), "1025"),
        ("too many engines", ADA, with(many, more(9, 0, 1, false)), "1001 engines, labels and resources, and 1000 is the limit"),
        ("engines chosen twice", ADA, with(both, more(9, 0, 1, false)), "leave out one of the two"),
        ("more than its placement has room for", ADA, with(direct, more(9, 0, 3, true)), "room for 2"),
        ("a placement too large", ADA, with(large, more(9, 0, 1, false)), "placement"),
    ] {
        let text = refused(&mut rig, client, submit);
        assert!(text.contains(expected), "{what}: {text}");
    }
}

#[test]
fn arguments_beyond_the_limit_are_refused() {
    let mut rig = Rig::new();
    rig.submit(ADA, opening(1, 1, false)).unwrap();
    let run_bytes = Arguments::cost(&packed(1, 10));
    rig.ledger.accounts.insert(ClientKey(ADA), Account { jobs: 1, argument_bytes: CLIENT_ARGUMENT_BYTES_LIMIT - run_bytes });
    rig.submit(ADA, more(1, 1, 1, false)).expect("it just has room");
    rig.core.commands().count();
    for submit in [more(1, 2, 1, false), opening(2, 1, false)] {
        assert!(refused(&mut rig, ADA, submit).contains("is the limit"));
    }
    assert!(rig.submit(ADA, more(1, 2, 0, true)).is_ok(), "no arguments need no room");
    assert!(rig.submit(BOB, opening(3, 1, false)).is_ok(), "another client is not concerned");
}

#[test]
fn what_is_held_is_given_back_to_the_byte() {
    let mut rig = Rig::with_engine();
    for job in 1..=3 {
        rig.submit(ADA, opening(job, 5, false)).unwrap();
        rig.submit(ADA, more(job, 5, 4, job != 2)).unwrap();
    }
    assert_eq!(rig.ledger.account(ClientKey(ADA)).jobs, 3);
    assert_eq!(rig.ledger.account(ClientKey(ADA)).argument_bytes, 3 * (2 * 128 + 9 * 14));
    rig.run();
    assert_eq!(rig.ledger.account(ClientKey(ADA)), Account { jobs: 1, argument_bytes: 0 });
}

#[test]
fn jobs_of_a_client_that_is_gone_for_good_come_to_their_end() {
    let mut rig = Rig::with_engine();
    rig.submit(ADA, opening(1, 3, false)).unwrap();
    rig.submit(ADA, opening(2, 0, false)).unwrap();
    rig.submit(ADA, opening(3, 1, true)).unwrap();
    rig.submit(BOB, opening(4, 1, false)).unwrap();
    let closed = rig.ledger.close_all_of(&[ClientKey(ADA)].into());
    let mut jobs: Vec<_> = closed.iter().map(|keep| (keep.job, keep.first, keep.arguments.len(), keep.closed)).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, [(id(1), 3, 0, true), (id(2), 0, 0, true)]);
    assert!(rig.ledger.close_all_of(&[ClientKey(ADA)].into()).is_empty());
    rig.run();
    assert_eq!(rig.ledger.account(ClientKey(ADA)).jobs, 2, "their end is not kept yet");
    for keep in &closed {
        rig.ledger.kept(&mut rig.core, Time(0), keep.job);
    }
    rig.run();
    assert_eq!(rig.ledger.account(ClientKey(ADA)), Account::default());
    assert_eq!(rig.ledger.account(ClientKey(BOB)).jobs, 1);
    assert!(refused(&mut rig, ADA, more(1, 3, 1, true)).contains("has ended"));
}

#[test]
fn a_fixed_chunk_of_long_arguments_is_cut() {
    let mut rig = Rig::with(Settings { batch_bytes_max: 1_000, ..Settings::default() });
    let header = JobHeader { chunk: 1_000, ..header() };
    rig.submit(ADA, Submit { job: id(1), open: Some(header), first: 0, arguments: packed(40, 96), closed: true }).unwrap();
    let first = rig.core.commands().next();
    assert!(matches!(first, Some(Command::Dispatch { first: 0, count: 10, .. })), "{first:?}");
}

#[test]
fn what_is_not_kept_yet_does_not_run() {
    let mut rig = Rig::with_engine();
    let owner = Owner { name: "someone".into(), incarnation: Incarnation::from_u128(ADA.into()) };
    for (submit, runs) in [(opening(1, 3, false), 1), (more(1, 3, 2, true), 2), (more(1, 3, 2, true), 2)] {
        let admission = rig.ledger.submit(&mut rig.core, (ClientKey(ADA), &owner), submit).unwrap();
        assert_eq!((admission.runs, rig.ledger.runs_kept(id(1))), (runs, 0));
        assert_eq!(rig.core.commands().count(), 0);
    }
    assert_eq!(rig.ledger.kept(&mut rig.core, Time(0), id(1)), 1);
    rig.run();
    assert_eq!(rig.ledger.account(ClientKey(ADA)).jobs, 1);
    assert_eq!(rig.ledger.kept(&mut rig.core, Time(0), id(1)), 2);
    rig.run();
    assert_eq!(rig.ledger.account(ClientKey(ADA)), Account::default());
}

#[test]
fn a_job_that_could_not_be_kept_leaves_nothing() {
    let mut rig = Rig::with_engine();
    let owner = Owner { name: "someone".into(), incarnation: Incarnation::from_u128(ADA.into()) };
    for submit in [opening(1, 3, false), more(1, 3, 2, true)] {
        rig.ledger.submit(&mut rig.core, (ClientKey(ADA), &owner), submit).unwrap();
    }
    assert_eq!(rig.ledger.not_kept(&mut rig.core, id(1)), Some(ClientKey(ADA)));
    assert_eq!(rig.ledger.not_kept(&mut rig.core, id(1)), None);
    rig.run();
    assert_eq!(rig.ledger.account(ClientKey(ADA)), Account::default());
    rig.submit(ADA, opening(1, 3, true)).expect("its id is free again");
}

#[test]
fn a_job_that_is_submitted_anew_outlives_late_refusals_of_its_first_runs() {
    let mut rig = Rig::new();
    let owner = Owner { name: "someone".into(), incarnation: Incarnation::from_u128(1) };
    let ada = (ClientKey(ADA), &owner);
    rig.ledger.submit(&mut rig.core, ada, opening(1, 2, false)).unwrap();
    rig.ledger.submit(&mut rig.core, ada, more(1, 2, 2, true)).unwrap();
    assert!(!rig.ledger.was_given_up(id(1)));
    assert_eq!(rig.ledger.not_kept(&mut rig.core, id(1)), Some(ClientKey(ADA)));
    rig.ledger.submit(&mut rig.core, ada, opening(1, 2, false)).unwrap();
    assert!(rig.ledger.was_given_up(id(1)), "the second of the first runs");
    assert!(!rig.ledger.was_given_up(id(1)), "the first of the second ones");
    assert_eq!(rig.ledger.kept(&mut rig.core, Time(0), id(1)), 1);
}
