//! When and where tasks ran, and what that says of all of them together.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Client, async_result::AsyncResult};
use crate::error::Result;
use crate::task::{Cause, EngineId, JobId, MessageId, TaskFilter, TaskOutput, TaskState};
use crate::wire::{Run, RunBody};

/// When and where one task ran, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskMetadata {
    /// The task.
    pub id: MessageId,
    /// How it ended.
    pub state: TaskState,
    /// The label of its view.
    pub label: Option<String>,
    /// When the controller took it, by the controller's clock.
    pub submitted: SystemTime,
    /// When it started to run, by its engine's clock; `None` if it did not run.
    pub started: Option<SystemTime>,
    /// When it ended, by its engine's clock; `None` if it did not run.
    pub completed: Option<SystemTime>,
    /// When its result came to this client, by this client's clock.
    pub received: SystemTime,
    /// The engine that ran it last.
    pub engine: Option<EngineId>,
    /// That engine's node: the name in the certificate, the machine, the process. `None` if the engine had left before this
    /// client came.
    pub node: Option<String>,
    /// How often it had been sent to an engine.
    pub attempt: u32,
    /// What it wrote to its standard output and error; with process workers only. Empty when its worker was stopped or crashed: the
    /// [cause](crate::Cause::WorkerCrashed) of a crash has the last that it wrote to its standard error.
    pub output: TaskOutput,
}

/// The times of a set of tasks together, in microseconds; those of day since the Unix epoch.
#[derive(Debug, Default)]
struct Times {
    submitted: Option<u64>,
    completed: Option<u64>,
    received: Option<u64>,
    busy: u64,
}

impl<R, S> AsyncResult<R, S> {
    /// When and where each task ran, in the order of the inputs. Blocks until all have ended, and asks the controller for the
    /// labels of jobs that another client submitted.
    ///
    /// # Errors
    /// As [`AsyncResult::wait`].
    pub fn metadata(&mut self) -> Result<Vec<TaskMetadata>> {
        self.wait(None)?;
        let (mut labels, mut nodes) = (HashMap::new(), HashMap::new());
        let mut all = Vec::with_capacity(self.len());
        for part in &self.parts {
            let job = part.job.id;
            let label = match &part.job.label {
                None if part.job.is_foreign() => labels.entry(job).or_insert_with(|| label_of(&self.client, job)).clone(),
                label => label.clone(),
            };
            for index in part.first..part.end {
                let found = part.job.inspect(|received| {
                    let (run, offset) = received.find(index)?;
                    let (_, received_us) = received.runs_within(index, index + 1).next()?;
                    Some(metadata(MessageId { job, index }, run, offset, received_us))
                });
                let Some(metadata) = found else { continue };
                let mut node = |engine| nodes.entry(engine).or_insert_with(|| self.client.inner.shared.node_of(engine)).clone();
                let node = metadata.engine.and_then(&mut node);
                all.push(TaskMetadata { label: label.clone(), node, ..metadata });
            }
        }
        Ok(all)
    }

    /// What each task wrote to its standard output and error, in the order of the inputs; with process workers only. Blocks
    /// until all have ended.
    ///
    /// # Errors
    /// As [`AsyncResult::wait`].
    pub fn output(&mut self) -> Result<Vec<TaskOutput>> {
        Ok(self.metadata()?.into_iter().map(|task| task.output).collect())
    }

    /// The time since the first task was submitted, until now or, once all have ended, until the last result came here.
    pub fn elapsed(&self) -> Duration {
        let end = match self.ready() {
            true => self.times().received.map_or(self.submitted, at),
            false => SystemTime::now(),
        };
        // Clocks are set back at times, and other clients have other clocks.
        end.duration_since(self.submitted).unwrap_or_default()
    }

    /// The time that the tasks which have ended ran for, all together: what one engine would have needed.
    pub fn serial_time(&self) -> Duration {
        self.open_windows();
        Duration::from_micros(self.times().busy)
    }

    /// The time from the submission of the first task to the end of the last, by the clocks of the controller and of engines;
    /// `None` while some have not ended, or if none has run.
    pub fn wall_time(&self) -> Option<Duration> {
        if !self.ready() {
            return None;
        }
        let Times { submitted, completed, .. } = self.times();
        Some(Duration::from_micros(completed?.saturating_sub(submitted?)))
    }

    /// How much faster the tasks ended than one engine would have run them: [`serial_time`](Self::serial_time) over
    /// [`wall_time`](Self::wall_time). `None` while some have not ended, or if none has run.
    pub fn speedup(&self) -> Option<f64> {
        let wall = self.wall_time()?;
        Some(self.serial_time().as_secs_f64() / wall.max(Duration::from_micros(1)).as_secs_f64())
    }

