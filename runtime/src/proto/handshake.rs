//! The handshake: the first frames of a link, before which nothing else is understood.
//!
//! The dialler sends `Hello`; the acceptor answers `Welcome` and the link is up, or `Reject` and it is over. The bodies
//! are MessagePack maps, so that a later version can add fields that this one skips. Who a node *is* stands in its
//! certificate and nowhere here.
//!
//! ```text
//! dialler                              acceptor
//!   Dial::start(hello) ── Hello ──▶ accept(hello, frame, admit)
//!   Dial::on_frame(frame) ◀─ Welcome │ Reject ──
//! ```

use std::fmt;

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};

use crate::proto::{
    frame::{BODY_BYTES_MAX, FRAME_BYTES_MAX, Frame, FrameKind, HEADER_BYTES, frame_header},
    packet::cut,
};

pub use crate::proto::codes::RejectCode;

/// The protocol versions that this code speaks: the lowest and the highest.
pub const PROTOCOL_VERSIONS: (u16, u16) = (2, 2);

/// The most messages a node may accept, in a `Hello` or `Welcome`. Far more than a program has; it bounds what a peer can
/// make us keep per link.
pub const MESSAGES_MAX: usize = 1024;

/// The longest name of a message, and the longest build id, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The least that a node may accept as its longest frame, in bytes. Below it not even the heads and texts of the
/// protocol itself would pass.
pub const FRAME_BYTES_MIN: usize = 4 * 1024;

/// A random number that separates two lives of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(u128);

impl Incarnation {
    /// The incarnation of a number, which must be random.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

/// What a node is able to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest frame, header included, in bytes.
    pub frame_bytes_max: u32,
    /// The longest payload of one message, in a frame or as bulk, in bytes.
    pub message_bytes_max: u64,
}

/// What a node says of itself to open a link. The same data serve both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest protocol version that it speaks.
    pub protocol_min: u16,
    /// The highest protocol version that it speaks.
    pub protocol_max: u16,
    /// Optional abilities, one bit each. Those of both sides are used.
    pub features: u64,
    /// This life of the node.
    pub incarnation: Incarnation,
    /// What was built, for people and logs.
    #[serde(deserialize_with = "short_text")]
    pub build_id: String,
    /// The names and versions of the messages that it takes. A message's place is the index that the wire carries.
    #[serde(deserialize_with = "message_names")]
    pub accepts: Vec<(String, u16)>,
    /// What it is able to receive.
    pub limits: Limits,
}

/// The outcome of a successful handshake, seen from one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The protocol version of the link.
    pub protocol: u16,
    /// The features that both sides have.
    pub features: u64,
    /// The peer's life.
    pub incarnation: Incarnation,
    /// What the peer was built from, for people and logs.
    pub build_id: String,
    /// The messages that the peer takes.
    pub messages: MessageTable,
    /// What the peer is able to receive. Its frame limit is never above [`FRAME_BYTES_MAX`].
    pub limits: Limits,
}

/// The messages that a peer takes, and the index of each on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageTable {
    /// Sorted by name and version.
    entries: Vec<(String, u16, u16)>,
}

impl MessageTable {
    /// The table of what a peer accepts.
    ///
    /// # Errors
    ///
    /// When a name is empty, too long or listed twice in one version, or there are more than [`MESSAGES_MAX`].
    pub fn new(accepts: &[(String, u16)]) -> Result<Self, HandshakeError> {
        if accepts.len() > MESSAGES_MAX {
            return Err(HandshakeError::TooManyMessages);
        }
        if let Some((name, _)) = accepts.iter().find(|(name, _)| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            return Err(HandshakeError::MessageName { bytes: name.len() });
        }
        // Indices fit: there are at most `MESSAGES_MAX`.
        let mut entries: Vec<_> = (0..).zip(accepts).map(|(index, (name, version))| (name.clone(), *version, index)).collect();
        entries.sort_unstable();
        let twice = entries.windows(2).find(|pair| (&pair[0].0, pair[0].1) == (&pair[1].0, pair[1].1));
        match twice {
            Some(pair) => Err(HandshakeError::DuplicateMessage { name: pair[0].0.clone(), version: pair[0].1 }),
            None => Ok(Self { entries }),
        }
    }

