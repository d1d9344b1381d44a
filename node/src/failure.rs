//! How a program ends when it does not end well: one line for the user, and an exit code for scripts.

use std::{fmt, process::ExitCode};

use engineroom::{ControllerError, EngineError, Error, certificates::CertificatesError};

/// The end of a program that could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What kind it is.
    pub(crate) exit: Exit,
    /// What happened, to what, and what to do.
    pub(crate) message: String,
}

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something failed, or work was left unfinished.
    Internal = 1,
    /// The options or settings are wrong.
    Usage = 2,
    /// There is no controller, or one side refused the other.
    Connection = 3,
    /// A second signal ended the program at once: 128 and SIGINT, as shells have it.
    AtOnce = 130,
}

impl Exit {
    /// The kind of failure of a program that exited with this code.
    pub(crate) fn from_code(code: Option<i32>) -> Self {
        match code {
            Some(2) => Exit::Usage,
            Some(3) => Exit::Connection,
            _ => Exit::Internal,
        }
    }
}

impl Failure {
    /// Something failed.
    pub(crate) fn internal(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Internal, message: message.to_string() }
    }

    /// Options or settings are wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, message: message.to_string() }
    }

    /// No controller, or refused.
    pub(crate) fn connection(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Connection, message: message.to_string() }
    }

    /// Ended at once, as it was told to.
    pub(crate) fn at_once(message: impl fmt::Display) -> Self {
        Self { exit: Exit::AtOnce, message: message.to_string() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Timeout(_) => Failure::connection("the controller did not answer in time"),
            error if error.is_connection() => Failure::connection(error),
            error => Failure::internal(error),
        }
    }
}

impl From<ControllerError> for Failure {
    fn from(error: ControllerError) -> Self {
        match error {
            ControllerError::Security(_) | ControllerError::Revocations(_) => Failure::connection(error),
            _ => Failure::internal(error),
        }
    }
}

impl From<CertificatesError> for Failure {
    fn from(error: CertificatesError) -> Self {
        use CertificatesError as E;
        match error {
            E::NoCluster { .. } => Failure::connection(error),
            E::Controller | E::AdminRole | E::Days(_) | E::Name(_) | E::Ambiguous { .. } => Failure::usage(error),
            _ => Failure::internal(error),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::ConnectionFile(_) | EngineError::Connect { .. } | EngineError::Refused(_) => Failure::connection(error),
            _ => Failure::internal(error),
        }
    }
}

/// The program's exit code; a failure is told on standard error first.
pub(crate) fn conclude(program: &str, ended: Result<(), Failure>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Prints to standard output. A reader that has gone is no failure of this program.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_childs_exit_code_keeps_its_meaning() {
        for (code, exit) in [
            (Some(2), Exit::Usage),
            (Some(3), Exit::Connection),
            (Some(1), Exit::Internal),
            (Some(101), Exit::Internal),
            (None, Exit::Internal),
        ] {
            assert_eq!(Exit::from_code(code), exit, "{code:?}");
        }
    }
}
