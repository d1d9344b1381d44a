//! Clients: they hand their tasks over in parts, send again by the next link what was not acknowledged, and want all results.

use std::collections::{BTreeMap, VecDeque};

use super::network::{Answer, ToController, ToPeer, Way};
use crate::code::{Function, FunctionRef};
use crate::results::Owner;
use crate::task::{EngineId, JobId, Packed, PackedBuilder, TaskOptions};
use crate::wire::{JobHeader, RunBody, Submit, SubmitRefusal};

/// How many parts of a job may be under way.
const PARTS_MAX: usize = 4;

pub(super) struct Client {
    pub(super) owner: Owner,
    pub(super) alive: bool,
    pub(super) link: Option<u64>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) sends: Vec<(ToController, Way)>,
    next_ask: u64,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) header: JobHeader,
    unsent: VecDeque<Part>,
    in_flight: VecDeque<(u64, Part)>,
    /// Tasks that the program has given.
    pub(super) fed: u32,
    pub(super) closed: bool,
    pub(super) acknowledged: u32,
    pub(super) closed_acknowledged: bool,
    pub(super) opened: bool,
    /// Refused: the program has seen an error.
    pub(super) dead: bool,
    pub(super) results: BTreeMap<u32, RunBody>,
}

#[derive(Clone, Debug)]
struct Part {
    open: Option<JobHeader>,
    first: u32,
    arguments: Packed,
    closed: bool,
    long: bool,
}

/// The argument of a task, and its value.
pub(super) fn argument(job: JobId, index: u32) -> Vec<u8> {
    format!("{job}/{index}").into_bytes()
}

impl Client {
    pub(super) fn new(owner: Owner) -> Self {
        Self { owner, alive: true, link: None, jobs: BTreeMap::new(), sends: Vec::new(), next_ask: 0 }
    }

    pub(super) fn open(&mut self, id: JobId, direct: Vec<(EngineId, u32)>, chunk: u32, options: TaskOptions) {
        let function = Function { reference: FunctionRef::Named { name: "sum".into() }, name: "sum".into() };
        let header = JobHeader {
            function,
            target: String::new(),
            direct,
            chunk,
            label: None,
            subscription: 1,
            window_bytes: 1 << 20,
            shared: None,
            options: Box::new(options),
        };
        let (unsent, in_flight, results) = Default::default();
        let (fed, acknowledged, closed) = (0, 0, false);
        let job = Job {
            header,
            unsent,
            in_flight,
            fed,
            closed,
            acknowledged,
            closed_acknowledged: false,
            opened: false,
            dead: false,
            results,
        };
        self.jobs.insert(id, job);
    }

    /// The program gives more tasks, or says that there will be none.
    pub(super) fn feed(&mut self, id: JobId, count: u32, closed: bool, long: bool) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| !job.closed && !job.dead) else { return };
        let mut arguments = PackedBuilder::default();
        (job.fed..job.fed + count).for_each(|index| arguments.push(&argument(id, index)));
        let open = (job.fed == 0 && job.unsent.is_empty() && job.in_flight.is_empty() && !job.opened).then(|| job.header.clone());
        job.unsent.push_back(Part { open, first: job.fed, arguments: arguments.build(), closed, long });
        (job.fed, job.closed) = (job.fed + count, closed);
    }

    pub(super) fn connected(&mut self, link: u64) {
        self.link = Some(link);
        for (id, job) in self.jobs.iter().filter(|(_, job)| job.opened && !job.dead) {
            if !job.is_complete() {
                self.sends.push((ToController::Subscribe(*id), Way::Control));
            }
        }
    }

    pub(super) fn disconnected(&mut self) {
        self.link = None;
        for job in self.jobs.values_mut() {
            while let Some((_, part)) = job.in_flight.pop_back() {
                job.unsent.push_front(part);
            }
        }
    }

    /// Hands over what may go.
    pub(super) fn pump(&mut self) {
        if self.link.is_none() {
            return;
        }
        for (id, job) in &mut self.jobs {
            while !job.dead && job.may_send() {
                let Some(part) = job.unsent.pop_front() else { break };
                self.next_ask += 1;
                let way = if part.long { Way::Bulk } else { Way::Control };
                let Part { open, first, arguments, closed, .. } = part.clone();
                job.in_flight.push_back((self.next_ask, part));
                let submit = Submit { job: *id, open, first, arguments, closed };
                self.sends.push((ToController::Submit { ask: self.next_ask, submit }, way));
            }
        }
    }

    /// Says which tasks of which job were acknowledged by this message, if any were: the end of the part, and whether it was the
    /// last.
    pub(super) fn handle(&mut self, message: ToPeer) -> Option<(JobId, u32, bool)> {
        match message {
            ToPeer::Answer { ask, answer: Answer::Submitted(answer) } => return self.submitted(ask, answer),
            ToPeer::Answer { .. } => {}
            ToPeer::Results { job, run } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.take(run.first, run.end(), &run.body);
                }
            }
            ToPeer::Known { job, known } => assert!(known, "the controller does not know job {job}, which was acknowledged"),
            other => panic!("a client is sent {other:?}"),
        }
        None
    }

    fn submitted(&mut self, ask: u64, answer: Result<(), SubmitRefusal>) -> Option<(JobId, u32, bool)> {
        let of = |job: &Job| job.in_flight.front().is_some_and(|(first, _)| *first == ask);
        let (id, job) = self.jobs.iter_mut().find(|(_, job)| of(job))?;
        let (_, part) = job.in_flight.pop_front()?;
        match answer {
            Ok(()) => {
                let end = part.first + part.arguments.len() as u32;
                job.opened = true;
                job.acknowledged = job.acknowledged.max(end);
                job.closed_acknowledged |= part.closed;
                Some((*id, end, part.closed))
            }
            Err(refusal) => {
                let told = matches!(refusal, SubmitRefusal::NotKept(_));
                assert!(told && job.acknowledged == 0, "job {id} is refused: {refusal:?}");
                job.dead = true;
                job.unsent.clear();
                job.in_flight.clear();
                None
            }
        }
    }
}

impl Job {
    fn may_send(&self) -> bool {
        let alone = self.in_flight.iter().any(|(_, part)| part.long);
        let next_long = self.unsent.front().is_some_and(|part| part.long);
        self.in_flight.len() < PARTS_MAX && !alone && (!next_long || self.in_flight.is_empty())
    }

    fn take(&mut self, first: u32, end: u32, body: &RunBody) {
        for index in first..end {
            let single = match body {
                RunBody::Ran(outcomes) => RunBody::Ran(outcomes.clone()),
                RunBody::Ended(cause) => RunBody::Ended(cause.clone()),
            };
            self.results.entry(index).or_insert(single);
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.closed_acknowledged && self.results.len() == self.fed as usize
    }

    pub(super) fn is_handed_over(&self) -> bool {
        self.dead || self.unsent.is_empty() && self.in_flight.is_empty()
    }
}
