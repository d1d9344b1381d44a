//! Where messages go: to standard error, which is a bounded file in a background process.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::failure::Failure;

/// The largest log file, in bytes: days of warnings, and no more than twice this on disk. A full one becomes `*.log.old`, and
/// the one that had that name is dropped.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What stands for a whole level.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks what `--log-level` was given. The filter itself takes any misspelt level for the name of a module.
pub(crate) fn check_level(level: &str) -> Result<(), String> {
    let wrong =
        || format!("{level:?} is not a log level: use one of {}, or a list like warn,engineroom=debug", LEVELS.join(", "));
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    let good = level.split(',').all(|part| match part.rsplit_once('=') {
        Some((target, level)) => !target.trim().is_empty() && is_level(level.trim()),
        None => is_level(part.trim()),
    });
    if good && EnvFilter::try_new(level).is_ok() { Ok(()) } else { Err(wrong()) }
}

/// Logs to standard error from here on; a `file` says which file that is, and is kept within its bound.
pub(crate) fn start(level: &str, file: Option<PathBuf>) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(level).map_err(Failure::usage)?;
    let colours = file.is_none() && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let started = match file {
        Some(file) => builder.with_writer(LogFile::behind_stderr(file)).try_init(),
        None => builder.with_writer(io::stderr).try_init(),
    };
    started.map_err(Failure::internal)
}

/// Opens a log file to append to, readable by its owner only.
pub(crate) fn open(file: &Path) -> io::Result<fs::File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(file)
}

/// A log file that standard error leads to. When it is full, both standard streams are led to a fresh one, so that panics and
/// the last words of libraries land there too.
struct LogFile {
    file: PathBuf,
    bytes: Mutex<u64>,
}

impl LogFile {
    fn behind_stderr(file: PathBuf) -> Self {
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        Self { file, bytes: Mutex::new(bytes) }
    }

    fn renew(&self) -> io::Result<()> {
        fs::rename(&self.file, self.file.with_extension("log.old"))?;
        let fresh = open(&self.file)?;
        rustix::stdio::dup2_stderr(&fresh)?;
        rustix::stdio::dup2_stdout(&fresh)?;
        Ok(())
    }
}

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *bytes + line.len() as u64 > LOG_BYTES_MAX {
            // A log that cannot be renewed is no reason to stop working; it is tried again a whole file later.
            let _ = self.renew();
            *bytes = 0;
        }
        *bytes += line.len() as u64;
        io::stderr().write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;

    fn make_writer(&'a self) -> &'a LogFile {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_told_from_misspelt_ones() {
        for good in ["warn", "WARN", "off", "trace", "warn,engineroom=debug", "engineroom::scheduler=trace,info"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "wran", "3.5", "warn,", "engineroom=", "=debug", "engineroom=loud", "warn;info"] {
            let wrong = check_level(bad).expect_err(bad);
            assert!(wrong.contains("is not a log level"), "{wrong}");
        }
    }
}