    /// The index under which the peer takes that message, if it does.
    pub fn index(&self, name: &str, version: u16) -> Option<u16> {
        let found = self.entries.binary_search_by(|(n, v, _)| (n.as_str(), *v).cmp(&(name, version)));
        found.ok().map(|place| self.entries[place].2)
    }

    /// How many messages the peer takes.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the peer takes no message at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Why a link was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer refused, and said why.
    #[error("the peer refused the link: {code}{}{text}", if text.is_empty() { "" } else { ": " })]
    Rejected {
        /// The kind of reason.
        code: RejectCode,
        /// The peer's words.
        text: String,
    },
    /// This side refused, by its own policy.
    #[error("the link was refused: {}{}{}", reject.code, if reject.text.is_empty() { "" } else { ": " }, reject.text)]
    Refused {
        /// What the peer is told.
        reject: Reject,
    },
    /// The peer sent something else than the handshake calls for.
    #[error("the peer sent a {got:?} frame where {expected} was due")]
    UnexpectedFrame {
        /// What was due.
        expected: &'static str,
        /// What came.
        got: FrameKind,
    },
    /// A handshake frame cannot be decoded.
    #[error("the peer's {kind:?} is malformed: {text}")]
    Malformed {
        /// What it should be.
        kind: FrameKind,
        /// What is wrong with it.
        text: String,
    },
    /// The version ranges do not meet.
    #[error(
        "no common protocol version: this node speaks {}–{}, the peer {}–{}; update the older of the two",
        ours.0, ours.1, theirs.0, theirs.1
    )]
    NoCommonVersion {
        /// The lowest and highest version that this node speaks.
        ours: (u16, u16),
        /// The lowest and highest version that the peer speaks.
        theirs: (u16, u16),
    },
    /// A node lists more messages than allowed.
    #[error("a node lists more than {MESSAGES_MAX} messages")]
    TooManyMessages,
    /// A message's name is empty or too long.
    #[error("a message's name has {bytes} bytes; it needs 1 to {NAME_BYTES_MAX}")]
    MessageName {
        /// Its length.
        bytes: usize,
    },
    /// A node lists a message twice.
    #[error("the message {name} version {version} is listed twice")]
    DuplicateMessage {
        /// Its name.
        name: String,
        /// Its version.
        version: u16,
    },
    /// A node accepts less than the protocol itself needs.
    #[error("a node accepts frames of at most {frame_bytes_max} bytes; at least {FRAME_BYTES_MIN} are needed")]
    FrameLimit {
        /// What it accepts.
        frame_bytes_max: u32,
    },
    /// What this node has to say does not fit a frame.
    #[error("this node's list of messages does not fit a frame: {bytes} bytes of at most {BODY_BYTES_MAX}; shorten the names")]
    TooLong {
        /// The length of the frame's body.
        bytes: usize,
    },
}

impl HandshakeError {
    /// Whether dialling again later can succeed without anybody changing a configuration or a program.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Rejected { code, .. } if code.is_retryable())
    }
}

/// A refusal, as it travels to the dialler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The kind of reason.
    pub code: RejectCode,
    /// More about it, for people. Cut to [`TEXT_BYTES_MAX`](crate::proto::packet::TEXT_BYTES_MAX) when sent.
    pub text: String,
}

impl Reject {
    /// A refusal for that reason.
    pub fn new(code: RejectCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// The refusal as a frame.
    pub fn encode(&self) -> Bytes {
        let body = RejectBody { code: self.code.code(), text: cut(&self.text).to_owned() };
        // Cannot be too long, since the text is cut; and there is nothing in it that cannot be encoded.
        encode(FrameKind::Reject, &body).unwrap_or_default()
    }
}

/// The dialler's side: what it waits for after its `Hello`.
#[derive(Clone, Debug)]
pub struct Dial {
    hello: Hello,
}

impl Dial {
    /// Starts a handshake. The bytes are the first to be sent on the control stream.
    ///
    /// # Errors
    ///
    /// When `hello` breaks a bound, which only a change of the program can heal.
    pub fn start(hello: Hello) -> Result<(Bytes, Self), HandshakeError> {
        hello.check()?;
        let frame = encode(FrameKind::Hello, &hello)?;
        Ok((frame, Self { hello }))
    }

