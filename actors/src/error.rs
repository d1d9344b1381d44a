//! What can go wrong for a program that uses a cluster.

use std::{fmt, sync::Arc, time::Duration};

use engineroom_runtime::net::connection_file::ConnectionFileError;
use engineroom_runtime::node::StartError;

use crate::code::{BundleError, FunctionError};
use crate::controller::ControllerError;
use crate::engine::EngineError;
use crate::profile::ProfileError;
use crate::task::{EngineId, JobId, TaskError};

/// The result of an operation on a cluster.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a cluster failed. Each displays what happened, to what, and where it helps what to do next.
///
/// `{:?}` shows the same text, so that a `main` which returns an error, and `unwrap`, end with words.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A task ended without a value.
    #[error("{error}{}", if *others > 0 { format!(" ({others} more of the {total} tasks failed)") } else { String::new() })]
    Task {
        /// The first task, in the order of the inputs, that has no value.
        #[source]
        error: Box<TaskError>,
        /// How many other tasks have none either.
        others: usize,
        /// How many tasks there were.
        total: usize,
    },
    /// More than one task of a direct view ended without a value.
    #[error("{} of {total} tasks failed: {}", errors.len(), listed(errors))]
    Several {
        /// Each of them, in the order of the inputs.
        errors: Vec<TaskError>,
        /// How many tasks there were.
        total: usize,
    },
    /// The time that the caller gave is over. What was asked for may still come.
    #[error("not done within {0:?}; the tasks go on, so ask again or wait longer")]
    Timeout(Duration),
    /// The controller could not be reached.
    #[error("{text}")]
    Connect {
        /// What happened, and what to do.
        text: String,
    },
    /// The controller, or this side, refused the other: a certificate or connection file is not the right one.
    #[error("{text}")]
    Refused {
        /// What happened, and what to do.
        text: String,
    },
    /// The connection file cannot be used.
    #[error(transparent)]
    ConnectionFile(Arc<ConnectionFileError>),
    /// The profile cannot be used.
    #[error(transparent)]
    Profile(Arc<ProfileError>),
    /// The function or an input cannot be submitted.
    #[error("{0}")]
    Submit(String),
    /// The controller does not know the job: it was never submitted there, was dropped since, or the controller keeps its
    /// results in memory and was restarted.
    #[error(
        "the controller does not know job {0}: it was submitted elsewhere, was dropped since, or the controller was restarted and kept its results in memory only"
    )]
    UnknownJob(JobId),
    /// A result's bytes are not of the type that the caller expects.
    #[error("the result of task {id} is not the {expected} that was asked for: {text}")]
    WrongType {
        /// The task.
        id: crate::task::MessageId,
        /// The Rust name of the type that was asked for.
        expected: &'static str,
        /// What the decoder found.
        text: String,
    },
    /// The view is of engines of which there are none now.
    #[error(
        "no engine that is there now belongs to this view: see with Client::engines which there are, start some with `node --role engine`, or wait for them with wait_for_engines"
    )]
    NoEngines,
    /// An engine has not done what it was asked for.
    #[error("engine {engine}: {text}")]
    Engine {
        /// The engine.
        engine: EngineId,
        /// Why.
        text: String,
    },
    /// The controller does not let this client do that; the text says why, and what to do.
    #[error("the controller refuses: {0}")]
    NotAllowed(String),
    /// A request to the controller has no answer.
    #[error("the controller gave no answer: {0}")]
    NoAnswer(String),
    /// The controller's result store does not do what was asked for; the text says why, and what to do.
    #[error("{0}")]
    Store(String),
    /// The client was closed.
    #[error(
        "the client has been closed; what it had submitted goes on, and a new client can get its results by their message ids"
    )]
    Closed,
    /// Closing the client could not hand over everything.
    #[error("not everything was handed over to the controller before the client closed: {0}")]
    NotFlushed(String),
    /// A cluster, or a part of it, could not be started in this process.
    #[error("{0}")]
    Start(String),
}

impl Error {
    /// Whether the reason lies with the connection or its security rather than with a task.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            Error::Connect { .. } | Error::Refused { .. } | Error::ConnectionFile(_) | Error::Profile(_) | Error::NoAnswer(_)
        )
    }

    /// The task that failed, or the first of them, if that is what happened.
    pub fn task(&self) -> Option<&TaskError> {
        self.tasks().first()
    }

    /// The tasks that failed, as far as they are told: of a load-balanced view the first one, of a direct view all.
    pub fn tasks(&self) -> &[TaskError] {
        match self {
            Error::Task { error, .. } => std::slice::from_ref(error),
            Error::Several { errors, .. } => errors,
            _ => &[],
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many errors are shown in the text of all.
const ERRORS_SHOWN: usize = 8;

fn listed(errors: &[TaskError]) -> String {
    let shown: Vec<String> = errors.iter().take(ERRORS_SHOWN).map(ToString::to_string).collect();
    let more = errors.len().saturating_sub(ERRORS_SHOWN);
    let rest = if more > 0 { format!("; and {more} others") } else { String::new() };
    format!("{}{rest}", shown.join("; "))
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Error::Task { error: Box::new(error), others: 0, total: 1 }
    }
}

impl From<ConnectionFileError> for Error {
    fn from(error: ConnectionFileError) -> Self {
        Error::ConnectionFile(Arc::new(error))
    }
}

impl From<ProfileError> for Error {
    fn from(error: ProfileError) -> Self {
        Error::Profile(Arc::new(error))
    }
}

impl From<FunctionError> for Error {
    fn from(error: FunctionError) -> Self {
        Error::Submit(error.to_string())
    }
}

macro_rules! start_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Error::Start(error.to_string())
            }
        })*
    };
}
start_errors!(StartError, ControllerError, BundleError);

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Connect { text } => Error::Connect { text },
            EngineError::ConnectionFile(error) => error.into(),
            other => Error::Start(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::task::{Cause, EngineId, MessageId};

    fn lost(index: u32) -> TaskError {
        let id = MessageId { job: JobId::from_u128(1), index };
        TaskError { id, engine: Some(EngineId(index)), attempt: 1, cause: Cause::EngineLost { detail: "gone".into() } }
    }

    #[test]
    fn sources_lead_to_the_cause() {
        let error = Error::from(lost(3));
        let task = error.source().expect("the task");
        let cause = task.source().and_then(|cause| cause.downcast_ref::<Cause>());
        assert_eq!(cause, Some(&Cause::EngineLost { detail: "gone".into() }));
        assert_eq!(error.tasks(), [lost(3)]);
    }

    #[test]
    fn a_main_that_returns_an_error_ends_with_words() {
        let error = Error::Task { error: Box::new(lost(3)), others: 1, total: 9 };
        assert_eq!(format!("{error:?}"), format!("{} (1 more of the 9 tasks failed)", lost(3)));
    }

    #[test]
    fn of_several_none_is_hidden() {
        let error = Error::Several { errors: (0..10).map(lost).collect(), total: 12 };
        assert_eq!((error.tasks().len(), error.task()), (10, Some(&lost(0))));
        let text = error.to_string();
        assert!(text.starts_with("10 of 12 tasks failed: task ") && text.ends_with("gone; and 2 others"), "{text}");
    }
}
