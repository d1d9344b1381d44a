//! Frames on a stream, through queues.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::FRAMES_AT_ONCE;
use crate::Failure;

/// How many frames wait at most in either direction. More than are ever under way, so that no queue limits the other.
const QUEUE_MAX: usize = 1 << 20;

/// How many bytes are taken from a stream at once.
const READ_BYTES: usize = 1 << 18;

/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Both directions of a stream, as queues of frames.
pub struct Frames {
    /// What is put here is sent.
    pub to_send: mpsc::Sender<Bytes>,
    /// What has come.
    pub received: mpsc::Receiver<Bytes>,
}

impl Frames {
    /// Opens a stream. Sends one frame without content, since a stream exists for the peer only once something is sent.
    pub async fn open(connection: &Connection) -> Result<Self, Failure> {
        let (sender, receiver) = connection.open_bi().await?;
        let frames = Self::on(sender, receiver);
        frames.to_send.send(Bytes::new()).await?;
        Ok(frames)
    }

    /// Takes the stream that the peer opens.
    pub async fn accept(connection: &Connection) -> Result<Self, Failure> {
        let (sender, receiver) = connection.accept_bi().await?;
        let mut frames = Self::on(sender, receiver);
        frames.received.recv().await.ok_or("the peer has left")?;
        Ok(frames)
    }

    /// Sends a frame and waits for one.
    pub async fn ask(&mut self, frame: &Bytes) -> Result<Bytes, Failure> {
        self.to_send.send(frame.clone()).await?;
        Ok(self.received.recv().await.ok_or("the peer has left")?)
    }

    fn on(sender: SendStream, receiver: RecvStream) -> Self {
        let (to_send, queued) = mpsc::channel(QUEUE_MAX);
        let (came, received) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write(sender, queued));
        tokio::spawn(read(receiver, came));
        Self { to_send, received }
    }
}

async fn write(mut stream: SendStream, mut queued: mpsc::Receiver<Bytes>) {
    let mut frames = Vec::with_capacity(FRAMES_AT_ONCE);
    let mut batch = BytesMut::new();
    while queued.recv_many(&mut frames, FRAMES_AT_ONCE).await > 0 {
        batch.clear();
        for frame in frames.drain(..) {
            batch.put_u32_le(frame.len() as u32);
            batch.put_slice(&frame);
        }
        if stream.write_all(&batch).await.is_err() {
            return;
        }
    }
}

async fn read(mut stream: RecvStream, came: mpsc::Sender<Bytes>) {
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    while let Ok(Some(chunk)) = stream.read_chunk(READ_BYTES, true).await {
        bytes.put_slice(&chunk.bytes);
        while let Some(frame) = next_frame(&mut bytes) {
            if came.send(frame).await.is_err() {
                return;
            }
        }
    }
}

fn next_frame(bytes: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_le_bytes(*bytes.first_chunk::<LENGTH_BYTES>()?) as usize;
    if bytes.len() < LENGTH_BYTES + length {
        return None;
    }
    bytes.advance(LENGTH_BYTES);
    Some(bytes.split_to(length).freeze())
}
