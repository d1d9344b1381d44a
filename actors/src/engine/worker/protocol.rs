//! What an engine and its worker say to each other: MessagePack in the frames that links use.
//!
//! ```text
//! engine → worker   Start   once, at first
//! worker → engine   Ready   once, at first
//! engine → worker   Run     a batch; they are run in the order in which they come
//! worker → engine   Report  the outcomes of some consecutive tasks of the batch
//! worker → engine   Told    what the task has told that runs
//! ```

use std::io;

use engineroom_runtime::{
    net::bulk::MESSAGE_BYTES_MAX,
    proto::{
        frame::{FrameError, HEADER_BYTES, RawDecoder, RawFrame, frame_header},
        payload::{Payload, Rope, with_source},
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    code::{DecodeError, Function, SharedFile, decode},
    task::{BatchId, BundleHash, EngineId, JobId, News, Outcomes, Packed},
};

/// The version of this protocol. The two sides may be of different releases, because the worker is the user's program.
pub(crate) const PROTOCOL: u32 = 3;

/// The longest body of a message between engine and worker, in bytes. It bounds the arguments of one batch and the result
/// of one task, which go on in messages between nodes. Memory grows with what has arrived, not with what a header announces.
pub(crate) const WORKER_MESSAGE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;

/// What a batch needs beside its arguments, in bytes: the names of its function and its shared values.
const RUN_MARGIN_BYTES: usize = 1 << 20;

/// How much is read from the socket at a time, in bytes.
pub(super) const READ_BYTES: usize = 64 << 10;

/// How much of a long message is read or written at a time, in bytes, and what the system is asked to buffer between the two: large, so
/// that they need not take turns often; small enough that copying it does not keep the engine's thread noticeably.
pub(super) const LONG_PART_BYTES: usize = 1 << 20;

/// A batch: tasks to be run one after another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The dispatch of the batch.
    pub(crate) batch: BatchId,
    /// The index in the job of the first task.
    pub(crate) first: u32,
    /// What the tasks call.
    pub(crate) function: Function,
    /// The encoded argument of each task.
    pub(crate) arguments: Packed,
    /// The job that the tasks belong to.
    pub(crate) job: JobId,
    /// How often the tasks have been sent to an engine, this time included.
    pub(crate) attempt: u32,
    /// The engine that runs them.
    pub(crate) engine: EngineId,
    /// How promptly outcomes are reported.
    pub(crate) reporting: Reporting,
    /// Where the value is that the tasks share. The worker reads it when it does not have it.
    pub(crate) shared: Option<SharedFile>,
}

/// How promptly a worker reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reporting {
    /// Outcomes of quick tasks travel together. After a crash, tasks that had ended may be missing.
    Coalesced,
    /// Each outcome is reported before the next task begins. After a crash, the first task without an outcome is to blame.
    Careful,
}

/// The outcomes of consecutive tasks of a batch; none at all says that task `first` is running, and has been for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The dispatch of the batch.
    pub(crate) batch: BatchId,
    /// The index in the job of the first task that is reported.
    pub(crate) first: u32,
    /// The outcomes.
    pub(crate) outcomes: Outcomes,
}

/// What the task has told that runs, for those who wait for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The dispatch of the batch.
    pub(crate) batch: BatchId,
    /// The task's index in its job.
    pub(crate) index: u32,
    /// The latest that it has told.
    pub(crate) news: News,
}

/// The engine's first message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Start {
    /// [`PROTOCOL`] of the engine.
    pub(super) protocol: u32,
    /// The program that the worker runs.
    pub(super) bundle: BundleHash,
}

/// The worker's first message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ready {
    /// [`PROTOCOL`] of the worker.
    pub(super) protocol: u32,
    /// The worker's process.
    pub(super) pid: u32,
}

/// A message that one side sends. The numbers are the wire format.
pub(super) trait Message: Serialize + DeserializeOwned {
    /// The kind of its frame.
    const KIND: u8;

    /// What is wrong with it, though its bytes are well formed.
    fn flaw(&self) -> Option<&'static str> {
        None
    }
}

impl Message for Start {
    const KIND: u8 = 1;
}

impl Message for Ready {
    const KIND: u8 = 2;
}

impl Message for Run {
    const KIND: u8 = 3;

    fn flaw(&self) -> Option<&'static str> {
        let count = self.arguments.len();
        if !self.arguments.is_sound() {
            Some("its arguments are not what they say they are")
        } else if count == 0 {
            Some("it has no tasks")
        } else if self.first as usize + count - 1 > u32::MAX as usize {
            Some("it goes beyond the end of its job")
        } else if self.arguments.bytes() > WORKER_MESSAGE_BYTES_MAX - RUN_MARGIN_BYTES {
            Some("its arguments have more bytes than fit a message to a worker")
        } else {
            None
        }
    }
}

impl Message for Report {
    const KIND: u8 = 4;

    fn flaw(&self) -> Option<&'static str> {
        (!self.outcomes.is_sound()).then_some("its parts do not fit together")
    }
}

impl Message for Told {
    const KIND: u8 = 5;

    fn flaw(&self) -> Option<&'static str> {
        (!self.news.is_sound()).then_some("it does not keep to its bounds")
    }
}

/// What a worker says once it is ready.
#[derive(Debug)]
pub(super) enum Said {
    /// What became of tasks.
    Report(Report),
    /// What a running task tells.
    Told(Told),
}

