//! Runs the tasks of batches, in a worker process and in a worker thread alike.

use std::{io, sync::Arc, time::Instant};

use super::{
    Run,
    capture::{Capture, Look},
    context::{Surroundings, TaskContext},
    control::{Control, Verdict},
    namespace::Namespace,
    outbox::{Bulletin, Ended, Outbox, Pushed, ReportSink},
    panics::{self, Noise},
};
use crate::{
    code::{SharedValues, Tasks},
    task::{BundleHash, Cause, MessageId, item_of},
    wire::VALUE_BYTES_MAX,
};

/// The longest text of a failure, in bytes; the rest is cut off. Enough for any error that a person reads.
const CAUSE_TEXT_BYTES_MAX: usize = 16 << 10;

/// Runs batches, one task after another on the calling thread.
pub(super) struct Runner<S> {
    own_bundle: Option<BundleHash>,
    tasks: Tasks,
    values: SharedValues,
    surroundings: Arc<Surroundings>,
    capture: Option<Capture>,
    noise: Noise,
    outbox: Outbox<S>,
    value: Vec<u8>,
}

impl<S: ReportSink> Runner<S> {
    /// A runner in a process of its own, which runs the program `bundle`. What tasks write is captured.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(super) fn of_process(bundle: BundleHash, tasks: Tasks, capture: Capture, sink: S) -> io::Result<Self> {
        let (values, control) = (SharedValues::default(), Arc::default());
        Self::new(Some(bundle), tasks, values, control, Some(capture), Noise::Loud, sink)
    }

    /// A runner on a thread of the engine's process, whose threads have `values` together. What tasks write goes where the
    /// process's output goes.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(super) fn of_thread(
        own_bundle: Option<BundleHash>,
        tasks: Tasks,
        values: SharedValues,
        control: Arc<Control>,
        sink: S,
    ) -> io::Result<Self> {
        Self::new(own_bundle, tasks, values, control, None, Noise::Silent, sink)
    }

    /// Where a running task tells what it tells.
    pub(super) fn bulletin(&self) -> Arc<dyn Bulletin> {
        Arc::clone(&self.surroundings.bulletin)
    }

    /// Runs a batch. Each task's outcome goes to the sink, in order, and soon.
    pub(super) fn run(&mut self, run: &Run) {
        let callable = run.function.find(self.own_bundle, &self.tasks);
        let shared = self.values.of_run(run.shared.as_ref());
        self.outbox.begin(run);
        TaskContext::enter(&self.surroundings);
        let control = Arc::clone(&self.surroundings.control);
        let mut start = Instant::now();
        let last = run.first.saturating_add(run.arguments.len().saturating_sub(1) as u32);
        for (argument, index) in run.arguments.iter().zip(run.first..=u32::MAX) {
            self.value.clear();
            let result = match &callable {
                _ if control.is_cancelled(run.batch, index) => Err(Cause::Aborted),
                Err(unknown) => Err(unknown.clone()),
                Ok(callable) => {
                    TaskContext::begin(run, MessageId { job: run.job, index });
                    let value = &mut self.value;
                    let result = panics::catch(self.noise, || callable(&shared, argument, value));
                    match control.verdict(run.batch, index) {
                        None => result,
                        Some(Verdict::Cancelled) => Err(Cause::Aborted),
                        Some(Verdict::Overrun(limit)) => Err(Cause::time_limit(limit, Some(start.elapsed()))),
                    }
                }
            };
            if self.capture.is_some() {
                Capture::flush();
            }
            let end = Instant::now();
            let look = if index == last { Look::Always } else { Look::IfLong { took: end - start } };
            start = self.conclude(start, end, result, look);
        }
        TaskContext::leave();
    }

    /// Hands over a task's outcome. Returns when the next task begins.
    fn conclude(&mut self, start: Instant, end: Instant, result: Result<(), Cause>, look: Look) -> Instant {
        let looked = self.capture.as_ref().is_some_and(|capture| capture.is_due(look));
        if looked {
            self.outbox.taking_output();
        }
        let output = self.capture.as_mut().filter(|_| looked).and_then(Capture::take);
        let bytes = self.value.len();
        let result = match result {
            Ok(()) if bytes > VALUE_BYTES_MAX => Err(Cause::WrongResult {
                type_name: "result".into(),
                message: format!("it has {bytes} bytes; at most {VALUE_BYTES_MAX} are accepted"),
            }),
            Ok(()) => Ok(item_of(&mut self.value)),
            Err(cause) => Err(bounded(cause)),
        };
        let pushed = self.outbox.push(Ended { start, end, result, output });
        // A long one has taken its buffer along.
        self.value.clear();
        // Reading the clock costs as much as a small task, so between tasks it is read only when something took time.
        if looked || pushed == Pushed::Sent { Instant::now() } else { end }
    }

    fn new(
        own_bundle: Option<BundleHash>,
        tasks: Tasks,
        values: SharedValues,
        control: Arc<Control>,
        capture: Option<Capture>,
        noise: Noise,
        sink: S,
    ) -> io::Result<Self> {
        panics::install();
        let follower = capture.as_ref().map(Capture::follower).transpose()?;
        let (outbox, value) = (Outbox::start(sink, follower)?, Vec::new());
        let surroundings = Arc::new(Surroundings { control, namespace: Namespace::default(), bulletin: outbox.bulletin() });
        Ok(Self { own_bundle, tasks, values, surroundings, capture, noise, outbox, value })
    }
}

/// Cuts the texts of a cause.
fn bounded(mut cause: Cause) -> Cause {
    let texts: [Option<&mut String>; 3] = match &mut cause {
        Cause::Panicked { message, location, backtrace } => [Some(message), location.as_mut(), backtrace.as_mut()],
        Cause::ReturnedError { type_name, message, .. } | Cause::WrongResult { type_name, message } => {
            [Some(type_name), Some(message), None]
        }
        Cause::WrongArgument { expected, message } => [Some(expected), Some(message), None],
        Cause::FunctionUnknown { function, detail } => [Some(function), Some(detail), None],
        _ => [None, None, None],
    };
    for text in texts.into_iter().flatten().filter(|text| text.len() > CAUSE_TEXT_BYTES_MAX) {
        text.truncate(text.floor_char_boundary(CAUSE_TEXT_BYTES_MAX - "…".len()));
        text.push('…');
    }
    cause
}
