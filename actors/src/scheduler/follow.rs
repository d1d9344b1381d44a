//! Jobs that run where others ran.
//!
//! Where tasks ran is asked of the store, once everything is kept that decided that they are followed: so it is right whenever they
//! ran, and nothing is remembered of them here. What follows from it is kept before a task is sent, so that no restart decides
//! otherwise.

use std::collections::BTreeSet;

use super::{
    Command, Time,
    core::Scheduler,
    dependency::{Stage, Wait},
    engines::Duty,
    gate::{Gate, Ticket},
    job::Job,
    slab::Key,
};
use crate::task::{Cause, End, EngineId, JobId, Quorum, engines_shown};

/// How many engines a job may follow tasks to. When more have run them, it runs on the first of these.
const FOLLOWED_ENGINES_MAX: usize = 1000;

/// Where did those of these tasks run that have ended so?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Whose tasks.
    pub of: JobId,
    /// The first of them.
    pub first: u32,
    /// How many.
    pub count: u32,
    /// Which of them count.
    pub end: End,
    /// How many engines are to be found at most.
    pub most: usize,
}

/// Where tasks ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// On these engines.
    pub engines: BTreeSet<EngineId>,
    /// How many ran on none that is known: they never ran, or their outcomes were dropped.
    pub nowhere: u64,
}

impl Located {
    /// Some tasks more, which ran there. Returns whether that is all that is of interest.
    pub fn add(&mut self, engine: Option<EngineId>, tasks: u64, most: usize) -> bool {
        match engine {
            Some(engine) if tasks > 0 => drop(self.engines.insert(engine)),
            _ => self.nowhere += tasks,
        }
        self.engines.len() >= most
    }
}

impl Whereabouts {
    /// How many of some tasks count, of which so many have no value.
    pub fn counting(&self, tasks: u32, failed: u32) -> u64 {
        u64::from(match self.end {
            End::Succeeded => tasks - failed.min(tasks),
            End::Failed => failed,
            End::Either => tasks,
        })
    }
}

impl Wait {
    /// The engines that ran what is followed, or why there are none.
    fn place(&self) -> Result<BTreeSet<EngineId>, String> {
        let mut place: Option<BTreeSet<EngineId>> = None;
        for (rule, quorum) in self.followed_rules() {
            let located = || self.items.iter().filter(|item| item.rule == rule).filter_map(|item| item.located.as_deref());
            let ran: BTreeSet<EngineId> = located().flat_map(|located| located.engines.iter().copied()).collect();
            let nowhere: u64 = located().map(|located| located.nowhere).sum();
            match quorum {
                Quorum::All if nowhere > 0 => {
                    return Err(format!("it is not known where {nowhere} of the tasks that it follows ran, if they did"));
                }
                Quorum::All if ran.len() > 1 => {
                    return Err(
                        "the tasks that it follows ran on several engines, and it was to run where all of them ran".into()
                    );
                }
                _ if ran.is_empty() => return Err("none of the tasks that it follows ran on an engine that is known".into()),
                _ => {}
            }
            place = Some(match place {
                Some(before) => &before & &ran,
                None => ran,
            });
        }
        Ok(place.unwrap_or_default().into_iter().take(FOLLOWED_ENGINES_MAX).collect())
    }
}

impl Scheduler {
    /// Asks where the tasks ran that a job follows.
    pub(super) fn locate(&mut self, key: Key<Job>) {
        let job = &self.jobs[key];
        let Gate::Waiting(wait) = &job.gate else { return };
        for (item, followed, quorum, end) in wait.followed() {
            // A second engine is one too many, where all must have run on one.
            let most = if quorum == Quorum::All { 2 } else { FOLLOWED_ENGINES_MAX };
            let (of, first, count) = (followed.job, followed.first, followed.end - followed.first);
            let ticket = Ticket { job: job.id, seq: job.seq, item };
            self.out.push(Command::Locate { ticket, question: Whereabouts { of, first, count, end, most } });
        }
        // One that names no tasks at all asks nothing.
        self.place_if_located(key);
    }

