//! Packets: what the frames of a link mean once the handshake is over.
//!
//! All numbers are little-endian; a payload or text is whatever follows the fixed fields.
//!
//! | kind | fields |
//! |---|---|
//! | `Tell` | `actor u32`, `message u16`, payload |
//! | `Ask` | `actor u32`, `message u16`, `ask u64`, `deadline_ms u32`, payload |
//! | `Reply` | `ask u64`, payload |
//! | `Failure` | `ask u64`, `code u16`, text |
//! | `Monitor` | `monitor u64`, `actor u32` |
//! | `Terminated` | `monitor u64`, `code u16`, text |
//! | `Goodbye` | `code u32`, text |

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::proto::frame::{FRAME_BYTES_MAX, Frame, FrameKind, HEADER_BYTES, frame_header};

pub use crate::proto::codes::{AskCode, CloseCode, Executed, TerminatedCode};

/// The longest explanation that travels in a packet, in bytes. Longer ones are cut: they are for people, and must not
/// crowd out work.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The longest [`PacketHead`], in bytes, with its kind: that of an ask.
pub const HEAD_BYTES_MAX: usize = 1 + 4 + 2 + 8 + 4;

/// What one frame means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A message to an actor that expects no reply.
    Tell {
        /// The exported actor's number.
        actor: u32,
        /// The message's index in the receiver's table.
        message: u16,
        /// The encoded message.
        payload: Bytes,
    },
    /// A message to an actor that expects a reply.
    Ask {
        /// The exported actor's number.
        actor: u32,
        /// The message's index in the receiver's table.
        message: u16,
        /// The asker's number for this request, unique within the link.
        ask: u64,
        /// How long the asker waits, in milliseconds from when it sent the request.
        deadline_ms: u32,
        /// The encoded message.
        payload: Bytes,
    },
    /// The reply to an ask.
    Reply {
        /// The asker's number.
        ask: u64,
        /// The encoded reply.
        payload: Bytes,
    },
    /// Why there will be no reply to an ask.
    Failure {
        /// The asker's number.
        ask: u64,
        /// Why.
        code: AskCode,
        /// More about why, for people. May be empty.
        text: String,
    },
    /// A wish to be told, once, when an actor terminates.
    Monitor {
        /// The monitoring side's number for this wish, unique within the link.
        monitor: u64,
        /// The exported actor's number.
        actor: u32,
    },
    /// A monitored actor has terminated.
    Terminated {
        /// The monitoring side's number.
        monitor: u64,
        /// Why.
        reason: TerminatedReason,
    },
    /// The last packet of a link that is closed in an orderly way.
    Goodbye {
        /// Why.
        code: CloseCode,
        /// More about why, for people. May be empty.
        text: String,
    },
}

/// Why a monitored actor is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TerminatedReason {
    /// The kind of end.
    pub code: TerminatedCode,
    /// More about it, for people: a panic's message, for instance. May be empty.
    pub text: String,
}

impl TerminatedReason {
    /// An end of that kind. The text is cut to [`TEXT_BYTES_MAX`].
    pub fn new(code: TerminatedCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(cut(&text).len());
        Self { code, text }
    }
}

impl fmt::Display for TerminatedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => self.code.fmt(f),
            text => write!(f, "{}: {text}", self.code),
        }
    }
}

/// A [`Packet`] that carries a payload, without it. In a frame it stands before the payload, its kind in the frame's
/// header; on a bulk stream it is preceded by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketHead {
    /// See [`Packet::Tell`].
    Tell {
        /// The exported actor's number.
        actor: u32,
        /// The message's index in the receiver's table.
        message: u16,
    },
    /// See [`Packet::Ask`].
    Ask {
        /// The exported actor's number.
        actor: u32,
        /// The message's index in the receiver's table.
        message: u16,
        /// The asker's number for this request, unique within the link.
        ask: u64,
        /// How long the asker waits, in milliseconds from when it sent the request.
        deadline_ms: u32,
    },
    /// See [`Packet::Reply`].
    Reply {
        /// The asker's number.
        ask: u64,
    },
}

