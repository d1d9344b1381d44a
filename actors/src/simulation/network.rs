//! Links between the controller and its peers. Each keeps the order of its short messages; long ones overtake and are overtaken.
//! Between links there is no order. A link may end at any moment, and each side notices when it does: until then it reads what
//! is still under way, and what it sends goes nowhere.

use std::collections::VecDeque;

use crate::rng::Rng;
use crate::task::JobId;
use crate::wire::{Dispatch, Register, Registered, Report, Retract, Retracted, Run, StopTasks, Submit, SubmitRefusal};

/// Who is at the other end of the controller's links, by its number in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Node(usize),
    Client(usize),
}

#[derive(Debug)]
pub(super) enum ToController {
    Register(Register),
    Report { ask: u64, report: Report },
    Retracted(Retracted),
    Submit { ask: u64, submit: Submit },
    Abort { ask: u64, job: JobId, first: u32, count: u32 },
    Subscribe(JobId),
}

#[derive(Debug)]
pub(super) enum ToPeer {
    Registered(Result<Registered, String>),
    Dispatch(u32, Dispatch),
    Retract(u32, Retract),
    Stop(u32, StopTasks),
    Answer { ask: u64, answer: Answer },
    Results { job: JobId, run: Run },
    Known { job: JobId, known: bool },
}

#[derive(Debug)]
pub(super) enum Answer {
    /// The outcomes are kept.
    Kept,
    /// They are not wanted.
    NotWanted,
    Submitted(Result<(), SubmitRefusal>),
    Aborted,
}

/// Whether a message travels in order or by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Control,
    Bulk,
}

#[derive(Debug)]
pub(super) struct Lane<M> {
    control: VecDeque<M>,
    bulk: Vec<M>,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self { control: VecDeque::new(), bulk: Vec::new() }
    }
}

impl<M> Lane<M> {
    pub(super) fn push(&mut self, message: M, way: Way) {
        match way {
            Way::Control => self.control.push_back(message),
            Way::Bulk => self.bulk.push(message),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.control.len() + self.bulk.len()
    }

    /// One of the messages that may come next.
    pub(super) fn take(&mut self, rng: &mut Rng) -> Option<M> {
        if !self.bulk.is_empty() && (self.control.is_empty() || rng.one_in(3)) {
            let at = rng.below(self.bulk.len() as u64) as usize;
            return Some(self.bulk.swap_remove(at));
        }
        self.control.pop_front()
    }

    /// What is under way from some message on never comes.
    fn cut(&mut self, rng: &mut Rng) {
        self.control.truncate(rng.below(self.control.len() as u64 + 1) as usize);
        self.bulk.truncate(rng.below(self.bulk.len() as u64 + 1) as usize);
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) inbound: Lane<ToController>,
    pub(super) outbound: Lane<ToPeer>,
    pub(super) broken: bool,
    pub(super) controller_knows: bool,
    pub(super) peer_knows: bool,
}

impl Link {
    pub(super) fn new(peer: Peer) -> Self {
        let (inbound, outbound) = (Lane::default(), Lane::default());
        Self { peer, inbound, outbound, broken: false, controller_knows: false, peer_knows: false }
    }

    pub(super) fn break_off(&mut self, rng: &mut Rng) {
        if !std::mem::replace(&mut self.broken, true) {
            self.inbound.cut(rng);
            self.outbound.cut(rng);
        }
    }

    pub(super) fn send_to_peer(&mut self, message: ToPeer, way: Way) {
        if !self.broken {
            self.outbound.push(message, way);
        }
    }

    pub(super) fn send_to_controller(&mut self, message: ToController, way: Way) {
        if !self.broken {
            self.inbound.push(message, way);
        }
    }
}
