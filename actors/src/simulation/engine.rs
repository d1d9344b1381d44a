//! Engine nodes: they run what they have whether or not the controller is there, and keep each outcome until it is acknowledged.
//! What an engine actor does with its slot and its holdings, which are the real ones; workers are instant.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::network::{Answer, ToController, ToPeer, Way};
use crate::engine::{Holdings, Slot, Step};
use crate::results::Owner;
use crate::rng::Rng;
use crate::task::{BatchId, EngineId, JobId, Outcomes, PackedBuilder, Timing, WorkerExit};
use crate::wire::{Before, HeldBatch, Register, Registered, Report, Retracted};

/// How many reports may wait to be acknowledged before an engine begins no further batch.
const REPORTS_MAX: usize = 6;

/// What an engine node does, in order.
#[allow(clippy::large_enum_variant)]
pub(super) enum Act {
    Send(ToController, Way),
    /// It has forgotten the outcomes of these tasks, since they are kept.
    Forgot(JobId, u32, u32),
    /// It has this batch.
    Has(BatchId),
    /// It has nothing of this batch any more.
    Over(BatchId),
}

pub(super) struct Node {
    pub(super) owner: Owner,
    pub(super) alive: bool,
    pub(super) link: Option<u64>,
    /// The ids of its engines, once it was registered.
    pub(super) ids: Vec<EngineId>,
    pub(super) engines: Vec<Engine>,
    pub(super) acts: Vec<Act>,
}

#[derive(Default)]
pub(super) struct Engine {
    slot: Slot,
    holdings: Holdings,
    /// The worker has these tasks of the running batch.
    piece: Option<(u32, u32)>,
    /// There is a link.
    linked: bool,
    /// The controller has said by this link what it wants.
    resumed: bool,
    id: Option<EngineId>,
    bulk_under_way: bool,
    /// What it was known to have.
    had: BTreeSet<BatchId>,
    /// What was reported under which number, and whether as bulk.
    asked: BTreeMap<u64, (JobId, u32, u32, Way)>,
    /// The jobs of its batches, and the first task of each that was stated.
    stated: BTreeMap<BatchId, (JobId, u32)>,
    jobs: BTreeMap<BatchId, JobId>,
}

impl Node {
    pub(super) fn new(owner: Owner, engines: usize) -> Self {
        let engines = (0..engines).map(|_| Engine::default()).collect();
        Self { owner, alive: true, link: None, ids: Vec::new(), engines, acts: Vec::new() }
    }

    /// A link is there: the node says who it is and what it has.
    pub(super) fn connected(&mut self, link: u64) {
        self.link = Some(link);
        let batches = (0..).zip(&mut self.engines).flat_map(|(place, engine)| engine.connected(place)).collect();
        let before = Before { ids: self.ids.clone(), batches };
        let register = Register {
            engines: self.engines.len() as u32,
            place: "here".into(),
            target: "a".into(),
            thread_bundle: None,
            tasks: vec!["sum".into()],
            labels: Default::default(),
            resources: Default::default(),
            rank: None,
            before: (!before.ids.is_empty()).then_some(before),
        };
        self.acts.push(Act::Send(ToController::Register(register), Way::Control));
    }

    pub(super) fn disconnected(&mut self) {
        self.link = None;
        self.engines.iter_mut().for_each(Engine::link_lost);
    }

    pub(super) fn handle(&mut self, message: ToPeer) {
        let acts = &mut self.acts;
        match message {
            ToPeer::Registered(Ok(Registered { engines: ids, kept })) => {
                for (engine, id) in self.engines.iter_mut().zip(&ids) {
                    engine.resume(*id, &kept, acts);
                }
                self.ids = ids;
            }
            ToPeer::Registered(Err(text)) => panic!("an honest node is refused: {text}"),
            ToPeer::Dispatch(place, dispatch) => {
                let (engine, batch) = (&mut self.engines[place as usize], dispatch.batch);
                engine.holdings.add(&dispatch);
                engine.jobs.insert(batch, dispatch.job);
                assert!(engine.slot.dispatched(dispatch), "too many batches come to an engine");
                if !engine.slot.waits(batch) {
                    engine.holdings.give_back(batch);
                }
            }
            ToPeer::Retract(place, retract) => {
                let engine = &mut self.engines[place as usize];
                let returned = engine.slot.retract(retract.batch);
                if returned {
                    engine.holdings.give_back(retract.batch);
                }
                let answer = Retracted { engine: retract.engine, batch: retract.batch, returned };
                acts.push(Act::Send(ToController::Retracted(answer), Way::Control));
            }
            ToPeer::Stop(place, stop) => {
                let engine = &mut self.engines[place as usize];
                engine.slot.stop(stop.batch, stop.first, stop.count);
                engine.stop_if_due();
            }
            ToPeer::Answer { ask, answer } => {
                let engine = &mut self.engines[(ask >> 32) as usize];
                engine.acknowledged(ask & u64::from(u32::MAX), matches!(answer, Answer::Kept), acts);
            }
            ToPeer::Results { .. } | ToPeer::Known { .. } => unreachable!("engines do not subscribe"),
        }
    }

    /// Does whatever can be done now.
    pub(super) fn advance(&mut self) {
        for (place, engine) in (0..).zip(&mut self.engines) {
            engine.advance(place, &mut self.acts);
        }
    }
}

