//! What all tasks of a view have in common.

use std::{borrow::Cow, time::Duration};

use super::{Client, dependency::Dependency, engine_set::Engines};
use crate::error::Result;
use crate::task::TaskOptions;

/// The most retries of a task: more than make sense, so that a program's mistake has an end.
pub(super) const RETRIES_MAX: u32 = 1_000;

/// The options of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub label: Option<String>,
    pub chunk: u32,
    pub tasks: TaskOptions,
    /// The engines that are chosen, as they were named.
    pub targets: Option<Engines>,
}

impl Options {
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.tasks.time_limit_ms = whole_ms(limit);
    }

    pub fn set_queue_timeout(&mut self, limit: Duration) {
        self.tasks.queue_timeout_us = Some(micros(limit));
    }

    pub fn set_retries(&mut self, failures: u32) {
        self.tasks.retries.failures = failures.min(RETRIES_MAX);
    }

    pub fn set_retry_pause(&mut self, first: Duration) {
        self.tasks.retries.pause_us = micros(first);
    }

    pub fn add_dependency(&mut self, Dependency(condition): Dependency) {
        self.tasks.after.push(condition);
    }

    /// Whether they mean the same engines at each call.
    pub fn are_fixed(&self) -> bool {
        self.targets.as_ref().is_none_or(Engines::are_fixed)
    }

    /// With the engines that are meant now.
    pub fn resolved(&self, client: &Client) -> Result<Cow<'_, Self>> {
        let Some(targets) = &self.targets else { return Ok(Cow::Borrowed(self)) };
        let mut options = Self { targets: None, ..self.clone() };
        targets.narrow(&mut options.tasks.selection, || client.engines())?;
        Ok(Cow::Owned(options))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds, rounded up.
fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
