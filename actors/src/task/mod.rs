//! The vocabulary of tasks: identifiers, packed arguments, outcomes. Pure data.

pub(crate) mod compact;
mod ids;
mod news;
mod options;
mod outcome;
mod packed;
mod ranges;
mod record;
mod selection;

pub use ids::{BatchId, BlobHash, BundleHash, EngineId, IdError, JobId, MessageId};
pub use news::OutputStream;
pub(crate) use news::{News, PIECE_BYTES_MAX, PUBLISHED_BYTES_MAX, Piece};
pub use options::{Condition, End, Quorum, Retries, TaskOptions, Tries};
pub use outcome::{Cause, Outcomes, TaskError, TaskOutput, Timing, WorkerExit};
pub(crate) use packed::item_of;
pub use packed::{Packed, PackedBuilder};
pub(crate) use ranges::Ranges;
pub use record::{TaskFilter, TaskRecord, TaskState};
pub(crate) use selection::engines_shown;
pub use selection::{Equipment, Selection};
