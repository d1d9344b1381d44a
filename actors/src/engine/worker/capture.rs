//! What a worker process writes to its standard output and error: kept in files without names, shared with the engine.
//!
//! The worker looks whether its files have grown after each task that was long enough to write something. The engine reads the
//! end of standard error when the worker has crashed, and cuts files that grow too long. Both append-only files and their position are shared by the two
//! processes and by all that the task starts.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::FileExt},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::task::{OutputStream, PIECE_BYTES_MAX, Piece, TaskOutput};

/// How long a file gets while one task runs, in bytes. The engine looks once a second and then empties it, so that a task
/// that writes without end does not fill the disk.
const OUTPUT_FILE_BYTES_MAX: u64 = 64 << 20;

/// How many writes are tried to find out how long the shortest takes. They cost some tens of microseconds when a worker starts.
const WRITES_TRIED: u32 = 32;

/// A task that took less than this part of the shortest write has written nothing. Wide, since a processor may have been slower
/// when the writes were tried.
const SHORTEST_WRITE_SHARE: u32 = 4;

/// How much of standard error is told of a worker that crashed, in bytes from its end.
const LAST_OUTPUT_BYTES_MAX: usize = 4 << 10;

/// The engine's side: the files of one worker process.
#[derive(Debug)]
pub(super) struct OutputFiles {
    stdout: File,
    stderr: File,
}

impl OutputFiles {
    /// Makes two empty files.
    ///
    /// # Errors
    /// When the directory for temporary files cannot be used.
    pub(super) fn create() -> io::Result<Self> {
        Ok(Self { stdout: append_only()?, stderr: append_only()? })
    }

    /// What the process gets as its standard output and error.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(super) fn share(&self) -> io::Result<(Stdio, Stdio)> {
        Ok((self.stdout.try_clone()?.into(), self.stderr.try_clone()?.into()))
    }

    /// Empties what has grown too long.
    pub(super) fn trim(&self) {
        for file in [&self.stdout, &self.stderr] {
            if file.metadata().is_ok_and(|metadata| metadata.len() > OUTPUT_FILE_BYTES_MAX) {
                // When it fails, the next second tries again.
                let _ = file.set_len(0);
            }
        }
    }

    /// The last that was written to standard error since the last task ended.
    pub(super) fn last_output(&self) -> String {
        tail(&self.stderr, LAST_OUTPUT_BYTES_MAX)
    }
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct Capture {
    stdout: File,
    stderr: File,
    /// Less time than any write to the files takes.
    no_write: Duration,
}

/// When to look whether something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// If it took long enough for a write. Looking costs as much as a quick task does.
    IfLong {
        /// How long it took, what it wrote having left the buffers.
        took: Duration,
    },
    /// In any case: for what was written by others meanwhile.
    Always,
}

impl Capture {
    /// Captures this process's standard output and error, which must be [`OutputFiles`].
    ///
    /// # Errors
    /// When there are too many open files.
    pub(super) fn of_this_process() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?.into();
        let stderr = io::stderr().as_fd().try_clone_to_owned()?.into();
        let no_write = shortest_write(&stderr) / SHORTEST_WRITE_SHARE;
        Ok(Self { stdout, stderr, no_write })
    }

    /// Reads along what is written.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(super) fn follower(&self) -> io::Result<Follower> {
        Follower::of([&self.stdout, &self.stderr])
    }

    /// Lets what was written leave this process's buffers. To be called while the task's time still runs.
    pub(super) fn flush() {
        // Standard error has no buffer. What cannot be flushed is lost; the task has ended without noticing.
        let _ = io::stdout().flush();
    }

    /// Whether something may have been written.
    pub(super) fn is_due(&self, look: Look) -> bool {
        match look {
            Look::IfLong { took } => took >= self.no_write,
            Look::Always => true,
        }
    }

    /// What has been written and [flushed](Self::flush) since the last call, if anything has.
    pub(super) fn take(&mut self) -> Option<TaskOutput> {
        let (wrote_out, wrote_err) = (has_grown(&mut self.stdout), has_grown(&mut self.stderr));
        if !wrote_out && !wrote_err {
            return None;
        }
        Some(TaskOutput { stdout: take(&mut self.stdout), stderr: take(&mut self.stderr), published: None })
    }
}

