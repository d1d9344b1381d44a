//! A model of engines that differ in speed and of the network between: what the scheduler's decisions make of a job, in time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use super::*;

/// How long a message is on its way between controller and engine, in nanoseconds: about what a loaded local network takes.
pub(super) const DELAY_NS: u64 = 150_000;

/// As an engine does it: an outcome is reported at once when the last report is this old, in nanoseconds, or the batch ends.
const REPORT_AFTER_NS: u64 = 100_000;

/// How often the scheduler is told that time passes while it asks for it, in nanoseconds.
const TICK_NS: u64 = crate::scheduler::TICK.as_nanos() as u64;

const JOB: JobId = JobId::from_u128(1);

/// What came of a job.
#[derive(Debug)]
pub(super) struct Outcome {
    /// From the submission to the last report, in nanoseconds.
    pub(super) makespan_ns: u64,
    /// The share of the makespan during which engines ran tasks, of 1.
    pub(super) busy: f64,
    /// The longest time during which an engine had nothing while a batch waited at another one, in nanoseconds.
    pub(super) neglect_ns: u64,
    /// When the last task began, in nanoseconds.
    pub(super) last_start_ns: u64,
    /// How many batches were sent.
    pub(super) batches: u32,
    /// How many of them were given back.
    pub(super) returned: u32,
}

/// Runs one job of tasks that take `work_ns` each on an engine of speed 1, on engines of these speeds.
pub(super) fn run(settings: Settings, speeds: &[u64], chunk: Chunk, work_ns: &[u64]) -> Outcome {
    let mut model = Model::new(settings, speeds, work_ns);
    let tasks = u32::try_from(work_ns.len()).unwrap();
    model.scheduler.open_job(JobSpec { chunk, ..spec(1) }).unwrap();
    model.scheduler.extend_job(Time(0), JOB, tasks, Weight::default()).unwrap();
    model.scheduler.close_job(JOB).unwrap();
    model.carry_out();
    while let Some(Reverse((now_ns, _, event))) = model.events.pop() {
        model.now_ns = now_ns;
        model.take(event);
        model.carry_out();
        if model.finished {
            break;
        }
    }
    assert!(model.finished, "the job came to a stop");
    let ended: u32 = model.engines.iter().map(|engine| engine.ended).sum();
    assert_eq!(ended, tasks, "every task ran once");
    let busy_ns: u64 = model.engines.iter().map(|engine| engine.busy_ns).sum();
    Outcome {
        makespan_ns: model.now_ns,
        busy: busy_ns as f64 / (model.now_ns * speeds.len() as u64) as f64,
        neglect_ns: model.neglect_ns,
        last_start_ns: model.last_start_ns,
        batches: model.batches,
        returned: model.returned,
    }
}

struct Model<'a> {
    scheduler: Scheduler,
    work_ns: &'a [u64],
    engines: Vec<Machine>,
    /// What will happen, by time, then in the order in which it was caused.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    caused: u64,
    now_ns: u64,
    ticking: bool,
    finished: bool,
    /// Since when at least one batch waits at an engine.
    waiting_since_ns: Option<u64>,
    neglect_ns: u64,
    last_start_ns: u64,
    batches: u32,
    returned: u32,
}

/// An engine.
#[derive(Default)]
struct Machine {
    speed: u64,
    /// The first one runs.
    batches: VecDeque<Held>,
    idle_since_ns: Option<u64>,
    reported_ns: u64,
    busy_ns: u64,
    ended: u32,
}

struct Held {
    batch: BatchId,
    first: u32,
    /// How many tasks are left.
    count: u32,
    /// Ended and not reported: how many, and how long they took.
    ended: u32,
    busy_ns: u64,
}

/// Engines by their place in the list.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Dispatched { engine: usize, batch: BatchId, first: u32, count: u32 },
    Asked { engine: usize, batch: BatchId },
    TaskEnded { engine: usize },
    Reported { engine: usize, batch: BatchId, first: u32, count: u32, busy_us: u64 },
    Answered { engine: usize, batch: BatchId, returned: bool },
    Tick,
}

impl<'a> Model<'a> {
    fn new(settings: Settings, speeds: &[u64], work_ns: &'a [u64]) -> Self {
        let mut scheduler = Scheduler::new(settings);
        for engine in 0..speeds.len() {
            scheduler.engine_joined(Time(0), id(engine), process());
        }
        let machine = |&speed: &u64| Machine { speed, idle_since_ns: Some(0), ..Machine::default() };
        Self {
            scheduler,
            work_ns,
            engines: speeds.iter().map(machine).collect(),
            events: BinaryHeap::new(),
            caused: 0,
            now_ns: 0,
            ticking: false,
            finished: false,
            waiting_since_ns: None,
            neglect_ns: 0,
            last_start_ns: 0,
            batches: 0,
            returned: 0,
        }
    }

    fn after(&mut self, delay_ns: u64, event: Event) {
        self.caused += 1;
        self.events.push(Reverse((self.now_ns + delay_ns, self.caused, event)));
    }

