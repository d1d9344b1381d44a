//! How an example ends: one line on standard error and an exit code that scripts can tell apart.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Why a program ended without doing its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The command line, or a file that it names, makes no sense. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The cluster could not be reached or refused this program (exit code 3), or a task failed (exit code 1).
    #[error(transparent)]
    Cluster(#[from] engineroom::Error),
    /// A file could not be read or written. Exit code 1.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The work was done, but not all of it well. Exit code 1.
    #[error("{0}")]
    Work(String),
    /// Whoever read its output has read enough, as `head` does. That is no failure: the program ends quietly. Exit code 0.
    #[error("standard output was closed")]
    ReaderGone,
}

impl Failure {
    /// A closure for `map_err` on what writes the file at `path`.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action: "write", path: path.into(), source }
    }

    /// A closure for `map_err` on what reads the file at `path`.
    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { action: "read", path: path.into(), source }
    }

    /// 1 when the work failed, 2 when the command line is wrong, 3 when there is no way into the cluster.
    fn exit_code(&self) -> u8 {
        use engineroom::Error;
        match self {
            Self::Usage(_) => 2,
            Self::Cluster(Error::Connect { .. } | Error::Refused { .. } | Error::ConnectionFile(..) | Error::UnknownJob(..)) => 3,
            _ => 1,
        }
    }
}

/// As [`println!`], for programs that end quietly when their output is closed: instead of a panic there is a [`Failure`], for
/// [`run`].
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::print_line(format_args!($($text)*))
    };
}

/// What [`say!`] does.
///
/// # Errors
/// When standard output is closed, or cannot be written to.
pub fn print_line(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Work(format!("cannot write to standard output: {error}")),
    })
}

/// Runs a program: prints `error: …` when it fails, and turns the outcome into the exit code.
///
/// The code is 0 for success, 1 when a task or a file failed, 2 for wrong usage (as clap has it), and 3 when the cluster
/// could not be reached or refused the program.
pub fn run(program: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match program() {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_file_and_have_their_own_exit_codes() {
        let missing = Failure::read(Path::new("net.txt"))(io::ErrorKind::NotFound.into());
        assert_eq!(missing.to_string(), "cannot read net.txt: entity not found");
        assert_eq!(missing.exit_code(), 1);
        assert_eq!(Failure::Usage("no".into()).exit_code(), 2);
        assert_eq!(Failure::Work("no".into()).exit_code(), 1);
    }
}