/// Reads along what a task writes, while others write and take it.
#[derive(Debug)]
pub(super) struct Follower {
    /// Standard output and error.
    files: [File; 2],
    /// How far each was read.
    at: [u64; 2],
}

impl Follower {
    /// Reads these files along from their start: standard output and error.
    ///
    /// # Errors
    /// When there are too many open files.
    pub(super) fn of([stdout, stderr]: [&File; 2]) -> io::Result<Self> {
        Ok(Self { files: [stdout.try_clone()?, stderr.try_clone()?], at: [0; 2] })
    }

    /// The files were emptied.
    pub(super) fn rewind(&mut self) {
        self.at = [0; 2];
    }

    /// What was written since the last call; of much, the last.
    pub(super) fn read(&mut self) -> Vec<Piece> {
        let streams = [OutputStream::Stdout, OutputStream::Stderr].into_iter().zip(&self.files).zip(&mut self.at);
        let piece = |((stream, file), at): ((OutputStream, &File), &mut u64)| {
            let text = read_on(file, at);
            (!text.is_empty()).then_some(Piece { stream, until: *at, text })
        };
        streams.filter_map(piece).collect()
    }
}

/// What a file has from `at` on, at most the last [`PIECE_BYTES_MAX`] bytes of it, and `at` behind that.
fn read_on(file: &File, at: &mut u64) -> String {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // It is shorter after somebody has emptied it because it was too long.
    let start = (*at).min(length).max(length.saturating_sub(PIECE_BYTES_MAX as u64));
    let mut bytes = vec![0; (length - start) as usize];
    let mut filled = 0;
    while let Ok(read @ 1..) = file.read_at(&mut bytes[filled..], start + filled as u64) {
        filled += read;
    }
    bytes.truncate(filled);
    // A character that is not complete is left for the next time.
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        bytes.truncate(error.valid_up_to());
    }
    *at = start + bytes.len() as u64;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn append_only() -> io::Result<File> {
    let file = tempfile::tempfile()?;
    // So that whoever writes after the file was emptied begins at its start again.
    fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::APPEND)?;
    Ok(file)
}

/// How long the shortest of a few writes to the file takes. It is empty afterwards.
fn shortest_write(mut file: &File) -> Duration {
    let write = |_| {
        let start = Instant::now();
        let wrote = file.write(b"\n");
        // Where nothing can be written, no time is too short.
        if wrote.is_ok() { start.elapsed() } else { Duration::ZERO }
    };
    let shortest = (0..WRITES_TRIED).map(write).min().unwrap_or_default();
    let _ = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
    shortest
}

fn has_grown(file: &mut File) -> bool {
    // In an append-only file the position moves when something is written, and only then. What has no position is none of
    // ours.
    file.stream_position().is_ok_and(|position| position > 0)
}

fn take(file: &mut File) -> String {
    let text = tail(file, TaskOutput::BYTES_MAX);
    // When it fails, the next task's output begins with that of this one.
    let _ = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
    text
}

