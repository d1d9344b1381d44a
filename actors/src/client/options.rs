//! What all tasks of a view have in common.

use std::time::Duration;

use crate::task::TaskOptions;

/// The options of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub label: Option<String>,
    pub chunk: u32,
    pub tasks: TaskOptions,
}

/// Milliseconds, rounded up.
pub(super) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
