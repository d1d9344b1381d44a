//! The client actor: carries submissions to the controller and results to the jobs of the program.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::{AskError, INLINE_BYTES_MAX, Link},
};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::{
    job::{Job, Part, WINDOW_BYTES},
    shared::Shared,
    upload,
};
use crate::error::Error;
use crate::results::ResultStore;
use crate::scheduler::SchedulerActor;
use crate::task::{BundleHash, JobId};
use crate::wire::{
    Abort, AbortCounts, EnginesChanged, Results, SCHEDULER, SHARDS, Submit, SubmitRefusal, Subscribe, Taken, WatchEngines,
    store_actor,
};

/// How many bytes of arguments of one job may be under way to the controller without its acknowledgement.
const IN_FLIGHT_BYTES_MAX: usize = 2 << 20;

/// How long the controller may take to acknowledge a submission. Long, since it holds back the acknowledgements of a
/// client that is far ahead of the engines.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// How long the controller may take to answer anything else.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// An actor that speaks for a program.
pub(crate) struct ClientActor {
    shared: Arc<Shared>,
    link: Option<Link>,
    jobs: HashMap<u64, Entry>,
    bundle: BundleProgress,
    /// Jobs that wait for the bundle.
    held: Vec<u64>,
    flush_waiters: Vec<oneshot::Sender<()>>,
}

struct Entry {
    job: Arc<Job>,
    /// Sent and not acknowledged, oldest first.
    in_flight: VecDeque<Part>,
    /// A part that travels as bulk is under way, which nothing may overtake.
    bulk_in_flight: bool,
    /// The controller has acknowledged a part, so that it knows the job.
    opened: bool,
    /// What was asked for, of a job that another client submitted.
    ranges: Option<Vec<(u32, u32)>>,
    aborts: Vec<PendingAbort>,
}

struct PendingAbort {
    first: u32,
    count: u32,
    answer: oneshot::Sender<Result<AbortCounts, Error>>,
}

#[derive(PartialEq, Eq)]
enum BundleProgress {
    NotSent,
    Sending,
    Present,
}

/// The link to the controller is up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ControllerUp(pub Link);

/// It has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ControllerDown(pub Link);

/// A job is to be submitted.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AddJob(pub Arc<Job>);

/// A job has something to be sent.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush(pub u64);

/// The results of tasks that were submitted elsewhere, or before.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Fetch {
    pub job: Arc<Job>,
    pub ranges: Vec<(u32, u32)>,
}

/// Tasks are to be aborted, once they have been submitted.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AbortTasks {
    pub number: u64,
    pub job: JobId,
    pub first: u32,
    pub count: u32,
    pub answer: oneshot::Sender<Result<AbortCounts, Error>>,
}

/// The program has dropped every handle of a job.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Forget(pub u64);

/// Tell me when everything that was given so far has been acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitFlushed(pub oneshot::Sender<()>);

/// Something to be done on the node's thread, for a thread of the program.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OnNode(pub Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>);

