//! Why a store on disk cannot be used.

use std::path::PathBuf;

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
    /// This program cannot keep anything on disk.
    #[error(
        "this program was built without the feature `sqlite` and has no result store on disk: build it with that feature, or keep \
         results in memory"
    )]
    NotBuilt,
}
