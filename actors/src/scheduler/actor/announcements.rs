//! When clients are told which engines there are. Pure.

use std::time::Duration;

use crate::scheduler::Time;

/// How long a change waits for others, in microseconds: the engines of one node come and go one by one at the same moment.
const GATHER_US: u64 = 2_000;

/// The least time between two announcements, in microseconds. Each costs as much as there are engines, times the clients that
/// watch; a node with many engines may take many messages to come or go.
const SPACING_US: u64 = 20_000;

/// What changed and was not announced yet.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// Counts the changes, so that a client can tell an old list from a new one.
    version: u64,
    scheduled: bool,
    last: Option<Time>,
}

impl Announcements {
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The engines have changed. Returns how long to wait before it is announced, unless that is under way already.
    pub fn changed(&mut self, now: Time) -> Option<Duration> {
        self.version += 1;
        self.again(now)
    }

    /// Not everybody could be told. Returns what [`Announcements::changed`] does.
    pub fn again(&mut self, now: Time) -> Option<Duration> {
        if std::mem::replace(&mut self.scheduled, true) {
            return None;
        }
        let spacing = self.last.map_or(0, |last| SPACING_US.saturating_sub(now.since(last)));
        Some(Duration::from_micros(spacing.max(GATHER_US)))
    }

    /// They are being announced.
    pub fn announced(&mut self, now: Time) {
        self.scheduled = false;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_changes_is_announced_once_at_a_time() {
        let mut announcements = Announcements::default();
        let micros = |wait: Option<Duration>| wait.map(|wait| wait.as_micros() as u64);
        assert_eq!(micros(announcements.changed(Time(0))), Some(GATHER_US), "the first is told fast");
        for at in 1..1_000 {
            assert_eq!(announcements.changed(Time(at)), None);
        }
        assert_eq!(announcements.version(), 1_000);
        announcements.announced(Time(2_000));
        assert_eq!(micros(announcements.changed(Time(5_000))), Some(17_000), "the next one keeps its distance");
        assert_eq!(announcements.again(Time(6_000)), None);
        announcements.announced(Time(22_000));
        assert_eq!(micros(announcements.again(Time(22_000))), Some(SPACING_US));
        assert_eq!(announcements.version(), 1_001, "nothing has changed");
        announcements.announced(Time(42_000));
        assert_eq!(micros(announcements.changed(Time(9_000_000))), Some(GATHER_US));
    }
}
