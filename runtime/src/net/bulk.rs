//! Long payloads: one unidirectional stream each, beside the control stream.
//!
//! A bulk stream is `payload length u64 | BLAKE3 of the payload | head length u16 | head | payload`, where the head is
//! the same that an inline message has in its frame. Nothing about it is on the control stream, so that neither can
//! dangle without the other. Bulk overtakes and is overtaken by control messages: whoever needs an order waits for
//! acknowledgements.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Semaphore, mpsc};

use super::{
    gate::Gate,
    link::{Deliver, Link},
    tls::{SEND_WINDOW, STREAM_RECEIVE_WINDOW},
};
use crate::proto::packet::{CloseCode, HEAD_BYTES_MAX, PacketHead};

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// How many long messages may wait for their streams on one link. Beyond it senders are told that the link is full.
pub const QUEUED_MAX: usize = 1024;

/// How many bytes of long messages may wait for their streams on one link, in bytes. One more may be added as long as it is
/// not reached, so that the longest passes too. Smaller costs links whose engines all get long arguments at once.
pub const QUEUED_BYTES_MAX: usize = 512 << 20;

/// How many bytes of bulk may be under way from one side, in bytes. Below the connection's send window by what control needs,
/// so that bulk can never stall control: one stream has at most its receive window under way.
const IN_FLIGHT_BYTES: u32 = 24 << 20;

const _: () = assert!(IN_FLIGHT_BYTES as u64 + STREAM_RECEIVE_WINDOW as u64 <= SEND_WINDOW);

/// Bulk yields to control.
const PRIORITY: i32 = -1;

/// How much is written or read at once: a compromise between system calls and the node thread's attention.
const CHUNK_BYTES: usize = 256 << 10;

/// How long a stream may be silent before its receiver gives up, and with it the link.
const SILENCE_MAX: Duration = Duration::from_secs(30);

const PREFIX_BYTES: usize = 8 + 32 + 2;

/// A message to be sent as bulk.
pub(crate) struct BulkOut {
    head: PacketHead,
    payload: Bytes,
    _queued: Queued,
}

impl BulkOut {
    /// A message that counts as queued, in `queued`, until the peer has it or it is dropped.
    pub fn new(head: PacketHead, payload: Bytes, queued: Arc<AtomicUsize>) -> Self {
        let bytes = payload.len();
        queued.fetch_add(bytes, Ordering::Relaxed);
        Self { head, payload, _queued: Queued { queued, bytes } }
    }
}

struct Queued {
    queued: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Sends what is queued until the link ends.
pub(crate) async fn send_all(connection: quinn::Connection, mut queue: mpsc::Receiver<BulkOut>) {
    let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_BYTES as usize));
    loop {
        let message = tokio::select! {
            message = queue.recv() => message,
            _ = connection.closed() => return,
        };
        let Some(message) = message else { return };
        let bytes = u32::try_from(message.payload.len()).unwrap_or(u32::MAX).min(STREAM_RECEIVE_WINDOW);
        // The semaphore is never closed.
        let Ok(permit) = in_flight.clone().acquire_many_owned(bytes).await else { return };
        let connection = connection.clone();
        tokio::task::spawn_local(async move {
            // An error means that the link is down; whoever waits for an answer learns it from the link.
            let _ = send_one(&connection, message).await;
            drop(permit);
        });
    }
}

async fn send_one(connection: &quinn::Connection, message: BulkOut) -> Result<(), quinn::WriteError> {
    let BulkOut { head, payload, _queued } = message;
    let mut stream = ResetOnDrop(Some(connection.open_uni().await?));
    // Hashing a long payload takes milliseconds, which the node thread does not have.
    let hashed = payload.clone();
    let Ok(hash) = tokio::task::spawn_blocking(move || blake3::hash(&hashed)).await else { return Ok(()) };
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES + HEAD_BYTES_MAX);
    let mut head_bytes = BytesMut::with_capacity(HEAD_BYTES_MAX);
    head.encode_into(&mut head_bytes);
    prefix.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    prefix.extend_from_slice(hash.as_bytes());
    prefix.extend_from_slice(&(head_bytes.len() as u16).to_le_bytes());
    prefix.extend_from_slice(&head_bytes);
    let Some(open) = stream.0.as_mut() else { return Ok(()) };
    let _ = open.set_priority(PRIORITY);
    open.write_chunk(prefix.freeze()).await?;
    let mut rest = payload;
    while !rest.is_empty() {
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        open.write_chunk(chunk).await?;
    }
    if let Some(mut done) = stream.0.take() {
        let _ = done.finish();
        // Its place is free only when the peer has it all.
        let _ = done.stopped().await;
    }
    Ok(())
}

