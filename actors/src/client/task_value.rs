//! The result of one task as it came.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::received::Received;
use crate::code::decode_sharing;
use crate::error::{Error, Result};
use crate::task::{Cause, EngineId, MessageId, TaskError};
use crate::wire::RunBody;

/// The result of one task, not decoded yet: decoding takes what time it takes, and the job's lock is not held meanwhile.
pub(super) struct TaskValue {
    engine: Option<EngineId>,
    attempt: u32,
    value: Result<Bytes, Cause>,
}

impl TaskValue {
    /// The result of a task, if it has come.
    pub(super) fn find(received: &Received, index: u32) -> Option<Self> {
        let (run, offset) = received.find(index)?;
        let value = match &run.body {
            RunBody::Ended(cause) => Err(cause.clone()),
            RunBody::Ran(outcomes) => match outcomes.failure(offset) {
                Some(cause) => Err(cause.clone()),
                None => Ok(outcomes.values.share(offset as usize).unwrap_or_default()),
            },
        };
        Some(Self { engine: run.engine, attempt: run.attempt, value })
    }

    /// The value or error of the task. The outer error is that its bytes are no `R`.
    pub(super) fn decode<R: DeserializeOwned + 'static>(self, id: MessageId) -> Result<Result<R, TaskError>> {
        match self.value {
            Err(cause) => Ok(Err(TaskError { id, engine: self.engine, attempt: self.attempt, cause })),
            Ok(bytes) => {
                let wrong = |text| Error::WrongType { id, expected: std::any::type_name::<R>(), text };
                decode_sharing(&bytes).map(Ok).map_err(|error| wrong(error.to_string()))
            }
        }
    }

    /// Why the task has no value, if it has none.
    pub(super) fn error(self, id: MessageId) -> Option<TaskError> {
        let cause = self.value.err()?;
        Some(TaskError { id, engine: self.engine, attempt: self.attempt, cause })
    }
}