/// A frame that means nothing, or a packet that does not fit a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// The fixed fields are not all there.
    #[error("a {kind:?} packet ends within its fixed fields")]
    Truncated {
        /// What kind it is.
        kind: FrameKind,
    },
    /// There is something after the last field.
    #[error("a {kind:?} packet has {bytes} bytes too many")]
    TrailingBytes {
        /// What kind it is.
        kind: FrameKind,
        /// How many.
        bytes: usize,
    },
    /// A code has no meaning.
    #[error("a {kind:?} packet has the unknown code {code}")]
    UnknownCode {
        /// What kind it is.
        kind: FrameKind,
        /// The number.
        code: u32,
    },
    /// The kind has no place here: a handshake frame on an established link, or a head that has no payload.
    #[error("a frame of kind {kind} has no place here")]
    UnexpectedKind {
        /// The number of the kind.
        kind: u8,
    },
    /// A head is missing altogether.
    #[error("a packet head is missing")]
    NoHead,
    /// The encoded packet is longer than a frame may be.
    #[error("the packet takes {bytes} bytes; a frame holds at most {FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length with the frame's header.
        bytes: usize,
    },
}

/// Starts a frame in `buf`, whose earlier content is dropped: a place for the frame's header, then the fixed fields of
/// `head`. The caller appends the payload and calls [`finish`].
///
/// ```
/// use bytes::{BufMut, BytesMut};
/// use engineroom_runtime::proto::packet::{PacketHead, begin, finish};
///
/// let mut buf = BytesMut::with_capacity(256);
/// begin(&mut buf, &PacketHead::Reply { ask: 7 });
/// buf.put_slice(b"payload");
/// finish(&mut buf)?;
/// let frame = buf.freeze();
/// assert_eq!(frame.len(), 8 + 8 + 7);
/// # Ok::<(), engineroom_runtime::proto::packet::PacketError>(())
/// ```
pub fn begin(buf: &mut BytesMut, head: &PacketHead) {
    buf.clear();
    buf.put_slice(&frame_header(head.kind().code(), 0, 0));
    head.put_fields(buf);
}

/// Completes the one frame that [`begin`] started in `buf`.
///
/// # Errors
///
/// [`PacketError::TooLong`] when the frame is longer than [`FRAME_BYTES_MAX`]; `buf` is unchanged, and its payload, which
/// starts at [`PacketHead::payload_offset`], can travel as bulk.
pub fn finish(buf: &mut BytesMut) -> Result<(), PacketError> {
    finish_at(buf, 0)
}

impl PacketHead {
    /// The kind of frame it belongs to.
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Tell { .. } => FrameKind::Tell,
            Self::Ask { .. } => FrameKind::Ask,
            Self::Reply { .. } => FrameKind::Reply,
        }
    }

    /// The length of [`encode_into`](Self::encode_into)'s output, in bytes. At most [`HEAD_BYTES_MAX`].
    pub const fn encoded_bytes(&self) -> usize {
        1 + fields_bytes(self.kind())
    }

    /// Where the payload starts in a frame that [`begin`] started.
    pub const fn payload_offset(&self) -> usize {
        HEADER_BYTES + fields_bytes(self.kind())
    }

    /// Appends the head as it stands on a bulk stream: `kind u8`, then the fields.
    pub fn encode_into(&self, buf: &mut BytesMut) {
        buf.put_u8(self.kind().code());
        self.put_fields(buf);
    }

    /// Reads the head from the start of `bytes` and says how many bytes it took; the rest is the payload's.
    ///
    /// # Errors
    ///
    /// When the bytes are not, or not all of, a head. [`PacketError::NoHead`] and [`PacketError::Truncated`] mean that more
    /// bytes are needed; with [`HEAD_BYTES_MAX`] bytes they do not occur.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), PacketError> {
        let (&code, mut fields) = bytes.split_first().ok_or(PacketError::NoHead)?;
        let kind = FrameKind::from_code(code).ok_or(PacketError::UnexpectedKind { kind: code })?;
        let head = Self::take_fields(kind, &mut fields)?;
        Ok((head, head.encoded_bytes()))
    }

    /// The packet of this head and that payload.
    pub fn with_payload(self, payload: Bytes) -> Packet {
        match self {
            Self::Tell { actor, message } => Packet::Tell { actor, message, payload },
            Self::Ask { actor, message, ask, deadline_ms } => Packet::Ask { actor, message, ask, deadline_ms, payload },
            Self::Reply { ask } => Packet::Reply { ask, payload },
        }
    }

    fn put_fields(&self, buf: &mut BytesMut) {
        match *self {
            Self::Tell { actor, message } => {
                buf.put_u32_le(actor);
                buf.put_u16_le(message);
            }
            Self::Ask { actor, message, ask, deadline_ms } => {
                buf.put_u32_le(actor);
                buf.put_u16_le(message);
                buf.put_u64_le(ask);
                buf.put_u32_le(deadline_ms);
            }
            Self::Reply { ask } => buf.put_u64_le(ask),
        }
    }

    fn take_fields(kind: FrameKind, bytes: &mut impl Buf) -> Result<Self, PacketError> {
        if !matches!(kind, FrameKind::Tell | FrameKind::Ask | FrameKind::Reply) {
            return Err(PacketError::UnexpectedKind { kind: kind.code() });
        }
        require_fields(kind, bytes)?;
        Ok(match kind {
            FrameKind::Tell => Self::Tell { actor: bytes.get_u32_le(), message: bytes.get_u16_le() },
            FrameKind::Ask => Self::Ask {
                actor: bytes.get_u32_le(),
                message: bytes.get_u16_le(),
                ask: bytes.get_u64_le(),
                deadline_ms: bytes.get_u32_le(),
            },
            // The other kinds were refused above.
            _ => Self::Reply { ask: bytes.get_u64_le() },
        })
    }
}

