//! Random histories of a cluster, each from one seed: clients that submit and cancel, engines that join, work, lag, leave, crash
//! and come back, and times in which nothing is given out. After every step the scheduler's invariants hold; in the end every task
//! has exactly one outcome and nothing is left.

mod choices;
mod engines;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::rng::Rng;
use crate::task::{
    BatchId, BundleHash, Cause, Condition, End, EngineId, Equipment, JobId, Quorum, Retries, Selection, TaskOptions, Tries,
};

/// How many histories are tried. Enough to meet the rare races; takes a few seconds in a release build.
const SEEDS: u64 = if cfg!(debug_assertions) { 200 } else { 2_500 };

/// How many steps a history has before it is brought to its end.
const STEPS: u64 = 250;

/// The most of the one resource that there is.
const MEMORY_MAX: u64 = 3;

/// How many rounds the end may take. Each does all that can be done.
const ROUNDS_MAX: usize = 3_000;

#[test]
fn every_task_has_exactly_one_outcome() {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| Cluster::new(seed).live());
        assert!(result.is_ok(), "the history of seed {seed} went wrong, see above");
    }
}

/// A task as the outside world knows it.
#[derive(Default)]
struct Task {
    outcomes: u32,
    losses: u32,
    cancelled: bool,
    /// The losses that were told to be kept.
    told: Tries,
    /// Of its argument.
    bytes: u64,
    /// Every engine that runs it crashes.
    deadly: bool,
    /// How often it ends without a value, and how often it has so far, to be tried again.
    fails: u32,
    failures: u32,
    /// It has.
    failed: bool,
    /// Where it was when it ended.
    engine: Option<EngineId>,
    submitted: u64,
}

struct JobModel {
    requirement: Requirement,
    /// The engine of each task, for a direct job.
    pins: Option<Vec<EngineId>>,
    tasks: Vec<Task>,
    closed: bool,
    options: TaskOptions,
    released: bool,
    /// The only engines that it may run on since, if it follows others.
    bound: Option<BTreeSet<EngineId>>,
    /// The engines that had run what it follows when that was asked for.
    place: BTreeSet<EngineId>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    batch: BatchId,
    job: JobId,
    first: u32,
    count: u32,
    done: u32,
    attempt: u32,
    /// The engine said so when it came back.
    started: bool,
}

#[derive(Clone, Copy, Debug)]
enum Letter {
    Take(Held),
    Retract(BatchId),
    Progress { batch: BatchId, first: u32, count: u32, busy_us: u64 },
    Retracted(BatchId),
    RetractRefused(BatchId),
}

struct EngineModel {
    capability: Capability,
    equipment: Equipment,
    task_us: u64,
    draining: bool,
    /// On the way to it, and from it: in order, but late.
    inbox: VecDeque<Letter>,
    outbox: VecDeque<Letter>,
    /// What it holds; and what the scheduler knows it to hold.
    held: VecDeque<Held>,
    known: VecDeque<Held>,
    asked: BTreeSet<BatchId>,
}

