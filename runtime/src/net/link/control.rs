//! The two tasks of a link's control stream.

use std::{rc::Rc, sync::atomic::Ordering};

use bytes::Bytes;
use tokio::{sync::mpsc, time::timeout};

use super::{Deliver, Link, Queued, SOON, Urgency};
use crate::net::gate::Gate;
use crate::proto::{
    frame::Decoder,
    packet::{CloseCode, Packet},
};

/// How many frames one write takes. Bounds the time for which one link keeps the node thread.
const FRAMES_PER_WRITE: usize = 1024;

/// How many bytes the reader takes from the stream at once.
const READ_BYTES: usize = 256 << 10;

pub(super) async fn write_control(link: Link, mut stream: quinn::SendStream, mut queue: mpsc::Receiver<Queued>) {
    let mut queued = Vec::with_capacity(FRAMES_PER_WRITE);
    let mut frames: Vec<Bytes> = Vec::with_capacity(FRAMES_PER_WRITE);
    loop {
        let received = tokio::select! {
            received = gather(&mut queue, &mut queued) => received,
            // Ends this task with the link, although handles of it live on.
            _ = link.0.connection.closed() => return,
        };
        frames.extend(queued.drain(..).map(|queued| queued.frame));
        let bytes: usize = frames.iter().map(Bytes::len).sum();
        if received == 0 {
            return;
        }
        if stream.write_all_chunks(&mut frames).await.is_err() {
            // Without effect when the connection is lost. Otherwise the peer has stopped the stream, and a link that
            // carries nothing must not look as if it were up.
            return link.close(CloseCode::ProtocolViolation, "the control stream was stopped");
        }
        frames.clear();
        link.0.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Waits for frames to be written together: whatever is queued once something urgent is, or for as long as the others may wait.
/// Returns how many there are; none when no more will come.
async fn gather(queue: &mut mpsc::Receiver<Queued>, frames: &mut Vec<Queued>) -> usize {
    let received = queue.recv_many(frames, FRAMES_PER_WRITE).await;
    let waits = |frames: &[Queued]| frames.len() < FRAMES_PER_WRITE && frames.iter().all(|each| each.urgency == Urgency::Soon);
    if received == 0 || !waits(frames) {
        return received;
    }
    let more = async { while waits(frames) && queue.recv_many(frames, FRAMES_PER_WRITE - frames.len()).await > 0 {} };
    // What has come by then is in `frames`: receiving is cancel-safe.
    let _ = timeout(SOON, more).await;
    frames.len()
}

/// Reads until the stream ends; the text says why it did.
pub(super) async fn read_control(
    link: &Link,
    mut stream: quinn::RecvStream,
    mut decoder: Decoder,
    gate: Gate,
    deliver: Rc<dyn Deliver>,
) -> String {
    loop {
        loop {
            let packet = match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => Packet::parse(frame).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let done = match packet {
                Ok(packet) => link.packet(deliver.as_ref(), &gate, packet),
                Err(text) => {
                    tracing::warn!(peer = %link.peer().name, "a peer broke the protocol: {text}");
                    link.close(CloseCode::ProtocolViolation, &text);
                    Err(format!("it broke the protocol: {text}"))
                }
            };
            if let Err(reason) = done {
                return reason;
            }
            // A peer that sends without pause must not have the thread for itself. Counted by messages, since an actor
            // handles all that it finds in its mailbox in one turn.
            tokio::task::consume_budget().await;
        }
        match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => decoder.push(&chunk.bytes),
            Ok(None) => return "the other side closed the stream".into(),
            Err(quinn::ReadError::ConnectionLost(error)) => return describe_end(&error),
            Err(error) => return error.to_string(),
        }
    }
}

pub(super) fn describe_end(error: &quinn::ConnectionError) -> String {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            format!("the other side closed it: {}", String::from_utf8_lossy(&close.reason))
        }
        quinn::ConnectionError::TimedOut => "the other side has been silent for too long".into(),
        quinn::ConnectionError::Reset => "the other side was restarted".into(),
        quinn::ConnectionError::LocallyClosed => "this side closed it".into(),
        other => other.to_string(),
    }
}
