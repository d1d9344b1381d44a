//! The identifiers of jobs, tasks, engines and batches.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Identifies a job: what one `map`, `apply` or `submit` call created. A UUIDv7, so that ids sort by submission time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(Uuid);

impl JobId {
    /// A fresh id that no other client ever makes.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// An id from its number. For tests and simulations, which need reproducible ids.
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }

    /// Its sixteen bytes, whose order is that of time.
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these bytes.
    #[cfg(feature = "sqlite")]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// When it was made, to the millisecond, by the clock of the client that submitted the job.
    pub fn made_at(self) -> SystemTime {
        let (seconds, nanos) = self.0.get_timestamp().map_or((0, 0), |time| time.to_unix());
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    /// Which of `shards` result stores holds this job.
    pub fn shard(self, shards: usize) -> usize {
        // The last eight bytes of a UUIDv7 are random; the first are a clock.
        let (_, random) = self.0.as_u64_pair();
        (random % shards.max(1) as u64) as usize
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = Uuid::try_parse(text).map_err(|_| IdError { text: text.into() })?;
        Ok(Self(id))
    }
}

/// Identifies one task from the moment it is submitted: its job and its index there. Printed as `<uuid>/<index>`.
///
/// ```
/// # use engineroom::MessageId;
/// let id: MessageId = "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17".parse()?;
/// assert_eq!(id.index, 17);
/// assert_eq!(id.to_string(), "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17");
/// # Ok::<(), engineroom::IdError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageId {
    /// The job that the task belongs to.
    pub job: JobId,
    /// The task's place in its job, from 0.
    pub index: u32,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError { text: text.into() };
        let (job, index) = text.trim().split_once('/').ok_or_else(wrong)?;
        Ok(Self { job: job.parse().map_err(|_| wrong())?, index: index.parse().map_err(|_| wrong())? })
    }
}

/// A text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a message id: expected <uuid>/<index>, as in 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17")]
pub struct IdError {
    text: String,
}

/// A small integer that the controller gives to an engine when it joins. Never reused within a controller's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EngineId(pub u32);

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One dispatch of one batch to one engine. Never reused, so that a late report of an old attempt is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchId(pub u64);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The BLAKE3 hash of a bundle: a program's executable, as it travels to engines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BundleHash(pub [u8; 32]);

impl fmt::Display for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<BundleHash> for BlobHash {
    fn from(bundle: BundleHash) -> Self {
        Self(bundle.0)
    }
}

impl fmt::Debug for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Eight hex digits tell bundles apart in a log line.
        write!(f, "BundleHash({}…)", &self.to_string()[..8])
    }
}

/// The BLAKE3 hash of a *blob*: of what is named by its content, travels once, and is kept on disk. Bundles are blobs, and so
/// are values that the tasks of a job share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlobHash(pub [u8; 32]);

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        BundleHash(self.0).fmt(f)
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobHash({}…)", &self.to_string()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_round_trip_as_text() {
        let id = MessageId { job: JobId::fresh(), index: u32::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn text_that_is_no_message_id_is_refused() {
        for text in [
            "",
            "/",
            "17",
            "x/1",
            "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b",
            "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/-1",
            "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/4294967296",
        ] {
            assert!(text.parse::<MessageId>().is_err(), "{text:?}");
        }
    }
}
