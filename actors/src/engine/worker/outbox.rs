//! Outcomes on their way to the engine: gathered for a moment, so that quick tasks do not cost a message each.

use std::{
    borrow::Cow,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{Report, Reporting, Run, Told, capture::Follower};
use crate::task::{BatchId, Cause, News, Outcomes, PackedBuilder, TaskOutput, Timing};

/// An outcome goes at once when the last report is this old. Less often, the cost of a message is small beside the tasks;
/// longer, and the engine would be told noticeably late.
const REPORT_AFTER: Duration = Duration::from_micros(100);

/// Outcomes go at once when they have this many bytes, which bounds what a report holds beside one large result.
const REPORT_BYTES: usize = 256 << 10;

/// How often somebody looks after outcomes that wait behind a long task.
const STRAGGLERS_EVERY: Duration = Duration::from_millis(2);

/// How often is sent what a running task tells, at most. People look at it.
const NEWS_EVERY: Duration = Duration::from_millis(200);

/// Where reports go.
pub(super) trait ReportSink: Send + 'static {
    /// Sends a report. May block; must not fail: a sink without an engine has nobody to tell.
    fn send(&mut self, report: Report);

    /// As [`send`](Self::send), of what the running task tells.
    fn tell(&mut self, told: Told);
}

/// Takes what the running task tells.
pub(super) trait Bulletin: Send + Sync {
    /// The task of that index in the batch tells something.
    fn post(&self, batch: BatchId, index: u32, news: News);

    /// Tells what the running task has written since the last time.
    fn follow(&self);
}

/// Gathers outcomes and sends them as reports. Has a thread that sends what waits behind a long task.
#[derive(Debug)]
pub(super) struct Outbox<S> {
    shared: Arc<Shared<S>>,
}

/// A task that has ended.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    /// When it began.
    pub(super) start: Instant,
    /// When it ended.
    pub(super) end: Instant,
    /// Its encoded result.
    pub(super) result: Result<Cow<'a, [u8]>, Cause>,
    /// What it has written.
    pub(super) output: Option<TaskOutput>,
}

/// Whether an outcome was sent or waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It was sent, which may have taken time.
    Sent,
    /// It waits.
    Waits,
}

#[derive(Debug)]
struct Shared<S> {
    state: Mutex<State<S>>,
    helper: Condvar,
}

#[derive(Debug)]
struct State<S> {
    sink: S,
    batch: BatchId,
    reporting: Reporting,
    /// How many tasks of the batch have not ended.
    unfinished: usize,
    waiting: Waiting,
    last_report: Instant,
    /// The task that the engine was told to be running, for the case that the worker does not survive it.
    announced: Option<u32>,
    helper: Helper,
    /// What the running task has told, and whether that has not been sent.
    news: Option<(News, bool)>,
    last_news: Option<Instant>,
    /// Reads along what tasks write, where that is captured.
    follower: Option<Follower>,
    /// What was written is being taken for the outcome of a task; what comes then belongs to the next.
    taking: bool,
}

/// What the helping thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Helper {
    /// It sleeps until it is woken.
    Asleep,
    /// It looks every [`STRAGGLERS_EVERY`].
    Looks,
    /// It ends.
    Dismissed,
}

/// The outcomes that have not been sent. They are consecutive tasks of one batch.
#[derive(Debug)]
struct Waiting {
    first: u32,
    epoch: Instant,
    epoch_us: u64,
    values: PackedBuilder,
    timings: Vec<Timing>,
    failures: Vec<(u32, Cause)>,
    output: Vec<(u32, TaskOutput)>,
    bytes: usize,
}

