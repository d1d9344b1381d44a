//! The result-store actor: records outcomes, answers questions, and sends results to subscribers within their windows.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::{Link, SendError},
};

use super::{
    EndLink, KeepRun, Kept, NoteEngines, RecordLosses, RecordRun, Settle, Store, StoreStatus, SubscribeOwner,
    memory::{Memory, MemoryLimits},
};
use crate::client::ClientActor;
use crate::status::StatusCounts;
use crate::task::{Cause, JobId};
use crate::wire::{
    AwaitEnd, CLIENT, FetchTasks, Purge, PurgeOlder, QueryStatus, QueryTasks, Results, Run, RunBody, StoreRefusal, Subscribe,
    Taken,
};

/// How many subscriptions one store serves. Beyond it a client is told that the job is unknown here.
const SUBSCRIPTIONS_MAX: usize = 1 << 20;

/// The pause before results are offered again to a link that was full.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// An actor that holds the outcomes of the jobs of its shard.
pub(crate) struct ResultStore {
    memory: Memory,
    /// Who wants the results of a job.
    subscriptions: HashMap<JobId, Vec<Subscription>>,
    /// Jobs of which a subscription waits for a link that was full.
    blocked: Vec<JobId>,
    /// The scheduler.
    keeper: Recipient<Kept>,
}

struct Subscription {
    client: RemoteAddr<ClientActor>,
    /// The client's number for it.
    number: u64,
    /// First index and count, ascending.
    ranges: Vec<(u32, u32)>,
    /// How many more bytes the client takes; the message that exhausts it still goes.
    credit: i64,
    /// Runs that wait for credit: first index and count.
    waiting: BTreeMap<u32, u32>,
}

/// Whether a subscription can be sent more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// It has what there is, or its window is full.
    Settled,
    /// The link was full.
    Blocked,
}

impl ResultStore {
    /// A store that keeps what it is told while the controller lives.
    pub fn memory(limits: MemoryLimits, keeper: Recipient<Kept>) -> Self {
        Self { memory: Memory::new(limits), subscriptions: HashMap::new(), blocked: Vec::new(), keeper }
    }

    /// A store that keeps what it is told in a file, together with other stores of the controller.
    pub fn on_disk(_store: Store, keeper: Recipient<Kept>) -> Self {
        Self::memory(MemoryLimits::default(), keeper)
    }

    /// Starts a subscription with what there is already, in place of an older one of its number. One without ranges only ends
    /// the older one.
    fn subscribe(&mut self, job: JobId, mut subscription: Subscription, context: &mut Context<Self>) {
        let of_job = self.subscriptions.entry(job).or_default();
        of_job.retain(|other| other.client.link() != subscription.client.link() || other.number != subscription.number);
        for (first, count) in subscription.ranges.clone() {
            subscription.waiting.extend(self.memory.evicted_within(job, first, count));
            let runs = self.memory.runs_within(job, first, count);
            subscription.waiting.extend(runs.filter_map(|first| Some((first, self.memory.run(job, first)?.count))));
        }
        if !subscription.ranges.is_empty() {
            of_job.push(subscription);
        }
        self.push_waiting(job, context);
    }

    /// Sends the subscriptions of a job what they wait for, as far as their windows go, and ends those that are done.
    fn push_waiting(&mut self, job: JobId, context: &mut Context<Self>) {
        let Some(of_job) = self.subscriptions.get_mut(&job) else { return };
        let mut blocked = false;
        for subscription in of_job.iter_mut() {
            blocked |= subscription.send_waiting(job, &self.memory) == Flow::Blocked;
        }
        if self.memory.has_ended(job) {
            of_job.retain(|subscription| !subscription.waiting.is_empty());
        }
        if of_job.is_empty() {
            self.subscriptions.remove(&job);
        }
        if blocked {
            self.retry_later(job, context);
        }
    }

