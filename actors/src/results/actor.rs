//! The result-store actor: has outcomes kept, and sends them to subscribers within their windows. What clients ask is in
//! [`questions`].

mod disk;
mod questions;

use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient, ResponseFuture};
use engineroom_runtime::{actor::Reply, net::link::Link};
use tokio::sync::oneshot;

use self::disk::Disk;
use super::{
    CountTasks, EndLink, KeepRun, Kept, LocateTasks, MemoryLimits, NoteEngines, NoteReleased, PassNews, RecordLosses, RecordRun,
    Settle, Store, StoreStatus, SubscribeOwner,
    awaiting::{Awaiting, Next},
    backend::{Answer, Done, Page, Question, Write},
    memory::Memory,
    now_us,
    port::FromStore,
    subscription::{Key, OfJob, Subscription, Subscriptions},
};
use crate::scheduler::{Known, Located};
use crate::task::JobId;
use crate::wire::{FetchedTasks, JobCounts, Run, StoreRefusal, TaskPage};

/// How many jobs one store serves subscriptions of. Beyond it a client is told that the job is unknown here.
const SUBSCRIPTIONS_MAX: usize = 1 << 20;

/// The pause before results are offered again to a link that was full.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// An actor that holds the outcomes of the jobs of its shard.
pub(crate) struct ResultStore {
    backend: Backend,
    /// Who wants the results of a job.
    subscriptions: Subscriptions,
    /// Jobs of which a subscription waits for a link that was full.
    blocked: Vec<JobId>,
    awaiting: Awaiting<Waiter>,
    /// The scheduler.
    keeper: Recipient<Kept>,
}

/// Where results are. Memory answers at once, the disk later.
enum Backend {
    Memory(Memory),
    Disk(Disk),
}

/// Who is told when tasks have ended.
struct Waiter {
    link: Link,
    reply: Reply<Result<(), StoreRefusal>>,
}

/// What is to be done when something is kept.
enum Then {
    TellKeeper(JobId),
    Recorded { job: JobId, tasks: (u32, u32), reply: Option<Reply<()>> },
    Subscribe(JobId, Box<Subscription>),
    Settled(oneshot::Sender<()>),
    Counted(oneshot::Sender<Option<Known>>),
    Purged(Reply<Result<u64, StoreRefusal>>),
}

/// What is to be done with an answer.
enum Asker {
    Subscribe(JobId, Box<Subscription>, Reply<Option<JobCounts>>),
    Page(JobId, Key),
    Status(Reply<crate::status::StatusCounts>),
    Awaits(u64),
    Tasks(Reply<Result<FetchedTasks, StoreRefusal>>),
    Records(Reply<Result<TaskPage, StoreRefusal>>),
    Locates(oneshot::Sender<Located>),
}

impl ResultStore {
    /// A store that keeps what it is told while the controller lives.
    pub fn memory(limits: MemoryLimits, keeper: Recipient<Kept>) -> Self {
        Self::with(Backend::Memory(Memory::new(limits)), keeper)
    }

    /// A store that keeps what it is told in a file, together with the other stores of the controller. It ends when the file
    /// cannot be used any more.
    pub fn on_disk(store: Store, keeper: Recipient<Kept>) -> Self {
        Self::with(Backend::Disk(Disk::new(store)), keeper)
    }

    fn with(backend: Backend, keeper: Recipient<Kept>) -> Self {
        Self { backend, subscriptions: Subscriptions::new(), blocked: Vec::new(), awaiting: Awaiting::default(), keeper }
    }

    /// Has something kept, and then does what is to be done.
    fn write(&mut self, write: Write, then: Then, context: &mut Context<Self>) {
        match &mut self.backend {
            Backend::Memory(memory) => {
                if let Some(done) = memory.apply(write, now_us()) {
                    self.written(then, done, context);
                }
            }
            Backend::Disk(disk) => disk.write(write, then),
        }
    }

