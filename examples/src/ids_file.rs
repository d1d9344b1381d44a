//! Message ids in a file: what lets a program leave, and another one fetch the results.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use engineroom::MessageId;

use crate::Failure;

/// The most ids that are read from a file: above it the file is hardly one of message ids. 20 bytes of memory each.
pub const IDS_MAX: usize = 10_000_000;

/// Opens a new file for ids, before the job is submitted: ids without a place would be a job without an owner.
///
/// # Errors
/// [`Failure::Usage`] when the file has content, which may be the ids of an earlier job; [`Failure::File`] when it cannot
/// be created.
pub fn create(path: &Path) -> Result<File, Failure> {
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(Failure::write(path))?;
    let length = file.metadata().map_err(Failure::write(path))?.len();
    if length > 0 {
        return Err(Failure::Usage(format!(
            "{} is not empty and may hold the ids of an earlier job: collect that job and remove the file, or name another",
            path.display()
        )));
    }
    Ok(file)
}

/// Writes one id a line, and returns once they are on disk.
///
/// # Errors
/// When the system says so.
pub fn write(file: &File, ids: &[MessageId]) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    for id in ids {
        writeln!(out, "{id}")?;
    }
    out.flush()?;
    file.sync_all()
}

/// Reads ids, one a line; blank lines do not count.
///
/// # Errors
/// [`Failure::File`] when the file cannot be read, [`Failure::Usage`] when a line is no message id, when there is none, or
/// when there are more than [`IDS_MAX`].
pub fn read(path: &Path) -> Result<Vec<MessageId>, Failure> {
    let file = File::open(path).map_err(Failure::read(path))?;
    let mut ids = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(Failure::read(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |problem: String| Failure::Usage(format!("{}:{number}: {problem}", path.display()));
        if ids.len() == IDS_MAX {
            return Err(wrong(format!("more than {IDS_MAX} ids")));
        }
        ids.push(line.parse().map_err(|error| wrong(format!("{error}")))?);
    }
    if ids.is_empty() {
        return Err(Failure::Usage(format!("{} holds no message id", path.display())));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use engineroom::JobId;

    use super::*;

    #[test]
    fn ids_come_back_as_written() -> Result<(), Failure> {
        let directory = tempfile::tempdir().map_err(Failure::write(Path::new("temporary directory")))?;
        let path = directory.path().join("ids");
        let job = JobId::fresh();
        let ids: Vec<MessageId> = (0..1000).map(|index| MessageId { job, index }).collect();

        write(&create(&path)?, &ids).map_err(Failure::write(&path))?;
        assert_eq!(read(&path)?, ids);

        let second = create(&path).expect_err("the file holds the ids of a job");
        assert!(second.to_string().contains("not empty"), "{second}");
        Ok(())
    }

    #[test]
    fn errors_name_file_and_line() {
        let directory = tempfile::tempdir().expect("the system has a place for temporary files");
        let path = directory.path().join("ids");
        for (content, error) in [("", "holds no message id"), ("\n\nhello\n", "ids:3: \"hello\" is not a message id")] {
            std::fs::write(&path, content).expect("the directory is ours");
            let failure = read(&path).expect_err(content).to_string();
            assert!(failure.contains(error), "{failure}");
        }
    }
}
