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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{CacheError, Function, FunctionRef};
    use crate::task::{BlobHash, BundleHash};

    fn add(cache: &Arc<BlobCache>, content: &[u8]) -> Result<BlobHash, CacheError> {
        let hash = BlobHash(blake3::hash(content).into());
        let mut incoming = cache.begin(hash, content.len() as u64)?;
        incoming.write(0, content)?;
        incoming.commit().map(|_| hash)
    }

    #[test]
    fn what_open_jobs_need_stays_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(&dir.path().join("cache"), 20).unwrap();
        let (program, value) = (add(&cache, b"a program!").unwrap(), add(&cache, b"some value").unwrap());
        let reference = FunctionRef::Offset { bundle: BundleHash(program.0), offset: 0 };
        let header = JobHeader {
            function: Function { reference, name: "f".into() },
            target: String::new(),
            direct: Vec::new(),
            chunk: 0,
            label: None,
            subscription: 1,
            window_bytes: 1,
            shared: Some(value),
            options: Box::default(),
        };
        let mut needed = NeededBlobs::new(cache.clone());
        for job in [1, 2] {
            let found = needed.find(&header).unwrap();
            needed.keep(JobId::from_u128(job), found);
        }
        needed.release(JobId::from_u128(1));
        assert!(matches!(add(&cache, b"a stranger"), Err(CacheError::Full { .. })));
        needed.release(JobId::from_u128(2));
        add(&cache, b"a stranger").unwrap();
        add(&cache, b"and others").unwrap();
        assert_eq!(needed.find(&header).unwrap_err(), NoSharedValue);
        assert!(needed.find(&JobHeader { shared: None, ..header }).is_ok(), "its client sends the program when it has to");
    }
}
