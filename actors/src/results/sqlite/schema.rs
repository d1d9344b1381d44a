//! The tables, their version, and how an older file becomes one of this version.
//!
//! Tasks of a job are addressed by one number, `key`: the job's number in the upper, the index in the lower 32 bits. It is the row
//! id of every table that holds runs of tasks, so that a message id finds its run by one descent of one tree.

use rusqlite::Connection;

/// What says that a file is a store: "EngR" in the header of the file.
pub(super) const APPLICATION_ID: i64 = 0x456E_6752;

/// The steps from each version of the schema to the next one. Never changed once released; only added to.
const STEPS: &[&str] = &[FIRST, SECOND, THIRD];

/// The version of a file after all steps.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// Jobs below this number have keys that are positive.
pub(super) const JOBS_MAX: i64 = 1 << 31;

const FIRST: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('life', 0), ('next_engine', 0), ('bytes', 0), ('jobs', 0);
CREATE TABLE engine(id INTEGER PRIMARY KEY) STRICT;

CREATE TABLE job(
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    shard INTEGER NOT NULL,
    owner TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    label TEXT,
    function TEXT NOT NULL,
    opened_us INTEGER NOT NULL,
    ended_us INTEGER,
    closed INTEGER NOT NULL,
    submitted INTEGER NOT NULL,
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    evicted INTEGER NOT NULL,
    evicted_failed INTEGER NOT NULL,
    header BLOB NOT NULL
) STRICT;
CREATE INDEX job_unfinished ON job(no) WHERE ended_us IS NULL;
CREATE INDEX job_of_shard ON job(shard, id);
CREATE INDEX job_empty ON job(ended_us) WHERE ended_us IS NOT NULL AND evicted = done;

CREATE TABLE arguments(
    key INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE run(
    key INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    failures BLOB,
    engine INTEGER,
    attempt INTEGER NOT NULL,
    submitted_us INTEGER NOT NULL,
    recorded_us INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX run_taken ON run(recorded_us) WHERE taken = 1;
CREATE INDEX run_untaken ON run(recorded_us) WHERE taken = 0;

CREATE TABLE evicted(key INTEGER PRIMARY KEY, end INTEGER NOT NULL) STRICT;
CREATE TABLE losses(key INTEGER PRIMARY KEY, count INTEGER NOT NULL, losses INTEGER NOT NULL) STRICT;
";

/// Jobs that wait for tasks of others until they are released, once for all.
const SECOND: &str = "ALTER TABLE job ADD COLUMN released INTEGER NOT NULL DEFAULT 0;";

/// The engines that jobs are bound to since they were released, if they follow others: their ids, little endian.
const THIRD: &str = "ALTER TABLE job ADD COLUMN engines BLOB;";

/// The key of a task.
pub(super) fn key(job: i64, index: u32) -> i64 {
    (job << 32) | i64::from(index)
}

/// The index of a key.
pub(super) fn index(key: i64) -> u32 {
    (key & 0xFFFF_FFFF) as u32
}

/// The job's number of a key.
pub(super) fn job_of(key: i64) -> i64 {
    key >> 32
}

/// Takes a file from the version it has to the one that this program knows; in one transaction, so that a crash leaves it as it
/// was.
pub(super) fn migrate(connection: &mut Connection, found: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
