//! Engine nodes: they run what they have whether or not the controller is there, and keep each outcome until it is acknowledged.

use std::collections::VecDeque;

use super::network::{Answer, ToController, ToPeer, Way};
use crate::results::Owner;
use crate::task::{BatchId, Cause, EngineId, Outcomes, Packed, PackedBuilder, Ranges, Timing};
use crate::wire::{Before, Dispatch, HeldBatch, Register, Registered, Report, Retracted};

/// How many reports may wait to be acknowledged before an engine begins no further batch.
const REPORTS_MAX: usize = 6;

/// What an engine node does, in order.
pub(super) enum Act {
    Send(ToController, Way),
    /// It has forgotten the outcomes of these tasks, since they are kept.
    Forgot(crate::task::JobId, u32, u32),
    /// It has this batch.
    Has(BatchId),
    /// It has nothing of this batch any more.
    Over(BatchId),
}

pub(super) struct Node {
    pub(super) owner: Owner,
    pub(super) alive: bool,
    pub(super) link: Option<u64>,
    pub(super) ids: Option<Vec<EngineId>>,
    pub(super) registered: bool,
    pub(super) engines: Vec<Engine>,
    pub(super) acts: Vec<Act>,
    /// To be sent once the node is registered.
    answers: Vec<Retracted>,
    next_ask: u64,
}

#[derive(Default)]
pub(super) struct Engine {
    /// In the order in which they run; those that are over stay until their reports are acknowledged.
    pub(super) batches: VecDeque<Batch>,
    reports: VecDeque<Pending>,
    /// Messages about batches that had not come.
    retracted: Vec<BatchId>,
    stopped: Vec<(BatchId, u32, u32)>,
    seen: Vec<BatchId>,
    /// What it has said to have: the answer is about these, and not about what came since.
    claimed: Vec<BatchId>,
}

pub(super) struct Batch {
    pub(super) dispatch: Dispatch,
    pub(super) next: u32,
    stopped: Ranges,
    started: bool,
}

struct Pending {
    batch: BatchId,
    job: crate::task::JobId,
    first: u32,
    outcomes: Outcomes,
    long: bool,
    under_way: Option<u64>,
}

impl Batch {
    pub(super) fn end(&self) -> u32 {
        self.dispatch.first + self.dispatch.arguments.len() as u32
    }
}

impl Node {
    pub(super) fn new(owner: Owner, engines: usize) -> Self {
        let engines = (0..engines).map(|_| Engine::default()).collect();
        Self {
            owner,
            alive: true,
            link: None,
            ids: None,
            registered: false,
            engines,
            acts: Vec::new(),
            answers: Vec::new(),
            next_ask: 0,
        }
    }

    /// A link is there: the node says who it is and what it has.
    pub(super) fn connected(&mut self, link: u64) {
        self.link = Some(link);
        self.registered = false;
        for engine in &mut self.engines {
            engine.claimed = engine.batches.iter().map(|batch| batch.dispatch.batch).collect();
        }
        let before = self.ids.clone().map(|ids| Before {
            ids,
            batches: (0..).zip(&self.engines).flat_map(|(place, engine)| engine.held(place)).collect(),
        });
        let register = Register {
            engines: self.engines.len() as u32,
            place: "here".into(),
            target: "a".into(),
            thread_bundle: None,
            tasks: vec!["sum".into()],
            labels: Default::default(),
            before,
        };
        self.acts.push(Act::Send(ToController::Register(register), Way::Control));
    }

    pub(super) fn disconnected(&mut self) {
        (self.link, self.registered) = (None, false);
        self.answers.clear();
        self.engines.iter_mut().flat_map(|engine| &mut engine.reports).for_each(|report| report.under_way = None);
    }

