//! One job as its client sees it: what is still to be submitted, and the results that have come. Shared between the
//! program's threads and the client actor.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use super::received::{Acknowledgement, Received};
use crate::error::Error;
use crate::task::{JobId, Packed, PackedBuilder};
use crate::wire::{JobHeader, Results};

/// How many bytes of results of one job may be under way to a program that does not read them yet.
pub(crate) const WINDOW_BYTES: u64 = 16 << 20;

/// How many bytes of arguments travel in one message. Below the bound of what travels inline, so that runs keep their order.
const CHUNK_BYTES: usize = 24 << 10;

/// How many tasks travel in one message.
const CHUNK_TASKS: usize = 8192;

/// How many tasks a job may have.
pub(crate) const TASKS_MAX: u32 = u32::MAX;

/// A job of this client, or one whose results it has asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub id: JobId,
    /// This client's number for it, and for its subscription.
    pub number: u64,
    state: Mutex<State>,
    /// Told when tasks were released: a lazy map that has as many outstanding as it may waits for that.
    released: Condvar,
}

#[derive(Debug)]
struct State {
    feed: Feed,
    received: Received,
    acknowledgement: Acknowledgement,
    /// The actor has been told that there is something to send.
    notified: bool,
    /// Nothing more will come, and why.
    failure: Option<Error>,
    wakers: Vec<Waker>,
    waiters: usize,
    released_count: u64,
}

/// The submission of a job.
#[derive(Debug, Default)]
struct Feed {
    /// With the first run only.
    header: Option<JobHeader>,
    chunks: VecDeque<Packed>,
    builder: PackedBuilder,
    /// The index of the next task to be added.
    next: u32,
    /// The index of the first task that has not been given to the actor.
    sent: u32,
    /// No more tasks will be added.
    closed: bool,
    /// The actor has been given the end of the job.
    ended: bool,
}

/// A part of a submission, as it goes to the controller.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub open: Option<JobHeader>,
    pub first: u32,
    pub arguments: Packed,
    pub closed: bool,
}

/// What the caller has to do after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Notify {
    /// Tell the actor that there is something to send.
    Actor,
    /// Nothing: it knows.
    Nobody,
}

impl Job {
    /// A job to be submitted.
    pub fn new(id: JobId, number: u64, header: JobHeader) -> Self {
        let feed = Feed { header: Some(header), ..Feed::default() };
        Self::with(id, number, feed, None)
    }

    /// A job of which only results are wanted.
    pub fn foreign(id: JobId, number: u64) -> Self {
        Self::with(id, number, Feed { closed: true, ended: true, ..Feed::default() }, None)
    }

    /// A job that could not even be begun.
    pub fn failed(error: Error) -> Self {
        Self::with(JobId::fresh(), 0, Feed { closed: true, ended: true, ..Feed::default() }, Some(error))
    }

    fn with(id: JobId, number: u64, feed: Feed, failure: Option<Error>) -> Self {
        let state = State {
            feed,
            received: Received::default(),
            acknowledgement: Acknowledgement::default(),
            notified: false,
            failure,
            wakers: Vec::new(),
            waiters: 0,
            released_count: 0,
        };
        Self { id, number, state: Mutex::new(state), released: Condvar::new() }
    }