struct Cluster {
    rng: Rng,
    settings: Settings,
    scheduler: Scheduler,
    now: u64,
    engines: BTreeMap<EngineId, EngineModel>,
    engines_ever: u32,
    jobs: BTreeMap<JobId, JobModel>,
    jobs_ever: u128,
    paused: bool,
    /// Of finished jobs, which tasks failed, and where each ended.
    ended: BTreeMap<JobId, Vec<(bool, Option<EngineId>)>>,
    /// What the store has said and was not heard yet.
    answers: VecDeque<(Ticket, Option<Known>)>,
    places: VecDeque<(Ticket, Located)>,
    confirmations: VecDeque<Ticket>,
    /// Reports that count no longer: of lost engines, or delivered before.
    stale: Vec<(EngineId, Letter)>,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let settings = Settings {
            poison_losses: 1 + rng.below(4) as u32,
            prefetch: rng.below(4) as usize,
            batch_tasks_max: 1 + rng.below(64) as u32,
            chunk_tasks_max: 1 + rng.below(12) as u32,
            batch_bytes: 1 + rng.below(500),
            batch_bytes_max: 1 + rng.below(2_000),
            scheme: rng.pick(&Scheme::ALL).unwrap_or_default(),
            ..Settings::default()
        };
        let scheduler = Scheduler::new(settings.clone());
        let (engines, jobs, ended, answers, places, confirmations) = Default::default();
        Self {
            rng,
            settings,
            scheduler,
            now: 0,
            engines,
            engines_ever: 0,
            jobs,
            jobs_ever: 0,
            paused: false,
            ended,
            answers,
            places,
            confirmations,
            stale: vec![],
        }
    }

    fn live(mut self) {
        for _ in 0..STEPS {
            self.now += self.rng.below(3_000);
            match self.rng.below(32) {
                0 => self.open(),
                1..=3 => self.extend(),
                4 => self.close(),
                5 | 6 => self.join(),
                7 if self.rng.one_in(2) => self.lose(),
                7 => self.rejoin(),
                8 if self.rng.one_in(4) => self.pause_or_resume(),
                8 if self.rng.one_in(3) => self.drain(),
                9 | 10 => self.cancel(),
                11 => self.replay(),
                12 => self.garble(),
                13 if self.rng.one_in(2) => self.hear(),
                13 => self.scheduler.tick(Time(self.now)),
                14..=19 => self.deliver_to_engine(),
                20..=25 => self.work(),
                _ => self.deliver_from_engine(),
            }
            self.obey();
        }
        self.end();
    }

    /// Everything that is open comes to its end, given engines that can run it.
    fn end(mut self) {
        if self.paused {
            self.pause_or_resume();
            self.obey();
        }
        let jobs: Vec<_> = self.jobs.keys().copied().collect();
        for job in jobs {
            // One that waited may have ended with another.
            let Some(model) = self.jobs.get_mut(&job) else { continue };
            model.closed = true;
            self.scheduler.close_job(job).unwrap();
            self.obey();
        }
        for _ in 0..ROUNDS_MAX {
            if self.jobs.is_empty() {
                break;
            }
            self.now += 1_000;
            // These can run all that is asked for.
            for (able, site) in [(0, "a"), (0, "b"), (1, "a"), (1, "b")] {
                let (able, equipment) = (capability(able), equipment(Some(site), MEMORY_MAX));
                let is_able = |engine: &EngineModel| (&engine.capability, &engine.equipment) == (&able, &equipment);
                if !self.engines.values().any(|engine| is_able(engine) && !engine.draining) {
                    self.join_with(able, equipment);
                }
            }
            self.hear();
            self.scheduler.tick(Time(self.now));
            self.obey();
            for engine in self.engines.keys().copied().collect::<Vec<_>>() {
                self.deliver_to(engine);
                self.work_at(engine);
                self.deliver_from(engine);
            }
        }
        assert!(self.jobs.is_empty(), "jobs do not come to their end: {:?}", self.scheduler.status());
        while !self.stale.is_empty() {
            self.replay();
        }
        assert_eq!(self.scheduler.status().clients, []);
        assert!(self.scheduler.class_keys.is_empty() && self.scheduler.jobs.len() == 0, "something is left");
        let capabilities: std::collections::HashSet<_> = self.engines.values().map(|engine| &engine.capability).collect();
        assert_eq!(self.scheduler.kinds.len(), capabilities.len(), "engines are told apart though no job asks for it");
        for engine in self.engines.keys().copied().collect::<Vec<_>>() {
            self.scheduler.engine_lost(Time(self.now), engine, "the end");
            self.obey_with(Some(engine));
        }
        assert!(self.scheduler.kind_keys.is_empty() && self.scheduler.engines.len() == 0, "something is left");
    }

    // What clients do.

    fn open(&mut self) {
        self.jobs_ever += 1;
        let id = JobId::from_u128(self.jobs_ever);
        let bundle = |n, target: &str| Requirement::Bundle { hash: BundleHash([n; 32]), target: target.into() };
        let requirement = match self.rng.below(6) {
            0 => Requirement::Named { name: "sum".into() },
            1 => bundle(1, "b"),
            2 => bundle(2, "a"),
            _ => bundle(1, "a"),
        };
        let engines: Vec<_> = self.engines.keys().copied().chain([EngineId(u32::MAX)]).collect();
        let direct: Option<Vec<_>> = self
            .rng
            .one_in(3)
            .then(|| (0..self.rng.below(4)).map(|_| (self.rng.pick(&engines).unwrap(), self.rng.below(20) as u32)).collect());
        let expand = |placement: &Vec<(EngineId, u32)>| placement.iter().flat_map(|(e, n)| (0..*n).map(|_| *e)).collect();
        let pins = direct.as_ref().map(expand);
        let chunk = match std::num::NonZeroU32::new(self.rng.below(12) as u32) {
            Some(count) if self.rng.one_in(3) => Chunk::Fixed(count),
            _ => Chunk::Adaptive,
        };
        let after = if self.rng.one_in(3) { self.conditions() } else { vec![] };
        let follow = if direct.is_none() && self.rng.one_in(4) { self.conditions() } else { vec![] };
        let queue_timeout_us = self.rng.one_in(4).then(|| self.rng.below(60_000));
        let failures = if self.rng.one_in(3) { self.rng.below(4) as u32 } else { 0 };
        let retries = Retries { failures, pause_us: self.rng.below(5_000) };
        let priority = self.rng.below(3) as i32;
        let chooses = direct.is_none() && self.rng.one_in(3);
        let selection = if chooses { self.selection(&requirement) } else { Selection::default() };
        let options = TaskOptions { priority, queue_timeout_us, after, follow, retries, selection, ..TaskOptions::default() };
        let spec = JobSpec {
            id,
            client: ClientKey(self.rng.below(3)),
            requirement: requirement.clone(),
            placement: direct.map_or(Placement::Balanced, Placement::Direct),
            chunk,
            options: options.clone(),
        };
        self.scheduler.open_job(spec).unwrap();
        self.jobs.insert(
            id,
            JobModel {
                requirement,
                pins,
                tasks: vec![],
                closed: false,
                options,
                released: false,
                bound: None,
                place: BTreeSet::new(),
            },
        );
        self.extend_by(id);
    }

    /// An answer of the store comes.
    fn hear(&mut self) {
        if let Some((ticket, known)) = self.answers.pop_front() {
            self.scheduler.counted(Time(self.now), ticket, known);
        }
        if let Some((ticket, located)) = self.places.pop_front() {
            self.scheduler.located(Time(self.now), ticket, located);
        }
        if let Some(ticket) = self.confirmations.pop_front() {
            self.scheduler.confirmed(Time(self.now), ticket);
        }
    }

    fn extend(&mut self) {
        if let Some(job) = self.any_job() {
            self.extend_by(job);
        }
    }

    fn extend_by(&mut self, id: JobId) {
        let count = if self.rng.one_in(2) { 1 } else { self.rng.below(60) as u32 };
        let job = self.jobs.get_mut(&id).unwrap();
        let room = job.pins.as_ref().map_or(u32::MAX, |pins| pins.len() as u32) - job.tasks.len() as u32;
        let arguments: Vec<u64> = (0..count).map(|_| if self.rng.one_in(50) { self.rng.below(3_000) } else { 10 }).collect();
        let weight = Weight { bytes: arguments.iter().sum(), longest_bytes: arguments.iter().copied().max().unwrap_or(0) };
        let result = self.scheduler.extend_job(Time(self.now), id, count, weight);
        match (job.closed, count > room) {
            (true, _) => assert_eq!(result, Err(ExtendError::Closed(id))),
            (_, true) => assert_eq!(result, Err(ExtendError::TooManyTasks { job: id, room, count })),
            _ => {
                assert_eq!(result, Ok(job.tasks.len() as u32));
                let rng = &mut self.rng;
                let submitted = self.now;
                let task = |bytes| Task {
                    bytes,
                    deadly: rng.one_in(150),
                    fails: [0, 0, 0, 1, 2, 99][rng.below(6) as usize] * u32::from(rng.one_in(8)),
                    submitted,
                    ..Task::default()
                };
                job.tasks.extend(arguments.into_iter().map(task));
            }
        }
    }

    fn close(&mut self) {
        if let Some(id) = self.any_job() {
            self.jobs.get_mut(&id).unwrap().closed = true;
            self.scheduler.close_job(id).unwrap();
        }
    }

    fn cancel(&mut self) {
        let Some(id) = self.any_job() else { return };
        let tasks = &mut self.jobs.get_mut(&id).unwrap().tasks;
        let first = self.rng.below(tasks.len() as u64 + 2) as u32;
        let count = if self.rng.one_in(20) { u32::MAX } else { self.rng.below(12) as u32 };
        let reached = tasks.iter_mut().skip(first as usize).take(count as usize);
        let fresh = reached.filter(|task| task.outcomes == 0 && !task.cancelled).map(|task| task.cancelled = true).count();
        let counts = self.scheduler.cancel(Time(self.now), id, first, count);
        assert_eq!((counts.queued + counts.active) as usize, fresh, "a cancellation reaches every task that has not ended once");
    }

    fn any_job(&mut self) -> Option<JobId> {
        let jobs: Vec<_> = self.jobs.keys().copied().collect();
        self.rng.pick(&jobs)
    }

    fn any_engine(&mut self) -> Option<EngineId> {
        let engines: Vec<_> = self.engines.keys().copied().collect();
        self.rng.pick(&engines)
    }

    // What the scheduler wants.

    fn obey(&mut self) {
        self.obey_with(None);
    }

    /// Carries commands out and checks each. `lost` is an engine that was lost just now.
    fn obey_with(&mut self, lost: Option<EngineId>) {
        self.scheduler.check_invariants();
        for command in self.scheduler.commands().collect::<Vec<_>>() {
            match command {
                Command::Dispatch { engine, batch, job, first, count, attempt } => {
                    self.dispatched(engine, Held { batch, job, first, count, done: 0, attempt, started: false });
                }
                Command::Retract { engine, batch } => {
                    let engine = self.engines.get_mut(&engine).unwrap();
                    assert!(engine.asked.insert(batch), "batch {batch} was asked for twice");
                    assert!(engine.known.iter().skip(1).any(|held| held.batch == batch), "batch {batch} does not wait");
                    engine.inbox.push_back(Letter::Retract(batch));
                }
                Command::Cancel { engine, batch, first, count } => {
                    let held = self.engines[&engine].known.iter().find(|held| held.batch == batch).unwrap();
                    assert!(held.first + held.done <= first && first + count <= held.first + held.count && count > 0);
                }
                Command::Settle { job, first, count, attempt, engine, cause } => {
                    self.settled(job, (first, count), attempt, engine, &cause, lost)
                }
                Command::Tried { job, first, count, tries } => {
                    let tasks = &mut self.jobs.get_mut(&job).unwrap().tasks[first as usize..(first + count) as usize];
                    for task in tasks {
                        let own = Tries { losses: task.losses, failures: task.failures };
                        assert!((task.outcomes, own) == (0, tries), "tries are told wrongly: {own:?} {tries:?}");
                        task.told = tries;
                    }
                }
                Command::Count { ticket, of, first, count } => {
                    let (succeeded, failed, ..) = self.counts((of, first, count));
                    let live = self.jobs.get(&of).map(|job| (job.tasks.len(), false));
                    let there = live.or_else(|| self.ended.get(&of).map(|ended| (ended.len(), true)));
                    let known = there.map(|(submitted, ended)| Known {
                        submitted: submitted as u32,
                        ended,
                        succeeded,
                        failed,
                        dropped: 0,
                    });
                    self.answers.push_back((ticket, known));
                }
                Command::Confirm { ticket } => self.confirmations.push_back(ticket),
                Command::Locate { ticket, question } => {
                    let mut located = Located::default();
                    for (failed, engine) in self.ends((question.of, question.first, question.count)) {
                        if located.add(engine, question.counting(1, u32::from(failed)), question.most) {
                            break;
                        }
                    }
                    self.places.push_back((ticket, located));
                    let place = self.place(&self.jobs[&ticket.job]);
                    self.jobs.get_mut(&ticket.job).unwrap().place = place;
                }
                Command::Released { job, engines } => {
                    let options = self.jobs[&job].options.clone();
                    assert!(
                        options.conditions().all(|condition| self.judged(condition).0),
                        "job {job} waits no longer: {options:?}"
                    );
                    let ran = |engine: &EngineId| options.follow.iter().all(|condition| self.has_run(*engine, condition));
                    assert_eq!(engines.is_some(), !options.follow.is_empty(), "job {job} is bound to {engines:?}");
                    assert!(engines.iter().flatten().all(ran), "job {job} is bound to {engines:?} and follows {options:?}");
                    let model = self.jobs.get_mut(&job).unwrap();
                    (model.released, model.bound) = (true, engines);
                }
                Command::Finished { job } => {
                    let model = self.jobs.remove(&job).unwrap();
                    assert!(model.closed, "job {job} finished before it was closed");
                    assert!(model.tasks.iter().all(|task| task.outcomes == 1), "job {job} finished too early");
                    self.ended.insert(job, model.tasks.iter().map(|task| (task.failed, task.engine)).collect());
                }
            }
        }
    }

    fn dispatched(&mut self, id: EngineId, held: Held) {
        let attempt = held.attempt;
        let model = &self.jobs[&held.job];
        let engine = self.engines.get_mut(&id).unwrap();
        assert!(model.released || model.options.conditions().next().is_none(), "a task was sent that waits for others");
        assert!(
            model.bound.as_ref().is_none_or(|bound| bound.contains(&id)),
            "a task was sent where what it follows did not run"
        );
        assert!(!engine.draining, "a batch was sent to an engine that drains");
        assert!(engine.capability.satisfies(&model.requirement), "a batch was sent to an engine that cannot run it");
        let meets = model.options.selection.is_met_by(id, &engine.equipment, &engine.capability.names);
        assert!(meets, "a batch was sent to an engine that the job does not want");
        assert!(engine.known.len() <= self.settings.prefetch, "an engine got too many batches");
        let tasks = &model.tasks[held.first as usize..(held.first + held.count) as usize];
        let bytes: u64 = tasks.iter().map(|task| task.bytes).sum();
        assert!(held.count == 1 || bytes <= self.settings.batch_bytes_max, "a batch of {bytes} bytes was sent");
        let most = self.settings.batch_tasks_max.max(self.settings.chunk_tasks_max);
        assert!(held.count <= most, "a batch of {} tasks was sent", held.count);
        for index in held.first..held.first + held.count {
            let task = &model.tasks[index as usize];
            assert_eq!((task.outcomes, task.cancelled), (0, false), "task {index} was sent though it has ended");
            let own = Tries { losses: task.losses, failures: task.failures };
            assert_eq!((attempt, task.told), (own.count() + 1, own), "task {index}: attempt");
            assert!(model.pins.as_ref().is_none_or(|pins| pins[index as usize] == id), "task {index} went to the wrong engine");
            let alone = task.losses > 0 && task.losses + 1 >= self.settings.poison_losses;
            assert!(!alone || held.count == 1, "suspected task {index} was not alone");
        }
        engine.known.push_back(held);
        engine.inbox.push_back(Letter::Take(held));
    }

    fn settled(
        &mut self,
        job: JobId,
        range: (u32, u32),
        attempt: u32,
        engine: Option<EngineId>,
        cause: &Cause,
        lost: Option<EngineId>,
    ) {
        let hopeless = self.jobs[&job].options.conditions().any(|condition| self.judged(condition).1);
        let has_no_place = self.has_no_place(&self.jobs[&job]);
        let stranded = self.is_stranded(&self.jobs[&job]);
        let model = self.jobs.get_mut(&job).unwrap();
        let (first, count) = range;
        for index in first..first + count {
            let task = &mut model.tasks[index as usize];
            task.outcomes += 1;
            (task.failed, task.engine) = (true, engine);
            assert_eq!(task.outcomes, 1, "task {index} ended twice");
            assert!(attempt >= task.losses, "task {index}: attempt");
            match cause {
                Cause::Aborted => assert!(task.cancelled, "task {index} was not to be aborted"),
                Cause::Poisoned { losses } => {
                    assert!(*losses == task.losses && *losses >= self.settings.poison_losses && engine == lost && count == 1);
                }
                Cause::UnmetDependency { .. } | Cause::ImpossibleDependency { .. } => {
                    assert!(hopeless || stranded || has_no_place, "task {index} need not have failed");
                }
                Cause::QueueTimeout { .. } => {
                    let limit = model.options.queue_timeout_us.expect("a job with a timeout");
                    assert!(task.losses + task.failures == 0 && self.now >= task.submitted + limit, "task {index} had time left");
                }
                Cause::EngineLost { .. } | Cause::FunctionUnknown { .. } => {
                    assert!(model.pins.is_some() || stranded, "task {index} is not bound")
                }
                other => panic!("task {index} ended with {other}"),
            }
        }
    }
}

fn equipment(site: Option<&str>, memory: u64) -> Equipment {
    let labels = site.map(|site| ("site".to_string(), site.to_string()));
    Equipment { labels: labels.into_iter().collect(), resources: [("memory".to_string(), memory)].into() }
}

fn capability(which: u64) -> Capability {
    let process = |target: &str, names: &[&str]| Capability {
        target: target.into(),
        worker: WorkerMode::Process,
        names: names.iter().map(|name| name.to_string()).collect(),
    };
    match which {
        0 => process("a", &["sum"]),
        1 => process("b", &[]),
        4 => Capability { worker: WorkerMode::Thread { bundle: Some(BundleHash([1; 32])) }, ..process("a", &["sum"]) },
        _ => process("a", &[]),
    }
}