    pub(super) fn handle(&mut self, message: ToPeer) {
        match message {
            ToPeer::Registered(Ok(registered)) => self.registered(registered),
            ToPeer::Registered(Err(text)) => panic!("an honest node is refused: {text}"),
            ToPeer::Dispatch(place, dispatch) => self.engines[place as usize].dispatched(dispatch, &mut self.acts),
            ToPeer::Retract(place, retract) => {
                let returned = self.engines[place as usize].retract(retract.batch, &mut self.acts);
                let answer = Retracted { engine: retract.engine, batch: retract.batch, returned };
                self.answers.push(answer);
            }
            ToPeer::Stop(place, stop) => self.engines[place as usize].stop(stop.batch, stop.first, stop.first + stop.count),
            ToPeer::Answer { ask, answer } => {
                let kept = matches!(answer, Answer::Kept);
                self.engines.iter_mut().for_each(|engine| engine.acknowledged(ask, kept, &mut self.acts));
            }
            ToPeer::Results { .. } | ToPeer::Known { .. } => unreachable!("engines do not subscribe"),
        }
    }

    fn registered(&mut self, Registered { engines, kept }: Registered) {
        self.ids = Some(engines);
        self.registered = true;
        for engine in &mut self.engines {
            engine.resume(&kept, &mut self.acts);
        }
    }

    /// Sends what is to be reported.
    pub(super) fn send_reports(&mut self) {
        if !self.registered || self.link.is_none() {
            return;
        }
        let Some(ids) = &self.ids else { return };
        for answer in self.answers.drain(..) {
            self.acts.push(Act::Send(ToController::Retracted(answer), Way::Control));
        }
        for (engine, id) in self.engines.iter_mut().zip(ids) {
            while let Some(report) = engine.next_to_send() {
                self.next_ask += 1;
                report.under_way = Some(self.next_ask);
                let way = if report.long { Way::Bulk } else { Way::Control };
                let (batch, first, outcomes) = (report.batch, report.first, report.outcomes.clone());
                let report = Report { engine: *id, batch, first, outcomes };
                self.acts.push(Act::Send(ToController::Report { ask: self.next_ask, report }, way));
            }
        }
    }
}

impl Engine {
    fn dispatched(&mut self, dispatch: Dispatch, acts: &mut Vec<Act>) {
        let batch = dispatch.batch;
        assert!(!self.seen.contains(&batch), "batch {batch} came twice");
        self.seen.push(batch);
        if self.retracted.contains(&batch) {
            return acts.push(Act::Over(batch));
        }
        let mut stopped = Ranges::default();
        self.stopped.iter().filter(|(of, ..)| *of == batch).for_each(|(_, first, end)| stopped.cover(*first, *end));
        acts.push(Act::Has(batch));
        let next = dispatch.first;
        self.batches.push_back(Batch { dispatch, next, stopped, started: false });
    }

    fn retract(&mut self, batch: BatchId, acts: &mut Vec<Act>) -> bool {
        match self.batches.iter().position(|held| held.dispatch.batch == batch) {
            Some(at) if self.batches[at].started => false,
            Some(at) => {
                self.batches.remove(at);
                acts.push(Act::Over(batch));
                true
            }
            None if self.seen.contains(&batch) => false,
            None => {
                self.retracted.push(batch);
                true
            }
        }
    }

    fn stop(&mut self, batch: BatchId, first: u32, end: u32) {
        match self.batches.iter_mut().find(|held| held.dispatch.batch == batch) {
            Some(held) => held.stopped.cover(first, end),
            None => self.stopped.push((batch, first, end)),
        }
    }

    /// The first batch that is not over.
    pub(super) fn running(&self) -> Option<usize> {
        self.batches.iter().position(|batch| batch.next < batch.end())
    }

    /// Says that it begins the next batch, if it may.
    pub(super) fn begin(&mut self) -> Option<&mut Batch> {
        let at = self.running()?;
        let held_up = self.reports.len() >= REPORTS_MAX;
        let batch = &mut self.batches[at];
        if !batch.started && held_up {
            return None;
        }
        batch.started = true;
        Some(batch)
    }

