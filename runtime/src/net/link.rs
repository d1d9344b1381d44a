//! A link: one QUIC connection to one peer, after the handshake.
//!
//! One task owns each half of the control stream. The writer takes all that is queued and writes it at once; the reader
//! hands messages to actors and never waits for one. Long payloads travel beside it, see [`super::bulk`].

mod control;
mod errors;
mod waiting;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use tokio::sync::mpsc;

pub use self::errors::{AskError, SendError};
pub(crate) use self::waiting::PendingAsk;
use self::{
    control::{describe_end, read_control, write_control},
    waiting::{NotTaken, PendingMonitor, Waiting, link_lost},
};
use super::{
    bulk::{self, BulkOut},
    certificate::Serial,
    gate::{Gate, Permit},
    identity::{NodeName, Role},
};
use crate::proto::{
    frame::{Decoder, FRAME_BYTES_MAX},
    handshake::{Incarnation, MessageTable},
    packet::{AskCode, CloseCode, Packet, PacketHead, TerminatedCode, TerminatedReason, begin, finish},
    payload::{LENT_BYTES_MIN, Rope},
};

/// How many frames may wait for the writer. Beyond it the peer reads too slowly and senders are told so.
pub const QUEUED_FRAMES_MAX: usize = 65_536;

/// How many bytes of frames may wait for the writer.
pub const QUEUED_BYTES_MAX: usize = 64 << 20;

/// How long a frame waits for another one to travel with, when nobody would notice. Each packet costs its sender and its receiver tens of
/// microseconds, and an acknowledgement alone in one delays what is urgent.
pub const SOON: Duration = Duration::from_millis(1);

/// No frame waits longer than this for another one, whatever it may.
pub const WITHIN_MAX: Duration = Duration::from_secs(60);

/// How many asks of one link may wait for their answers.
pub const ASKS_MAX: usize = 65_536;

/// Payloads above this many bytes travel as bulk: a frame holds 64 KiB, and long frames delay short ones.
pub const INLINE_BYTES_MAX: usize = 32 << 10;

/// How many actors' ends the peer of one link may wait for. More than a node has engines; beyond it the peer is refused, so
/// that none can use up what an actor has for all.
pub const MONITORS_MAX: usize = 8192;

/// Who is on the other side of a link.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Cluster, role and name, as its certificate states them.
    pub name: NodeName,
    /// Whether its certificate makes it an admin, who may see to what other clients own.
    pub admin: bool,
    /// The number of its certificate.
    pub serial: Serial,
    /// Tells two lives of one node apart.
    pub incarnation: Incarnation,
    /// Where it is reached now.
    pub address: SocketAddr,
    /// What it was built from; for people, not for decisions.
    pub build_id: String,
}

/// A handle of a link; clones are the same link.
#[derive(Clone)]
pub struct Link(Arc<Inner>);

struct Inner {
    id: u64,
    peer: Peer,
    connection: quinn::Connection,
    accepts: MessageTable,
    control: mpsc::Sender<Queued>,
    queued_bytes: AtomicUsize,
    bulk: mpsc::Sender<BulkOut>,
    /// What of bulk has not reached the peer.
    queued_bulk: Arc<AtomicUsize>,
    waiting: Waiting,
    /// How many actors' ends the peer waits for.
    monitored: AtomicUsize,
    next: AtomicU64,
    /// Why it ended, once it has.
    ended: OnceLock<String>,
}

/// When a frame leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// At once.
    Now,
    /// With the next one that leaves at once, or when it has waited for so long. It keeps its place among the others.
    Within(Duration),
}

/// A frame that waits for the writer.
struct Queued {
    frame: Bytes,
    urgency: Urgency,
}

/// A message as it comes off a link.
pub(crate) struct Inbound {
    pub actor: u32,
    /// The number to answer under, if it was asked.
    pub ask: Option<u64>,
    pub payload: Bytes,
    pub link: Link,
    pub permit: Permit,
}

/// Why a message was not delivered.
pub(crate) type Refusal = (AskCode, String);

/// What a link delivers to. The layer above implements it, so that this one knows nothing of actors.
pub(crate) trait Deliver {
    /// Whether peers of that role may send that message at all.
    fn check(&self, message: u16, role: Role) -> Result<(), Refusal>;
    fn message(&self, message: u16, inbound: Inbound) -> Result<(), Refusal>;
    fn monitor(&self, actor: u32) -> LocalBoxFuture<'static, TerminatedReason>;
}