#[derive(Message)]
#[rtype(result = "()")]
struct Acknowledged {
    number: u64,
    link: u64,
    answer: Result<Result<(), SubmitRefusal>, AskError>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Uploaded(Result<BundleHash, String>);

impl ClientActor {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            link: None,
            jobs: HashMap::new(),
            bundle: BundleProgress::NotSent,
            held: Vec::new(),
            flush_waiters: Vec::new(),
        }
    }

    fn store(&self, job: JobId, link: &Link) -> RemoteAddr<ResultStore> {
        RemoteAddr::new(link.clone(), store_actor(job.shard(SHARDS)))
    }

    /// Sends what a job has to be sent, as far as its window goes.
    fn pump(&mut self, number: u64, context: &mut Context<Self>) {
        let Some(link) = self.link.clone() else { return };
        loop {
            let Some(entry) = self.jobs.get_mut(&number) else { return };
            let in_flight: usize = entry.in_flight.iter().map(|part| part.arguments.bytes()).sum();
            if entry.bulk_in_flight || in_flight >= IN_FLIGHT_BYTES_MAX {
                break;
            }
            let needs_bundle = entry.in_flight.is_empty() && !entry.opened && self.bundle != BundleProgress::Present;
            if needs_bundle && entry.job.needs_bundle() {
                self.held.push(number);
                self.send_bundle(&link, context);
                break;
            }
            let Some(part) = entry.job.take_part() else { break };
            self.shared.submitted(part.arguments.bytes());
            entry.in_flight.push_back(part);
            self.send_last(number, &link, context);
        }
        self.acknowledge(number, &link);
        self.start_aborts(number, &link);
        self.tell_flushed();
    }

    fn send_last(&mut self, number: u64, link: &Link, context: &Context<Self>) {
        let Some(entry) = self.jobs.get_mut(&number) else { return };
        let Some(part) = entry.in_flight.back().cloned() else { return };
        entry.bulk_in_flight = part.arguments.bytes() > INLINE_BYTES_MAX / 2 && part.arguments.len() <= 2;
        let Part { open, first, arguments, closed } = part;
        let submit = Submit { job: entry.job.id, open, first, arguments, closed };
        let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
        let (answer, own, link) = (scheduler.ask(&submit, SUBMIT_DEADLINE), context.address(), link.id());
        actix_rt::spawn(async move { own.do_send(Acknowledged { number, link, answer: answer.await }) });
    }

    /// Tells the store what the program has read.
    fn acknowledge(&self, number: u64, link: &Link) {
        let Some(entry) = self.jobs.get(&number) else { return };
        if let Some(taken) = entry.job.take_acknowledgement() {
            let (job, subscription) = (entry.job.id, entry.job.number);
            let taken = Taken { job, subscription, sequence: taken.sequence, grant_bytes: taken.grant_bytes };
            // When the link is down, the subscription begins anew when it is back.
            let _ = self.store(job, link).tell(&taken);
        }
    }

    fn start_aborts(&mut self, number: u64, link: &Link) {
        let Some(entry) = self.jobs.get_mut(&number) else { return };
        if !entry.in_flight.is_empty() || !entry.job.is_fed() {
            return;
        }
        for abort in entry.aborts.drain(..) {
            send_abort(link, entry.job.id, abort);
        }
    }

    fn send_bundle(&mut self, link: &Link, context: &Context<Self>) {
        if self.bundle != BundleProgress::NotSent {
            return;
        }
        self.bundle = BundleProgress::Sending;
        let (own, link) = (context.address(), link.clone());
        actix_rt::spawn(async move { own.do_send(Uploaded(upload::send_own_program(&link).await)) });
    }

    fn subscribe(&self, entry: &Entry, link: &Link) {
        let (length, _) = entry.job.length();
        let ranges = match &entry.ranges {
            Some(ranges) => ranges.clone(),
            None => entry.job.inspect(|received| received.missing(0, length.max(1))),
        };
        let job = entry.job.clone();
        let subscribe = Subscribe { job: job.id, subscription: job.number, ranges, window_bytes: WINDOW_BYTES };
        let answer = self.store(job.id, link).ask(&subscribe, ANSWER_DEADLINE);
        actix_rt::spawn(async move {
            match answer.await {
                Ok(Some(_)) => {}
                Ok(None) => job.fail(Error::UnknownJob(job.id)),
                // The link is down: it subscribes again when it is back.
                Err(AskError::LinkLost(_) | AskError::NotSent(_)) => {}
                Err(error) => job.fail(Error::NoAnswer(error.to_string())),
            }
        });
    }

    fn is_flushed(&self) -> bool {
        self.jobs.values().all(|entry| entry.in_flight.is_empty() && entry.job.is_fed())
    }

    fn tell_flushed(&mut self) {
        if !self.flush_waiters.is_empty() && self.is_flushed() {
            for waiter in self.flush_waiters.drain(..) {
                // A closer that has given up needs no answer.
                let _ = waiter.send(());
            }
        }
    }

    fn acknowledged(&mut self, acknowledged: Acknowledged, context: &mut Context<Self>) {
        let Acknowledged { number, link, answer } = acknowledged;
        if self.link.as_ref().is_none_or(|current| current.id() != link) {
            // Of a link that is gone: what was under way is sent again by the new one.
            return;
        }
        let Some(entry) = self.jobs.get_mut(&number) else { return };
        match answer {
            Ok(Ok(())) => {
                entry.opened = true;
                entry.bulk_in_flight = false;
                if let Some(part) = entry.in_flight.pop_front() {
                    self.shared.acknowledged(part.arguments.bytes());
                }
            }
            Ok(Err(refusal)) => {
                let error = match refusal {
                    SubmitRefusal::UnknownJob => Error::UnknownJob(entry.job.id),
                    SubmitRefusal::Invalid(text) => Error::Submit(format!("the controller refused the job: {text}")),
                };
                self.fail(number, error);
            }
            Err(AskError::LinkLost(_)) => return,
            Err(error) => self.fail(number, Error::Submit(format!("the tasks could not be submitted: {error}"))),
        }
        self.pump(number, context);
    }

    fn fail(&mut self, number: u64, error: Error) {
        if let Some(entry) = self.jobs.get_mut(&number) {
            let bytes = entry.in_flight.drain(..).map(|part| part.arguments.bytes()).sum();
            self.shared.acknowledged(bytes);
            entry.job.fail(error);
        }
    }
}