    /// Runs some tasks of the running batch and queues their report.
    pub(super) fn run(&mut self, count: u32, long: bool) {
        let Some(batch) = self.begin() else { return };
        let (first, end) = (batch.next, batch.end().min(batch.next + count));
        let (mut values, mut failures) = (PackedBuilder::default(), Vec::new());
        for index in first..end {
            let argument = batch.dispatch.arguments.item((index - batch.dispatch.first) as usize).unwrap_or_default();
            if batch.stopped.contains(index, index + 1) {
                values.push(&[]);
                failures.push((index - first, Cause::Aborted));
            } else {
                values.push(argument);
            }
        }
        batch.next = end;
        let (id, job) = (batch.dispatch.batch, batch.dispatch.job);
        let timings = vec![Timing { start_us: 0, busy_us: 500 }; (end - first) as usize];
        let outcomes = Outcomes { epoch_us: 0, values: values.build(), timings, failures, output: Vec::new() };
        self.reports.push_back(Pending { batch: id, job, first, outcomes, long, under_way: None });
    }

    /// What it has, for a controller that may not know.
    fn held(&self, place: u32) -> impl Iterator<Item = HeldBatch> {
        self.batches.iter().map(move |batch| {
            let Dispatch { batch: id, job, attempt, .. } = batch.dispatch;
            let unsaid = self.reports.iter().find(|report| report.batch == id).map(|report| report.first);
            HeldBatch {
                place,
                batch: id,
                job,
                first: unsaid.unwrap_or(batch.next),
                end: batch.end(),
                attempt,
                started: batch.started,
            }
        })
    }

    /// The controller has said which batches stay.
    fn resume(&mut self, kept: &[(BatchId, u32)], acts: &mut Vec<Act>) {
        let claimed = std::mem::take(&mut self.claimed);
        let verdict = |batch: BatchId| kept.iter().find(|(of, _)| *of == batch).map(|(_, from)| *from);
        let from = |batch: BatchId| if claimed.contains(&batch) { verdict(batch) } else { Some(0) };
        for report in std::mem::take(&mut self.reports) {
            let count = report.outcomes.len() as u32;
            let Some(from) = from(report.batch) else { continue };
            if from >= report.first + count {
                acts.push(Act::Forgot(report.job, report.first, count));
            } else if from > report.first {
                acts.push(Act::Forgot(report.job, report.first, from - report.first));
                self.reports.push_back(report.cut(from));
            } else {
                self.reports.push_back(report);
            }
        }
        for mut batch in std::mem::take(&mut self.batches) {
            match from(batch.dispatch.batch) {
                Some(from) => {
                    batch.next = batch.next.max(from);
                    self.batches.push_back(batch);
                }
                None => acts.push(Act::Over(batch.dispatch.batch)),
            }
        }
        self.forget_ended(acts);
    }

    fn next_to_send(&mut self) -> Option<&mut Pending> {
        let alone = self.reports.iter().any(|report| report.under_way.is_some() && report.long);
        let busy = self.reports.iter().any(|report| report.under_way.is_some());
        let next = self.reports.iter_mut().find(|report| report.under_way.is_none())?;
        (!alone && !(next.long && busy)).then_some(next)
    }

    fn acknowledged(&mut self, ask: u64, kept: bool, acts: &mut Vec<Act>) {
        let Some(at) = self.reports.iter().position(|report| report.under_way == Some(ask)) else { return };
        if let Some(report) = self.reports.remove(at)
            && kept
        {
            acts.push(Act::Forgot(report.job, report.first, report.outcomes.len() as u32));
        }
        self.forget_ended(acts);
    }

    fn forget_ended(&mut self, acts: &mut Vec<Act>) {
        let unsaid = |id: BatchId| self.reports.iter().any(|report| report.batch == id);
        self.batches.retain(|batch| {
            let stays = batch.next < batch.end() || unsaid(batch.dispatch.batch);
            if !stays {
                acts.push(Act::Over(batch.dispatch.batch));
            }
            stays
        });
    }
}

impl Pending {
    /// What is left from that task on.
    fn cut(self, from: u32) -> Self {
        let at = (from - self.first) as usize;
        let Outcomes { epoch_us, values, timings, failures, .. } = self.outcomes;
        let failures = failures.into_iter().filter_map(|(offset, cause)| Some((offset.checked_sub(at as u32)?, cause)));
        let values: Packed = values.slice(at, values.len() - at);
        let outcomes =
            Outcomes { epoch_us, values, timings: timings[at..].to_vec(), failures: failures.collect(), output: Vec::new() };
        Self { first: from, outcomes, ..self }
    }
}
