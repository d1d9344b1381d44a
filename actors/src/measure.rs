//! Runs the scheduler core by itself, without sockets, clocks and workers, so that a bench can tell what it costs.
//!
//! Hidden: it is for this project's benches, and nothing about it is promised.

use std::{collections::VecDeque, num::NonZeroU32, time::Instant};

use crate::scheduler::{
    Capability, Chunk, ClientKey, Command, EngineSpec, JobSpec, Placement, Requirement, Scheduler, Settings, Time, Weight,
    WorkerMode,
};
use crate::task::{BatchId, EngineId, JobId, TaskOptions};

/// How many tasks are submitted at once: about as many single submissions as one coalesced message of a client brings.
const RUN: u32 = 256;

/// The length of one task's argument, in bytes: that of a number.
const ARGUMENT_BYTES: u64 = 9;

/// The job that all tasks belong to: single submissions of one client and function share one.
const JOB: JobId = JobId::from_u128(1);

/// What is to be scheduled.
#[derive(Clone, Copy, Debug)]
pub struct SingleTasks {
    /// How many tasks are run. At most 2^32 − 1 together with `queued`.
    pub tasks: u32,
    /// How many engines run them.
    pub engines: u32,
    /// How many tasks more are queued at least, from the beginning to the end.
    pub queued: u32,
    /// How many of them go at once.
    pub batches: Batches,
}

/// How many tasks go to an engine at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batches {
    /// As many as the scheduler thinks fit for tasks that take no time: the usual case.
    Adaptive,
    /// One: the worst case, in which every task costs a dispatch and a report.
    OfOne,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub struct Scheduled {
    /// How long it took, in seconds, from the first report to the last; that engines join and the queue fills lies before.
    pub seconds: f64,
    /// How many tasks were run: as many as asked for, and at most a batch more.
    pub tasks: u32,
    /// How many times tasks were submitted.
    pub submissions: u64,
    /// How many batches engines reported.
    pub reports: u64,
    /// How many commands the scheduler gave.
    pub commands: u64,
}

/// Lets a scheduler run tasks of no duration: every report of a batch makes room for the next one, and for every task that was
/// sent another one is submitted. The engines report in the order in which they were served, which is the worst one for caches.
///
/// # Panics
/// When there is no engine or no task, or there are more tasks than a job can have.
pub fn schedule(load: SingleTasks) -> Scheduled {
    let mut bench = Bench::new(load);
    bench.fill(load.queued);
    (bench.submissions, bench.commands) = (0, 0);
    let started = Instant::now();
    let (mut ended, mut reports) = (0, 0);
    while ended < load.tasks {
        ended += bench.report();
        reports += 1;
        bench.replace();
    }
    let seconds = started.elapsed().as_secs_f64();
    Scheduled { seconds, tasks: ended, submissions: bench.submissions, reports, commands: bench.commands }
}

struct Bench {
    scheduler: Scheduler,
    /// What engines run, in the order in which they report.
    running: VecDeque<Sent>,
    now: Time,
    /// How many tasks were sent for which no other was submitted.
    owed: u32,
    submissions: u64,
    commands: u64,
}

/// A batch at an engine.
struct Sent {
    engine: EngineId,
    batch: BatchId,
    first: u32,
    count: u32,
}

impl Bench {
    fn new(load: SingleTasks) -> Self {
        assert!(load.engines > 0 && load.tasks > 0, "nothing to measure: {load:?}");
        let mut scheduler = Scheduler::new(Settings::default());
        let capability = Capability { target: "any".into(), worker: WorkerMode::Process, names: ["task".to_string()].into() };
        for engine in 1..=load.engines {
            let spec = EngineSpec { id: EngineId(engine), capability: capability.clone(), equipment: Default::default() };
            scheduler.engine_rejoined(Time(0), spec, &[]);
        }
        let chunk = match load.batches {
            Batches::Adaptive => Chunk::Adaptive,
            Batches::OfOne => Chunk::Fixed(NonZeroU32::MIN),
        };
        let requirement = Requirement::Named { name: "task".into() };
        let (client, placement, options) = (ClientKey(1), Placement::Balanced, TaskOptions::default());
        let spec = JobSpec { id: JOB, client, requirement, placement, chunk, options };
        scheduler.open_job(spec).expect("the first job has an unused id");
        Self { scheduler, running: VecDeque::new(), now: Time(0), owed: 0, submissions: 0, commands: 0 }
    }

    /// Submits until all engines have enough and at least `queued` tasks are queued.
    fn fill(&mut self, queued: u32) {
        let wanted = queued.saturating_add(RUN);
        (0..wanted.div_ceil(RUN)).for_each(|_| self.submit());
        self.replace();
    }

    /// Submits as many tasks as were sent, in whole runs.
    fn replace(&mut self) {
        while self.owed >= RUN {
            self.owed -= RUN;
            self.submit();
        }
    }

    /// Submits a run of tasks as it comes from a client.
    fn submit(&mut self) {
        let bytes = u64::from(RUN) * ARGUMENT_BYTES;
        let weight = Weight { bytes, longest_bytes: ARGUMENT_BYTES };
        self.scheduler.extend_job(self.now, JOB, RUN, weight).expect("the job is open and has room");
        self.submissions += 1;
        self.carry_out();
    }

    /// The engine that was served first reports its batch. Returns how many tasks that were.
    fn report(&mut self) -> u32 {
        let Sent { engine, batch, first, count } =
            self.running.pop_front().expect("an engine runs something while tasks are left");
        self.now.0 += 1;
        self.scheduler.progress(self.now, engine, batch, first, count, 0).expect("every batch is reported once, by its engine");
        self.carry_out();
        count
    }

    fn carry_out(&mut self) {
        for command in self.scheduler.commands() {
            self.commands += 1;
            if let Command::Dispatch { engine, batch, first, count, .. } = command {
                self.running.push_back(Sent { engine, batch, first, count });
                self.owed += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_submitted_sent_and_reported() {
        for (batches, tasks, engines, queued) in
            [(Batches::OfOne, 10_000, 3, 0), (Batches::OfOne, 5_000, 40, 2_000), (Batches::Adaptive, 100_000, 7, 20_000)]
        {
            let scheduled = schedule(SingleTasks { tasks, engines, queued, batches });
            assert!((tasks..tasks + Settings::default().batch_tasks_max).contains(&scheduled.tasks), "{scheduled:?}");
            assert!(scheduled.submissions >= u64::from(tasks / RUN), "{scheduled:?}");
            match batches {
                Batches::OfOne => assert_eq!((scheduled.reports, scheduled.tasks), (u64::from(tasks), tasks), "{scheduled:?}"),
                Batches::Adaptive => assert!(scheduled.reports < u64::from(tasks / 100), "{scheduled:?}"),
            }
        }
    }
}