/// The last `bytes_max` bytes of a file, as text of at most so many bytes. The position of the file does not matter, and
/// does not change.
fn tail(file: &File, bytes_max: usize) -> String {
    let Ok(metadata) = file.metadata() else { return String::new() };
    let start = metadata.len().saturating_sub(bytes_max as u64);
    let mut bytes = vec![0; bytes_max];
    let mut filled = 0;
    // The file may be emptied or grow meanwhile; what is there is what counts.
    while let Ok(read @ 1..) = file.read_at(&mut bytes[filled..], start + filled as u64) {
        filled += read;
    }
    bytes.truncate(filled);
    let mut text = &bytes[..];
    if start > 0 {
        // The cut may have hit a character.
        let rest = text.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
        text = &text[rest..];
    }
    let text = String::from_utf8_lossy(text);
    // What is no UTF-8 has become longer.
    text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> File {
        let mut file = append_only().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn the_tail_is_text_and_bounded() {
        for (content, bytes_max, expected) in [
            (&b""[..], 5, ""),
            (b"short", 5, "short"),
            (b"a longer text", 5, " text"),
            ("äöü".as_bytes(), 5, "öü"),
            ("x€".as_bytes(), 2, ""),
            ("x€y".as_bytes(), 2, "y"),
            (b"\xff\xff\xff", 3, "\u{fffd}"),
            (b"\xffabc", 4, "abc"),
        ] {
            assert_eq!(tail(&written(content), bytes_max), expected, "{content:?}");
        }
    }

    #[test]
    fn a_task_that_had_no_time_to_write_is_not_looked_after() {
        let no_write = Duration::from_nanos(250);
        let capture = Capture { stdout: append_only().unwrap(), stderr: append_only().unwrap(), no_write };
        assert!(!capture.is_due(Look::IfLong { took: no_write - Duration::from_nanos(1) }));
        assert!(capture.is_due(Look::IfLong { took: no_write }));
        assert!(capture.is_due(Look::Always));
    }

    #[test]
    fn to_find_out_how_long_a_write_takes_leaves_nothing_behind() {
        let mut file = append_only().unwrap();
        assert!(shortest_write(&file) > Duration::ZERO);
        assert!(!has_grown(&mut file));
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn each_take_starts_anew() {
        let mut file = written(b"one");
        assert!(has_grown(&mut file));
        assert_eq!(take(&mut file), "one");
        assert!(!has_grown(&mut file));
        // Another process writes through a descriptor of its own for the same open file.
        file.try_clone().unwrap().write_all(b"two").unwrap();
        assert!(has_grown(&mut file));
        assert_eq!((take(&mut file), file.metadata().unwrap().len()), ("two".into(), 0));
    }

    #[test]
    fn what_is_read_along_is_complete_characters_and_the_last_of_much() {
        let mut file = written("one ä".as_bytes());
        let mut follower = Follower::of([&file, &append_only().unwrap()]).unwrap();
        let read =
            |follower: &mut Follower| follower.read().into_iter().map(|piece| (piece.text, piece.until)).collect::<Vec<_>>();
        assert_eq!(read(&mut follower), [("one ä".to_string(), 6)]);
        file.write_all(&"ö".as_bytes()[..1]).unwrap();
        assert_eq!(read(&mut follower), []);
        file.write_all(&"ö".as_bytes()[1..]).unwrap();
        assert_eq!(read(&mut follower), [("ö".to_string(), 8)]);
        file.write_all("x".repeat(2 * PIECE_BYTES_MAX).as_bytes()).unwrap();
        assert_eq!(read(&mut follower), [("x".repeat(PIECE_BYTES_MAX), 8 + 2 * PIECE_BYTES_MAX as u64)]);
        take(&mut file);
        follower.rewind();
        file.write_all(b"anew").unwrap();
        assert_eq!(read(&mut follower), [("anew".to_string(), 4)]);
    }

    #[test]
    fn a_file_that_grows_too_long_is_emptied_and_goes_on() {
        let mut files = OutputFiles::create().unwrap();
        files.stderr.write_all(b"kept").unwrap();
        files.trim();
        assert_eq!(files.last_output(), "kept");
        files.stderr.set_len(OUTPUT_FILE_BYTES_MAX + 1).unwrap();
        files.trim();
        assert_eq!(files.last_output(), "");
        files.stderr.write_all(b"more").unwrap();
        assert_eq!(files.last_output(), "more");
        assert_eq!(files.stderr.metadata().unwrap().len(), 4);
    }
}