    /// Has something kept that nobody waits for.
    fn write_only(&mut self, write: Write) {
        match &mut self.backend {
            Backend::Memory(memory) => drop(memory.apply(write, now_us())),
            Backend::Disk(disk) => disk.write_only(write),
        }
    }

    /// Has something read, and then does what is to be done with it.
    fn ask(&mut self, question: Question, asker: Asker, context: &mut Context<Self>) {
        match &mut self.backend {
            Backend::Memory(memory) => {
                let answer = memory.answer(question);
                self.answered(asker, answer, context);
            }
            Backend::Disk(disk) => disk.ask(question, asker),
        }
    }

    /// What became of a write. A [`Done`] of another kind than the write's does not come.
    fn written(&mut self, then: Then, done: Done, context: &mut Context<Self>) {
        match (then, done) {
            (Then::TellKeeper(job), Done::Kept(outcome)) => {
                if outcome == Ok(true) {
                    self.job_ended(job);
                }
                self.keeper.do_send(Kept { job, outcome: outcome.map(drop) });
            }
            (Then::Recorded { job, tasks, reply }, Done::Recorded(run, ended)) => {
                // Kept, or of a job or task that needs no outcome any more: either way the engine may forget it.
                if let Some(reply) = reply {
                    reply.send_soon(&());
                }
                if let Some(run) = run {
                    self.recorded(job, tasks, run, context);
                }
                if ended {
                    self.job_ended(job);
                }
            }
            (Then::Subscribe(job, mut subscription), Done::Looked(Some(info))) => {
                // A job that is here already stays its owner's.
                if *info.owner == *subscription.link().peer().name.name() {
                    if info.counts.done == 0 {
                        subscription.cursor.nothing_yet();
                    }
                    self.subscribe(job, *subscription, info.ended, context);
                }
            }
            (Then::Settled(settled), _) => drop(settled.send(())),
            (Then::Counted(reply), Done::Counted(known)) => drop(reply.send(known)),
            (Then::Purged(reply), Done::Purged(purged)) => reply.send(&purged),
            (Then::TellKeeper(_) | Then::Recorded { .. } | Then::Subscribe(..) | Then::Counted(_) | Then::Purged(_), _) => {}
        }
    }

    fn answered(&mut self, asker: Asker, answer: Answer, context: &mut Context<Self>) {
        match (asker, answer) {
            (Asker::Subscribe(job, subscription, reply), Answer::Job(info)) => {
                let info = info.filter(|info| questions::viewer(subscription.link()).sees(&info.owner));
                let Some(info) = info.filter(|_| self.subscriptions.len() < SUBSCRIPTIONS_MAX) else {
                    return reply.send(&None);
                };
                reply.send(&Some(info.counts));
                self.subscribe(job, *subscription, info.ended, context);
            }
            (Asker::Page(job, key), Answer::Page(page)) => {
                self.deliver(job, key, page, context);
                self.pump(job, context);
            }
            (Asker::Status(reply), Answer::Status(counts)) => reply.send(&counts),
            (Asker::Awaits(waiter), Answer::FirstPending(first)) => {
                let next = self.awaiting.answered(waiter, first);
                self.wait_on(waiter, next, context);
            }
            (Asker::Tasks(reply), Answer::Tasks(tasks)) => reply.send(&tasks),
            (Asker::Records(reply), Answer::Records(records)) => reply.send(&records),
            (Asker::Locates(reply), Answer::Whereabouts(located)) => drop(reply.send(located)),
            _ => {}
        }
    }

    /// Outcomes have been recorded: sends them to those who want them.
    fn recorded(&mut self, job: JobId, (first, end): (u32, u32), run: Run, context: &mut Context<Self>) {
        if let Some(of_job) = self.subscriptions.get_mut(&job)
            && of_job.offer(job, run)
        {
            self.retry_later(job, context);
        }
        for (waiter, next) in self.awaiting.ended(job, first, end) {
            self.wait_on(waiter, next, context);
        }
    }