    /// Adds a task; its index, or the error when its argument cannot be encoded or the job is full.
    pub fn push(&self, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<(u32, Notify), Error> {
        let mut state = self.lock();
        let feed = &mut state.feed;
        if feed.next == TASKS_MAX {
            return Err(Error::Submit(format!("a job has at most {TASKS_MAX} tasks: split the inputs over several maps")));
        }
        let index = feed.next;
        let encoded = feed.builder.push_with(encode);
        encoded.map_err(|error| Error::Submit(format!("input {index} cannot be encoded: {error}")))?;
        feed.next += 1;
        if feed.builder.bytes() >= CHUNK_BYTES || feed.builder.len() >= CHUNK_TASKS {
            feed.cut();
        }
        Ok((index, state.notify()))
    }

    /// No more tasks will be added.
    pub fn close(&self) -> Notify {
        let mut state = self.lock();
        state.feed.closed = true;
        state.notify()
    }

    /// How many tasks there are so far, and whether there will be no more.
    pub fn length(&self) -> (u32, bool) {
        let state = self.lock();
        (state.feed.next, state.feed.closed)
    }

    /// The bytes of arguments that wait for the actor.
    pub fn waiting_bytes(&self) -> usize {
        let state = self.lock();
        state.feed.chunks.iter().map(Packed::bytes).sum::<usize>() + state.feed.builder.bytes()
    }

    /// Whether its function travels with this program.
    pub fn needs_bundle(&self) -> bool {
        self.lock().feed.header.as_ref().is_some_and(|header| header.function.bundle().is_some())
    }

    /// The next part to be submitted, if there is one.
    pub fn take_part(&self) -> Option<Part> {
        let mut state = self.lock();
        state.notified = false;
        let feed = &mut state.feed;
        if feed.chunks.is_empty() {
            feed.cut();
        }
        let arguments = feed.chunks.pop_front().unwrap_or_default();
        let last = feed.closed && feed.chunks.is_empty() && feed.builder.is_empty();
        if arguments.is_empty() && (!last || feed.ended) {
            return None;
        }
        let first = feed.sent;
        // A chunk has at most `CHUNK_TASKS` tasks.
        feed.sent += arguments.len() as u32;
        feed.ended = last;
        Some(Part { open: feed.header.take(), first, arguments, closed: last })
    }

    /// Whether the actor has been given everything.
    pub fn is_fed(&self) -> bool {
        let state = self.lock();
        state.failure.is_some()
            || (state.feed.chunks.is_empty() && state.feed.builder.is_empty() && state.feed.closed == state.feed.ended)
    }

    /// What is to be told to the store, if anything.
    pub fn take_acknowledgement(&self) -> Option<Acknowledgement> {
        let mut state = self.lock();
        state.notified = false;
        let acknowledgement = std::mem::take(&mut state.acknowledgement);
        (!acknowledgement.is_empty()).then_some(acknowledgement)
    }

    /// Results have come.
    pub fn receive(&self, results: Results) {
        let mut state = self.lock();
        if let Some(run) = results.run {
            let bytes = run_bytes(&run);
            let wanted_now = state.waiters > 0;
            let acknowledgement = state.received.insert(results.sequence, run, bytes, wanted_now);
            state.acknowledgement.add(acknowledgement);
        }
        state.wake();
    }

    /// Nothing more will come.
    pub fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.failure.get_or_insert(error);
        state.feed.chunks.clear();
        let _ = state.feed.builder.take();
        state.wake();
        drop(state);
        self.released.notify_all();
    }

    /// Why nothing more will come, if so.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Ready when all tasks of the range have ended, or when nothing more will come.
    pub fn poll_complete(&self, first: u32, end: u32, waker: &Waker) -> Poll<Result<(), Error>> {
        self.poll(waker, |received| received.is_complete(first, end).then_some(()))
    }

    /// Ready with the result of a task, as `read` makes it from the received results.
    pub fn poll<T>(&self, waker: &Waker, read: impl FnOnce(&Received) -> Option<T>) -> Poll<Result<T, Error>> {
        let mut state = self.lock();
        if let Some(value) = read(&state.received) {
            return Poll::Ready(Ok(value));
        }
        if let Some(error) = &state.failure {
            return Poll::Ready(Err(error.clone()));
        }
        if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        Poll::Pending
    }

    /// Somebody begins to wait: what is held unread must not keep the rest from coming.
    pub fn begin_wait(&self) -> Notify {
        let mut state = self.lock();
        state.waiters += 1;
        let acknowledgement = state.received.grant_all();
        state.acknowledge(acknowledgement)
    }

    /// Somebody no longer waits.
    pub fn end_wait(&self) {
        let mut state = self.lock();
        state.waiters = state.waiters.saturating_sub(1);
    }

    /// Looks at the received results.
    pub fn inspect<T>(&self, look: impl FnOnce(&Received) -> T) -> T {
        look(&self.lock().received)
    }

    /// The program has read the results of a range.
    pub fn read(&self, first: u32, end: u32) -> Notify {
        let mut state = self.lock();
        let acknowledgement = state.received.read(first, end);
        state.acknowledge(acknowledgement)
    }

    /// The program has no more use for the results of a range.
    pub fn release(&self, first: u32, end: u32) -> Notify {
        let mut state = self.lock();
        let acknowledgement = state.received.release(first, end);
        state.released_count += u64::from(end - first);
        let notify = state.acknowledge(acknowledgement);
        drop(state);
        self.released.notify_all();
        notify
    }

    /// Blocks while `most` tasks have been added and not released. `false` when nothing more will come.
    pub fn wait_for_room(&self, most: u64) -> bool {
        let state = self.lock();
        let full = |state: &mut State| state.failure.is_none() && u64::from(state.feed.next) >= state.released_count + most;
        let state = self.released.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        state.failure.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock but an input's own `Serialize`, which leaves a builder without its item.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn cut(&mut self) {
        if !self.builder.is_empty() {
            self.chunks.push_back(self.builder.take());
        }
    }
}

impl State {
    fn notify(&mut self) -> Notify {
        if std::mem::replace(&mut self.notified, true) { Notify::Nobody } else { Notify::Actor }
    }

    fn acknowledge(&mut self, acknowledgement: Acknowledgement) -> Notify {
        if acknowledgement.is_empty() {
            return Notify::Nobody;
        }
        self.acknowledgement.add(acknowledgement);
        self.notify()
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

fn run_bytes(run: &crate::wire::Run) -> u64 {
    match &run.body {
        crate::wire::RunBody::Ran(outcomes) => outcomes.bytes() as u64,
        crate::wire::RunBody::Ended(_) => 64,
    }
}