impl Packet {
    /// The kind of frame it travels in.
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Tell { .. } => FrameKind::Tell,
            Self::Ask { .. } => FrameKind::Ask,
            Self::Reply { .. } => FrameKind::Reply,
            Self::Failure { .. } => FrameKind::Failure,
            Self::Monitor { .. } => FrameKind::Monitor,
            Self::Terminated { .. } => FrameKind::Terminated,
            Self::Goodbye { .. } => FrameKind::Goodbye,
        }
    }

    /// Understands a frame. Payloads are not copied.
    ///
    /// # Errors
    ///
    /// When the frame means nothing on an established link: the peer violates the protocol.
    pub fn parse(frame: Frame) -> Result<Self, PacketError> {
        let Frame { kind, mut body, .. } = frame;
        require_fields(kind, &body)?;
        Ok(match kind {
            FrameKind::Tell | FrameKind::Ask | FrameKind::Reply => {
                let head = PacketHead::take_fields(kind, &mut body)?;
                head.with_payload(body)
            }
            FrameKind::Failure => {
                let ask = body.get_u64_le();
                let code = known_code(kind, body.get_u16_le(), AskCode::from_code)?;
                Self::Failure { ask, code, text: text_from(&body) }
            }
            FrameKind::Monitor => {
                let (monitor, actor) = (body.get_u64_le(), body.get_u32_le());
                match body.len() {
                    0 => Self::Monitor { monitor, actor },
                    bytes => return Err(PacketError::TrailingBytes { kind, bytes }),
                }
            }
            FrameKind::Terminated => {
                let monitor = body.get_u64_le();
                let code = known_code(kind, body.get_u16_le(), terminated_code_from_wire)?;
                Self::Terminated { monitor, reason: TerminatedReason { code, text: text_from(&body) } }
            }
            FrameKind::Goodbye => {
                let code = known_code(kind, body.get_u32_le(), CloseCode::from_code)?;
                Self::Goodbye { code, text: text_from(&body) }
            }
            FrameKind::Hello | FrameKind::Welcome | FrameKind::Reject => {
                return Err(PacketError::UnexpectedKind { kind: kind.code() });
            }
        })
    }

    /// Appends the packet to `buf` as one frame. For the packets without a payload; the others are encoded with less
    /// copying by [`begin`] and [`finish`].
    ///
    /// # Errors
    ///
    /// [`PacketError::TooLong`] when the frame would be longer than [`FRAME_BYTES_MAX`], which only a payload can cause.
    /// `buf` is then as it was before.
    pub fn encode_into(&self, buf: &mut BytesMut) -> Result<(), PacketError> {
        let start = buf.len();
        buf.put_slice(&frame_header(self.kind().code(), 0, 0));
        match self {
            Self::Tell { actor, message, payload } => {
                PacketHead::Tell { actor: *actor, message: *message }.put_fields(buf);
                buf.put_slice(payload);
            }
            Self::Ask { actor, message, ask, deadline_ms, payload } => {
                let (actor, message, ask, deadline_ms) = (*actor, *message, *ask, *deadline_ms);
                PacketHead::Ask { actor, message, ask, deadline_ms }.put_fields(buf);
                buf.put_slice(payload);
            }
            Self::Reply { ask, payload } => {
                PacketHead::Reply { ask: *ask }.put_fields(buf);
                buf.put_slice(payload);
            }
            Self::Failure { ask, code, text } => {
                buf.put_u64_le(*ask);
                buf.put_u16_le(code.code());
                buf.put_slice(cut(text).as_bytes());
            }
            Self::Monitor { monitor, actor } => {
                buf.put_u64_le(*monitor);
                buf.put_u32_le(*actor);
            }
            Self::Terminated { monitor, reason } => {
                buf.put_u64_le(*monitor);
                buf.put_u16_le(reason.code.code());
                buf.put_slice(cut(&reason.text).as_bytes());
            }
            Self::Goodbye { code, text } => {
                buf.put_u32_le(code.code());
                buf.put_slice(cut(text).as_bytes());
            }
        }
        finish_at(buf, start).inspect_err(|_| buf.truncate(start))
    }

    /// The packet as one frame of its own; see [`encode_into`](Self::encode_into).
    ///
    /// # Errors
    ///
    /// As [`encode_into`](Self::encode_into).
    pub fn encode(&self) -> Result<Bytes, PacketError> {
        let mut buf = BytesMut::new();
        self.encode_into(&mut buf)?;
        Ok(buf.freeze())
    }
}

