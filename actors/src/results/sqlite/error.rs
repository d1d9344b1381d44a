//! What goes wrong with the file of a store, and what that is to who uses it.

use std::{io::ErrorKind, path::Path};

use super::encode::BadBody;
use crate::results::StoreError;

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