    /// Offers a job's results again in a while. One timer serves all.
    fn retry_later(&mut self, job: JobId, context: &mut Context<Self>) {
        if self.blocked.is_empty() {
            context.run_later(RETRY_PAUSE, |this, context| {
                let blocked = std::mem::take(&mut this.blocked);
                blocked.into_iter().for_each(|job| this.push_waiting(job, context));
            });
        }
        if !self.blocked.contains(&job) {
            self.blocked.push(job);
        }
    }
}

impl Subscription {
    fn new(link: Link, number: u64, mut ranges: Vec<(u32, u32)>, window_bytes: u64) -> Self {
        ranges.sort_unstable();
        Self {
            client: RemoteAddr::new(link, CLIENT),
            number,
            ranges,
            credit: i64::try_from(window_bytes).unwrap_or(i64::MAX),
            waiting: BTreeMap::new(),
        }
    }

    fn wants(&self, run: &Run) -> bool {
        let until = self.ranges.partition_point(|(first, _)| *first < run.end());
        // Ranges may overlap, but the clients' do not: the last that starts before the run's end reaches furthest.
        self.ranges[..until].last().is_some_and(|(first, count)| first.saturating_add(*count) > run.first)
    }

    fn offer(&mut self, job: JobId, run: &Run) -> Flow {
        if !self.wants(run) {
            return Flow::Settled;
        }
        if self.credit <= 0 || !self.waiting.is_empty() {
            self.waiting.insert(run.first, run.count);
            return Flow::Settled;
        }
        let flow = self.send(job, run);
        if flow == Flow::Blocked {
            self.waiting.insert(run.first, run.count);
        }
        flow
    }

    fn send(&mut self, job: JobId, run: &Run) -> Flow {
        let message = Results { job, subscription: self.number, run: run.clone() };
        match self.client.tell(&message) {
            Ok(()) => self.credit -= i64::try_from(run.window_bytes()).unwrap_or(i64::MAX),
            Err(SendError::Full { .. }) => return Flow::Blocked,
            Err(SendError::Encoding(message)) => {
                let cause = Cause::WrongResult { type_name: "result".into(), message };
                return self.send(job, &Run { body: RunBody::Ended(cause), ..run.clone() });
            }
            // The link is down; the client subscribes again when it is back.
            Err(SendError::Down { .. } | SendError::NotAccepted { .. }) => {}
        }
        Flow::Settled
    }

    fn send_waiting(&mut self, job: JobId, memory: &Memory) -> Flow {
        while self.credit > 0 {
            let Some((first, count)) = self.waiting.pop_first() else { break };
            let flow = match memory.run(job, first) {
                Some(run) => self.send(job, run),
                None => self.send(job, &evicted(first, count)),
            };
            if flow == Flow::Blocked {
                self.waiting.insert(first, count);
                return flow;
            }
        }
        Flow::Settled
    }
}

impl Actor for ResultStore {
    type Context = Context<Self>;
}

impl Handler<KeepRun> for ResultStore {
    type Result = ();

    fn handle(&mut self, keep: KeepRun, context: &mut Context<Self>) {
        let KeepRun { job, open, arguments, closed, .. } = keep;
        if let Some((owner, _)) = open {
            self.memory.open(job, &owner.name);
        }
        // A run has fewer than 2^32 tasks, which the scheduler checks.
        self.memory.extend(job, arguments.len() as u32, now_us());
        if closed {
            self.memory.close(job);
            self.push_waiting(job, context);
        }
        self.keeper.do_send(Kept { job, outcome: Ok(()) });
    }
}

impl Handler<SubscribeOwner> for ResultStore {
    type Result = ();

    fn handle(&mut self, subscribe: SubscribeOwner, context: &mut Context<Self>) {
        let SubscribeOwner { job, client, subscription, window_bytes } = subscribe;
        // A job that is here already stays its owner's.
        let is_own = self.memory.job(job).is_some_and(|(of, _)| of == client.peer().name.name());
        if is_own && window_bytes > 0 {
            let all = Subscription::new(client, subscription, vec![(0, u32::MAX)], window_bytes);
            self.subscribe(job, all, context);
        }
    }
}

