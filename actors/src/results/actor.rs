//! The result-store actor: records outcomes, answers questions, and sends results to subscribers within their windows.

use std::{
    collections::{HashMap, VecDeque},
    time::{SystemTime, UNIX_EPOCH},
};

use actix::{Actor, Context, Handler, Message};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::Link,
};

use super::memory::{Memory, Retention, run_bytes};
use crate::client::ClientActor;
use crate::status::StatusCounts;
use crate::task::{Cause, JobId};
use crate::wire::{CLIENT, JobCounts, QueryStatus, Results, Run, RunBody, Subscribe, Taken};

/// How many subscriptions one store serves. Beyond it a client is told that the job is unknown here.
const SUBSCRIPTIONS_MAX: usize = 1 << 20;

/// How many messages of one subscription may be on their way without having been taken.
const UNTAKEN_MAX: usize = 1 << 16;

/// An actor that holds the outcomes of the jobs of its shard.
pub(crate) struct ResultStore {
    memory: Memory,
    /// Who wants the results of a job.
    subscriptions: HashMap<JobId, Vec<Subscription>>,
}

struct Subscription {
    client: RemoteAddr<ClientActor>,
    /// The client's number for it.
    number: u64,
    ranges: Vec<(u32, u32)>,
    /// How many more bytes the client takes; the message that exhausts it still goes.
    credit: i64,
    /// Runs that wait for credit, by their first index.
    waiting: VecDeque<u32>,
    /// What was sent and not taken yet: number and first index.
    untaken: HashMap<u64, u32>,
    sequence: u64,
}

/// The scheduler opens a job, with a subscription of the client that submitted it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenJob {
    pub job: JobId,
    pub client: Link,
    pub subscription: u64,
    pub window_bytes: u64,
}

/// So many more tasks were submitted; and perhaps no more will be.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ExtendJob {
    pub job: JobId,
    pub count: u32,
    pub closed: bool,
}

/// The outcomes of a run of tasks, accepted by the scheduler.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordRun {
    pub job: JobId,
    pub run: Run,
    /// Told once the outcomes are kept.
    pub kept: Option<engineroom_runtime::actor::Reply<()>>,
}

/// Links that ended: their subscriptions go.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EndLink {
    pub link: Link,
}

/// How much this store holds.
#[derive(Message)]
#[rtype(result = "(usize, usize)")]
pub(crate) struct StoreStatus;

impl ResultStore {
    pub fn new(retention: Retention) -> Self {
        Self { memory: Memory::new(retention), subscriptions: HashMap::new() }
    }

    /// Starts a subscription with what there is already.
    fn subscribe(&mut self, job: JobId, mut subscription: Subscription) {
        let counts = self.memory.job(job).map_or_else(JobCounts::default, |(_, counts)| counts);
        for (first, count) in subscription.ranges.clone() {
            for gap in self.memory.evicted_within(job, first, count) {
                subscription.send(job, &evicted(gap), counts);
            }
            subscription.waiting.extend(self.memory.runs_within(job, first, count));
        }
        subscription.send_waiting(job, &self.memory, counts);
        let of_job = self.subscriptions.entry(job).or_default();
        of_job.retain(|other| other.client.link() != subscription.client.link() || other.number != subscription.number);
        of_job.push(subscription);
    }

    /// Ends the subscriptions of an ended job that have nothing left to send or to be taken.
    fn drop_idle(&mut self, job: JobId) {
        let Some(of_job) = self.subscriptions.get_mut(&job) else { return };
        of_job.retain(|subscription| !(subscription.waiting.is_empty() && subscription.untaken.is_empty()));
        if of_job.is_empty() {
            self.subscriptions.remove(&job);
        }
    }

    fn subscriptions_count(&self) -> usize {
        self.subscriptions.len()
    }
}

impl Default for ResultStore {
    fn default() -> Self {
        Self::new(Retention::default())
    }
}

impl Subscription {
    fn new(link: Link, number: u64, ranges: Vec<(u32, u32)>, window_bytes: u64) -> Self {
        Self {
            client: RemoteAddr::new(link, CLIENT),
            number,
            ranges,
            credit: i64::try_from(window_bytes).unwrap_or(i64::MAX),
            waiting: VecDeque::new(),
            untaken: HashMap::new(),
            sequence: 0,
        }
    }

    fn wants(&self, run: &Run) -> bool {
        let overlaps = |&(first, count): &(u32, u32)| first < run.first + run.count && run.first < first.saturating_add(count);
        self.ranges.iter().any(overlaps)
    }

    fn offer(&mut self, job: JobId, run: &Run, counts: JobCounts) {
        if !self.wants(run) {
            return;
        }
        if self.credit <= 0 || !self.waiting.is_empty() || self.untaken.len() >= UNTAKEN_MAX {
            self.waiting.push_back(run.first);
            return;
        }
        self.send(job, run, counts);
    }