impl Link {
    /// Starts the tasks of a link on this thread's `LocalSet`. The last of them to end calls `on_end`, once.
    pub(crate) fn start(
        id: u64,
        peer: Peer,
        accepts: MessageTable,
        streams: Streams,
        deliver: std::rc::Rc<dyn Deliver>,
        on_end: impl FnOnce(&Link, &str) + 'static,
    ) -> Link {
        let (control, control_queue) = mpsc::channel(QUEUED_FRAMES_MAX);
        let (bulk, bulk_queue) = mpsc::channel(bulk::QUEUED_MAX);
        let Streams { connection, send, receive, decoder } = streams;
        let link = Link(Arc::new(Inner {
            id,
            peer,
            connection,
            accepts,
            control,
            queued_bytes: AtomicUsize::new(0),
            bulk,
            queued_bulk: Arc::default(),
            waiting: Waiting::default(),
            monitored: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            ended: OnceLock::new(),
        }));
        let gate = Gate::default();
        tokio::task::spawn_local(write_control(link.clone(), send, control_queue));
        tokio::task::spawn_local(bulk::send_all(link.0.connection.clone(), bulk_queue));
        tokio::task::spawn_local(bulk::receive_all(link.clone(), gate.clone(), deliver.clone()));
        let reader = link.clone();
        tokio::task::spawn_local(async move {
            let reason = tokio::select! {
                reason = read_control(&reader, receive, decoder, gate, deliver) => reason,
                error = reader.0.connection.closed() => describe_end(&error),
            };
            reader.end(&reason);
            on_end(&reader, &reason);
        });
        link
    }

    /// A number of this link, unique within this node's life.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Who is on the other side.
    pub fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// Whether the link has not ended yet.
    pub fn is_up(&self) -> bool {
        self.0.ended.get().is_none()
    }

    /// Ends the link and tells the peer why.
    pub fn close(&self, code: CloseCode, text: &str) {
        // A second close would replace the reason of the first, also of one that came from the peer.
        if self.0.connection.close_reason().is_none() {
            self.0.connection.close(quinn::VarInt::from_u32(code.code()), text.as_bytes());
        }
    }

    /// The round trip to the peer as QUIC estimates it.
    pub fn round_trip(&self) -> Duration {
        self.0.connection.rtt()
    }

    /// Sends a message to an actor of the peer, without waiting for anything.
    pub(crate) fn tell(
        &self,
        actor: u32,
        name: &'static str,
        version: u16,
        message: &impl Serialize,
        urgency: Urgency,
    ) -> Result<(), SendError> {
        let index = self.index(name, version)?;
        self.send(PacketHead::Tell { actor, message: index }, message, urgency)
    }

    /// Sends a message and gives the future of its answer, which ends at the deadline at the latest.
    pub(crate) fn ask(
        &self,
        actor: u32,
        name: &'static str,
        version: u16,
        message: &impl Serialize,
        deadline: Duration,
    ) -> Result<PendingAsk, SendError> {
        let index = self.index(name, version)?;
        let ask = self.0.next.fetch_add(1, Ordering::Relaxed);
        let receiver = self.0.waiting.add_ask(ask).map_err(|error| match error {
            NotTaken::Full => self.full(),
            NotTaken::Ended => self.down(),
        })?;
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        let pending = PendingAsk { link: self.clone(), ask, receiver, deadline };
        self.send(PacketHead::Ask { actor, message: index, ask, deadline_ms }, message, Urgency::Now)?;
        Ok(pending)
    }

    /// A future that ends exactly once: when the peer's actor ends, or the link does.
    pub(crate) fn monitor(&self, actor: u32) -> impl Future<Output = TerminatedReason> + use<> {
        let monitor = self.0.next.fetch_add(1, Ordering::Relaxed);
        let pending = self.0.waiting.add_monitor(monitor).ok();
        let pending = pending.map(|receiver| PendingMonitor { link: self.clone(), monitor, receiver });
        let request = Packet::Monitor { monitor, actor }.encode();
        let pending = pending.filter(|_| request.is_ok_and(|frame| self.queue(frame, Urgency::Now).is_ok()));
        async move {
            match pending {
                Some(pending) => pending.ended().await,
                None => link_lost("the link is down, or takes nothing more"),
            }
        }
    }

    pub(crate) fn reply(&self, ask: u64, answer: &impl Serialize, urgency: Urgency) {
        let sent = self.send(PacketHead::Reply { ask }, answer, urgency);
        if let Err(error @ (SendError::Full { .. } | SendError::Encoding(_))) = sent {
            // It was executed all the same.
            self.refuse(ask, AskCode::ReplyTooLarge, &error.to_string());
        }
    }

    pub(crate) fn refuse(&self, ask: u64, code: AskCode, text: &str) {
        self.queue_packet(&Packet::Failure { ask, code, text: text.to_owned() });
    }

