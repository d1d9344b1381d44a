//! Long payloads: one unidirectional stream each, beside the control stream.
//!
//! A bulk stream is `payload length u64 | head length u16 | head | payload | BLAKE3 of the payload`, where the head is
//! the same that an inline message has in its frame. The hash comes last, so that it is made while the payload is under way.
//! Nothing about it is on the control stream, so that neither can dangle without the other. Bulk overtakes and is overtaken by
//! control messages: whoever needs an order waits for acknowledgements.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use tokio::sync::{Semaphore, mpsc};

use super::{
    gate::Gate,
    link::{Deliver, Link},
    tls::{SEND_WINDOW, STREAM_RECEIVE_WINDOW},
};
use crate::proto::{
    long::LongBuffer,
    packet::{CloseCode, HEAD_BYTES_MAX, PacketHead},
    payload::Payload,
};

/// The longest message, in bytes: with what belongs to it, below the 1,000,000,000 bytes that a row of the store on disk may have.
pub const MESSAGE_BYTES_MAX: usize = 900 << 20;

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

/// A payload of at most so many bytes is hashed where it is; handing it to another thread would take longer.
const HASHED_HERE_BYTES_MAX: usize = 128 << 10;

/// How much is received before it is hashed, in bytes: enough for the hash function to use all of the processor's lanes, and
/// little enough to be in its cache still.
const HASH_BLOCK_BYTES: usize = 128 << 10;

const PREFIX_BYTES: usize = 8 + 2;

/// A message to be sent as bulk.
pub(crate) struct BulkOut {
    head: PacketHead,
    payload: Payload,
    _queued: Queued,
}

impl BulkOut {
    /// A message that counts as queued, in `queued`, until the peer has it or it is dropped.
    pub fn new(head: PacketHead, payload: Payload, queued: Arc<AtomicUsize>) -> Self {
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
    let mut prefix = BytesMut::with_capacity(PREFIX_BYTES + HEAD_BYTES_MAX);
    let mut head_bytes = BytesMut::with_capacity(HEAD_BYTES_MAX);
    head.encode_into(&mut head_bytes);
    prefix.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    prefix.extend_from_slice(&(head_bytes.len() as u16).to_le_bytes());
    prefix.extend_from_slice(&head_bytes);
    let Some(open) = stream.0.as_mut() else { return Ok(()) };
    let _ = open.set_priority(PRIORITY);
    open.write_chunk(prefix.freeze()).await?;
    let hash = start_hash(&payload);
    for mut rest in payload.into_chunks() {
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            open.write_chunk(chunk).await?;
        }
    }
    // The node is shutting down if it was not made.
    let Ok(hash) = hash.await else { return Ok(()) };
    open.write_chunk(Bytes::copy_from_slice(hash.as_bytes())).await?;
    if let Some(mut done) = stream.0.take() {
        let _ = done.finish();
        // Its place is free only when the peer has it all.
        let _ = done.stopped().await;
    }
    Ok(())
}

/// The hash of a payload, which is made from this call on. Hashing a long one takes milliseconds, which the node thread does not
/// have.
fn start_hash(payload: &Payload) -> impl Future<Output = Result<blake3::Hash, tokio::task::JoinError>> + use<> {
    let (payload, bytes) = (payload.clone(), payload.len());
    let hash = move || {
        let mut hasher = blake3::Hasher::new();
        for chunk in payload.chunks() {
            hasher.update(chunk);
        }
        hasher.finalize()
    };
    if bytes <= HASHED_HERE_BYTES_MAX {
        Either::Left(std::future::ready(Ok(hash())))
    } else {
        Either::Right(tokio::task::spawn_blocking(hash))
    }
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
}

async fn read_prefix(link: &Link, mut stream: quinn::RecvStream) -> Result<(Incoming, quinn::RecvStream), String> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await.map_err(|error| error.to_string())?;
    let (length, head_length) = prefix.split_at(8);
    // The slices have these very lengths.
    let bytes = u64::from_le_bytes(length.try_into().unwrap_or_default());
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
    Ok((Incoming { head, bytes }, stream))
}