    /// Understands the acceptor's answer, the first frame from the peer. The link is up when this succeeds.
    ///
    /// # Errors
    ///
    /// [`HandshakeError::Rejected`] when the peer refused; anything else is a violation of the protocol.
    pub fn on_frame(self, frame: Frame) -> Result<Agreed, HandshakeError> {
        match frame.kind {
            FrameKind::Welcome => {}
            FrameKind::Reject => return Err(rejected(&frame)),
            got => return Err(HandshakeError::UnexpectedFrame { expected: "Welcome or Reject", got }),
        }
        let welcome: Welcome = decode(&frame)?;
        let ours = (self.hello.protocol_min, self.hello.protocol_max);
        if !(ours.0..=ours.1).contains(&welcome.protocol) {
            return Err(HandshakeError::NoCommonVersion { ours, theirs: (welcome.protocol, welcome.protocol) });
        }
        let (protocol, features) = (welcome.protocol, welcome.features & self.hello.features);
        let Welcome { incarnation, build_id, accepts, limits, .. } = welcome;
        agreed(protocol, features, incarnation, build_id, &accepts, limits)
    }
}

/// The acceptor's side: answers the first frame of a link. `admit` is the node's own policy about who may connect; it sees
/// what the peer says, and knows from the certificate who the peer is.
///
/// On success the bytes are the `Welcome` to send, and the link is up.
///
/// # Errors
///
/// When the frame is no proper `Hello`, no version is common or `admit` refuses: the [`Refusal`] has the `Reject` to send
/// before the connection is closed.
pub fn accept(
    local: &Hello,
    frame: &Frame,
    admit: impl FnOnce(&Hello) -> Result<(), Reject>,
) -> Result<(Bytes, Agreed), Box<Refusal>> {
    let refuse = |error: HandshakeError| Box::new(Refusal { frame: reject_of(&error).encode(), error });
    if frame.kind != FrameKind::Hello {
        return Err(refuse(HandshakeError::UnexpectedFrame { expected: "Hello", got: frame.kind }));
    }
    let (hello, protocol) = decode_hello((local.protocol_min, local.protocol_max), frame).map_err(refuse)?;
    admit(&hello).map_err(|reject| refuse(HandshakeError::Refused { reject }))?;
    let features = local.features & hello.features;
    let welcome = Welcome {
        protocol,
        features,
        incarnation: local.incarnation,
        build_id: local.build_id.clone(),
        accepts: local.accepts.clone(),
        limits: local.limits,
    };
    let reply = local.check().and_then(|()| encode(FrameKind::Welcome, &welcome)).map_err(refuse)?;
    let Hello { incarnation, build_id, accepts, limits, .. } = hello;
    let agreed = agreed(protocol, features, incarnation, build_id, &accepts, limits).map_err(refuse)?;
    Ok((reply, agreed))
}

/// An acceptor's refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// The `Reject` to send.
    pub frame: Bytes,
    /// Why, for this side's log.
    pub error: HandshakeError,
}

impl Hello {
    /// Checks what this node says of itself, best when it starts: every later handshake says the same.
    ///
    /// # Errors
    ///
    /// When a bound is broken or the frame would be too long.
    pub fn check(&self) -> Result<(), HandshakeError> {
        MessageTable::new(&self.accepts)?;
        check_limits(self.limits)?;
        encode(FrameKind::Hello, self).map(drop)
    }
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    protocol: u16,
    features: u64,
    incarnation: Incarnation,
    #[serde(deserialize_with = "short_text")]
    build_id: String,
    #[serde(deserialize_with = "message_names")]
    accepts: Vec<(String, u16)>,
    limits: Limits,
}

/// Kept to numbers and text, and readable in every version: it is what peers that have no version in common exchange.
#[derive(Serialize, Deserialize)]
struct RejectBody {
    code: u16,
    text: String,
}

fn agreed(
    protocol: u16,
    features: u64,
    incarnation: Incarnation,
    build_id: String,
    accepts: &[(String, u16)],
    mut limits: Limits,
) -> Result<Agreed, HandshakeError> {
    check_limits(limits)?;
    limits.frame_bytes_max = limits.frame_bytes_max.min(FRAME_BYTES_MAX as u32);
    Ok(Agreed { protocol, features, incarnation, build_id, messages: MessageTable::new(accepts)?, limits })
}