fn send_abort(link: &Link, job: JobId, abort: PendingAbort) {
    let PendingAbort { first, count, answer } = abort;
    let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
    let asked = scheduler.ask(&Abort { job, first, count }, ANSWER_DEADLINE);
    actix_rt::spawn(async move {
        let counts = asked.await.map_err(|error| Error::NoAnswer(error.to_string()));
        // A caller that has given up needs no answer.
        let _ = answer.send(counts);
    });
}

impl Actor for ClientActor {
    type Context = Context<Self>;
}

impl Handler<ControllerUp> for ClientActor {
    type Result = ();

    fn handle(&mut self, ControllerUp(link): ControllerUp, context: &mut Context<Self>) {
        self.link = Some(link.clone());
        self.shared.link_up(link.clone());
        let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
        let (watched, shared) = (scheduler.ask(&WatchEngines, ANSWER_DEADLINE), self.shared.clone());
        actix_rt::spawn(async move {
            if let Ok(engines) = watched.await {
                shared.engines_changed(engines);
            }
        });
        // What must survive a lost link is stated again: first what was not acknowledged, then what is still awaited.
        let numbers: Vec<u64> = self.jobs.keys().copied().collect();
        for number in numbers {
            let Some(entry) = self.jobs.get_mut(&number) else { continue };
            let parts = std::mem::take(&mut entry.in_flight);
            for part in parts {
                if let Some(entry) = self.jobs.get_mut(&number) {
                    entry.in_flight.push_back(part);
                }
                self.send_last(number, &link, context);
            }
            if let Some(entry) = self.jobs.get(&number).filter(|entry| entry.opened || entry.ranges.is_some()) {
                self.subscribe(entry, &link);
            }
            self.pump(number, context);
        }
    }
}

impl Handler<ControllerDown> for ClientActor {
    type Result = ();

    fn handle(&mut self, ControllerDown(link): ControllerDown, _: &mut Context<Self>) {
        if self.link.as_ref() == Some(&link) {
            self.link = None;
            self.shared.link_down();
            if self.bundle == BundleProgress::Present {
                // A controller that was restarted may have another disk.
                self.bundle = BundleProgress::NotSent;
            }
        }
    }
}

impl Handler<AddJob> for ClientActor {
    type Result = ();

    fn handle(&mut self, AddJob(job): AddJob, context: &mut Context<Self>) {
        let number = job.number;
        let entry =
            Entry { job, in_flight: VecDeque::new(), bulk_in_flight: false, opened: false, ranges: None, aborts: Vec::new() };
        self.jobs.insert(number, entry);
        self.pump(number, context);
    }
}