impl Engine {
    fn advance(&mut self, place: u64, acts: &mut Vec<Act>) {
        if self.may_begin() && self.slot.begin() {
            self.run_piece();
        }
        self.send_reports(place, acts);
        let has: BTreeSet<BatchId> = self.holdings.batches().collect();
        acts.extend(has.difference(&self.had).map(|batch| Act::Has(*batch)));
        acts.extend(self.had.difference(&has).map(|batch| Act::Over(*batch)));
        self.had = has;
    }

    fn may_begin(&self) -> bool {
        self.holdings.reports() < REPORTS_MAX
    }

    fn run_piece(&mut self) {
        loop {
            let mut reports = Vec::new();
            let step = self.slot.step(&mut reports);
            self.put_out(reports);
            match step {
                Step::Idle if !self.may_begin() || !self.slot.begin() => return,
                Step::Idle => {}
                Step::Run { first, count, .. } => return self.piece = Some((first, first + count)),
            }
        }
    }

    fn put_out(&mut self, reports: Vec<Report>) {
        for report in reports {
            let engine = self.id.unwrap_or(report.engine);
            self.holdings.report(Report { engine, ..report });
        }
    }

    fn send_reports(&mut self, place: u64, acts: &mut Vec<Act>) {
        while self.linked && self.resumed {
            let Some(Report { engine, batch, first, outcomes }) = self.holdings.next() else { return };
            let (engine, batch, first, outcomes) = (*engine, *batch, *first, outcomes.clone());
            let way = if first % 6 == 5 { Way::Bulk } else { Way::Control };
            if self.bulk_under_way || way == Way::Bulk && self.holdings.under_way() > 0 {
                return;
            }
            let Some(number) = self.holdings.sent() else { return };
            self.asked.insert(number, (self.jobs[&batch], first, outcomes.len() as u32, way));
            let report = Report { engine, batch, first, outcomes };
            self.bulk_under_way = way == Way::Bulk;
            acts.push(Act::Send(ToController::Report { ask: place << 32 | number, report }, way));
        }
    }

    fn stop_if_due(&mut self) {
        if self.piece.is_some() && self.slot.is_at_stopped() {
            self.piece = None;
            self.slot.worker_left();
            self.run_piece();
        }
    }

    fn link_lost(&mut self) {
        (self.linked, self.resumed, self.bulk_under_way) = (false, false, false);
        self.asked.clear();
        self.holdings.link_lost();
    }

    fn connected(&mut self, place: u32) -> Vec<HeldBatch> {
        self.link_lost();
        self.linked = true;
        let held = self.holdings.state();
        self.stated = held.iter().map(|held| (held.batch, (held.job, held.first))).collect();
        let state = |held: crate::engine::Held| {
            let started = !self.slot.waits(held.batch);
            HeldBatch {
                place,
                batch: held.batch,
                job: held.job,
                first: held.first,
                end: held.end,
                attempt: held.attempt,
                started,
            }
        };
        held.into_iter().map(state).collect()
    }

    fn resume(&mut self, id: EngineId, kept: &[(BatchId, u32)], acts: &mut Vec<Act>) {
        (self.resumed, self.id) = (true, Some(id));
        let mut stop = false;
        for batch in self.holdings.resume(id, kept) {
            stop |= self.slot.drop_batch(batch);
        }
        for (batch, from) in kept {
            if let Some((job, first)) = self.stated.get(batch) {
                acts.push(Act::Forgot(*job, *first, from.saturating_sub(*first)));
            }
            stop |= self.slot.skip(*batch, *from);
        }
        if stop {
            self.piece = None;
            self.run_piece();
        }
    }

    fn acknowledged(&mut self, number: u64, kept: bool, acts: &mut Vec<Act>) {
        let Some((job, first, count, way)) = self.asked.remove(&number) else { return };
        self.holdings.acknowledged(number);
        if way == Way::Bulk {
            self.bulk_under_way = false;
        }
        if kept {
            acts.push(Act::Forgot(job, first, count));
        }
    }

    /// The batches that it has.
    pub(super) fn batches(&self) -> impl Iterator<Item = BatchId> {
        self.had.iter().copied()
    }

    /// The tasks that its worker has.
    pub(super) fn piece(&self) -> Option<(JobId, u32, u32)> {
        let (first, end) = self.piece?;
        Some((self.slot.current()?.job, first, end))
    }

    /// The worker ends some tasks, or crashes, or takes too long and is stopped.
    pub(super) fn run(&mut self, count: u32, rng: &mut Rng) {
        let (Some((first, end)), Some(dispatch)) = (self.piece, self.slot.current()) else { return };
        if rng.one_in(40) {
            let mut reports = Vec::new();
            self.slot.worker_crashed(WorkerExit::Code(1), "", &mut reports);
            self.piece = None;
            self.put_out(reports);
            return self.run_piece();
        }
        if rng.one_in(60) {
            let mut reports = Vec::new();
            self.slot.overran(Duration::from_millis(1), &mut reports);
            self.piece = None;
            self.put_out(reports);
            return self.run_piece();
        }
        let stop = end.min(first + count);
        let mut values = PackedBuilder::default();
        for index in first..stop {
            values.push(dispatch.arguments.item((index - dispatch.first) as usize).unwrap_or_default());
        }
        let timings = vec![Timing { start_us: 0, busy_us: 500 }; (stop - first) as usize];
        let outcomes = Outcomes { values: values.build(), timings, ..Outcomes::default() };
        let (report, done) = self.slot.progressed(dispatch.batch, first, outcomes).expect("the worker ends what it was given");
        self.put_out(vec![report]);
        if done {
            self.piece = None;
            self.run_piece();
        } else {
            self.piece = Some((stop, end));
            self.stop_if_due();
        }
    }
}