fn check_limits(limits: Limits) -> Result<(), HandshakeError> {
    let frame_bytes_max = limits.frame_bytes_max;
    match (frame_bytes_max as usize) < FRAME_BYTES_MIN {
        true => Err(HandshakeError::FrameLimit { frame_bytes_max }),
        false => Ok(()),
    }
}

/// The highest version that both sides speak.
fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Result<u16, HandshakeError> {
    let (lowest, highest) = (ours.0.max(theirs.0), ours.1.min(theirs.1));
    match lowest <= highest {
        true => Ok(highest),
        false => Err(HandshakeError::NoCommonVersion { ours, theirs }),
    }
}

/// The `Hello` in a frame, and the version to speak. A peer of a version that we don't speak may write what else it likes:
/// the versions are looked at first, so that it is told about them rather than about its fields.
fn decode_hello(ours: (u16, u16), frame: &Frame) -> Result<(Hello, u16), HandshakeError> {
    #[derive(Deserialize)]
    struct Versions {
        protocol_min: u16,
        protocol_max: u16,
    }
    let theirs: Versions = decode(frame)?;
    let protocol = common_version(ours, (theirs.protocol_min, theirs.protocol_max))?;
    Ok((decode(frame)?, protocol))
}

fn rejected(frame: &Frame) -> HandshakeError {
    match decode::<RejectBody>(frame) {
        Ok(body) => {
            HandshakeError::Rejected { code: RejectCode::from_code_or_other(body.code), text: cut(&body.text).to_owned() }
        }
        Err(error) => error,
    }
}

/// What the peer is told when this side fails with `error`.
fn reject_of(error: &HandshakeError) -> Reject {
    match error {
        HandshakeError::Refused { reject } => reject.clone(),
        HandshakeError::NoCommonVersion { ours, theirs } => {
            let text = format!("this node speaks {}–{}, you speak {}–{}", ours.0, ours.1, theirs.0, theirs.1);
            Reject::new(RejectCode::Version, text)
        }
        // What is wrong with this node is not the peer's fault.
        HandshakeError::TooLong { .. } => Reject::new(RejectCode::Other, error.to_string()),
        _ => Reject::new(RejectCode::BadHello, error.to_string()),
    }
}

fn encode(kind: FrameKind, body: &impl Serialize) -> Result<Bytes, HandshakeError> {
    let mut bytes = vec![0; HEADER_BYTES];
    // Writing plain structs to memory cannot fail; if it ever does, the peer gets a frame that is too short and says so.
    let _ = rmp_serde::encode::write_named(&mut bytes, body);
    let body_bytes = bytes.len() - HEADER_BYTES;
    if body_bytes > BODY_BYTES_MAX {
        return Err(HandshakeError::TooLong { bytes: body_bytes });
    }
    bytes[..HEADER_BYTES].copy_from_slice(&frame_header(kind.code(), 0, body_bytes));
    Ok(bytes.into())
}

fn decode<T: DeserializeOwned>(frame: &Frame) -> Result<T, HandshakeError> {
    // A handshake nests three levels; what nests deeper is an attempt on the stack.
    const DEPTH_MAX: usize = 16;
    let mut input = rmp_serde::Deserializer::from_read_ref(&frame.body[..]);
    input.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut input)
        .map_err(|error| HandshakeError::Malformed { kind: frame.kind, text: cut(&error.to_string()).to_owned() })
}

fn short_text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let text = String::deserialize(input)?;
    match text.len() {
        0..=NAME_BYTES_MAX => Ok(text),
        bytes => Err(D::Error::custom(format_args!("a text has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed"))),
    }
}

/// Reads a list of message names without ever holding more than [`MESSAGES_MAX`].
fn message_names<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<(String, u16)>, D::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<(String, u16)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of names and versions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some((name, version)) = seq.next_element::<(String, u16)>()? {
                if names.len() == MESSAGES_MAX {
                    return Err(A::Error::custom(HandshakeError::TooManyMessages));
                }
                if name.is_empty() || name.len() > NAME_BYTES_MAX {
                    return Err(A::Error::custom(HandshakeError::MessageName { bytes: name.len() }));
                }
                names.push((name, version));
            }
            Ok(names)
        }
    }

    input.deserialize_seq(Names)
}

#[cfg(test)]
mod tests;
