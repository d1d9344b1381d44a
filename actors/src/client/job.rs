//! One job as its client sees it: what is still to be submitted, and the results that have come. Shared between the
//! program's threads and the client actor.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    feed::{Feed, Part},
    news::Board,
    received::{Acknowledgement, Received},
    value::SharedValue,
};
use crate::error::Error;
use crate::task::{EngineId, JobId};
use crate::wire::{JobHeader, Run};

/// How many bytes of results of one job may be under way to a program that does not read them yet.
pub(crate) const WINDOW_BYTES: u64 = 16 << 20;

/// A lazy map that had to wait goes on when this share of the tasks that it may have outstanding is free.
const ROOM_SHARE: u64 = 16;

/// A job of this client, or one whose results it has asked for.
#[derive(Debug)]
pub(crate) struct Job {
    pub id: JobId,
    /// This client's number for it, and for its subscription.
    pub number: u64,
    /// For a direct view: which engines, and how many consecutive tasks each has.
    pub placement: Vec<(EngineId, u32)>,
    /// The text that stands with it; `None` also for the job of another client.
    pub label: Option<String>,
    state: Mutex<State>,
    /// Told when there is room for tasks again that somebody waits for: a lazy map that has as many outstanding as it may.
    room: Condvar,
}

#[derive(Debug)]
struct State {
    feed: Feed,
    /// What the tasks share, until the actor takes it.
    value: Option<SharedValue>,
    received: Received,
    /// What running tasks have told.
    board: Board,
    acknowledgement: Acknowledgement,
    /// The actor has been told that there is something to do.
    notified: bool,
    /// When it was, the last time.
    notified_at: SystemTime,
    /// Nothing more will come, and why.
    failure: Option<Error>,
    /// Those who wait for a certain task, by its index.
    waiting: BTreeMap<u32, Vec<Waker>>,
    /// Those who wait for any task.
    waiting_for_any: Vec<Waker>,
    waiters: usize,
    /// Tasks that the program has no more use for.
    released: u64,
    /// How many have to be until who waits for room is told.
    room_at: Option<u64>,
    /// Tasks that handles were made for, of a job that another client submitted.
    asked: u64,
}

/// What the caller has to do after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Notify {
    /// Tell the actor that there is something to do.
    Actor,
    /// Nothing: it knows.
    Nobody,
}

/// A task that was added.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// Its index.
    pub index: u32,
    /// When it was added, as near as is known of those that travel together.
    pub at: SystemTime,
    pub notify: Notify,
}

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitFor {
    /// The result of this task.
    Task(u32),
    /// Any result.
    Any,
}

impl Job {
    /// A job to be submitted.
    pub fn new(id: JobId, number: u64, header: JobHeader) -> Self {
        let (placement, label) = (header.direct.clone(), header.label.clone());
        Self { placement, label, ..Self::with(id, number, Feed::new(header), None, 0) }
    }

    /// A job of which only the results of so many tasks are wanted.
    pub fn foreign(id: JobId, number: u64, asked: u64) -> Self {
        Self::with(id, number, Feed::ended(), None, asked)
    }

    /// A job that could not even be begun.
    pub fn failed(error: Error) -> Self {
        Self::with(JobId::fresh(), 0, Feed::ended(), Some(error), 0)
    }

    fn with(id: JobId, number: u64, feed: Feed, failure: Option<Error>, asked: u64) -> Self {
        let state = State {
            feed,
            value: None,
            received: Received::default(),
            board: Board::default(),
            acknowledgement: Acknowledgement::default(),
            notified: false,
            notified_at: UNIX_EPOCH,
            failure,
            waiting: BTreeMap::new(),
            waiting_for_any: Vec::new(),
            waiters: 0,
            released: 0,
            room_at: None,
            asked,
        };
        let (placement, label) = (Vec::new(), None);
        Self { id, number, placement, label, state: Mutex::new(state), room: Condvar::new() }
    }

    /// Whether another client submitted it, or this one before.
    pub fn is_foreign(&self) -> bool {
        self.lock().asked > 0
    }

    /// The tasks share this value. To be said before the job is handed to the actor.
    pub fn share(&self, value: SharedValue) {
        let mut state = self.lock();
        state.feed.share(value.hash);
        state.value = Some(value);
    }

    /// What the tasks share, the first time.
    pub fn take_value(&self) -> Option<SharedValue> {
        self.lock().value.take()
    }

