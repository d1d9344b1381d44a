//! The disk backend on real files.

mod damage;
mod durability;
mod full;
mod many;
mod records;
mod retention;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::{
    chores::Purging,
    error::Fault,
    group::done,
    open::{self, Lock},
    reader::Reader,
    restore::restore,
    writer::Writer,
};
use crate::results::{
    Restored, Retention, StoreError,
    backend::{Answer, Done, Question, Write},
    now_us,
    testing::Keeps,
};

/// A store without threads: each write is a commit.
pub(in crate::results) struct Direct {
    pub(super) dir: Arc<TempDir>,
    pub(super) writer: Writer,
    pub(super) reader: Reader,
    pub(super) restored: Restored,
    pub(super) now_us: Option<u64>,
    _lock: Lock,
}

impl Direct {
    pub fn new() -> Self {
        Self::open(Arc::new(TempDir::new().unwrap()), Retention::default()).unwrap()
    }

    pub(super) fn open(dir: Arc<TempDir>, retention: Retention) -> Result<Self, StoreError> {
        let file = file(dir.path());
        let (lock, connection) = open::open(&file)?;
        let fault = |fault: Fault| StoreError::of_fault(&file, fault);
        let life = open::begin_life(&connection).map_err(fault)?;
        let restored = restore(&connection, life).map_err(fault)?;
        let writer = Writer::new(connection, retention).map_err(fault)?;
        let reader = Reader::new(open::open_reader(&file)?);
        Ok(Self { dir, writer, reader, restored, now_us: None, _lock: lock })
    }

    /// The store after an orderly end and a start.
    pub(super) fn reopened(self) -> Self {
        let dir = self.dir.clone();
        drop(self);
        Self::open(dir, Retention::default()).unwrap()
    }

    pub(super) fn try_apply(&mut self, write: Write) -> Result<Option<Done>, Fault> {
        let now = self.now_us.unwrap_or_else(now_us);
        let outcome = self.writer.commit(std::iter::once(&write), now)?.remove(0);
        let mut purging = match write {
            Write::Purge { viewer, runs } => Purging::of_runs(viewer, runs),
            Write::PurgeOlder { viewer, shard, before_us } => Purging::older(viewer, shard, before_us),
            write => return Ok(done(write, outcome)),
        };
        loop {
            if let Some(answer) = self.writer.purge(&mut purging)? {
                return Ok(Some(Done::Purged(answer)));
            }
        }
    }
}

impl Keeps for Direct {
    fn apply(&mut self, write: Write) -> Option<Done> {
        self.try_apply(write).unwrap()
    }

    fn answer(&mut self, question: Question) -> Answer {
        self.reader.answer(question).unwrap()
    }
}

pub(super) fn file(dir: &Path) -> PathBuf {
    dir.join("store.sqlite")
}

/// What is on disk at this moment, as after a kill.
fn image(dir: &Path) -> Arc<TempDir> {
    let copy = TempDir::new().unwrap();
    for name in ["store.sqlite", "store.sqlite-wal", "store.lock"] {
        if dir.join(name).exists() {
            std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
    }
    Arc::new(copy)
}