    fn job_ended(&mut self, job: JobId) {
        if let Some(of_job) = self.subscriptions.get_mut(&job) {
            of_job.ended = true;
            if of_job.sweep() {
                self.subscriptions.remove(&job);
            }
        }
    }

    /// Starts a subscription with what there is already, in place of an older one of its number. One without ranges only ends
    /// the older one.
    fn subscribe(&mut self, job: JobId, subscription: Subscription, ended: bool, context: &mut Context<Self>) {
        // Its link may have ended while the store was asked.
        if subscription.link().is_up() {
            let of_job: &mut OfJob = self.subscriptions.entry(job).or_default();
            of_job.ended |= ended;
            of_job.add(subscription);
        }
        self.pump(job, context);
    }

    /// Reads for the subscriptions of a job what they have not been sent, as far as their windows go, and ends those that are
    /// done.
    fn pump(&mut self, job: JobId, context: &mut Context<Self>) {
        while let Some(of_job) = self.subscriptions.get_mut(&job)
            && let Some((key, (ranges, bytes_max))) = of_job.all.iter_mut().find_map(|one| Some((one.key(), one.next_page()?)))
        {
            let question = Question::Page { job, ranges, bytes_max };
            match &mut self.backend {
                Backend::Memory(memory) => {
                    if let Answer::Page(page) = memory.answer(question) {
                        self.deliver(job, key, page, context);
                    }
                }
                Backend::Disk(disk) => disk.ask(question, Asker::Page(job, key)),
            }
        }
        if self.subscriptions.get_mut(&job).is_some_and(OfJob::sweep) {
            self.subscriptions.remove(&job);
        }
    }

    fn deliver(&mut self, job: JobId, key: Key, page: Page, context: &mut Context<Self>) {
        // It may have ended, or have been replaced by one that has a page under way of its own: then this one is as good.
        let subscription = self.subscriptions.get_mut(&job).and_then(|of_job| of_job.find(key));
        if subscription.is_some_and(|subscription| !subscription.deliver(job, page)) {
            self.retry_later(job, context);
        }
    }

    /// Offers a job's results again in a while. One timer serves all.
    fn retry_later(&mut self, job: JobId, context: &mut Context<Self>) {
        if self.blocked.is_empty() {
            context.run_later(RETRY_PAUSE, |this, context| {
                for job in std::mem::take(&mut this.blocked) {
                    this.subscriptions.get_mut(&job).into_iter().for_each(OfJob::unblock);
                    this.pump(job, context);
                }
            });
        }
        if !self.blocked.contains(&job) {
            self.blocked.push(job);
        }
    }

    fn wait_on(&mut self, waiter: u64, next: Next<Waiter>, context: &mut Context<Self>) {
        match next {
            Next::Nothing => {}
            Next::Ask(question) => self.ask(question, Asker::Awaits(waiter), context),
            Next::Ended(waiter) => waiter.reply.send(&Ok(())),
            Next::Unknown(waiter, job) => waiter.reply.send(&Err(StoreRefusal::Unknown(job))),
        }
    }
}

impl Actor for ResultStore {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Backend::Disk(disk) = &mut self.backend {
            disk.attach(context.address().recipient());
        }
    }
}

impl Handler<FromStore> for ResultStore {
    type Result = ();

    fn handle(&mut self, told: FromStore, context: &mut Context<Self>) {
        match told {
            FromStore::Committed(all) => {
                for (ticket, done) in all {
                    let Backend::Disk(disk) = &mut self.backend else { return };
                    if let Some(then) = disk.written(ticket) {
                        self.written(then, done, context);
                    }
                }
            }
            FromStore::Answered(ticket, answer) => {
                let Backend::Disk(disk) = &mut self.backend else { return };
                if let Some(asker) = disk.answered(ticket) {
                    self.answered(asker, *answer, context);
                }
            }
            FromStore::Failed(text) => {
                tracing::error!("{text}");
                context.stop();
            }
        }
    }
}