/// Dropping a send stream would *finish* it, and the peer would take a part for the whole.
struct ResetOnDrop(Option<quinn::SendStream>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(mut stream) = self.0.take() {
            let _ = stream.reset(quinn::VarInt::from_u32(CloseCode::Internal.code()));
        }
    }
}

/// Takes the peer's bulk streams until the link ends. How many are open at once, the transport bounds.
pub(crate) async fn receive_all(link: Link, gate: Gate, deliver: Rc<dyn Deliver>) {
    while let Some(stream) = link.accept_bulk().await {
        let (link, gate, deliver) = (link.clone(), gate.clone(), deliver.clone());
        tokio::task::spawn_local(async move {
            match tokio::time::timeout(SILENCE_MAX, read_prefix(&link, stream)).await {
                Ok(Ok((incoming, _))) if !link.takes(deliver.as_ref(), &incoming.head) => {}
                Ok(Ok((incoming, stream))) => receive_one(&link, &gate, deliver.as_ref(), incoming, stream).await,
                Ok(Err(text)) => link.broken_bulk(&text),
                Err(_) => link.broken_bulk("a bulk stream stayed silent"),
            }
        });
    }
}

struct Incoming {
    head: PacketHead,
    bytes: usize,
    hash: blake3::Hash,
}

async fn read_prefix(link: &Link, mut stream: quinn::RecvStream) -> Result<(Incoming, quinn::RecvStream), String> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await.map_err(|error| error.to_string())?;
    let (length, rest) = prefix.split_at(8);
    let (hash, head_length) = rest.split_at(32);
    // The slices have these very lengths.
    let bytes = u64::from_le_bytes(length.try_into().unwrap_or_default());
    let hash: [u8; 32] = hash.try_into().unwrap_or_default();
    let head_bytes = usize::from(u16::from_le_bytes(head_length.try_into().unwrap_or_default()));
    let Some(bytes) = usize::try_from(bytes).ok().filter(|bytes| *bytes <= MESSAGE_BYTES_MAX) else {
        return Err(format!("a bulk message of {bytes} bytes from {} is longer than {MESSAGE_BYTES_MAX}", link.peer().name));
    };
    if head_bytes > HEAD_BYTES_MAX {
        return Err("a bulk message has a head of impossible length".into());
    }
    let mut head = [0; HEAD_BYTES_MAX];
    stream.read_exact(&mut head[..head_bytes]).await.map_err(|error| error.to_string())?;
    let (head, _) = PacketHead::parse(&head[..head_bytes]).map_err(|error| error.to_string())?;
    Ok((Incoming { head, bytes, hash: blake3::Hash::from_bytes(hash) }, stream))
}

async fn receive_one(link: &Link, gate: &Gate, deliver: &dyn Deliver, incoming: Incoming, mut stream: quinn::RecvStream) {
    // Not read before there is room for it: flow control holds the sender back meanwhile.
    let permit = tokio::select! {
        permit = gate.enter(incoming.bytes) => permit,
        () = link.closed() => return,
    };
    // Grows with what has arrived, never with what was announced.
    let mut payload = Vec::new();
    loop {
        match tokio::time::timeout(SILENCE_MAX, stream.read_chunk(CHUNK_BYTES, true)).await {
            Ok(Ok(Some(chunk))) if payload.len() + chunk.bytes.len() <= incoming.bytes => payload.extend_from_slice(&chunk.bytes),
            Ok(Ok(Some(_))) => return link.broken_bulk("a bulk message is longer than it said"),
            Ok(Ok(None)) => break,
            // The sender gave it up, or the link is down.
            Ok(Err(_)) => return,
            Err(_) => return link.broken_bulk("a bulk stream stayed silent"),
        }
    }
    if payload.len() != incoming.bytes {
        return link.broken_bulk("a bulk message is shorter than it said");
    }
    let checked = tokio::task::spawn_blocking(move || {
        let hash = blake3::hash(&payload);
        (hash, Bytes::from(payload))
    });
    match checked.await {
        Ok((hash, payload)) if hash == incoming.hash => link.deliver(deliver, incoming.head, payload, permit),
        Ok(_) => link.broken_bulk("a bulk message does not have the hash that it said"),
        // The node is shutting down.
        Err(_) => {}
    }
}

impl Link {
    fn broken_bulk(&self, text: &str) {
        if self.is_up() {
            tracing::warn!(peer = %self.peer().name, "a peer broke the protocol: {text}");
            self.close(CloseCode::ProtocolViolation, text);
        }
    }
}
