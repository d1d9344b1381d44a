//! The client actor: carries submissions to the controller and results to the jobs of the program.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Context, Handler, Message};
use engineroom_runtime::{
    actor::{Remote, RemoteAddr},
    net::link::{AskError, Link},
};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use super::{
    job::Job,
    shared::Shared,
    submission::{Entry, KnownWaiter, PendingAbort, send_abort},
    value::OwnValue,
};
use crate::error::Error;
use crate::scheduler::SchedulerActor;
use crate::task::{BlobHash, BundleHash, JobId};
use crate::wire::{AbortCounts, EnginesChanged, Results, SCHEDULER, SubmitRefusal, WatchEngines};

/// How long the controller may take to answer anything else.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// An actor that speaks for a program.
pub(crate) struct ClientActor {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Option<Link>,
    pub(super) jobs: HashMap<u64, Entry>,
    pub(super) bundle: BundleProgress,
    /// Jobs that wait for the bundle, in the order in which they were submitted, which is that of their numbers.
    pub(super) held: BTreeSet<u64>,
    /// Jobs that wait until the value is sent that their tasks share.
    pub(super) held_for_value: BTreeSet<u64>,
    /// The value that is being sent.
    pub(super) sending_value: Option<BlobHash>,
    /// Jobs that wait until fewer parts are under way.
    pub(super) crowded: VecDeque<u64>,
    /// Jobs that the controller has not acknowledged, and the numbers of those that wait for their tasks, which come after them.
    pub(super) opening: HashMap<JobId, BTreeSet<u64>>,
    pub(super) parts_in_flight: usize,
    pub(super) flush_waiters: Vec<oneshot::Sender<()>>,
    /// The jobs that this client submits itself, while they are in `jobs`.
    pub(super) own: HashMap<JobId, u64>,
    pub(super) known_waiters: Vec<KnownWaiter>,
}

/// How far this program's own executable is on its way to the controller.
#[derive(PartialEq, Eq)]
pub(super) enum BundleProgress {
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

/// There will be no other: the controller has decided against this client.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CutOff(pub Error);

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

/// Tell me when everything that was given so far has been acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitFlushed(pub oneshot::Sender<()>);

/// As [`AwaitFlushed`], while jobs stay open.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitAcknowledged(pub oneshot::Sender<()>);

/// Tell me when the controller has acknowledged these tasks, as job, first index and count, as far as this client has submitted them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AwaitKnown {
    pub runs: Vec<(JobId, u32, u32)>,
    pub answer: oneshot::Sender<()>,
}

/// Something to be done on the node's thread, for a thread of the program.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OnNode(pub Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>);

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Acknowledged {
    pub number: u64,
    /// The first task of the part.
    pub first: u32,
    pub link: u64,
    pub answer: Result<Result<(), SubmitRefusal>, AskError>,
}

/// A job goes on whose messages a full link has not taken.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SendOn(pub u64);

/// The results of a job are asked for again, which a full link has not taken.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SubscribeOn {
    pub number: u64,
    pub link: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Uploaded {
    pub link: u64,
    pub sent: Result<BundleHash, String>,
}

/// A store does not know a job whose results were asked for.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Failed(pub u64, pub Error);

impl ClientActor {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            link: None,
            jobs: HashMap::new(),
            bundle: BundleProgress::NotSent,
            held: BTreeSet::new(),
            held_for_value: BTreeSet::new(),
            sending_value: None,
            crowded: VecDeque::new(),
            opening: HashMap::new(),
            parts_in_flight: 0,
            flush_waiters: Vec::new(),
            own: HashMap::new(),
            known_waiters: Vec::new(),
        }
    }

    /// The numbers of all jobs, in the order in which they were submitted.
    fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.jobs.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }
}

impl Actor for ClientActor {
    type Context = Context<Self>;
}

impl Drop for ClientActor {
    fn drop(&mut self) {
        // Nobody shall wait for what will never come.
        self.jobs.values().for_each(|entry| entry.job.fail(Error::Closed));
        self.shared.close();
    }
}

impl Handler<ControllerUp> for ClientActor {
    type Result = ();

    fn handle(&mut self, ControllerUp(link): ControllerUp, context: &mut Context<Self>) {
        self.link = Some(link.clone());
        self.shared.link_up(link.clone());
        let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
        let (watched, shared) = (scheduler.ask(&WatchEngines, ANSWER_DEADLINE), self.shared.clone());
        let watching = link.clone();
        actix_rt::spawn(async move {
            if let Ok(EnginesChanged { version, engines }) = watched.await {
                shared.engines_changed(&watching, version, engines);
            }
        });
        // What must survive a lost link is stated again: first what was not acknowledged, then what is still awaited.
        let numbers = self.numbers();
        for number in numbers {
            self.take_back(number);
            if let Some(entry) = self.jobs.get_mut(&number) {
                entry.value.iter_mut().for_each(OwnValue::link_lost);
                if entry.opened && !entry.dead {
                    self.subscribe_if_known(number, &link, context);
                }
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
            // A controller that was restarted may have another disk.
            self.bundle = BundleProgress::NotSent;
        }
    }
}

impl Handler<CutOff> for ClientActor {
    type Result = ();