/// `text` cut to [`TEXT_BYTES_MAX`] at a character boundary.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// A text from the wire: cut, and with what is no UTF-8 replaced. It is for people, so damage is shown, not punished.
fn text_from(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    cut(&String::from_utf8_lossy(bytes)).to_owned()
}

/// The length of a kind's fixed fields, in bytes.
const fn fields_bytes(kind: FrameKind) -> usize {
    match kind {
        FrameKind::Tell => 4 + 2,
        FrameKind::Ask => 4 + 2 + 8 + 4,
        FrameKind::Reply => 8,
        FrameKind::Failure | FrameKind::Terminated => 8 + 2,
        FrameKind::Monitor => 8 + 4,
        FrameKind::Goodbye => 4,
        FrameKind::Hello | FrameKind::Welcome | FrameKind::Reject => 0,
    }
}

/// Makes sure that reading the fixed fields cannot panic.
fn require_fields(kind: FrameKind, bytes: &impl Buf) -> Result<(), PacketError> {
    match bytes.remaining() < fields_bytes(kind) {
        true => Err(PacketError::Truncated { kind }),
        false => Ok(()),
    }
}

fn known_code<N: Copy + Into<u32>, C>(kind: FrameKind, number: N, from: impl Fn(N) -> Option<C>) -> Result<C, PacketError> {
    from(number).ok_or(PacketError::UnknownCode { kind, code: number.into() })
}

/// A lost link is something that each side sees for itself; a peer cannot report it.
fn terminated_code_from_wire(number: u16) -> Option<TerminatedCode> {
    TerminatedCode::from_code(number).filter(|&code| code != TerminatedCode::LinkLost)
}

/// Completes the frame that starts at `start` and goes to the end of `buf`.
fn finish_at(buf: &mut BytesMut, start: usize) -> Result<(), PacketError> {
    let bytes = buf.len() - start;
    let body_bytes = bytes.checked_sub(HEADER_BYTES).filter(|_| bytes <= FRAME_BYTES_MAX);
    let body_bytes = body_bytes.ok_or(PacketError::TooLong { bytes })? as u32;
    buf[start..start + 4].copy_from_slice(&body_bytes.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
