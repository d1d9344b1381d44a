//! Files that only their owner may read.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The mode of private files.
const FILE_MODE: u32 = 0o600;

/// The mode of the directory that holds them.
const DIRECTORY_MODE: u32 = 0o700;

/// What anybody but the owner may do.
const OTHERS_BITS: u32 = 0o077;

/// What lets anybody but the owner change something.
const OTHERS_WRITE_BITS: u32 = 0o022;

/// A private file that cannot be used. The messages call the file what the user calls it: `what`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateFileError {
    /// It is not there.
    #[error("there is no {what} {}", path.display())]
    Missing {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {action} {what} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is a directory, a pipe or something else that is no file.
    #[error("{what} {} is not a regular file", path.display())]
    NotAFile {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner may read or change it.
    #[error("{what} {path} is readable by others (mode {mode:04o}): run chmod 600 {path}", path = path.display())]
    Exposed {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others than its owner may replace what is in the directory.
    #[error("directory {path} is writable by others (mode {mode:04o}): run chmod 700 {path}", path = path.display())]
    ExposedDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is longer than such a file can be.
    #[error("{what} {} is longer than {bytes_max} bytes; it cannot be what it should be", path.display())]
    TooLong {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The longest that is read.
        bytes_max: u64,
    },
}

/// Reads a secret: a file that others may read is refused.
pub(crate) fn read_secret(what: &'static str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, PrivateFileError> {
    read(what, path, bytes_max, OTHERS_BITS)
}

/// Reads a file that need not be secret, such as a certificate.
pub(crate) fn read_public(what: &'static str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, PrivateFileError> {
    read(what, path, bytes_max, 0)
}

fn read(what: &'static str, path: &Path, bytes_max: u64, refused_bits: u32) -> Result<Vec<u8>, PrivateFileError> {
    let io = |source: io::Error| match source.kind() {
        ErrorKind::NotFound => PrivateFileError::Missing { what, path: path.to_owned() },
        _ => PrivateFileError::Io { action: "read", what, path: path.to_owned(), source },
    };
    // Before opening, since opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(PrivateFileError::NotAFile { what, path: path.to_owned() });
    }
    let file = File::open(path).map_err(io)?;
    // Of the open file, so that what is checked is what is read.
    let mode = file.metadata().map_err(io)?.mode() & 0o7777;
    if mode & refused_bits != 0 {
        return Err(PrivateFileError::Exposed { what, path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > bytes_max {
        return Err(PrivateFileError::TooLong { what, path: path.to_owned(), bytes_max });
    }
    Ok(bytes)
}

/// Writes a file that only its owner may read. It appears complete or not at all, and is on disk when this returns.
pub(crate) fn write(what: &'static str, path: &Path, bytes: &[u8]) -> Result<(), PrivateFileError> {
    let io = |source| PrivateFileError::Io { action: "write", what, path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| io(ErrorKind::InvalidInput.into()))?;
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let temporary = directory.join(format!(".{}.{:016x}.tmp", name.to_string_lossy(), rand::random::<u64>()));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // The first failure is the one to report.
        let _ = fs::remove_file(&temporary);
        return Err(io(source));
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes sure that a directory is there which only its owner can change.
pub(crate) fn create_directory(path: &Path) -> Result<(), PrivateFileError> {
    let io = |action| move |source| PrivateFileError::Io { action, what: "directory", path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(io("create"))?;
    let mode = fs::metadata(path).map_err(io("read"))?.mode() & 0o7777;
    match mode & OTHERS_WRITE_BITS {
        0 => Ok(()),
        _ => Err(PrivateFileError::ExposedDirectory { path: path.to_owned(), mode }),
    }
}

#[cfg(test)]
pub(crate) mod tests;