impl<S: ReportSink> Outbox<S> {
    /// An outbox that sends to `sink`, also what tasks write, if there is somebody who reads that.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(super) fn start(sink: S, follower: Option<Follower>) -> io::Result<Self> {
        let now = Instant::now();
        let state = State {
            sink,
            batch: BatchId(0),
            reporting: Reporting::Coalesced,
            unfinished: 0,
            waiting: Waiting::new(now),
            last_report: now,
            announced: None,
            helper: Helper::Asleep,
            news: None,
            last_news: None,
            follower,
            taking: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), helper: Condvar::new() });
        let helped = Arc::clone(&shared);
        thread::Builder::new().name("worker-reports".into()).spawn(move || helped.help())?;
        Ok(Self { shared })
    }

    /// Turns to a batch. All tasks of the one before have been pushed.
    pub(super) fn begin(&self, run: &Run) {
        let mut state = self.shared.lock();
        state.batch = run.batch;
        state.reporting = run.reporting;
        state.unfinished = run.arguments.len();
        state.waiting.first = run.first;
        state.announced = None;
        state.news = None;
        // Of a batch of one task, the engine knows what runs.
        if state.unfinished > 1 && state.reporting == Reporting::Coalesced {
            self.shared.wake_helper(&mut state);
        }
    }

    /// Where the running task tells what it tells.
    pub(super) fn bulletin(&self) -> Arc<dyn Bulletin> {
        self.shared.clone()
    }

    /// What the running task has written is about to be taken for its outcome.
    pub(super) fn taking_output(&self) {
        self.shared.lock().taking = true;
    }

    /// Adds the outcome of the batch's next task.
    pub(super) fn push(&self, mut ended: Ended<'_>) -> Pushed {
        let mut state = self.shared.lock();
        if state.news.is_some()
            && let Some((News { published: published @ Some(_), .. }, _)) = state.news.take()
        {
            ended.output.get_or_insert_default().published = published;
        }
        if std::mem::take(&mut state.taking)
            && let Some(follower) = &mut state.follower
        {
            follower.rewind();
        }
        let now = ended.end;
        if matches!(ended.result, Ok(Cow::Owned(_))) && !state.waiting.is_empty() {
            // A long one begins a report, so that it need not be copied behind others.
            state.send();
        }
        // The engine holds one that it was told of to be running: a crash of the next must not be blamed on it.
        let told = state.announced == Some(state.running());
        state.waiting.add(ended);
        state.unfinished = state.unfinished.saturating_sub(1);
        if told
            || state.unfinished == 0
            || state.reporting == Reporting::Careful
            || state.waiting.bytes >= REPORT_BYTES
            || now.saturating_duration_since(state.last_report) >= REPORT_AFTER
        {
            state.send();
            return Pushed::Sent;
        }
        self.shared.wake_helper(&mut state);
        Pushed::Waits
    }
}

