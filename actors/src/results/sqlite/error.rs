//! What can be wrong with the file of a store.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::encode::BadBody;

/// Why a result store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another controller has it.
    #[error("the result store {file} is in use by another controller: stop that one, or give this one a profile of its own")]
    InUse {
        /// The store.
        file: PathBuf,
    },
    /// A newer version of engineroom has written it.
    #[error(
        "the result store {file} has schema {found}, and this version knows schemas up to {known}: run the version that wrote it, \
         or a newer one"
    )]
    Newer {
        /// The store.
        file: PathBuf,
        /// The schema of the file.
        found: i64,
        /// The newest schema that this version knows.
        known: i64,
    },
    /// It is something else.
    #[error("{file} is not a result store of engineroom: move it away, and a new store will be made in its place")]
    NotAStore {
        /// The file.
        file: PathBuf,
    },
    /// It was there once, and is missing or empty now.
    #[error(
        "the result store {file} is {what}, but {trace} says that there was one: put it back from a backup, or delete {trace} to \
         begin with an empty store"
    )]
    Lost {
        /// The store.
        file: PathBuf,
        /// What it is instead.
        what: &'static str,
        /// What shows that there was one.
        trace: PathBuf,
    },
    /// Parts of it contradict each other.
    #[error(
        "the result store {file} is damaged ({detail}): put it back from a backup, or save what can be saved with \
         `sqlite3 {file} .recover` and move it away, and a new store will be made in its place"
    )]
    Damaged {
        /// The store.
        file: PathBuf,
        /// What was found.
        detail: String,
    },
    /// There is no space left.
    #[error("the disk of the result store {file} is full: free space on it")]
    Full {
        /// The store.
        file: PathBuf,
    },
    /// It may not be read or written.
    #[error("the result store {file} cannot be used ({detail}): check the permissions of the file and of its directory")]
    Permission {
        /// The store.
        file: PathBuf,
        /// What the system says.
        detail: String,
    },
    /// Anything else that the system refuses.
    #[error("the result store {file} cannot be used: {detail}; check the disk that it is on")]
    Unusable {
        /// The store.
        file: PathBuf,
        /// What the system says.
        detail: String,
    },
}

/// What went wrong within a transaction, by what is to be done about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// There is no space: to be tried again later.
    #[error("the disk is full")]
    Full,
    /// The file is not what was written.
    #[error("it is damaged ({0})")]
    Damaged(String),
    /// Anything else. As with damage, nothing that is in doubt may be served.
    #[error("{0}")]
    Fatal(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::{ErrorCode, ffi};

        let text = error.to_string();
        let rusqlite::Error::SqliteFailure(failure, _) = &error else { return Fault::Damaged(text) };
        match (failure.code, failure.extended_code) {
            // The index of the log is a file too; it reports a full disk as an error of its own.
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) => Fault::Full,
            (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => Fault::Damaged(text),
            _ => Fault::Fatal(text),
        }
    }
}

impl From<BadBody> for Fault {
    fn from(bad: BadBody) -> Self {
        Fault::Damaged(bad.to_string())
    }
}

impl StoreError {
    /// What a fault of that file is to who opens it.
    pub(super) fn of_fault(file: &Path, fault: Fault) -> Self {
        let file = file.to_owned();
        match fault {
            Fault::Full => StoreError::Full { file },
            Fault::Damaged(detail) => StoreError::Damaged { file, detail },
            Fault::Fatal(detail) => StoreError::Unusable { file, detail },
        }
    }

    pub(super) fn of_io(file: &Path, error: &std::io::Error) -> Self {
        let (file, detail) = (file.to_owned(), error.to_string());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StoreError::Permission { file, detail },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { file },
            _ => StoreError::Unusable { file, detail },
        }
    }
}