    /// Tells the peer that this node is about to go, so that it expects nothing new.
    pub(crate) fn say_goodbye(&self, code: CloseCode, text: &str) {
        self.queue_packet(&Packet::Goodbye { code, text: text.to_owned() });
    }

    /// Whether the peer has all that was sent as bulk.
    pub(crate) fn bulk_has_arrived(&self) -> bool {
        self.0.queued_bulk.load(Ordering::Relaxed) == 0
    }

    /// How many datagrams have been sent to the peer.
    pub fn datagrams_sent(&self) -> u64 {
        self.0.connection.stats().udp_tx.datagrams
    }

    /// How many datagrams have come from the peer: as long as they do, it is reading, or has something to say.
    pub(crate) fn datagrams_heard(&self) -> u64 {
        self.0.connection.stats().udp_rx.datagrams
    }

    /// Whether a message with that head is to be taken; if not, its sender is told. Asked before a long one is read.
    pub(crate) fn takes(&self, deliver: &dyn Deliver, head: &PacketHead) -> bool {
        let (message, ask) = match *head {
            PacketHead::Tell { message, .. } => (message, None),
            PacketHead::Ask { message, ask, .. } => (message, Some(ask)),
            PacketHead::Reply { ask } => return self.0.waiting.expects(ask),
        };
        let checked = deliver.check(message, self.peer().name.role);
        checked.map_err(|refusal| self.not_delivered(ask, refusal)).is_ok()
    }

    /// Delivers what came off the control stream or a bulk stream; an answer to an ask needs no actor.
    pub(crate) fn deliver(&self, deliver: &dyn Deliver, head: PacketHead, payload: Bytes, permit: Permit) {
        let (actor, message, ask) = match head {
            PacketHead::Tell { actor, message } => (actor, message, None),
            PacketHead::Ask { actor, message, ask, .. } => (actor, message, Some(ask)),
            PacketHead::Reply { ask } => return self.0.waiting.answered(ask, Ok(payload)),
        };
        // Bulk can be late. Whoever heard of the end of a link has cleaned up behind it.
        if !self.is_up() {
            return;
        }
        let inbound = Inbound { actor, ask, payload, link: self.clone(), permit };
        let role = self.peer().name.role;
        let delivered = deliver.check(message, role).and_then(|()| deliver.message(message, inbound));
        if let Err(refusal) = delivered {
            self.not_delivered(ask, refusal);
        }
    }

    fn not_delivered(&self, ask: Option<u64>, (code, text): Refusal) {
        tracing::debug!(peer = %self.peer().name, "a message was not delivered: {text}");
        match ask {
            Some(ask) => self.refuse(ask, code, &text),
            // A peer that sends what it may not, or what is no message, is broken or hostile.
            None if matches!(code, AskCode::NotAllowed | AskCode::UnknownMessage | AskCode::BadPayload) => {
                tracing::warn!(peer = %self.peer().name, "a peer broke the protocol: {text}");
                self.close(CloseCode::ProtocolViolation, &text);
            }
            None => {}
        }
    }

    /// Ends when the link does.
    pub(crate) async fn closed(&self) {
        self.0.connection.closed().await;
    }

    pub(crate) async fn accept_bulk(&self) -> Option<quinn::RecvStream> {
        self.0.connection.accept_uni().await.ok()
    }

    fn index(&self, name: &'static str, version: u16) -> Result<u16, SendError> {
        let peer = || self.peer().name.to_string();
        self.0.accepts.index(name, version).ok_or_else(|| SendError::NotAccepted { peer: peer(), name, version })
    }

    fn send(&self, head: PacketHead, message: &impl Serialize, urgency: Urgency) -> Result<(), SendError> {
        let mut frame = BytesMut::with_capacity(256);
        begin(&mut frame, &head);
        let body = head.payload_offset();
        let mut rope = Rope::after(frame);
        rope.encode(message).map_err(|error| SendError::Encoding(error.to_string()))?;
        if rope.len() - body <= INLINE_BYTES_MAX {
            // So short a message is all in one piece.
            let mut frame = std::mem::take(rope.gathered_mut());
            finish(&mut frame).map_err(|error| SendError::Encoding(error.to_string()))?;
            return self.queue(frame.freeze(), urgency);
        }
        let payload = rope.into_payload(body);
        if payload.len() > bulk::MESSAGE_BYTES_MAX {
            let text = format!("{} bytes are more than the {} that a message may have", payload.len(), bulk::MESSAGE_BYTES_MAX);
            return Err(SendError::Encoding(text));
        }
        if self.0.queued_bulk.load(Ordering::Relaxed) >= bulk::QUEUED_BYTES_MAX {
            return Err(self.full());
        }
        let bulk = BulkOut::new(head, payload, self.0.queued_bulk.clone());
        self.0.bulk.try_send(bulk).map_err(|error| self.send_error(&error))
    }