impl<S> Drop for Outbox<S> {
    fn drop(&mut self) {
        self.shared.lock().helper = Helper::Dismissed;
        self.shared.helper.notify_one();
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Sinks do not panic; and what a panic in between would leave is at worst a report less.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Shared<S> {
    fn wake_helper(&self, state: &mut State<S>) {
        if state.helper == Helper::Asleep {
            state.helper = Helper::Looks;
            self.helper.notify_one();
        }
    }
}

impl<S: ReportSink> Bulletin for Shared<S> {
    fn post(&self, batch: BatchId, index: u32, news: News) {
        let mut state = self.lock();
        // A thread that a task has left behind has nothing to tell any more.
        if state.batch == batch && state.running() == index && state.unfinished > 0 {
            let (latest, unsent) = state.news.get_or_insert_default();
            latest.update(news);
            *unsent = true;
            self.wake_helper(&mut state);
        }
    }

    fn follow(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let (batch, index) = (state.batch, state.running());
        let Some(follower) = state.follower.as_mut().filter(|_| state.unfinished > 0 && !state.taking) else { return };
        let written = follower.read();
        if !written.is_empty() {
            state.sink.tell(Told { batch, index, news: News { written, ..News::default() } });
        }
    }
}

impl<S: ReportSink> Shared<S> {
    fn help(&self) {
        let mut state = self.lock();
        loop {
            state = match state.helper {
                Helper::Dismissed => return,
                Helper::Asleep => self.helper.wait(state).unwrap_or_else(PoisonError::into_inner),
                Helper::Looks => {
                    let woken = self.helper.wait_timeout(state, STRAGGLERS_EVERY);
                    let mut state = woken.unwrap_or_else(PoisonError::into_inner).0;
                    state.look();
                    state
                }
            };
        }
    }
}

impl<S> State<S> {
    /// The task that runs.
    fn running(&self) -> u32 {
        // A batch has fewer than 2^32 tasks.
        self.waiting.first.wrapping_add(self.waiting.timings.len() as u32)
    }
}

impl<S: ReportSink> State<S> {
    /// Sends what has waited for long, or tells which task it is that takes long.
    fn look(&mut self) {
        let unsent = self.send_news();
        if self.waiting.is_empty() {
            let alone = self.unfinished <= 1 || self.reporting == Reporting::Careful;
            if !alone && self.announced != Some(self.waiting.first) && self.last_report.elapsed() >= STRAGGLERS_EVERY {
                self.announced = Some(self.waiting.first);
                self.send();
            }
            // One who was dismissed meanwhile stays so.
            if alone && !unsent && self.helper == Helper::Looks {
                self.helper = Helper::Asleep;
            }
        } else if self.last_report.elapsed() >= REPORT_AFTER {
            self.send();
        }
    }

    /// Sends what the running task has told, unless that was done a moment ago; whether there is still something to be sent.
    fn send_news(&mut self) -> bool {
        let (batch, index) = (self.batch, self.running());
        let Some((news, unsent @ true)) = &mut self.news else { return false };
        if self.last_news.is_some_and(|last| last.elapsed() < NEWS_EVERY) {
            return true;
        }
        *unsent = false;
        self.sink.tell(Told { batch, index, news: news.clone() });
        self.last_news = Some(Instant::now());
        false
    }

    fn send(&mut self) {
        let (first, outcomes) = self.waiting.take();
        self.sink.send(Report { batch: self.batch, first, outcomes });
        self.last_report = Instant::now();
    }
}

impl Waiting {
    fn new(now: Instant) -> Self {
        Self {
            first: 0,
            epoch: now,
            epoch_us: 0,
            values: PackedBuilder::default(),
            timings: Vec::new(),
            failures: Vec::new(),
            output: Vec::new(),
            bytes: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.timings.is_empty()
    }

    fn add(&mut self, ended: Ended<'_>) {
        if self.is_empty() {
            self.epoch = ended.start;
            self.epoch_us = unix_us(ended.start);
        }
        // A batch has fewer than 2^32 tasks.
        let offset = self.timings.len() as u32;
        let since =
            |from: Instant, to: Instant| u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX);
        self.timings.push(Timing { start_us: since(self.epoch, ended.start), busy_us: since(ended.start, ended.end) });
        self.bytes += size_of::<Timing>() + size_of::<u32>();
        match ended.result {
            Ok(value) => {
                self.bytes += value.len();
                self.values.push_item(value);
            }
            Err(cause) => {
                self.values.push(b"");
                self.bytes += cause.bytes();
                self.failures.push((offset, cause));
            }
        }
        if let Some(output) = ended.output {
            self.bytes += output.bytes();
            self.output.push((offset, output));
        }
    }

    fn take(&mut self) -> (u32, Outcomes) {
        let first = self.first;
        let outcomes = Outcomes {
            epoch_us: self.epoch_us,
            values: self.values.take(),
            timings: std::mem::take(&mut self.timings),
            failures: std::mem::take(&mut self.failures),
            output: std::mem::take(&mut self.output),
        };
        self.bytes = 0;
        // Past the last task of a job this wraps, and the next batch sets it.
        self.first = first.wrapping_add(outcomes.len() as u32);
        (first, outcomes)
    }
}

/// Microseconds since the Unix epoch at a moment that has just passed.
fn unix_us(moment: Instant) -> u64 {
    let then = SystemTime::now() - moment.elapsed();
    let since = then.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