    fn times(&self) -> Times {
        let mut times = Times::default();
        for part in &self.parts {
            part.job.inspect(|received| {
                for (run, received_us) in received.runs_within(part.first, part.end) {
                    times.add(run, part.first, part.end, received_us);
                }
            });
        }
        times
    }
}

impl Times {
    /// Adds the tasks of a run that lie within `first..end`.
    fn add(&mut self, run: &Run, first: u32, end: u32, received_us: u64) {
        self.submitted = Some(self.submitted.map_or(run.submitted_us, |earliest| earliest.min(run.submitted_us)));
        self.received = self.received.max(Some(received_us));
        let RunBody::Ran(outcomes) = &run.body else { return };
        let from = first.saturating_sub(run.first) as usize;
        let to = (end.min(run.end()) - run.first) as usize;
        for timing in outcomes.timings.get(from..to).unwrap_or_default() {
            self.busy += u64::from(timing.busy_us);
            let ended = outcomes.epoch_us + u64::from(timing.start_us) + u64::from(timing.busy_us);
            self.completed = self.completed.max((outcomes.epoch_us > 0).then_some(ended));
        }
    }
}

fn at(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}

/// All but the label and the node.
fn metadata(id: MessageId, run: &Run, offset: u32, received_us: u64) -> TaskMetadata {
    let (mut started, mut completed, mut output) = (None, None, TaskOutput::default());
    let mut failure = None;
    match &run.body {
        RunBody::Ended(cause) => failure = Some(cause),
        RunBody::Ran(outcomes) => {
            if let Some(timing) = outcomes.timings.get(offset as usize).filter(|_| outcomes.epoch_us > 0) {
                let start = outcomes.epoch_us + u64::from(timing.start_us);
                started = Some(at(start));
                completed = Some(at(start + u64::from(timing.busy_us)));
            }
            if let Ok(place) = outcomes.output.binary_search_by_key(&offset, |(at, _)| *at) {
                output = outcomes.output[place].1.clone();
            }
            failure = failure.or(outcomes.failure(offset));
        }
    }
    let state = match failure {
        None => TaskState::Succeeded,
        Some(Cause::Aborted) => TaskState::Aborted,
        Some(Cause::Evicted) => TaskState::Evicted,
        Some(_) => TaskState::Failed,
    };
    let (submitted, received, engine, attempt) = (at(run.submitted_us), at(received_us), run.engine, run.attempt);
    TaskMetadata { id, state, label: None, submitted, started, completed, received, engine, node: None, attempt, output }
}

/// The label of a job that another client submitted; `None` also when the controller cannot be asked.
fn label_of(client: &Client, job: JobId) -> Option<String> {
    let filter = TaskFilter { job: Some(job), ..TaskFilter::default() };
    let (records, _) = client.query(&filter, None, 1).ok()?;
    records.into_iter().next()?.label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Outcomes, PackedBuilder, Timing};

    #[test]
    fn times_are_those_of_the_tasks_asked_for() {
        let mut values = PackedBuilder::default();
        (0..4).for_each(|_| values.push(&[7]));
        let timing = |start_us| Timing { start_us, busy_us: 10 };
        let timings = [0, 10, 20, 30].map(timing).to_vec();
        let outcomes = Outcomes { epoch_us: 1000, values: values.build(), timings, ..Outcomes::default() };
        let run = Run { first: 8, count: 4, engine: None, attempt: 1, submitted_us: 900, body: RunBody::Ran(outcomes) };
        for ((first, end), busy, completed) in [((0, 100), 40, 1040), ((9, 11), 20, 1030), ((0, 9), 10, 1010)] {
            let mut times = Times::default();
            times.add(&run, first, end, 2000);
            assert_eq!((times.busy, times.completed), (busy, Some(completed)));
            assert_eq!((times.submitted, times.received), (Some(900), Some(2000)));
        }
    }

    #[test]
    fn the_state_tells_how_a_task_ended() {
        let id = MessageId { job: JobId::from_u128(1), index: 0 };
        for (cause, state) in [
            (Cause::Aborted, TaskState::Aborted),
            (Cause::Evicted, TaskState::Evicted),
            (Cause::Poisoned { losses: 3 }, TaskState::Failed),
        ] {
            let run = Run { first: 0, count: 1, engine: None, attempt: 0, submitted_us: 5, body: RunBody::Ended(cause) };
            let metadata = metadata(id, &run, 0, 7);
            assert_eq!((metadata.state, metadata.started, metadata.received), (state, None, at(7)));
        }
    }
}
