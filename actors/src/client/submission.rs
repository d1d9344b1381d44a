//! What a client's actor does for one job: hands its tasks over, within windows, and forgets it when it is over.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context};
use engineroom_runtime::{
    actor::RemoteAddr,
    net::link::{AskError, Link, SendError},
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{
    actor::{ANSWER_DEADLINE, Acknowledged, BundleProgress, ClientActor, Failed, SendOn, SubscribeOn, Uploaded},
    feed::Part,
    job::{Job, WINDOW_BYTES},
    received::Acknowledgement,
    upload,
    value::OwnValue,
};
use crate::code::Bundle;
use crate::error::Error;
use crate::results::ResultStore;
use crate::scheduler::SchedulerActor;
use crate::task::JobId;
use crate::wire::{Abort, AbortCounts, SCHEDULER, SHARDS, Submit, SubmitRefusal, Subscribe, Taken, store_actor};

/// How many parts of one job may be under way to the controller without its acknowledgement. A part has some thousand small
/// tasks or 24 KiB; more would keep memory busy and nothing else.
const PARTS_PER_JOB_MAX: usize = 64;

/// How many parts of all jobs may be under way. Below the number of asks that a link takes.
const PARTS_MAX: usize = 16_384;

/// How long the controller may take to acknowledge a submission. Long, since it holds back the acknowledgements of a
/// client that is far ahead of the engines.
const SUBMIT_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// The pause before something is sent again that a full link did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// How long the store may hear later of results that were taken than they were: nobody waits for it, and each packet costs client and
/// controller a part of a millisecond that tasks could have. What a program took just before it was killed stays with the store as if
/// it had not.
const TAKEN_WITHIN: Duration = Duration::from_millis(20);

/// The store hears at once of results that were taken and have this many bytes: these fill the window before long, and a packet is little
/// beside them.
const GRANT_AT_ONCE_BYTES: u64 = 64 << 10;

/// A job of which this client has not done.
pub(super) struct Entry {
    pub job: Arc<Job>,
    /// Sent and not acknowledged, oldest first.
    pub in_flight: VecDeque<Part>,
    /// Sent by a link that was lost, or not taken by one that was full: to be sent again, oldest first.
    pub unsent: VecDeque<Part>,
    /// A full link has not taken a part: nothing more is sent for a moment, since parts have to come in their order.
    paused: bool,
    /// What its tasks share, until the controller knows the job.
    pub value: Option<OwnValue>,
    /// The controller has acknowledged a part, so that it knows the job.
    pub opened: bool,
    /// The controller refused the job, or does not know it.
    pub dead: bool,
    /// It waits in `crowded`.
    pub crowded: bool,
    /// What was asked for, of a job that another client submitted: first index and count.
    pub ranges: Option<Vec<(u32, u32)>>,
    pub aborts: Vec<PendingAbort>,
    /// The jobs whose tasks it waits for: the controller must know them first.
    pub after: Vec<JobId>,
}

/// Tasks that are to be aborted once they have been submitted.
pub(super) struct PendingAbort {
    pub first: u32,
    pub count: u32,
    pub answer: oneshot::Sender<Result<AbortCounts, Error>>,
}

/// Who wants to know when the controller has acknowledged certain tasks.
pub(super) struct KnownWaiter {
    /// Of the jobs of which it has not: their numbers, and where the tasks end.
    pub left: Vec<(u64, u32)>,
    pub answer: oneshot::Sender<()>,
}

impl KnownWaiter {
    fn is_over(&mut self, jobs: &HashMap<u64, Entry>) -> bool {
        let known = |&mut (number, end): &mut (u64, u32)| jobs.get(&number).is_none_or(|entry| entry.is_known_until(end));
        // Each is looked at until it is known, and then no more.
        while self.left.pop_if(known).is_some() {}
        self.left.is_empty() || self.answer.is_closed()
    }
}

impl Entry {
    pub fn new(job: Arc<Job>, ranges: Option<Vec<(u32, u32)>>) -> Self {
        Self {
            after: job.named_jobs(),
            value: job.take_value().map(OwnValue::new),
            job,
            in_flight: VecDeque::new(),
            unsent: VecDeque::new(),
            paused: false,
            opened: ranges.is_some(),
            dead: false,
            crowded: false,
            ranges,
            aborts: Vec::new(),
        }
    }

    /// Whether the next part may go: a long one travels as bulk, which overtakes and is overtaken, and so travels alone.
    fn may_send(&self, part: &Part) -> bool {
        self.in_flight.is_empty() || !part.is_long() && !self.in_flight.iter().any(Part::is_long)
    }

    fn needs_bundle(&self) -> bool {
        let header = self.unsent.front().and_then(|part| part.open.as_ref());
        self.job.needs_bundle() || header.is_some_and(|header| Bundle::is_own(&header.function))
    }

    fn next_part(&mut self) -> Option<Part> {
        self.unsent.pop_front().or_else(|| self.job.take_part())
    }

    /// The part that begins with task `first` is not under way any more.
    fn landed(&mut self, first: u32) -> Option<Part> {
        let place = self.in_flight.iter().position(|part| part.first == first)?;
        self.in_flight.remove(place)
    }

    /// A part has to be sent again, in its place among the others.
    pub fn put_back(&mut self, part: Part) {
        let place = self.unsent.partition_point(|other| other.first < part.first);
        self.unsent.insert(place, part);
    }

    pub fn is_acknowledged(&self) -> bool {
        self.dead || (self.in_flight.is_empty() && self.unsent.is_empty() && self.job.is_fed())
    }

    /// Whether the controller has acknowledged all tasks below `end`, or all that there are so far.
    fn is_known_until(&self, end: u32) -> bool {
        let end = end.min(self.job.length().0);
        let mut parts = self.in_flight.iter().chain(&self.unsent);
        self.dead || self.job.is_fed_until(end) && parts.all(|part| part.first >= end)
    }

    fn is_over(&self) -> bool {
        self.aborts.is_empty() && (self.dead || self.in_flight.is_empty() && self.unsent.is_empty()) && self.job.is_over()
    }
}

impl ClientActor {
    fn store(&self, job: JobId, link: &Link) -> RemoteAddr<ResultStore> {
        RemoteAddr::new(link.clone(), store_actor(job.shard(SHARDS)))
    }

    /// Sends what a job has to be sent, as far as its windows go, and forgets it when it is over.
    pub(super) fn pump(&mut self, number: u64, context: &mut Context<Self>) {
        if let Some(link) = self.link.clone() {
            self.send_parts(number, &link, context);
            self.acknowledge(number, &link, context);
            self.start_aborts(number, &link);
        }
        self.tell_flushed();
        self.forget_if_over(number);
    }

    fn send_parts(&mut self, number: u64, link: &Link, context: &mut Context<Self>) {
        loop {
            let crowd = self.parts_in_flight >= PARTS_MAX;
            let Some(entry) = self.jobs.get_mut(&number).filter(|entry| !entry.dead) else { return };
            let full = entry.in_flight.len() >= PARTS_PER_JOB_MAX || entry.in_flight.back().is_some_and(Part::is_long);
            if full || entry.paused {
                return;
            }
            if !entry.opened && entry.needs_bundle() && self.bundle != BundleProgress::Present {
                self.held.insert(number);
                return self.send_bundle(link, context);
            }
            if !entry.opened
                && let Some(first) = entry.after.iter().find(|job| self.opening.contains_key(job))
            {
                self.opening.entry(*first).or_default().insert(number);
                return;
            }
            if let Some(value) = &entry.value {
                if value.is_due() {
                    return self.send_value(number, link, context);
                }
                // The part that opens the job goes first, and alone: it may be refused, and come again after the value.
                if !entry.in_flight.is_empty() {
                    return;
                }
            }
            if crowd {
                if !std::mem::replace(&mut entry.crowded, true) {
                    self.crowded.push_back(number);
                }
                return;
            }
            let Some(part) = entry.next_part() else { return };
            if !entry.may_send(&part) {
                entry.put_back(part);
                return;
            }
            if !self.send_part(number, part, link, context) {
                return;
            }
        }
    }

    /// Whether the link took it.
    fn send_part(&mut self, number: u64, part: Part, link: &Link, context: &mut Context<Self>) -> bool {
        let Some(entry) = self.jobs.get_mut(&number) else { return false };
        let Part { open, first, arguments, closed } = part.clone();
        let bytes = arguments.bytes();
        let submit = Submit { job: entry.job.id, open, first, arguments, closed };
        let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
        let mut answer = Box::pin(scheduler.ask(&submit, SUBMIT_DEADLINE));
        // What was not sent has its answer at once.
        let at_once = answer.as_mut().now_or_never();
        if let Some(Err(AskError::NotSent(error @ (SendError::Full { .. } | SendError::Down { .. })))) = &at_once {
            entry.put_back(part);
            // The link that comes next brings what this one did not, if it is down.
            if matches!(error, SendError::Full { .. }) {
                entry.paused = true;
                context.notify_later(SendOn(number), RETRY_PAUSE);
            }
            return false;
        }
        entry.in_flight.push_back(part);
        self.shared.submitted(bytes);
        self.parts_in_flight += 1;
        let (own, link) = (context.address(), link.id());
        actix_rt::spawn(async move {
            let answer = match at_once {
                Some(answer) => answer,
                None => answer.await,
            };
            own.do_send(Acknowledged { number, first, link, answer });
        });
        true
    }

    /// As [`Entry::landed`], and takes the part back from the counts.
    fn landed(&mut self, number: u64, first: u32) -> Option<Part> {
        let part = self.jobs.get_mut(&number)?.landed(first)?;
        self.parts_in_flight -= 1;
        self.shared.acknowledged(part.arguments.bytes());
        Some(part)
    }

    /// What was under way has to be sent again, or not at all.
    pub(super) fn take_back(&mut self, number: u64) {
        while let Some(first) = self.jobs.get(&number).and_then(|entry| entry.in_flight.front()).map(|part| part.first) {
            if let (Some(part), Some(entry)) = (self.landed(number, first), self.jobs.get_mut(&number)) {
                entry.put_back(part);
            }
        }
    }

    /// The link may have room again.
    pub(super) fn send_on(&mut self, number: u64, context: &mut Context<Self>) {
        if let Some(entry) = self.jobs.get_mut(&number) {
            entry.paused = false;
            self.pump(number, context);
        }
    }

    /// Tells the store what the program has read.
    pub(super) fn acknowledge(&self, number: u64, link: &Link, context: &mut Context<Self>) {
        let Some(entry) = self.jobs.get(&number) else { return };
        if let Some(done) = entry.job.take_acknowledgement() {
            let (job, subscription) = (entry.job.id, entry.job.number);
            let taken = Taken { job, subscription, runs: done.runs, grant_bytes: done.grant_bytes };
            let store = self.store(job, link);
            let told = if taken.grant_bytes >= GRANT_AT_ONCE_BYTES {
                store.tell(&taken)
            } else {
                store.tell_within(TAKEN_WITHIN, &taken)
            };
            // When the link is down, the subscription begins anew when it is back.
            if let Err(SendError::Full { .. }) = told {
                entry.job.keep_acknowledgement(Acknowledgement { runs: taken.runs, grant_bytes: taken.grant_bytes });
                context.notify_later(SendOn(number), RETRY_PAUSE);
            }
        }
    }

    /// Sends the aborts of tasks that have been submitted. Short messages keep their order, so that an abort comes after them;
    /// a long one must have been acknowledged.
    pub(super) fn start_aborts(&mut self, number: u64, link: &Link) {
        let Some(entry) = self.jobs.get_mut(&number) else { return };
        if !entry.dead && (!entry.unsent.is_empty() || entry.in_flight.iter().any(Part::is_long)) {
            return;
        }
        let job = entry.job.clone();
        let submitted = |abort: &mut PendingAbort| job.is_fed_until(abort.first.saturating_add(abort.count));
        for abort in entry.aborts.extract_if(.., submitted) {
            send_abort(link, job.id, abort);
        }
    }

    fn send_bundle(&mut self, link: &Link, context: &Context<Self>) {
        if self.bundle != BundleProgress::NotSent {
            return;
        }
        self.bundle = BundleProgress::Sending;
        let (own, link) = (context.address(), link.clone());
        actix_rt::spawn(async move {
            let sent = upload::send_own_program(&link).await;
            own.do_send(Uploaded { link: link.id(), sent });
        });
    }

    /// As [`subscribe`](Self::subscribe), or as soon as the controller knows the job, if this client is about to submit it.
    pub(super) fn subscribe_if_known(&mut self, number: u64, link: &Link, context: &Context<Self>) {
        let Some(entry) = self.jobs.get(&number) else { return };
        match self.opening.get_mut(&entry.job.id).filter(|_| entry.ranges.is_some()) {
            Some(waiting) => drop(waiting.insert(number)),
            None => self.subscribe(number, link, context),
        }
    }

    /// Asks for the results of a job, by this link.
    pub(super) fn subscribe(&self, number: u64, link: &Link, context: &Context<Self>) {
        let Some(entry) = self.jobs.get(&number) else { return };
        let missing = entry.job.resubscribe();
        let ranges = entry.ranges.clone().unwrap_or(missing);
        let (job, own) = (entry.job.id, context.address());
        let subscribe = Subscribe { job, subscription: number, ranges, window_bytes: WINDOW_BYTES };
        let answer = self.store(job, link).ask(&subscribe, ANSWER_DEADLINE);
        let link = link.id();
        actix_rt::spawn(async move {
            match answer.await {
                Ok(Some(_)) => {}
                Ok(None) => own.do_send(Failed(number, Error::UnknownJob(job))),
                Err(AskError::NotSent(SendError::Full { .. })) => {
                    actix_rt::time::sleep(RETRY_PAUSE).await;
                    own.do_send(SubscribeOn { number, link });
                }
                // The link is down: it subscribes again when it is back.
                Err(AskError::LinkLost(_) | AskError::NotSent(SendError::Down { .. })) => {}
                Err(error) => own.do_send(Failed(number, Error::NoAnswer(error.to_string()))),
            }
        });
    }

    pub(super) fn tell_flushed(&mut self) {
        if !self.flush_waiters.is_empty() && self.jobs.values().all(Entry::is_acknowledged) {
            for waiter in self.flush_waiters.drain(..) {
                // A closer that has given up needs no answer.
                let _ = waiter.send(());
            }
        }
        for waiter in self.known_waiters.extract_if(.., |waiter| waiter.is_over(&self.jobs)) {
            let _ = waiter.answer.send(());
        }
    }

    /// Forgets a job that is submitted and whose results nobody wants, and ends its subscription.
    fn forget_if_over(&mut self, number: u64) {
        if !self.jobs.get(&number).is_some_and(Entry::is_over) {
            return;
        }
        let Some(entry) = self.jobs.remove(&number) else { return };
        let job = entry.job.id;
        if entry.ranges.is_none() {
            self.own.remove(&job);
        }
        if let Some(link) = &self.link {
            let end = Subscribe { job, subscription: number, ranges: Vec::new(), window_bytes: 0 };
            // The end of the link ends it too. The answer says nothing that is of use.
            drop(self.store(job, link).ask(&end, ANSWER_DEADLINE));
        }
    }

    pub(super) fn acknowledged(&mut self, acknowledged: Acknowledged, context: &mut Context<Self>) {
        let Acknowledged { number, first, link, answer } = acknowledged;
        if self.link.as_ref().is_none_or(|current| current.id() != link) {
            // Of a link that is gone: what was under way is sent again by the new one.
            return;
        }
        let Some(part) = self.landed(number, first) else { return };
        let Some(entry) = self.jobs.get_mut(&number) else { return };
        let job = entry.job.id;
        match answer {
            Ok(Ok(())) => {
                entry.opened = true;
                entry.value = None;
            }
            Ok(Err(SubmitRefusal::NoSharedValue)) if entry.value.as_mut().is_some_and(OwnValue::refused) => {
                entry.put_back(part);
            }
            Ok(Err(SubmitRefusal::NoSharedValue)) => {
                let text = "the controller does not have the value that the tasks share, or has dropped it since their job has ended: \
                            submit them anew, with the value";
                self.fail(number, Error::Submit(text.into()));
            }
            Ok(Err(SubmitRefusal::UnknownJob)) => {
                self.fail(number, Error::UnknownJob(job));
            }
            Ok(Err(SubmitRefusal::Invalid(text))) => {
                self.fail(number, Error::Submit(format!("the controller refused the job: {text}")));
            }
            Ok(Err(SubmitRefusal::NotKept(text))) => {
                self.fail(number, Error::Submit(format!("the controller cannot keep the job: {text}")));
            }
            // The link that comes next brings it.
            Err(AskError::LinkLost(_) | AskError::NotSent(SendError::Down { .. })) => entry.put_back(part),
            Err(error) => self.fail(number, Error::Submit(format!("the tasks could not be submitted: {error}"))),
        }
        if self.jobs.get(&number).is_some_and(|entry| entry.opened) {
            self.opened(job, context);
        }
        self.pump(number, context);
        if let Some(number) = self.crowded.pop_front() {
            if let Some(entry) = self.jobs.get_mut(&number) {
                entry.crowded = false;
            }
            self.pump(number, context);
        }
    }

    /// The controller knows a job: those that wait for it can be handed over, and its results asked for.
    pub(super) fn opened(&mut self, job: JobId, context: &mut Context<Self>) {
        for number in self.opening.remove(&job).into_iter().flatten() {
            if let Some(link) = self.link.clone()
                && self.jobs.get(&number).is_some_and(|entry| entry.ranges.is_some())
            {
                self.subscribe(number, &link, context);
            }
            self.pump(number, context);
        }
    }

    pub(super) fn fail(&mut self, number: u64, error: Error) {
        let mut failed = vec![(number, error)];
        while let Some((number, error)) = failed.pop() {
            self.take_back(number);
            let Some(entry) = self.jobs.get_mut(&number) else { continue };
            entry.dead = true;
            entry.value = None;
            entry.unsent.clear();
            entry.job.fail(error.clone());
            // Those of which the results were asked for, and those that were to wait for it.
            for number in self.opening.remove(&entry.job.id).into_iter().flatten() {
                let is_asked = self.jobs.get(&number).is_some_and(|entry| entry.ranges.is_some());
                let text = format!("a job that it is to wait for was not submitted: {error}");
                failed.push((number, if is_asked { error.clone() } else { Error::Submit(text) }));
            }
        }
        // Those who wait for the budget look at what the job holds, which is nothing now.
        self.shared.acknowledged(0);
        self.tell_flushed();
    }
}

pub(super) fn send_abort(link: &Link, job: JobId, abort: PendingAbort) {
    let PendingAbort { first, count, answer } = abort;
    let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
    let asked = scheduler.ask(&Abort { job, first, count }, ANSWER_DEADLINE);
    actix_rt::spawn(async move {
        let counts = asked.await.map_err(|error| Error::NoAnswer(error.to_string()));
        // A caller that has given up needs no answer.
        let _ = answer.send(counts);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u32) -> Part {
        Part { open: None, first, arguments: Default::default(), closed: false }
    }

    #[test]
    fn parts_that_were_not_sent_come_again_in_their_order_whichever_were() {
        let mut entry = Entry::new(Arc::new(Job::foreign(JobId::fresh(), 1, 0)), None);
        entry.in_flight.extend([0, 10, 20, 30, 40].map(part));
        // The third and the last were refused before the others arrived.
        for first in [20, 40] {
            let refused = entry.landed(first).expect("it is under way");
            entry.put_back(refused);
        }
        for first in [0, 30] {
            assert_eq!(entry.landed(first).map(|part| part.first), Some(first));
        }
        assert!(entry.landed(20).is_none());
        // The link was lost.
        let lost = entry.landed(10).expect("it is under way");
        entry.put_back(lost);
        let again: Vec<u32> = entry.unsent.iter().map(|part| part.first).collect();
        assert_eq!((again, entry.in_flight.len()), (vec![10, 20, 40], 0));
    }
}
