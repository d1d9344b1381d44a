//! Frames: how a stream of bytes is cut into messages.
//!
//! ```text
//! len u32 LE (length of the body) | kind u8 | flags u8 | reserved u16 (0) | body
//! ```
//!
//! [`RawDecoder`] knows nothing but that layout and serves any protocol whose kinds fit a byte. [`Decoder`] adds the kinds
//! that links between nodes use.

use bytes::{Buf, Bytes, BytesMut};

use super::long::LongBuffer;

/// The longest frame between nodes, in bytes, header included. Long enough to batch small messages, short enough that one
/// frame never delays the next noticeably. Longer payloads travel as bulk. Both sides must agree on it: lowering it makes
/// peers of the old value violate the protocol.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// The length of a frame's header, in bytes.
pub const HEADER_BYTES: usize = 8;

/// The longest body of a frame between nodes, in bytes.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;

/// Bodies of more bytes have memory of their own, in which they are gathered. None between nodes is so long.
const LONG_BODY_BYTES: usize = FRAME_BYTES_MAX;

/// The flags that this version knows. None yet: a set bit is an error, so that a later version can give it a meaning and
/// negotiate it in the handshake.
const FLAGS_KNOWN: u8 = 0;

/// The kinds of frame between nodes. The numbers are the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The dialler's greeting, the first frame of a link.
    Hello = 1,
    /// The acceptor's consent: the link is up.
    Welcome = 2,
    /// The acceptor's refusal, and why.
    Reject = 3,
    /// A message to an actor that expects no reply.
    Tell = 4,
    /// A message to an actor that expects a reply.
    Ask = 5,
    /// The reply to an ask.
    Reply = 6,
    /// Why there will be no reply to an ask.
    Failure = 7,
    /// A wish to be told when an actor terminates.
    Monitor = 8,
    /// A monitored actor has terminated.
    Terminated = 9,
    /// The last frame of a link that is closed in an orderly way.
    Goodbye = 10,
}

impl FrameKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: &[Self] = &[
        Self::Hello,
        Self::Welcome,
        Self::Reject,
        Self::Tell,
        Self::Ask,
        Self::Reply,
        Self::Failure,
        Self::Monitor,
        Self::Terminated,
        Self::Goodbye,
    ];

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a number from the wire, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        // Kinds are numbered from 1 without gaps; a test says so.
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// One frame between nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body means.
    pub kind: FrameKind,
    /// Always 0 in this version.
    pub flags: u8,
    /// Everything after the header. Shares its allocation with its neighbours on the stream: copy what is kept for long.
    pub body: Bytes,
}

/// One frame of any protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// The protocol's number for what the body means.
    pub kind: u8,
    /// The protocol's flags.
    pub flags: u8,
    /// Everything after the header. Shares its allocation with its neighbours on the stream: copy what is kept for long.
    pub body: Bytes,
}

/// The header of a frame, as it comes from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHeader {
    /// The length of the body, in bytes.
    pub body_bytes: usize,
    /// The protocol's number for what the body means.
    pub kind: u8,
    /// The protocol's flags.
    pub flags: u8,
}

/// Bytes that are no frame. The stream cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header announces more than is accepted.
    #[error("a frame announces a body of {body_bytes} bytes; at most {body_bytes_max} are accepted")]
    TooLong {
        /// The announced length.
        body_bytes: usize,
        /// The longest that is accepted.
        body_bytes_max: usize,
    },
    /// No kind has that number.
    #[error("a frame has the unknown kind {0}")]
    UnknownKind(u8),
    /// A flag is set that this version does not know.
    #[error("a frame has unknown flags: {0:#010b}")]
    UnknownFlags(u8),
    /// The reserved field is in use.
    #[error("a frame has {0:#06x} in its reserved field, which must be 0")]
    Reserved(u16),
    /// The system has no room for the body.
    #[error("there is no memory for a frame's body of {0} bytes")]
    NoMemory(usize),
}

/// Writes a frame's header.
///
/// # Panics
///
/// When `body_bytes` does not fit 32 bits, which is far beyond what any protocol here accepts.
pub const fn frame_header(kind: u8, flags: u8, body_bytes: usize) -> [u8; HEADER_BYTES] {
    assert!(body_bytes <= u32::MAX as usize, "a frame's body is limited to 32 bits of length");
    let [a, b, c, d] = (body_bytes as u32).to_le_bytes();
    [a, b, c, d, kind, flags, 0, 0]
}

/// Cuts a stream into [`RawFrame`]s.
///
/// After each [`push`](Self::push), take frames until there is none. Then the decoder never holds more than one incomplete
/// frame, and what was pushed last.
///
/// ```
/// use engineroom_runtime::proto::frame::{RawDecoder, frame_header};
///
/// let mut decoder = RawDecoder::new(1024);
/// decoder.push(&frame_header(7, 0, 2));
/// assert_eq!(decoder.next_frame()?, None);
/// decoder.push(b"hi");
/// let frame = decoder.next_frame()?.unwrap();
/// assert_eq!((frame.kind, &frame.body[..]), (7, &b"hi"[..]));
/// # Ok::<(), engineroom_runtime::proto::frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct RawDecoder {
    buffer: BytesMut,
    /// A frame with a long body that has begun. Then nothing is in `buffer` until it is complete.
    long: Option<(RawHeader, LongBuffer)>,
    body_bytes_max: usize,
}