    /// Adds a task with this encoded argument.
    pub fn push<'a>(&self, argument: impl Into<Cow<'a, [u8]>>) -> Result<Pushed, Error> {
        let mut state = self.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        let index = state.feed.push(argument)?;
        let notify = state.notify();
        Ok(Pushed { index, at: state.notified_at, notify })
    }

    /// No more tasks will be added.
    pub fn close(&self) -> Notify {
        let mut state = self.lock();
        state.feed.close();
        let notify = state.notify();
        // Whoever waits for the next task of an endless map learns that there is none.
        let wakers = state.take_all_wakers();
        drop(state);
        wake(wakers);
        notify
    }

    /// The jobs that it waits for, while it has not been handed over.
    pub fn named_jobs(&self) -> Vec<JobId> {
        self.lock().feed.header().map_or(Vec::new(), |header| header.options.named_jobs().collect())
    }

    /// How many tasks there are so far, and whether there will be no more.
    pub fn length(&self) -> (u32, bool) {
        let state = self.lock();
        (state.feed.length(), state.feed.is_closed())
    }

    /// The bytes of arguments that wait for the actor.
    pub fn waiting_bytes(&self) -> usize {
        self.lock().feed.waiting_bytes()
    }

    /// Whether its function travels with this program.
    pub fn needs_bundle(&self) -> bool {
        self.lock().feed.needs_bundle()
    }

    /// The next part to be submitted, if there is one.
    pub fn take_part(&self) -> Option<Part> {
        let mut state = self.lock();
        state.notified = false;
        state.feed.take_part()
    }

    /// Whether the actor has been given all tasks below `end`, or all that there are.
    pub fn is_fed_until(&self, end: u32) -> bool {
        self.lock().feed.is_fed_until(end)
    }

    /// Whether nothing is left to be submitted, now.
    pub fn is_fed(&self) -> bool {
        self.lock().feed.is_fed()
    }

    /// Whether the job is submitted to its end and the program has no use for any of its results any more.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.feed.is_done() && state.released >= state.asked + u64::from(state.feed.length())
    }

    /// What is to be told to the store, if anything.
    pub fn take_acknowledgement(&self) -> Option<Acknowledgement> {
        let mut state = self.lock();
        let acknowledgement = std::mem::take(&mut state.acknowledgement);
        (!acknowledgement.is_empty()).then_some(acknowledgement)
    }

    /// What was taken could not be told: it is told with the next.
    pub fn keep_acknowledgement(&self, acknowledgement: Acknowledgement) {
        self.lock().acknowledgement.add(acknowledgement);
    }

    /// Results have come.
    pub fn receive(&self, run: Run) {
        // A clock that is set before 1970 says nothing.
        let now_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64);
        let mut state = self.lock();
        let wanted_now = state.waiters > 0;
        let (first, end) = (run.first, run.end());
        let acknowledgement = state.received.insert(run, now_us, wanted_now);
        state.board.ended(first, end);
        state.acknowledgement.add(acknowledgement);
        let mut wakers = std::mem::take(&mut state.waiting_for_any);
        // Usually one or none is there, and a task has one waiter.
        while let Some((&index, _)) = state.waiting.range(first..end).next() {
            wakers.extend(state.waiting.remove(&index).unwrap_or_default());
        }
        drop(state);
        wake(wakers);
    }

    /// The link is back and the results are subscribed to anew: those of these ranges, as start and count.
    pub fn resubscribe(&self) -> Vec<(u32, u32)> {
        let mut state = self.lock();
        state.received.forget_window();
        state.acknowledgement.grant_bytes = 0;
        let end = if state.feed.is_closed() { state.feed.length() } else { u32::MAX };
        state.received.missing(0, end)
    }

    /// Nothing more will come.
    pub fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.failure.get_or_insert(error);
        state.feed.abandon();
        let wakers = state.take_all_wakers();
        drop(state);
        wake(wakers);
        self.room.notify_all();
    }

    /// Why nothing more will come, if so.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    /// Ready when all tasks of the range have ended, or when nothing more will come.
    pub fn poll_complete(&self, first: u32, end: u32, waker: &Waker) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        // Who waits for the last one is not woken by each that comes before.
        match state.received.last_missing(first, end) {
            None => Poll::Ready(Ok(())),
            Some(missing) => state.pend(WaitFor::Task(missing), waker),
        }
    }

    /// Ready with what `read` finds in the received results, or when nothing more will come.
    pub fn poll<T>(&self, wait: WaitFor, waker: &Waker, read: impl FnOnce(&Received) -> Option<T>) -> Poll<Result<T, Error>> {
        let mut state = self.lock();
        match read(&state.received) {
            Some(value) => Poll::Ready(Ok(value)),
            None => state.pend(wait, waker),
        }
    }

    /// Somebody begins to wait: what is held unread must not keep the rest from coming.
    pub fn begin_wait(&self) -> Notify {
        self.lock().waiters += 1;
        self.open_window()
    }

    /// What is held unread must not keep the rest from coming.
    pub fn open_window(&self) -> Notify {
        let mut state = self.lock();
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

    /// Looks at what running tasks have told, and at the results.
    pub fn with_news<T>(&self, look: impl FnOnce(&Board, &Received) -> T) -> T {
        let state = self.lock();
        look(&state.board, &state.received)
    }

    /// As [`with_news`](Self::with_news), to add something.
    pub fn with_board(&self, change: impl FnOnce(&mut Board, &Received)) {
        let mut state = self.lock();
        let state = &mut *state;
        change(&mut state.board, &state.received);
    }

    /// The program has read the results of a range.
    pub fn read(&self, first: u32, end: u32) -> Notify {
        let mut state = self.lock();
        let acknowledgement = state.received.read(first, end);
        state.acknowledge(acknowledgement)
    }

    /// The program has no more use for the results of a range. Each task is released once.
    pub fn release(&self, first: u32, end: u32) -> Notify {
        let mut state = self.lock();
        let acknowledgement = state.received.release(first, end);
        state.released += u64::from(end - first);
        let over = state.feed.is_closed() && state.released >= state.asked + u64::from(state.feed.length());
        let notify = state.acknowledge(acknowledgement);
        let notify = if over && notify == Notify::Nobody { state.notify() } else { notify };
        // Nobody waits as a rule, and to tell nobody costs a system call all the same.
        let released = state.released;
        let is_room = state.room_at.take_if(|at| *at <= released).is_some();
        drop(state);
        if is_room {
            self.room.notify_all();
        }
        notify
    }

    /// Blocks while `most` tasks have been added and not released; then until there is room for some more, so that the one who waits
    /// is not woken for each. `false` when nothing more will come. One thread at a time may wait.
    pub fn wait_for_room(&self, most: u64) -> bool {
        let mut state = self.lock();
        let length = u64::from(state.feed.length());
        let outstanding = length.saturating_sub(state.released);
        if outstanding >= most {
            state.room_at = Some(state.released + (outstanding - most) + 1 + most / ROOM_SHARE);
            let full = |state: &mut State| state.failure.is_none() && state.room_at.is_some();
            state = self.room.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        }
        state.failure.is_none()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn notify(&mut self) -> Notify {
        if self.notified {
            return Notify::Nobody;
        }
        self.notified = true;
        // The clock is read once for all tasks that travel together.
        self.notified_at = SystemTime::now();
        Notify::Actor
    }

    fn acknowledge(&mut self, acknowledgement: Acknowledgement) -> Notify {
        if acknowledgement.is_empty() {
            return Notify::Nobody;
        }
        self.acknowledgement.add(acknowledgement);
        self.notify()
    }

    fn pend<T>(&mut self, wait: WaitFor, waker: &Waker) -> Poll<Result<T, Error>> {
        if let Some(error) = &self.failure {
            return Poll::Ready(Err(error.clone()));
        }
        let wakers = match wait {
            WaitFor::Task(index) => self.waiting.entry(index).or_default(),
            WaitFor::Any => &mut self.waiting_for_any,
        };
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        Poll::Pending
    }

    fn take_all_wakers(&mut self) -> Vec<Waker> {
        let mut wakers = std::mem::take(&mut self.waiting_for_any);
        wakers.extend(std::mem::take(&mut self.waiting).into_values().flatten());
        wakers
    }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
            mpsc,
        },
        task::Wake,
        thread,
    };

    use super::*;
    use crate::client::{feed::tests::header, received::tests::run};

    /// How often it was woken.
    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_for_all_results_is_not_woken_for_each() {
        const COUNT: u32 = 100;
        let job = Job::new(JobId::fresh(), 0, header());
        let wakes = Arc::new(Wakes::default());
        let complete = || job.poll_complete(0, COUNT, &Waker::from(wakes.clone()));
        assert!(complete().is_pending());
        // As from two engines, one of them slower.
        for index in (0..COUNT).filter(|index| index % 10 != 9).chain((9..COUNT).step_by(10)) {
            assert!(complete().is_pending());
            job.receive(run(index, 1));
        }
        assert!(complete().is_ready());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    /// Whoever waits for room is woken when there is some for several tasks, not for each.
    #[test]
    fn who_waits_for_room_goes_on_when_a_share_of_it_is_free_or_nothing_more_will_come() {
        for (most, share) in [(1, 1), (2, 1), (16, 2), (100, 7)] {
            let job = Arc::new(Job::new(JobId::fresh(), 0, header()));
            let push = |job: &Job| assert!(job.push(vec![0]).is_ok());
            for _ in 0..most {
                assert!(job.wait_for_room(most));
                push(&job);
            }
            let (waits, (has_room, room)) = (Arc::clone(&job), mpsc::channel());
            let waiter = thread::spawn(move || {
                while waits.wait_for_room(most) {
                    push(&waits);
                    has_room.send(()).unwrap();
                }
            });
            while job.lock().room_at.is_none() {
                thread::yield_now();
            }
            for released in 0..share {
                assert_eq!(room.try_recv(), Err(mpsc::TryRecvError::Empty), "{released} of {most}");
                let _ = job.release(released, released + 1);
            }
            (0..share).for_each(|_| room.recv().unwrap());
            assert_eq!(u64::from(job.length().0), most + u64::from(share));
            job.fail(Error::Closed);
            waiter.join().unwrap();
        }
    }
}