    fn queue(&self, frame: Bytes, urgency: Urgency) -> Result<(), SendError> {
        let bytes = frame.len();
        if self.0.queued_bytes.load(Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX {
            return Err(self.full());
        }
        self.0.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.0.control.try_send(Queued { frame, urgency }).map_err(|error| {
            self.0.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.send_error(&error)
        })
    }

    /// For packets that are part of no request: when they cannot be queued the link is stuck, and is ended.
    fn queue_packet(&self, packet: &Packet) {
        let queued = packet.encode().is_ok_and(|frame| !matches!(self.queue(frame, Urgency::Now), Err(SendError::Full { .. })));
        if !queued {
            self.close(CloseCode::Overrun, "the other side does not read");
        }
    }

    fn send_error<T>(&self, error: &mpsc::error::TrySendError<T>) -> SendError {
        match error {
            mpsc::error::TrySendError::Full(_) => self.full(),
            mpsc::error::TrySendError::Closed(_) => self.down(),
        }
    }

    fn full(&self) -> SendError {
        SendError::Full { peer: self.peer().name.to_string() }
    }

    fn down(&self) -> SendError {
        let reason = self.0.ended.get().cloned().unwrap_or_else(|| "it has ended".into());
        SendError::Down { peer: self.peer().name.to_string(), reason }
    }

    fn end(&self, reason: &str) {
        let _ = self.0.ended.set(reason.to_owned());
        self.close(CloseCode::Done, reason);
        self.0.waiting.end(reason);
    }

    /// Lets a message through the gate, or ends the link of a peer that ignores its windows.
    fn enter(&self, deliver: &dyn Deliver, gate: &Gate, head: PacketHead, payload: Bytes) -> Result<(), String> {
        let Some(permit) = gate.try_enter(payload.len()) else {
            self.close(CloseCode::Overrun, "more messages than this node's actors have taken");
            return Err("it sent more than its window".into());
        };
        self.deliver(deliver, head, payload, permit);
        Ok(())
    }

    fn packet(&self, deliver: &dyn Deliver, gate: &Gate, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::Tell { actor, message, payload } => {
                self.enter(deliver, gate, PacketHead::Tell { actor, message }, payload)?;
            }
            Packet::Ask { actor, message, ask, deadline_ms, payload } => {
                self.enter(deliver, gate, PacketHead::Ask { actor, message, ask, deadline_ms }, payload)?;
            }
            Packet::Reply { ask, payload } => self.0.waiting.answered(ask, Ok(payload)),
            Packet::Failure { ask, code, text } => self.0.waiting.answered(ask, Err(AskError::Refused { code, text })),
            Packet::Monitor { monitor, actor } => self.monitored(deliver, monitor, actor),
            Packet::Terminated { monitor, reason } => self.0.waiting.terminated(monitor, reason),
            Packet::Goodbye { text, .. } => return Err(format!("the other side said goodbye: {text}")),
        }
        Ok(())
    }

    /// Tells the peer when an actor of this node has ended.
    fn monitored(&self, deliver: &dyn Deliver, monitor: u64, actor: u32) {
        if self.0.monitored.load(Ordering::Relaxed) >= MONITORS_MAX {
            let reason = TerminatedReason::new(TerminatedCode::Refused, format!("a link has {MONITORS_MAX} monitors at most"));
            return self.queue_packet(&Packet::Terminated { monitor, reason });
        }
        self.0.monitored.fetch_add(1, Ordering::Relaxed);
        let (link, ended) = (self.clone(), deliver.monitor(actor));
        tokio::task::spawn_local(async move {
            let reason = tokio::select! {
                reason = ended => reason,
                () = link.closed() => return,
            };
            link.0.monitored.fetch_sub(1, Ordering::Relaxed);
            link.queue_packet(&Packet::Terminated { monitor, reason });
        });
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} to {})", self.0.id, self.0.peer.name)
    }
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A connection whose handshake is done.
pub(crate) struct Streams {
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
    /// It may hold frames that came right behind the handshake.
    pub decoder: Decoder,
}

// One frame's payload always fits a frame, so that only `send` decides between inline and bulk.
const _: () = assert!(INLINE_BYTES_MAX + 64 < FRAME_BYTES_MAX);
const _: () = assert!(INLINE_BYTES_MAX < LENT_BYTES_MIN);