impl RawDecoder {
    /// A decoder that accepts bodies of at most `body_bytes_max` bytes.
    pub fn new(body_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), long: None, body_bytes_max }
    }

    /// Takes in what the stream brought.
    pub fn push(&mut self, bytes: &[u8]) {
        let others = self.long.as_mut().map_or(bytes, |(_, body)| body.push(bytes));
        self.buffer.extend_from_slice(others);
    }

    /// Where the stream's next bytes belong, if they are of a long body: who reads them there, and says how many to
    /// [`filled`](Self::filled), spares a copy. `None` if they are to be pushed.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        self.long.as_mut().map(|(_, body)| body.spare()).filter(|room| !room.is_empty())
    }

    /// So many bytes of the stream were read to the front of [`room`](Self::room).
    pub fn filled(&mut self, bytes: usize) {
        if let Some((_, body)) = &mut self.long {
            body.advance(bytes);
        }
    }

    /// The bytes that wait for the rest of their frame.
    pub fn buffered(&self) -> usize {
        self.buffer.len() + self.long.as_ref().map_or(0, |(_, body)| HEADER_BYTES + body.filled().len())
    }

    /// The header of the next frame, as soon as it is complete.
    ///
    /// # Errors
    ///
    /// When the header is wrong. It stays wrong: the same error comes back for ever.
    pub fn header(&self) -> Result<Option<RawHeader>, FrameError> {
        if let Some((header, _)) = &self.long {
            return Ok(Some(*header));
        }
        let Some(&[a, b, c, d, kind, flags, e, f]) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        // A length that does not fit the address space is too long in any case.
        let body_bytes = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let body_bytes_max = self.body_bytes_max;
        if body_bytes > body_bytes_max {
            return Err(FrameError::TooLong { body_bytes, body_bytes_max });
        }
        match u16::from_le_bytes([e, f]) {
            0 => Ok(Some(RawHeader { body_bytes, kind, flags })),
            reserved => Err(FrameError::Reserved(reserved)),
        }
    }

    /// The next frame, as soon as it is complete.
    ///
    /// # Errors
    ///
    /// As [`header`](Self::header).
    pub fn next_frame(&mut self) -> Result<Option<RawFrame>, FrameError> {
        let Some(header) = self.header()? else { return Ok(None) };
        let body = if header.body_bytes > LONG_BODY_BYTES { self.long_body(header)? } else { self.short_body(header) };
        Ok(body.map(|body| RawFrame { kind: header.kind, flags: header.flags, body }))
    }

    fn short_body(&mut self, header: RawHeader) -> Option<Bytes> {
        if self.buffer.len() - HEADER_BYTES < header.body_bytes {
            return None;
        }
        self.buffer.advance(HEADER_BYTES);
        Some(self.buffer.split_to(header.body_bytes).freeze())
    }

    fn long_body(&mut self, header: RawHeader) -> Result<Option<Bytes>, FrameError> {
        if self.long.is_none() {
            let no_memory = |_| FrameError::NoMemory(header.body_bytes);
            let mut body = LongBuffer::new(header.body_bytes).map_err(no_memory)?;
            let here = self.buffer.len() - HEADER_BYTES;
            let others = body.push(&self.buffer[HEADER_BYTES..]).len();
            self.buffer.advance(HEADER_BYTES + here - others);
            self.long = Some((header, body));
        }
        let complete = self.long.take_if(|(_, body)| body.missing() == 0);
        Ok(complete.map(|(_, body)| body.freeze()))
    }
}

/// Cuts the control stream of a link into [`Frame`]s. Use as [`RawDecoder`].
#[derive(Debug)]
pub struct Decoder {
    raw: RawDecoder,
}

impl Decoder {
    /// A decoder that accepts bodies of at most `body_bytes_max` bytes; see [`BODY_BYTES_MAX`].
    pub fn new(body_bytes_max: usize) -> Self {
        Self { raw: RawDecoder::new(body_bytes_max) }
    }

    /// Takes in what the stream brought.
    pub fn push(&mut self, bytes: &[u8]) {
        self.raw.push(bytes);
    }

    /// The bytes that wait for the rest of their frame.
    pub fn buffered(&self) -> usize {
        self.raw.buffered()
    }

    /// The next frame, as soon as it is complete. A wrong header is noticed before its body is there.
    ///
    /// # Errors
    ///
    /// When the bytes are no frame. The same error comes back for ever: close the link.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(header) = self.raw.header()? else { return Ok(None) };
        let kind = FrameKind::from_code(header.kind).ok_or(FrameError::UnknownKind(header.kind))?;
        if header.flags & !FLAGS_KNOWN != 0 {
            return Err(FrameError::UnknownFlags(header.flags));
        }
        let frame = self.raw.next_frame()?;
        Ok(frame.map(|RawFrame { flags, body, .. }| Frame { kind, flags, body }))
    }
}

#[cfg(test)]
mod tests;
