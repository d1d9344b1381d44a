//! Results that may not be there yet.

use std::{
    fmt,
    future::{IntoFuture, poll_fn},
    marker::PhantomData,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{
    Client,
    actor::{ANSWER_DEADLINE, AbortTasks, Flush},
    job::{Job, Notify},
    progress_bar,
    shape::{All, Shape},
    stream::{AsCompleted, InOrder},
    task_value::TaskValue,
    until,
    wait::block_until,
};
use crate::error::{Error, Result};
use crate::task::{JobId, MessageId, TaskError};
use crate::wire::AbortCounts;

/// How far a set of tasks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tasks that have ended, in whatever way.
    pub done: usize,
    /// All tasks.
    pub total: usize,
    /// Tasks that have ended without a value, as far as their results have come.
    pub failed: usize,
}

/// The results of tasks, which may not be there yet: to be waited for, awaited, or taken as they come.
///
/// Dropping it does not abort the tasks; it only says that this program does not want their results any more.
#[must_use = "the tasks run in any case, but their results are lost to this program"]
pub struct AsyncResult<R, S = All> {
    pub(super) client: Client,
    pub(super) parts: Vec<Part>,
    /// When the first of the tasks was submitted, by the clock of its client.
    pub(super) submitted: SystemTime,
    pub(super) at_failure: AtFailure,
    /// So many parts, from the first on, are known to be complete: results do not go away again.
    complete: AtomicUsize,
    waiting: bool,
    _types: PhantomData<fn() -> (R, S)>,
}

/// A run of tasks of one job.
pub(super) struct Part {
    pub job: Arc<Job>,
    pub first: u32,
    pub end: u32,
    pub read: bool,
}

/// What a wait does when a task has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtFailure {
    /// It waits for the others.
    GoOn,
    /// It ends, and the others are aborted.
    End,
}

impl<R, S> AsyncResult<R, S> {
    /// The tasks of a whole job, which no other handle has.
    pub(super) fn of_job(client: Client, job: Arc<Job>, count: u32) -> Self {
        let submitted = job.id.made_at();
        Self::new(client, vec![Part { job, first: 0, end: count, read: false }], submitted)
    }

    /// One task of a job that others share.
    pub(super) fn of_task(client: Client, job: Arc<Job>, index: u32, submitted: SystemTime) -> Self {
        Self::new(client, vec![Part { job, first: index, end: index + 1, read: false }], submitted)
    }

    pub(super) fn of_parts(client: Client, parts: Vec<(Arc<Job>, u32, u32)>) -> Self {
        let part = |(job, first, count): (Arc<Job>, u32, u32)| Part { job, first, end: first.saturating_add(count), read: false };
        let parts: Vec<Part> = parts.into_iter().map(part).collect();
        let submitted = parts.iter().map(|part| part.job.id.made_at()).min();
        Self::new(client, parts, submitted.unwrap_or(UNIX_EPOCH))
    }

    pub(super) fn new(client: Client, parts: Vec<Part>, submitted: SystemTime) -> Self {
        let (at_failure, complete) = (AtFailure::GoOn, AtomicUsize::new(0));
        Self { client, parts, submitted, at_failure, complete, waiting: false, _types: PhantomData }
    }

    pub(super) fn at_failure(mut self, at_failure: AtFailure) -> Self {
        self.at_failure = at_failure;
        self
    }

    /// The ids of the tasks, in the order of the inputs. They can be stored, and their results asked for by another client.
    pub fn message_ids(&self) -> Vec<MessageId> {
        let ids = |part: &Part| {
            let job = part.job.id;
            (part.first..part.end).map(move |index| MessageId { job, index })
        };
        self.parts.iter().flat_map(ids).collect()
    }

