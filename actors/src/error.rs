//! What can go wrong for a program that uses a cluster.

use std::time::Duration;

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
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A task ended without a value.
    #[error("{error}{}", if *others > 0 { format!(" (and {others} other tasks of the {total} failed)") } else { String::new() })]
    Task {
        /// The first task, in the order of the inputs, that has no value.
        error: Box<TaskError>,
        /// How many other tasks have none either.
        others: usize,
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
    #[error("{0}")]
    ConnectionFile(String),
    /// The profile cannot be used.
    #[error("{0}")]
    Profile(String),
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
    /// The direct view has no engines.
    #[error("there are no engines: start some with `node --role engine`, or wait for them with wait_for_engines")]
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

    /// The task that failed, if that is what happened.
    pub fn task(&self) -> Option<&TaskError> {
        match self {
            Error::Task { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Error::Task { error: Box::new(error), others: 0, total: 1 }
    }
}

impl From<ConnectionFileError> for Error {
    fn from(error: ConnectionFileError) -> Self {
        Error::ConnectionFile(error.to_string())
    }
}

impl From<ProfileError> for Error {
    fn from(error: ProfileError) -> Self {
        Error::Profile(error.to_string())
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