    fn handle(&mut self, CutOff(error): CutOff, _: &mut Context<Self>) {
        self.shared.set_cut_off(error.clone());
        for number in self.numbers() {
            self.fail(number, error.clone());
            if let Some(mut entry) = self.jobs.remove(&number) {
                self.own.remove(&entry.job.id);
                entry.aborts.drain(..).for_each(|abort| drop(abort.answer.send(Err(error.clone()))));
            }
        }
        self.tell_flushed();
    }
}

impl Handler<AddJob> for ClientActor {
    type Result = ();

    fn handle(&mut self, AddJob(job): AddJob, context: &mut Context<Self>) {
        if let Some(error) = self.shared.cut_off() {
            return job.fail(error);
        }
        let number = job.number;
        self.opening.insert(job.id, BTreeSet::new());
        self.own.insert(job.id, number);
        self.jobs.insert(number, Entry::new(job, None));
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

    fn handle(&mut self, Fetch { job, ranges }: Fetch, context: &mut Context<Self>) {
        if let Some(error) = self.shared.cut_off() {
            return job.fail(error);
        }
        let number = job.number;
        self.jobs.insert(number, Entry::new(job, Some(ranges)));
        if let Some(link) = self.link.clone() {
            self.subscribe_if_known(number, &link, context);
        }
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

impl Handler<AwaitFlushed> for ClientActor {
    type Result = ();

    fn handle(&mut self, AwaitFlushed(waiter): AwaitFlushed, context: &mut Context<Self>) {
        self.flush_waiters.push(waiter);
        // The client closes: no job gets more tasks than it has now.
        let numbers = self.numbers();
        for number in numbers {
            if let Some(entry) = self.jobs.get(&number) {
                let _ = entry.job.close();
            }
            self.pump(number, context);
        }
        self.tell_flushed();
    }
}

impl Handler<AwaitAcknowledged> for ClientActor {
    type Result = ();

    fn handle(&mut self, AwaitAcknowledged(waiter): AwaitAcknowledged, context: &mut Context<Self>) {
        self.flush_waiters.push(waiter);
        for number in self.numbers() {
            self.pump(number, context);
        }
        self.tell_flushed();
    }
}

impl Handler<AwaitKnown> for ClientActor {
    type Result = ();

    fn handle(&mut self, AwaitKnown { runs, answer }: AwaitKnown, _: &mut Context<Self>) {
        let own = |(job, first, count): &(JobId, u32, u32)| Some((*self.own.get(job)?, first.saturating_add(*count)));
        let left = runs.iter().filter_map(own).collect();
        self.known_waiters.push(KnownWaiter { left, answer });
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

impl Handler<SendOn> for ClientActor {
    type Result = ();

    fn handle(&mut self, SendOn(number): SendOn, context: &mut Context<Self>) {
        self.send_on(number, context);
    }
}

impl Handler<SubscribeOn> for ClientActor {
    type Result = ();

    fn handle(&mut self, SubscribeOn { number, link }: SubscribeOn, context: &mut Context<Self>) {
        if let Some(current) = self.link.clone().filter(|current| current.id() == link) {
            self.subscribe(number, &current, context);
        }
    }
}

impl Handler<Uploaded> for ClientActor {
    type Result = ();

    fn handle(&mut self, Uploaded { link, sent }: Uploaded, context: &mut Context<Self>) {
        let held = std::mem::take(&mut self.held);
        if self.link.as_ref().is_some_and(|current| current.id() == link) {
            match sent {
                Ok(_) => self.bundle = BundleProgress::Present,
                Err(text) => {
                    self.bundle = BundleProgress::NotSent;
                    let error = Error::Submit(format!("this program could not be sent to the controller: {text}"));
                    held.iter().for_each(|number| self.fail(*number, error.clone()));
                }
            }
        }
        // By another link: they ask for the program anew.
        held.into_iter().for_each(|number| self.pump(number, context));
    }
}

impl Handler<Failed> for ClientActor {
    type Result = ();

    fn handle(&mut self, Failed(number, error): Failed, context: &mut Context<Self>) {
        self.fail(number, error);
        self.pump(number, context);
    }
}

impl Handler<Remote<Results>> for ClientActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<Results>, context: &mut Context<Self>) {
        let Results { subscription, run, .. } = remote.message;
        let Some(entry) = self.jobs.get(&subscription) else { return };
        if !run.is_sound() {
            return entry.job.fail(Error::NoAnswer("it sent results that contradict themselves".into()));
        }
        entry.job.receive(run);
        self.acknowledge(subscription, &remote.from, context);
    }
}

impl Handler<Remote<EnginesChanged>> for ClientActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<EnginesChanged>, _: &mut Context<Self>) {
        let EnginesChanged { version, engines } = remote.message;
        self.shared.engines_changed(&remote.from, version, engines);
    }
}
