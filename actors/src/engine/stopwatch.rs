//! How long the task that runs has been running, for tasks that may not run for ever. Pure.

use std::time::{Duration, Instant};

/// Counts from when a task began at the latest, so that no task is stopped early.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Stopwatch {
    /// A worker has tasks, each of which may run for so long, or for as long as it likes.
    pub fn set(&mut self, limit: Option<Duration>) {
        *self = Self { limit, since: None };
    }

    /// Whether tasks have a limit.
    pub fn is_set(&self) -> bool {
        self.limit.is_some()
    }

    /// The next task begins: the worker is ready for it, or has told of the end of the one before.
    pub fn begin(&mut self, now: Instant) {
        self.since = self.limit.map(|_| now);
    }

    /// The task that runs need not be looked after any more.
    pub fn stop(&mut self) {
        self.since = None;
    }

    /// The limit of the task that runs, and how long it may go on: zero when that is over. `None` when there is nothing to be looked
    /// after.
    pub fn left(&self, now: Instant) -> Option<(Duration, Duration)> {
        let (limit, since) = (self.limit?, self.since?);
        Some((limit, limit.saturating_sub(now.saturating_duration_since(since))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_has_the_whole_time_from_when_it_begins() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut watch = Stopwatch::default();
        watch.begin(start);
        assert_eq!(watch.left(start + second), None, "it may run for as long as it likes");
        watch.set(Some(10 * second));
        assert_eq!(watch.left(start), None, "its worker is not ready");
        watch.begin(start + second);
        assert_eq!(watch.left(start + 4 * second), Some((10 * second, 7 * second)));
        assert_eq!(watch.left(start + 99 * second), Some((10 * second, Duration::ZERO)));
        watch.begin(start + 5 * second);
        assert_eq!(watch.left(start + 5 * second), Some((10 * second, 10 * second)));
        watch.stop();
        assert_eq!(watch.left(start + 99 * second), None);
    }
}