    fn now(&self) -> Time {
        Time(self.now_ns / 1_000)
    }

    fn carry_out(&mut self) {
        for command in self.scheduler.commands().collect::<Vec<_>>() {
            match command {
                Command::Dispatch { engine, batch, first, count, .. } => {
                    self.batches += 1;
                    self.after(DELAY_NS, Event::Dispatched { engine: place(engine), batch, first, count });
                }
                Command::Retract { engine, batch } => self.after(DELAY_NS, Event::Asked { engine: place(engine), batch }),
                Command::Finished { .. } => self.finished = true,
                other => panic!("nobody asked for {other:?}"),
            }
        }
        if self.scheduler.needs_tick() && !std::mem::replace(&mut self.ticking, true) {
            self.after(TICK_NS, Event::Tick);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Dispatched { engine, batch, first, count } => {
                self.engines[engine].batches.push_back(Held { batch, first, count, ended: 0, busy_ns: 0 });
                if self.engines[engine].batches.len() == 1 {
                    self.start(engine);
                }
                self.look();
            }
            Event::Asked { engine, batch } => {
                let held = &mut self.engines[engine].batches;
                let waits = held.iter().skip(1).position(|held| held.batch == batch);
                if let Some(at) = waits {
                    held.remove(at + 1);
                    self.returned += 1;
                }
                self.look();
                self.after(DELAY_NS, Event::Answered { engine, batch, returned: waits.is_some() });
            }
            Event::TaskEnded { engine } => self.end_task(engine),
            Event::Reported { engine, batch, first, count, busy_us } => {
                self.scheduler.progress(self.now(), id(engine), batch, first, count, busy_us).expect("it is at this engine");
            }
            Event::Answered { engine, batch, returned: true } => self.scheduler.retracted(self.now(), id(engine), batch),
            Event::Answered { engine, batch, returned: false } => self.scheduler.retract_refused(id(engine), batch),
            Event::Tick => {
                self.ticking = false;
                self.scheduler.tick(self.now());
            }
        }
    }

    /// The engine begins the next task of its first batch.
    fn start(&mut self, engine: usize) {
        let since_ns = self.engines[engine].idle_since_ns.take();
        self.count_neglect(since_ns);
        self.last_start_ns = self.now_ns;
        let took_ns = self.task_ns(engine);
        self.after(took_ns, Event::TaskEnded { engine });
    }

    fn end_task(&mut self, engine: usize) {
        let (now_ns, took_ns) = (self.now_ns, self.task_ns(engine));
        let machine = &mut self.engines[engine];
        machine.ended += 1;
        machine.busy_ns += took_ns;
        let held = machine.batches.front_mut().expect("it runs the first one");
        (held.first, held.count, held.ended) = (held.first + 1, held.count - 1, held.ended + 1);
        held.busy_ns += took_ns;
        let over = held.count == 0;
        if over || now_ns - machine.reported_ns >= REPORT_AFTER_NS {
            machine.reported_ns = now_ns;
            let (batch, count) = (held.batch, std::mem::take(&mut held.ended));
            let (first, busy_us) = (held.first - count, std::mem::take(&mut held.busy_ns) / 1_000);
            self.after(DELAY_NS, Event::Reported { engine, batch, first, count, busy_us });
        }
        if over {
            self.engines[engine].batches.pop_front();
            self.look();
        }
        if self.engines[engine].batches.is_empty() {
            self.engines[engine].idle_since_ns = Some(now_ns);
        } else {
            self.start(engine);
        }
    }

    fn task_ns(&self, engine: usize) -> u64 {
        let machine = &self.engines[engine];
        let task = machine.batches.front().expect("it runs the first one").first;
        (self.work_ns[task as usize] / machine.speed).max(1)
    }

    /// Notes whether a batch waits anywhere.
    fn look(&mut self) {
        let waits = self.engines.iter().any(|machine| machine.batches.len() > 1);
        match (waits, self.waiting_since_ns) {
            (true, None) => self.waiting_since_ns = Some(self.now_ns),
            (false, Some(_)) => {
                let idle: Vec<_> = self.engines.iter().map(|machine| machine.idle_since_ns).collect();
                idle.into_iter().for_each(|since_ns| self.count_neglect(since_ns));
                self.waiting_since_ns = None;
            }
            _ => {}
        }
    }

    /// An engine that was idle since then is not any more, or nothing waits any more.
    fn count_neglect(&mut self, idle_since_ns: Option<u64>) {
        if let (Some(idle_ns), Some(waiting_ns)) = (idle_since_ns, self.waiting_since_ns) {
            self.neglect_ns = self.neglect_ns.max(self.now_ns - idle_ns.max(waiting_ns));
        }
    }
}

fn id(engine: usize) -> EngineId {
    EngineId(u32::try_from(engine).unwrap())
}

fn place(EngineId(engine): EngineId) -> usize {
    engine as usize
}