/// Bytes on a worker's socket that are not what the protocol allows.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    /// They are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message of another kind was due.
    #[error("a message of kind {found} came where {expected} was due")]
    Unexpected {
        /// The kind that came.
        found: u8,
        /// The kind that was due.
        expected: u8,
    },
    /// The body of a frame is not the message that its kind says.
    #[error("a message of kind {kind} cannot be read: {source}")]
    Body {
        /// The kind.
        kind: u8,
        /// What is wrong.
        source: DecodeError,
    },
    /// A message contradicts itself.
    #[error("a message of kind {kind} is wrong: {flaw}")]
    Flawed {
        /// The kind.
        kind: u8,
        /// What is wrong.
        flaw: &'static str,
    },
    /// The other side is of a release that is too different.
    #[error(
        "the worker speaks version {worker} of the worker protocol, the engine version {engine}: use the same release of engineroom"
    )]
    Version {
        /// The worker's version.
        worker: u32,
        /// The engine's version.
        engine: u32,
    },
    /// The socket failed.
    #[error("the socket between engine and worker failed: {0}")]
    Io(#[from] io::Error),
}

/// The frame of a message, in pieces: its arguments or its one large result are not copied.
///
/// # Errors
/// When the message is longer than the protocol allows.
pub(super) fn encode_message<M: Message>(message: &M) -> io::Result<Payload> {
    let mut rope = Rope::after([0; HEADER_BYTES][..].into());
    rope.encode(message).map_err(io::Error::other)?;
    let body_bytes = rope.len() - HEADER_BYTES;
    if body_bytes > WORKER_MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {body_bytes} bytes is too long for the worker protocol")));
    }
    rope.gathered_mut()[..HEADER_BYTES].copy_from_slice(&frame_header(M::KIND, 0, body_bytes));
    Ok(rope.into_payload(0))
}

/// Reads the message that a frame carries.
///
/// # Errors
/// When it is another message, or not sound.
pub(super) fn decode_message<M: Message>(frame: &RawFrame) -> Result<M, ProtocolError> {
    let kind = frame.kind;
    if kind != M::KIND {
        return Err(ProtocolError::Unexpected { found: kind, expected: M::KIND });
    }
    let decoded = with_source(&frame.body, || decode(&frame.body));
    let message: M = decoded.map_err(|source| ProtocolError::Body { kind, source })?;
    match message.flaw() {
        Some(flaw) => Err(ProtocolError::Flawed { kind, flaw }),
        None => Ok(message),
    }
}

/// Reads what a worker says.
///
/// # Errors
/// When it is nothing of that, or not sound.
pub(super) fn decode_said(frame: &RawFrame) -> Result<Said, ProtocolError> {
    match frame.kind {
        Told::KIND => decode_message(frame).map(Said::Told),
        _ => decode_message(frame).map(Said::Report),
    }
}

/// A decoder for the frames of this protocol.
pub(super) fn decoder() -> RawDecoder {
    RawDecoder::new(WORKER_MESSAGE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::worker::testing::idle;

    fn frame<M: Message>(message: &M) -> (Vec<u8>, RawFrame) {
        let (bytes, mut decoder) = (encode_message(message).unwrap().into_chunks().concat(), decoder());
        decoder.push(&bytes);
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.buffered(), 0);
        (bytes, frame)
    }

    #[test]
    fn messages_survive_the_wire() {
        let message = idle(7, 5, 3);
        assert_eq!(decode_message::<Run>(&frame(&message).1).unwrap(), message);
        let message = Report { batch: BatchId(1), first: 2, outcomes: Outcomes::default() };
        assert_eq!(decode_message::<Report>(&frame(&message).1).unwrap(), message);
    }

    #[test]
    fn the_first_messages_have_these_bytes() {
        // A worker of another release must be able to tell that it is one.
        let (bytes, _) = frame(&Ready { protocol: 1, pid: 300 });
        assert_eq!(bytes, [5, 0, 0, 0, 2, 0, 0, 0, 0x92, 1, 0xcd, 1, 44]);
        let (bytes, _) = frame(&Start { protocol: 1, bundle: BundleHash([3; 32]) });
        assert_eq!(bytes[..13], [37, 0, 0, 0, 1, 0, 0, 0, 0x92, 1, 0xdc, 0, 32]);
    }

    #[test]
    fn damaged_bytes_are_errors_and_never_panics() {
        let (_, good) = frame(&idle(7, 5, 3));
        for index in 0..good.body.len() {
            for value in [0, 1, 0x7f, 0x92, 0xc0, 0xdd, 0xff] {
                let mut body = good.body.to_vec();
                body[index] = value;
                let _ = decode_message::<Run>(&RawFrame { body: body.into(), ..good.clone() });
            }
            let cut = RawFrame { body: good.body.slice(..index), ..good.clone() };
            assert!(matches!(decode_message::<Run>(&cut), Err(ProtocolError::Body { .. })), "cut at {index}");
        }
        assert!(matches!(decode_message::<Report>(&good), Err(ProtocolError::Unexpected { found: 3, expected: 4 })));
    }

    #[test]
    fn batches_that_make_no_sense_are_refused() {
        assert!(idle(7, u32::MAX - 2, 3).flaw().is_none());
        assert!(idle(7, u32::MAX - 1, 3).flaw().is_some());
        assert!(idle(7, 0, 0).flaw().is_some());
        assert!(matches!(decode_message::<Run>(&frame(&idle(7, 0, 0)).1), Err(ProtocolError::Flawed { .. })));
    }
}
