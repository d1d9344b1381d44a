//! Maps over inputs of any length, in bounded memory.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use actix::Addr;
use futures_util::Stream;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Client, ClientActor,
    actor::{AbortTasks, AddJob, Flush},
    async_result::notify,
    job::{Job, Notify, WaitFor},
    task_value::TaskValue,
    wait::block_on,
};
use crate::code::encode;
use crate::error::{Error, Result};
use crate::task::{JobId, MessageId, item_of};

/// How many tasks of a lazy map are outstanding, from when the input is drawn until the program has the result.
pub(super) const OUTSTANDING_MAX: u64 = 262_144;

/// The results of a lazy map, in the order of the inputs: an iterator that blocks, and a stream that does not.
///
/// Inputs are drawn, by a thread of their own, only as far ahead of the results that the program takes as the map's bound
/// allows, so that neither client nor controller grows with the number of inputs, and the inputs may be endless. Dropping it
/// aborts what has not run.
///
/// A task that failed is an error of its own; the results after it still come.
#[must_use = "inputs are drawn only as results are taken"]
pub struct LazyMap<R> {
    client: Client,
    job: Arc<Job>,
    next: u32,
    /// Read and not yet released, so that one lock serves many results.
    unreleased: u32,
    ended: bool,
    /// The program waits for a result that has not come. Only then may later ones come beyond the window.
    waits: bool,
    _result: PhantomData<fn() -> R>,
}

/// How many results are taken before their places are given back, at most.
const RELEASE_EVERY: u32 = 256;

impl<R> LazyMap<R> {
    pub(super) fn start<A, I>(client: Client, job: Job, inputs: I, outstanding_max: u64) -> Self
    where
        A: Serialize,
        I: Iterator<Item = A> + Send + 'static,
    {
        let job = Arc::new(job);
        if job.failure().is_none() {
            client.inner.actor.do_send(AddJob(job.clone()));
            let feeder = Feeder { job: job.clone(), actor: client.inner.actor.clone(), done: false };
            let thread = std::thread::Builder::new().name("engineroom-feed".into());
            let spawned = thread.spawn(move || feeder.feed(inputs, outstanding_max));
            if let Err(error) = spawned {
                job.fail(Error::Start(format!("no thread could be started: {error}")));
            }
        }
        Self { client, job, next: 0, unreleased: 0, ended: false, waits: false, _result: PhantomData }
    }

    /// The job that the tasks belong to; the n-th input is its task n.
    pub fn job_id(&self) -> JobId {
        self.job.id
    }

    fn set_waits(&mut self, waits: bool) {
        match (self.waits, waits) {
            (false, true) => notify(&self.client, &self.job, self.job.begin_wait()),
            (true, false) => self.job.end_wait(),
            _ => {}
        }
        self.waits = waits;
    }

    fn release(&mut self) {
        let first = self.next - self.unreleased;
        self.unreleased = 0;
        if first < self.next {
            notify(&self.client, &self.job, self.job.read(first, self.next));
            notify(&self.client, &self.job, self.job.release(first, self.next));
        }
    }
}

impl<R: DeserializeOwned> LazyMap<R> {
    fn poll_one(&mut self, waker: &Waker) -> Poll<Option<Result<R>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let index = self.next;
        let found = self.job.poll(WaitFor::Task(index), waker, |received| TaskValue::find(received, index));
        let read = match found {
            Poll::Ready(found) => found.and_then(|found| found.decode(MessageId { job: self.job.id, index })),
            Poll::Pending => {
                self.release();
                // The end of the inputs wakes those who wait, so that it is found here.
                if self.job.length() != (index, true) {
                    self.set_waits(true);
                    return Poll::Pending;
                }
                self.ended = true;
                return Poll::Ready(None);
            }
        };
        self.set_waits(false);
        match read {
            Ok(value) => {
                self.next += 1;
                self.unreleased += 1;
                if self.unreleased == RELEASE_EVERY {
                    self.release();
                }
                Poll::Ready(Some(value.map_err(Error::from)))
            }
            Err(error) => {
                self.ended = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

impl<R: DeserializeOwned> Iterator for LazyMap<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        block_on(poll_fn(|context| self.poll_one(context.waker())))
    }
}

impl<R: DeserializeOwned> Stream for LazyMap<R> {
    type Item = Result<R>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<R>>> {
        self.get_mut().poll_one(context.waker())
    }
}

/// Draws the inputs, on a thread of its own.
struct Feeder {
    job: Arc<Job>,
    actor: Addr<ClientActor>,
    done: bool,
}

impl Feeder {
    fn feed<A: Serialize>(mut self, inputs: impl Iterator<Item = A>, outstanding_max: u64) {
        let mut argument = Vec::new();
        for input in inputs {
            if !self.job.wait_for_room(outstanding_max) {
                break;
            }
            argument.clear();
            let index = self.job.length().0;
            let encoded = encode(&input, &mut argument);
            let encoded = encoded.map_err(|error| Error::Submit(format!("input {index} cannot be encoded: {error}")));
            match encoded.and_then(|()| self.job.push(item_of(&mut argument))) {
                Ok(pushed) => self.tell(pushed.notify),
                Err(error) => {
                    self.job.fail(error);
                    break;
                }
            }
        }
        self.done = true;
    }

    fn tell(&self, change: Notify) {
        if change == Notify::Actor {
            self.actor.do_send(Flush(self.job.number));
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if !self.done {
            self.job.fail(Error::Submit("the iterator of the inputs panicked".into()));
        }
        self.tell(self.job.close());
    }
}

impl<R> Drop for LazyMap<R> {
    fn drop(&mut self) {
        self.release();
        // One that could not be begun has nothing to be ended.
        if !self.ended && self.job.failure().is_none() {
            // Ends the feeder, and the job at the controller, which otherwise expects more tasks.
            self.job.fail(Error::Closed);
            let (number, job) = (self.job.number, self.job.id);
            let (answer, _) = tokio::sync::oneshot::channel();
            self.client.inner.actor.do_send(AbortTasks { number, job, first: 0, count: u32::MAX, answer });
        }
        self.set_waits(false);
        let (length, _) = self.job.length();
        notify(&self.client, &self.job, self.job.release(self.next, length.max(self.next)));
        notify(&self.client, &self.job, self.job.close());
    }
}

impl<R> fmt::Debug for LazyMap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LazyMap({} results taken)", self.next)
    }
}