impl Handler<RecordLosses> for ResultStore {
    type Result = ();

    // What is in memory does not outlive the scheduler, which knows them.
    fn handle(&mut self, _: RecordLosses, _: &mut Context<Self>) {}
}

impl Handler<NoteEngines> for ResultStore {
    type Result = ();

    fn handle(&mut self, _: NoteEngines, _: &mut Context<Self>) {}
}

impl Handler<Settle> for ResultStore {
    type Result = ();

    fn handle(&mut self, _: Settle, _: &mut Context<Self>) {}
}

impl Handler<RecordRun> for ResultStore {
    type Result = ();

    fn handle(&mut self, record: RecordRun, context: &mut Context<Self>) {
        let RecordRun { job, run, kept } = record;
        let mut blocked = false;
        if let Some(run) = self.memory.record(job, run) {
            for subscription in self.subscriptions.get_mut(&job).into_iter().flatten() {
                blocked |= subscription.offer(job, run) == Flow::Blocked;
            }
        }
        if blocked {
            self.retry_later(job, context);
        } else if self.memory.has_ended(job) {
            self.push_waiting(job, context);
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

    fn handle(&mut self, remote: Remote<Subscribe>, context: &mut Context<Self>) {
        let Remote { message: Subscribe { job, subscription, ranges, window_bytes }, from, reply } = remote;
        let owner = from.peer().name.name();
        let known = self.memory.job(job).filter(|(of, _)| *of == owner).map(|(_, counts)| counts);
        let Some(counts) = known.filter(|_| self.subscriptions.len() < SUBSCRIPTIONS_MAX) else {
            return reply.send(&None);
        };
        reply.send(&Some(counts));
        self.subscribe(job, Subscription::new(from, subscription, ranges, window_bytes), context);
    }
}

impl Handler<Remote<Taken>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Taken>, context: &mut Context<Self>) {
        let Taken { job, subscription: number, runs, grant_bytes } = remote.message;
        let owner = remote.from.peer().name.name();
        if self.memory.job(job).is_none_or(|(of, _)| of != owner) {
            return;
        }
        runs.into_iter().for_each(|first| self.memory.take(job, first));
        let of_client = |other: &&mut Subscription| *other.client.link() == remote.from && other.number == number;
        if let Some(subscription) = self.subscriptions.get_mut(&job).into_iter().flatten().find(of_client) {
            let grant = i64::try_from(grant_bytes).unwrap_or(i64::MAX);
            subscription.credit = subscription.credit.saturating_add(grant);
            self.push_waiting(job, context);
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

fn evicted(first: u32, count: u32) -> Run {
    Run { first, count, engine: None, attempt: 0, submitted_us: 0, body: RunBody::Ended(Cause::Evicted) }
}

/// Microseconds since the Unix epoch by this machine's clock.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Handler<Remote<AwaitEnd>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<AwaitEnd>, _: &mut Context<Self>) {
        remote.reply.send(&Err(not_here()));
    }
}

impl Handler<Remote<FetchTasks>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<FetchTasks>, _: &mut Context<Self>) {
        remote.reply.send(&Err(not_here()));
    }
}

impl Handler<Remote<Purge>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Purge>, _: &mut Context<Self>) {
        remote.reply.send(&Err(not_here()));
    }
}

impl Handler<Remote<PurgeOlder>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<PurgeOlder>, _: &mut Context<Self>) {
        remote.reply.send(&Err(not_here()));
    }
}

impl Handler<Remote<QueryTasks>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<QueryTasks>, _: &mut Context<Self>) {
        remote.reply.send(&Err(not_here()));
    }
}

fn not_here() -> StoreRefusal {
    StoreRefusal::NotHere("the controller keeps its results in memory: start it with `--store sqlite`".into())
}