async fn receive_one(link: &Link, gate: &Gate, deliver: &dyn Deliver, incoming: Incoming, mut stream: quinn::RecvStream) {
    // Not read before there is room for it: flow control holds the sender back meanwhile.
    let permit = tokio::select! {
        permit = gate.enter(incoming.bytes) => permit,
        () = link.closed() => return,
    };
    let Ok(payload) = LongBuffer::new(incoming.bytes) else {
        return link.close(CloseCode::Internal, "no address space for a long message");
    };
    let mut arriving = Arriving::new(payload);
    loop {
        match tokio::time::timeout(SILENCE_MAX, stream.read_chunk(CHUNK_BYTES, true)).await {
            Ok(Ok(Some(chunk))) => match arriving.push(&chunk.bytes) {
                Ok(Progress::Little) => {}
                // Others have the thread in between: as much as a stream's window may be here already.
                Ok(Progress::Block) => tokio::task::yield_now().await,
                Err(text) => return link.broken_bulk(text),
            },
            Ok(Ok(None)) => break,
            // The sender gave it up, or the link is down.
            Ok(Err(_)) => return,
            Err(_) => return link.broken_bulk("a bulk stream stayed silent"),
        }
    }
    match arriving.finish() {
        Ok(payload) => link.deliver(deliver, incoming.head, payload, permit),
        Err(text) => link.broken_bulk(text),
    }
}

/// A payload and its hash, as far as they have come.
struct Arriving {
    payload: LongBuffer,
    hasher: blake3::Hasher,
    /// How much of the payload has been hashed, in bytes.
    hashed: usize,
    hash: [u8; blake3::OUT_LEN],
    hash_bytes: usize,
}

/// How much work the last bytes made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// They were put where they belong.
    Little,
    /// With them a block was hashed.
    Block,
}

impl Arriving {
    fn new(payload: LongBuffer) -> Self {
        Self { payload, hasher: blake3::Hasher::new(), hashed: 0, hash: [0; blake3::OUT_LEN], hash_bytes: 0 }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Progress, &'static str> {
        let beyond = self.payload.push(bytes);
        let place = self.hash[self.hash_bytes..].get_mut(..beyond.len());
        place.ok_or("a bulk message is longer than it said")?.copy_from_slice(beyond);
        self.hash_bytes += beyond.len();
        let fresh = &self.payload.filled()[self.hashed..];
        if fresh.len() < HASH_BLOCK_BYTES {
            return Ok(Progress::Little);
        }
        self.hasher.update(fresh);
        self.hashed = self.payload.filled().len();
        Ok(Progress::Block)
    }

    /// The payload, if it is all there and is what was sent.
    fn finish(mut self) -> Result<Bytes, &'static str> {
        if self.payload.missing() > 0 || self.hash_bytes < self.hash.len() {
            return Err("a bulk message is shorter than it said");
        }
        self.hasher.update(&self.payload.filled()[self.hashed..]);
        if self.hasher.finalize() != self.hash {
            return Err("a bulk message does not have the hash that it said");
        }
        Ok(self.payload.freeze())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(bytes: usize, stream: &[u8], piece: usize) -> Result<Bytes, &'static str> {
        let mut arriving = Arriving::new(LongBuffer::new(bytes).unwrap());
        stream.chunks(piece).try_for_each(|piece| arriving.push(piece).map(drop))?;
        arriving.finish()
    }

    #[test]
    fn what_arrives_is_what_was_sent_however_it_is_cut() {
        for bytes in [0, 1, HASH_BLOCK_BYTES - 1, HASH_BLOCK_BYTES, 3 * HASH_BLOCK_BYTES + 7] {
            let sent: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            let stream = [&sent[..], blake3::hash(&sent).as_bytes()].concat();
            for piece in [13, 6000, HASH_BLOCK_BYTES, stream.len()] {
                assert!(receive(bytes, &stream, piece).unwrap() == sent, "{bytes} bytes in pieces of {piece}");
            }
            assert!(receive(bytes, &stream[..stream.len() - 1], 6000).unwrap_err().contains("shorter"));
            assert!(receive(bytes, &[&stream[..], b"x"].concat(), 6000).unwrap_err().contains("longer"));
            let mut damaged = stream.clone();
            damaged[bytes / 2] ^= 1;
            assert!(receive(bytes, &damaged, 6000).unwrap_err().contains("hash"));
        }
    }

    #[test]
    fn a_block_is_hashed_once_it_is_there() {
        let mut arriving = Arriving::new(LongBuffer::new(2 * HASH_BLOCK_BYTES).unwrap());
        assert_eq!(arriving.push(&[1; HASH_BLOCK_BYTES - 1]), Ok(Progress::Little));
        assert_eq!(arriving.push(&[1]), Ok(Progress::Block));
        assert_eq!(arriving.push(&[1]), Ok(Progress::Little));
    }
}
