//! The two tasks of a link's control stream.

use std::{pin::pin, rc::Rc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Deliver, Link, Queued, Urgency, WITHIN_MAX};
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
    queue.recv_many(frames, FRAMES_PER_WRITE).await;
    let Some(patience) = patience_of(frames) else { return frames.len() };
    let mut leaves_at = Instant::now() + patience;
    let mut leave = pin!(sleep_until(leaves_at));
    while frames.len() < FRAMES_PER_WRITE {
        let before = frames.len();
        tokio::select! {
            biased;
            _ = queue.recv_many(frames, FRAMES_PER_WRITE - before) => {}
            () = &mut leave => break,
        }
        let Some(patience) = patience_of(&frames[before..]) else { break };
        // A timer that goes on as it is costs nothing.
        if Instant::now() + patience < leaves_at {
            leaves_at = Instant::now() + patience;
            leave.as_mut().reset(leaves_at);
        }
    }
    frames.len()
}

/// How long these frames may wait for others: not at all when one is urgent, or when there are none because no more will come.
fn patience_of(frames: &[Queued]) -> Option<Duration> {
    let each = |frame: &Queued| match frame.urgency {
        Urgency::Now => None,
        Urgency::Within(delay) => Some(delay.min(WITHIN_MAX)),
    };
    frames.iter().map(each).min().flatten()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::SOON;

    fn send(queue: &mpsc::Sender<Queued>, urgency: Urgency) {
        assert!(queue.try_send(Queued { frame: Bytes::from_static(b"frame"), urgency }).is_ok());
    }

    #[test]
    fn frames_leave_with_the_first_that_waits_no_longer() {
        const LONG: Urgency = Urgency::Within(Duration::MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        for (what, at_first, later) in [
            ("an urgent one comes", &[LONG, LONG][..], Some(Urgency::Now)),
            ("it is there", &[LONG, Urgency::Now], None),
            ("one that leaves soon comes", &[LONG], Some(Urgency::Within(SOON))),
            ("its own time has come", &[Urgency::Within(SOON), LONG], None),
        ] {
            let (sender, mut queue) = mpsc::channel(10);
            at_first.iter().for_each(|urgency| send(&sender, *urgency));
            let (mut frames, mut rest) = (Vec::new(), Vec::new());
            runtime.block_on(async {
                let gathered = gather(&mut queue, &mut frames);
                let come = async {
                    tokio::task::yield_now().await;
                    later.into_iter().for_each(|urgency| send(&sender, urgency));
                };
                assert_eq!(tokio::join!(gathered, come).0, at_first.len() + usize::from(later.is_some()), "{what}");
                // What waits when nobody can send any more is still written.
                send(&sender, LONG);
                drop(sender);
                assert_eq!((gather(&mut queue, &mut rest).await, gather(&mut queue, &mut Vec::new()).await), (1, 0), "{what}");
            });
        }
    }
}
