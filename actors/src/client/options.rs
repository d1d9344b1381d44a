//! What all tasks of a view have in common.

use crate::task::TaskOptions;

/// The options of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub label: Option<String>,
    pub chunk: u32,
    pub tasks: TaskOptions,
}
