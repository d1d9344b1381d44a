//! What unfinished jobs need on the disk beside the result store: their programs, and the values that their tasks share. It must
//! not make room for others.

use std::{collections::HashMap, sync::Arc};

use crate::code::{BlobCache, BlobHold};
use crate::task::JobId;
use crate::wire::JobHeader;

/// The blobs that open jobs need, held in the cache.
#[derive(Debug)]
pub(super) struct NeededBlobs {
    cache: Arc<BlobCache>,
    jobs: HashMap<JobId, Needed>,
}

/// The blobs of one job.
#[derive(Debug)]
pub(super) struct Needed {
    /// `None` for a named task, and for the controller's own program, which needs no place in the cache.
    _program: Option<BlobHold>,
    _shared: Option<BlobHold>,
}

/// The value that the tasks of a job share is not in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSharedValue;

impl NeededBlobs {
    pub fn new(cache: Arc<BlobCache>) -> Self {
        Self { cache, jobs: HashMap::new() }
    }

    /// Holds what a job needs.
    ///
    /// # Errors
    /// When its shared value is not there. That its program is not is no error: its client sends that when it is asked to, and
    /// engines may have it.
    pub fn find(&self, header: &JobHeader) -> Result<Needed, NoSharedValue> {
        let program = header.function.bundle().and_then(|bundle| self.cache.hold(bundle.into()));
        let shared = header.shared.map(|hash| self.cache.hold(hash).ok_or(NoSharedValue)).transpose()?;
        Ok(Needed { _program: program, _shared: shared })
    }

    /// Keeps what a job needs until the job has ended.
    pub fn keep(&mut self, job: JobId, needed: Needed) {
        self.jobs.insert(job, needed);
    }

    /// A job has ended.
    pub fn release(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }
}
