//! What all tasks of a view have in common.

use std::{borrow::Cow, time::Duration};

use super::{Client, engine_set::Engines};
use crate::error::Result;
use crate::task::TaskOptions;

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

/// Milliseconds, rounded up.
pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