    fn send(&mut self, job: JobId, run: &Run, counts: JobCounts) {
        self.sequence += 1;
        let message = Results { job, subscription: self.number, sequence: self.sequence, run: Some(run.clone()), counts };
        match self.client.tell(&message) {
            Ok(()) => {
                self.credit -= i64::try_from(run_bytes(run)).unwrap_or(i64::MAX);
                self.untaken.insert(self.sequence, run.first);
            }
            // The link is down, or as good as; it comes again by a new subscription.
            Err(error) => tracing::debug!(%job, "results wait: {error}"),
        }
    }

    fn send_waiting(&mut self, job: JobId, memory: &Memory, counts: JobCounts) {
        while self.credit > 0 && self.untaken.len() < UNTAKEN_MAX {
            let Some(first) = self.waiting.pop_front() else { break };
            if let Some(run) = memory.run(job, first) {
                self.send(job, run, counts);
            }
        }
    }
}

impl Actor for ResultStore {
    type Context = Context<Self>;
}

impl Handler<OpenJob> for ResultStore {
    type Result = ();

    fn handle(&mut self, open: OpenJob, _: &mut Context<Self>) {
        self.memory.open(open.job, open.client.peer().name.name());
        if open.window_bytes > 0 {
            self.subscribe(open.job, Subscription::new(open.client, open.subscription, vec![(0, u32::MAX)], open.window_bytes));
        }
    }
}

impl Handler<ExtendJob> for ResultStore {
    type Result = ();

    fn handle(&mut self, extend: ExtendJob, _: &mut Context<Self>) {
        self.memory.extend(extend.job, extend.count, now_us());
        if extend.closed {
            self.memory.close(extend.job);
        }
    }
}

impl Handler<RecordRun> for ResultStore {
    type Result = ();

    fn handle(&mut self, record: RecordRun, _: &mut Context<Self>) {
        let RecordRun { job, run, kept } = record;
        if let Some((run, counts)) = self.memory.record(job, run) {
            for subscription in self.subscriptions.get_mut(&job).into_iter().flatten() {
                subscription.offer(job, run, counts);
            }
        }
        // Kept, or of a job or task that needs no outcome any more: either way the engine may forget it.
        if let Some(kept) = kept {
            kept.send(&());
        }
    }
}

impl Handler<EndLink> for ResultStore {
    type Result = ();

    fn handle(&mut self, end: EndLink, _: &mut Context<Self>) {
        self.subscriptions.retain(|_, subscriptions| {
            subscriptions.retain(|subscription| *subscription.client.link() != end.link);
            !subscriptions.is_empty()
        });
    }
}

impl Handler<StoreStatus> for ResultStore {
    type Result = actix::MessageResult<StoreStatus>;

    fn handle(&mut self, _: StoreStatus, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.memory.size())
    }
}

impl Handler<Remote<Subscribe>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Subscribe>, _: &mut Context<Self>) {
        let Remote { message: Subscribe { job, subscription, ranges, window_bytes }, from, reply } = remote;
        let owner = from.peer().name.name().to_owned();
        let known = self.memory.job(job).filter(|(of, _)| *of == owner).map(|(_, counts)| counts);
        let Some(counts) = known.filter(|_| self.subscriptions_count() < SUBSCRIPTIONS_MAX) else {
            return reply.send(&None);
        };
        reply.send(&Some(counts));
        self.subscribe(job, Subscription::new(from, subscription, ranges, window_bytes));
    }
}

impl Handler<Remote<Taken>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Taken>, _: &mut Context<Self>) {
        let Taken { job, subscription: number, sequence, grant_bytes } = remote.message;
        let Some((_, counts)) = self.memory.job(job) else { return };
        let subscriptions = self.subscriptions.get_mut(&job).into_iter().flatten();
        let of_client = |other: &&mut Subscription| *other.client.link() == remote.from && other.number == number;
        for subscription in subscriptions.filter(of_client) {
            for number in &sequence {
                if let Some(first) = subscription.untaken.remove(number) {
                    self.memory.take(job, first);
                }
            }
            let grant = i64::try_from(grant_bytes).unwrap_or(i64::MAX);
            subscription.credit = subscription.credit.saturating_add(grant);
            subscription.send_waiting(job, &self.memory, counts);
        }
        if self.memory.has_ended(job) {
            self.drop_idle(job);
        }
    }
}

impl Handler<Remote<QueryStatus>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<QueryStatus>, _: &mut Context<Self>) {
        let mut sum = StatusCounts::default();
        for (job, first, count) in &remote.message.runs {
            sum += self.memory.status(*job, *first, *count);
        }
        remote.reply.send(&sum);
    }
}

fn evicted((first, count): (u32, u32)) -> Run {
    Run { first, count, engine: None, attempt: 0, submitted_us: 0, body: RunBody::Ended(Cause::Evicted) }
}

/// Microseconds since the Unix epoch by this machine's clock.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