impl Handler<KeepRun> for ResultStore {
    type Result = ();

    fn handle(&mut self, keep: KeepRun, context: &mut Context<Self>) {
        let job = keep.job;
        self.write(Write::Keep(keep), Then::TellKeeper(job), context);
    }
}

impl Handler<SubscribeOwner> for ResultStore {
    type Result = ();

    fn handle(&mut self, subscribe: SubscribeOwner, context: &mut Context<Self>) {
        let SubscribeOwner { job, client, subscription, window_bytes } = subscribe;
        if window_bytes > 0 {
            let all = Subscription::new(client, subscription, vec![(0, u32::MAX)], window_bytes);
            self.write(Write::Look { job }, Then::Subscribe(job, Box::new(all)), context);
        }
    }
}

impl Handler<RecordLosses> for ResultStore {
    type Result = ();

    fn handle(&mut self, lost: RecordLosses, _: &mut Context<Self>) {
        let RecordLosses { job, first, count, losses } = lost;
        self.write_only(Write::Losses { job, first, count, losses });
    }
}

impl Handler<NoteEngines> for ResultStore {
    type Result = ();

    fn handle(&mut self, note: NoteEngines, _: &mut Context<Self>) {
        self.write_only(Write::Engines(note));
    }
}

impl Handler<NoteReleased> for ResultStore {
    type Result = ();

    fn handle(&mut self, NoteReleased { job, engines }: NoteReleased, _: &mut Context<Self>) {
        self.write_only(Write::Released { job, engines });
    }
}

impl Handler<LocateTasks> for ResultStore {
    type Result = ();

    fn handle(&mut self, LocateTasks { question, owner, reply }: LocateTasks, context: &mut Context<Self>) {
        self.ask(Question::Whereabouts { viewer: owner.into(), question }, Asker::Locates(reply), context);
    }
}

impl Handler<CountTasks> for ResultStore {
    type Result = ();

    fn handle(&mut self, asked: CountTasks, context: &mut Context<Self>) {
        let CountTasks { job, first, count, owner, reply } = asked;
        self.write(Write::Count { viewer: owner.into(), job, first, count }, Then::Counted(reply), context);
    }
}

impl Handler<Settle> for ResultStore {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Settle, context: &mut Context<Self>) -> Self::Result {
        let (settled, until) = oneshot::channel();
        self.write(Write::Settle, Then::Settled(settled), context);
        Box::pin(async {
            // It fails when the store has ended, and with it the controller.
            let _ = until.await;
        })
    }
}

impl Handler<RecordRun> for ResultStore {
    type Result = ();

    fn handle(&mut self, record: RecordRun, context: &mut Context<Self>) {
        let RecordRun { job, run, kept } = record;
        let tasks = (run.first, run.end());
        self.write(Write::Record { job, run }, Then::Recorded { job, tasks, reply: kept }, context);
    }
}

impl Handler<PassNews> for ResultStore {
    type Result = ();

    fn handle(&mut self, PassNews { job, index, news }: PassNews, _: &mut Context<Self>) {
        if let Some(of_job) = self.subscriptions.get(&job) {
            of_job.all.iter().for_each(|subscription| subscription.pass_on(job, index, &news));
        }
    }
}

impl Handler<EndLink> for ResultStore {
    type Result = ();

    fn handle(&mut self, end: EndLink, _: &mut Context<Self>) {
        self.subscriptions.retain(|_, of_job| {
            of_job.all.retain(|subscription| *subscription.link() != end.link);
            !of_job.all.is_empty()
        });
        self.awaiting.retain(|waiter| waiter.link != end.link);
    }
}

impl Handler<StoreStatus> for ResultStore {
    type Result = actix::MessageResult<StoreStatus>;

    fn handle(&mut self, _: StoreStatus, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(match &self.backend {
            Backend::Memory(memory) => memory.size(),
            Backend::Disk(disk) => disk.size(),
        })
    }
}