    /// The tasks, as runs: of a job that is wholly here, and to which nothing is added any more, all there are.
    pub(super) fn runs(&self) -> Vec<(JobId, u32, u32)> {
        let run = |part: &Part| {
            let whole = part.first == 0 && part.job.length() == (part.end, true);
            (part.job.id, part.first, if whole { u32::MAX } else { part.end - part.first })
        };
        self.parts.iter().map(run).collect()
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| (part.end - part.first) as usize).sum()
    }

    /// Whether there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all results are here, so that [`AsyncResult::get`] would not wait.
    pub fn ready(&self) -> bool {
        self.open_windows();
        self.poll_ready(Waker::noop()).is_ready()
    }

    /// How far the tasks are.
    pub fn progress(&self) -> Progress {
        self.open_windows();
        let sum = |count: fn(&Part) -> u32| self.parts.iter().map(|part| count(part) as usize).sum();
        Progress {
            done: sum(|part| part.job.inspect(|received| received.done_within(part.first, part.end))),
            total: self.len(),
            failed: sum(|part| part.job.inspect(|received| received.failed_within(part.first, part.end))),
        }
    }

    /// Blocks until all tasks have ended, or the time is over; says whether they have. `None` waits as long as it takes.
    ///
    /// # Errors
    /// [`Error::Task`] after [`fail_fast`](Self::fail_fast), as soon as a task has failed. Otherwise when the results will never come: the job is unknown, the controller is gone for good, the client was closed.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        self.begin_wait();
        match block_until(poll_fn(|context| self.poll_ready(context.waker())), until(timeout)) {
            Some(ended) => ended.map(|()| true),
            None => Ok(false),
        }
    }

    /// Blocks until all tasks have ended, with a progress bar on the standard error output if that is a terminal: how many
    /// are done, the rate, the time left. Elsewhere, in a log say, a line every ten seconds tells how many are done.
    ///
    /// # Errors
    /// As [`AsyncResult::wait`].
    pub fn wait_interactive(mut self) -> Result<Self> {
        progress_bar::watch(&mut self)?;
        Ok(self)
    }

    /// Aborts the tasks that have not ended, and says what they were. Waiting ones never run; a running one is stopped if it runs in
    /// a process, and its engine goes on with the next. One that runs in a thread goes on unless it
    /// [asks](crate::TaskContext::is_cancelled). Each ends with a result, if only that it was aborted.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub fn abort(&self) -> Result<AbortCounts> {
        let asked: Vec<_> = self.parts.iter().map(|part| self.send_abort(part)).collect();
        let deadline = until(Some(ANSWER_DEADLINE));
        let mut sum = AbortCounts::default();
        for answered in asked {
            let unanswered = || Error::NoAnswer(format!("no answer within {ANSWER_DEADLINE:?}"));
            sum += block_until(answered, deadline).ok_or_else(unanswered)?.unwrap_or(Err(Error::Closed))?;
        }
        Ok(sum)
    }

    /// Has the tasks of a part aborted; what that met comes later.
    pub(super) fn send_abort(&self, part: &Part) -> oneshot::Receiver<Result<AbortCounts>> {
        let (answer, answered) = oneshot::channel();
        let (number, job, count) = (part.job.number, part.job.id, part.end - part.first);
        self.client.inner.actor.do_send(AbortTasks { number, job, first: part.first, count, answer });
        answered
    }

    pub(super) fn poll_ready(&self, waker: &Waker) -> Poll<Result<()>> {
        if self.at_failure == AtFailure::End {
            return self.poll_well(waker);
        }
        for (place, part) in self.parts.iter().enumerate().skip(self.complete.load(Ordering::Relaxed)) {
            if part.first < part.end {
                match part.job.poll_complete(part.first, part.end, waker) {
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                }
            }
            self.complete.store(place + 1, Ordering::Relaxed);
        }
        for part in self.parts.iter().filter(|part| part.first == part.end) {
            if let Some(error) = part.job.failure() {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the parts away; nobody waits here any more.
    pub(super) fn take_parts(&mut self) -> Vec<Part> {
        if std::mem::take(&mut self.waiting) {
            self.parts.iter().for_each(|part| part.job.end_wait());
        }
        std::mem::take(&mut self.parts)
    }

    pub(super) fn begin_wait(&mut self) {
        if !std::mem::replace(&mut self.waiting, true) {
            for part in &self.parts {
                notify(&self.client, &part.job, part.job.begin_wait());
            }
        }
    }

    /// What is held unread must not keep the rest from coming to one who asks for it again and again.
    pub(super) fn open_windows(&self) {
        for part in &self.parts {
            notify(&self.client, &part.job, part.job.open_window());
        }
    }

    /// One part, as job, first and end.
    pub(super) fn range(&self, place: usize) -> Option<(&Arc<Job>, u32, u32)> {
        self.parts.get(place).map(|part| (&part.job, part.first, part.end))
    }

    /// The parts, as job, first and end.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&Arc<Job>, u32, u32)> {
        self.parts.iter().map(|part| (&part.job, part.first, part.end))
    }

    /// The program has the results of everything now.
    fn mark_read(&mut self) {
        for part in self.parts.iter_mut().filter(|part| !part.read) {
            part.read = true;
            notify(&self.client, &part.job, part.job.read(part.first, part.end));
        }
    }

    /// The program has the result of a task of that part, and reads each task once.
    pub(super) fn read_one(&mut self, place: usize, index: u32) {
        if let Some(part) = self.parts.get_mut(place) {
            part.read = true;
            notify(&self.client, &part.job, part.job.read(index, index + 1));
        }
    }
}

impl<R: DeserializeOwned + 'static, S: Shape> AsyncResult<R, S> {
    /// Blocks until all tasks have ended and gives their results, in the order of the inputs.
    ///
    /// # Errors
    /// [`Error::Task`] with the first task that has no value, or, of a direct view, [`Error::Several`] with all of them;
    /// [`AsyncResult::results`] gives the others in spite of it. Any other error when the results will never come.
    pub fn get(mut self) -> Result<S::Output<R>> {
        self.wait(None)?;
        self.collect()
    }

    /// As [`AsyncResult::get`], for at most that long. On a timeout the tasks go on, and it can be asked again.
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`AsyncResult::get`].
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<S::Output<R>> {
        if !self.wait(Some(timeout))? {
            return Err(Error::Timeout(timeout));
        }
        self.collect()
    }

    /// Blocks until all tasks have ended; gives the value or the error of each, in the order of the inputs.
    ///
    /// # Errors
    /// When the results will never come, or are not of type `R`.
    pub fn results(mut self) -> Result<Vec<Result<R, TaskError>>> {
        self.wait(None)?;
        self.collect_each()
    }

    /// The results in the order of the inputs, each as soon as it and all before it are there. An iterator that blocks, and a
    /// stream that does not.
    pub fn iter(self) -> InOrder<R, S> {
        InOrder::new(self)
    }

    /// The results as the tasks end, each with the position of its input.
    pub fn as_completed(self) -> AsCompleted<R, S> {
        AsCompleted::new(self)
    }

    fn collect(&mut self) -> Result<S::Output<R>> {
        let each = self.collect_each()?;
        if each.iter().all(Result::is_ok) {
            let values: Result<Vec<R>, TaskError> = each.into_iter().collect();
            return Ok(S::collect(values?));
        }
        let total = each.len();
        let mut errors: Vec<TaskError> = each.into_iter().filter_map(Result::err).collect();
        // Of engines that were addressed each its own, none is passed over.
        let is_direct = self.parts.iter().any(|part| !part.job.placement.is_empty());
        if is_direct && errors.len() > 1 {
            return Err(Error::Several { errors, total });
        }
        let others = errors.len() - 1;
        Err(Error::Task { error: Box::new(errors.swap_remove(0)), others, total })
    }

    fn collect_each(&mut self) -> Result<Vec<Result<R, TaskError>>> {
        let mut each = Vec::with_capacity(self.len());
        for part in &self.parts {
            for index in part.first..part.end {
                let found = part.job.inspect(|received| TaskValue::find(received, index));
                let value = found.ok_or(Error::UnknownJob(part.job.id))?;
                each.push(value.decode(MessageId { job: part.job.id, index })?);
            }
        }
        self.mark_read();
        Ok(each)
    }
}

impl<R: DeserializeOwned + Send + 'static, S: Shape + 'static> IntoFuture for AsyncResult<R, S> {
    type Output = Result<S::Output<R>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move {
            self.begin_wait();
            poll_fn(|context| self.poll_ready(context.waker())).await?;
            self.collect()
        })
    }
}

impl<R, S> Drop for AsyncResult<R, S> {
    fn drop(&mut self) {
        for part in &self.parts {
            if self.waiting {
                part.job.end_wait();
            }
            notify(&self.client, &part.job, part.job.release(part.first, part.end));
        }
    }
}

impl<R, S> fmt::Debug for AsyncResult<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { done, total, .. } = self.progress();
        write!(f, "AsyncResult({done} of {total} tasks done)")
    }
}

/// Tells the client's actor about a change, if it has to know.
pub(super) fn notify(client: &Client, job: &Job, notify: Notify) {
    if notify == Notify::Actor {
        client.inner.actor.do_send(Flush(job.number));
    }
}
