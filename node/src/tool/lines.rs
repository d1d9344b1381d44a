//! Output line by line, of any length: to standard output or into a file.

use std::{
    fs::File,
    io::{self, BufWriter, ErrorKind, Write},
    path::Path,
};

use serde::Serialize;

use crate::failure::Failure;

/// Why a command stops before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Whoever read its output has read enough. That is no failure.
    ReaderGone,
    /// It failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Failed(error.into())
    }
}

/// What a command ends with that was stopped so.
pub(super) fn ended(result: Result<(), Stop>) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(Stop::ReaderGone) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

/// Where lines go to.
pub(super) struct Lines {
    to: Box<dyn Write>,
    /// What messages call it.
    name: String,
}

impl Lines {
    /// Standard output.
    pub(super) fn standard() -> Self {
        Self::new(Box::new(BufWriter::new(io::stdout())), "standard output".to_owned())
    }

    /// A file, which is made, or overwritten if it is there.
    pub(super) fn file(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path);
        let file = file.map_err(|error| Failure::internal(format!("{} cannot be written: {error}", path.display())))?;
        Ok(Self::new(Box::new(BufWriter::new(file)), path.display().to_string()))
    }

    fn new(to: Box<dyn Write>, name: String) -> Self {
        Self { to, name }
    }

    /// One line of text.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Stop> {
        let written = writeln!(self.to, "{text}");
        written.map_err(|error| self.stop(&error))
    }

    /// One line of JSON. Gives its length in bytes.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<usize, Stop> {
        let text = serde_json::to_string(value).map_err(Failure::internal)?;
        self.text(&text)?;
        Ok(text.len())
    }

    /// Hands over what has been written; without it the last lines may be lost.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        let flushed = self.to.flush();
        flushed.map_err(|error| self.stop(&error))
    }

    fn stop(&self, error: &io::Error) -> Stop {
        match error.kind() {
            ErrorKind::BrokenPipe => Stop::ReaderGone,
            _ => Stop::Failed(Failure::internal(format!("{} is incomplete, it cannot be written: {error}", self.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed(ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_one() {
        for (kind, fails) in [(ErrorKind::BrokenPipe, false), (ErrorKind::StorageFull, true)] {
            let mut lines = Lines::new(Box::new(Closed(kind)), "out.jsonl".to_owned());
            let written = ended(lines.json(&1).map(drop));
            assert_eq!(written.is_err(), fails, "{written:?}");
            assert!(written.map_err(|failure| assert!(failure.message.contains("out.jsonl"))).is_ok() || fails);
        }
    }

    #[test]
    fn a_file_holds_what_was_written() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lines");
        let mut lines = Lines::file(&path).unwrap();
        assert_eq!(lines.json(&[1, 2]).unwrap(), 5);
        lines.text("end").unwrap();
        lines.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "[1,2]\nend\n");
        assert!(Lines::file(place.path()).is_err_and(|failure| failure.message.contains("cannot be written")));
    }
}