    /// The store answers a [`Command::Locate`]: nothing if it does not know the job any more.
    pub fn located(&mut self, now: Time, ticket: Ticket, located: Located) {
        self.advance(now);
        let Some(key) = self.job_keys.get(&ticket.job).copied().filter(|key| self.jobs[*key].seq == ticket.seq) else { return };
        let Gate::Waiting(wait) = &mut self.jobs[key].gate else { return };
        let Some(item) = wait.items.get_mut(ticket.item).filter(|_| wait.stage == Stage::Locating) else { return };
        item.located = Some(Box::new(located));
        self.place_if_located(key);
    }

    /// Engines are not expected any more: what is known of where tasks ran is judged.
    pub(super) fn place_located(&mut self) {
        let locating = |job: &Job| matches!(&job.gate, Gate::Waiting(wait) if wait.stage == Stage::Locating);
        let jobs: Vec<_> = self.jobs.iter().filter(|(_, job)| locating(job)).map(|(key, _)| key).collect();
        for key in jobs {
            self.place_if_located(key);
        }
    }

    /// Decides where a job runs, if it is known where all ran that it follows, and which engines there are.
    fn place_if_located(&mut self, key: Key<Job>) {
        let Gate::Waiting(wait) = &self.jobs[key].gate else { return };
        // Who is expected has not left.
        if self.expects_engines || wait.followed().any(|(_, item, ..)| item.located.is_none()) {
            return;
        }
        match wait.place().and_then(|engines| self.reachable(key, engines)) {
            Ok(engines) => {
                let (job, seq) = (self.jobs[key].id, self.jobs[key].seq);
                if let Gate::Waiting(wait) = &mut self.jobs[key].gate {
                    wait.stage = Stage::Located(engines.clone());
                }
                self.out.push(Command::Released { job, engines: Some(engines) });
                self.out.push(Command::Confirm { ticket: Ticket { job, seq, item: 0 } });
            }
            Err(detail) => self.shut_gate(key, Cause::ImpossibleDependency { detail }),
        }
    }

    /// These engines, as far as the job may run there otherwise, if one of them is there.
    fn reachable(&self, key: Key<Job>, mut engines: BTreeSet<EngineId>) -> Result<BTreeSet<EngineId>, String> {
        let job = &self.jobs[key];
        let pin = job.parts.first().and_then(|part| part.pin);
        let named = self.classes[job.class].demand.and_then(|demand| self.demands[demand].selection.engines.as_ref());
        let ran = engines_shown(&engines);
        engines.retain(|engine| pin.is_none_or(|pin| pin == *engine) && named.is_none_or(|named| named.contains(engine)));
        if engines.is_empty() {
            return Err(format!("it may not run on the engines on which the tasks ran that it follows: {ran}"));
        }
        let takes = |engine: &EngineId| self.engine_keys.get(engine).is_some_and(|key| self.engines[*key].duty == Duty::Serving);
        if !engines.iter().any(takes) {
            let there = engines_shown(&engines);
            return Err(format!("the engines on which the tasks ran that it follows have left: {there}"));
        }
        Ok(engines)
    }

    /// The job, which nothing was sent of, runs on these engines only.
    pub(super) fn bind(&mut self, key: Key<Job>, engines: BTreeSet<EngineId>) {
        let class = &self.classes[self.jobs[key].class];
        let mut selection = class.demand.map(|demand| self.demands[demand].selection.clone()).unwrap_or_default();
        let requirement = class.requirement.clone();
        selection.engines = Some(engines);
        let only = selection.take_only_engine();
        let joined = self.join_class(requirement, &selection);
        let job = &mut self.jobs[key];
        let left = std::mem::replace(&mut job.class, joined);
        if let Some(part) = job.parts.first_mut() {
            part.pin = only;
        }
        self.leave_class(left);
    }
}