impl Handler<Flush> for ClientActor {
    type Result = ();

    fn handle(&mut self, Flush(number): Flush, context: &mut Context<Self>) {
        self.pump(number, context);
    }
}

impl Handler<Fetch> for ClientActor {
    type Result = ();

    fn handle(&mut self, Fetch { job, ranges }: Fetch, _: &mut Context<Self>) {
        let number = job.number;
        let ranges = Some(ranges);
        let entry = Entry { job, in_flight: VecDeque::new(), bulk_in_flight: false, opened: true, ranges, aborts: Vec::new() };
        if let Some(link) = self.link.clone() {
            self.subscribe(&entry, &link);
        }
        self.jobs.insert(number, entry);
    }
}

impl Handler<AbortTasks> for ClientActor {
    type Result = ();

    fn handle(&mut self, abort: AbortTasks, _: &mut Context<Self>) {
        let AbortTasks { number, job, first, count, answer } = abort;
        let abort = PendingAbort { first, count, answer };
        match (self.jobs.get_mut(&number), self.link.clone()) {
            (Some(entry), link) => {
                entry.aborts.push(abort);
                if let Some(link) = link {
                    self.start_aborts(number, &link);
                }
            }
            (None, Some(link)) => send_abort(&link, job, abort),
            (None, None) => {
                let _ = abort.answer.send(Err(Error::NoAnswer("the link to the controller is down".into())));
            }
        }
    }
}

impl Handler<Forget> for ClientActor {
    type Result = ();

    fn handle(&mut self, Forget(number): Forget, context: &mut Context<Self>) {
        self.pump(number, context);
        // What is not submitted yet still goes; its results are released as they come.
        let done = |entry: &Entry| entry.in_flight.is_empty() && entry.job.is_fed();
        if self.jobs.get(&number).is_some_and(done) {
            self.jobs.remove(&number);
        } else if self.jobs.contains_key(&number) {
            context.notify_later(Forget(number), Duration::from_millis(200));
        }
    }
}

impl Handler<AwaitFlushed> for ClientActor {
    type Result = ();

    fn handle(&mut self, AwaitFlushed(waiter): AwaitFlushed, _: &mut Context<Self>) {
        self.flush_waiters.push(waiter);
        self.tell_flushed();
    }
}

impl Handler<OnNode> for ClientActor {
    type Result = ();

    fn handle(&mut self, OnNode(work): OnNode, _: &mut Context<Self>) {
        actix_rt::spawn(work());
    }
}

impl Handler<Acknowledged> for ClientActor {
    type Result = ();

    fn handle(&mut self, acknowledged: Acknowledged, context: &mut Context<Self>) {
        self.acknowledged(acknowledged, context);
    }
}

impl Handler<Uploaded> for ClientActor {
    type Result = ();

    fn handle(&mut self, Uploaded(sent): Uploaded, context: &mut Context<Self>) {
        let held = std::mem::take(&mut self.held);
        match sent {
            Ok(_) => self.bundle = BundleProgress::Present,
            Err(text) => {
                self.bundle = BundleProgress::NotSent;
                if self.link.is_some() {
                    let error = Error::Submit(format!("this program could not be sent to the controller: {text}"));
                    held.iter().for_each(|number| self.fail(*number, error.clone()));
                }
            }
        }
        held.into_iter().for_each(|number| self.pump(number, context));
    }
}

impl Handler<Remote<Results>> for ClientActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Results>, _: &mut Context<Self>) {
        let Remote { message, from, .. } = remote;
        let number = message.subscription;
        let Some(entry) = self.jobs.get(&number) else { return };
        entry.job.receive(message);
        self.acknowledge(number, &from);
    }
}

impl Handler<Remote<EnginesChanged>> for ClientActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<EnginesChanged>, _: &mut Context<Self>) {
        self.shared.engines_changed(remote.message.engines);
    }
}
