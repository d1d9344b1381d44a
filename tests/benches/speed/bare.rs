//! Bare quinn: the processes that limits are measured with.
//!
//! One current-thread runtime a process, one bidirectional stream a connection, and on it frames: a length of four bytes
//! (little endian) and so many bytes. Each half of a stream has a task, with a queue to it; the one that writes takes all that
//! is queued into one write.

mod frames;
mod network;

use std::{io, net::SocketAddr, path::Path};

use bytes::Bytes;
use engineroom_tests::{Lab, Process};
use tokio::{runtime, sync::mpsc};

use self::network::listen;
pub use self::{
    frames::Frames,
    network::{dial, prepare},
};
use crate::{
    Failure,
    cluster::this_program,
    options::{BarePart, BarePeer},
};

/// How many frames are taken from a queue at once.
pub const FRAMES_AT_ONCE: usize = 1024;

/// How many bytes a sink takes from a stream at once.
const SINK_READ_BYTES: usize = 1 << 20;

/// What a process that listens says first, before its address.
const LISTENING: &str = "bare listening ";

/// Runs the future on a runtime as all processes of limits have it.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Starts a process of a limit that listens; its address is the second.
pub fn start_listener(lab: &Lab, part: &str) -> Result<(Process, SocketAddr), Failure> {
    let process = lab.start(&this_program()?, ["bare", part]);
    let line = process.wait_line(LISTENING);
    let address = line.trim_end().trim_start_matches(LISTENING).parse()?;
    Ok((process, address))
}

/// Starts a process of a limit that dials.
pub fn start_dialler(lab: &Lab, part: &str, to: SocketAddr) -> Result<Process, Failure> {
    Ok(lab.start(&this_program()?, ["bare", part, "--to", &to.to_string()]))
}

/// Is one process of a limit, until it is killed or its peers are gone.
pub fn serve(peer: &BarePeer) -> Result<(), Failure> {
    block_on(async {
        match peer.part {
            BarePart::Echo => echo(&peer.profile_dir).await,
            BarePart::Relay => relay(&peer.profile_dir).await,
            BarePart::End => {
                let to = peer.to.ok_or("it needs to know whom to dial: --to")?;
                let (_endpoint, connection) = dial(&peer.profile_dir, to).await?;
                send_back(Frames::open(&connection).await?).await
            }
            BarePart::Sink => sink(&peer.profile_dir).await,
        }
    })
}

async fn echo(directory: &Path) -> Result<(), Failure> {
    let endpoint = announced(directory)?;
    let connection = network::accept(&endpoint).await?;
    send_back(Frames::accept(&connection).await?).await
}

async fn send_back(mut frames: Frames) -> Result<(), Failure> {
    pass_on(&mut frames.received, &frames.to_send).await
}

/// Hands the frames of each of two peers to the other.
async fn relay(directory: &Path) -> Result<(), Failure> {
    let endpoint = announced(directory)?;
    let one_connection = network::accept(&endpoint).await?;
    let mut one = Frames::accept(&one_connection).await?;
    let other_connection = network::accept(&endpoint).await?;
    let mut other = Frames::accept(&other_connection).await?;
    let (there, back) = tokio::join!(pass_on(&mut one.received, &other.to_send), pass_on(&mut other.received, &one.to_send));
    there.and(back)
}

async fn pass_on(from: &mut mpsc::Receiver<Bytes>, to: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
    let mut frames = Vec::with_capacity(FRAMES_AT_ONCE);
    while from.recv_many(&mut frames, FRAMES_AT_ONCE).await > 0 {
        for frame in frames.drain(..) {
            to.send(frame).await?;
        }
    }
    Ok(())
}

async fn sink(directory: &Path) -> Result<(), Failure> {
    let endpoint = announced(directory)?;
    let connection = network::accept(&endpoint).await?;
    while let Ok(mut stream) = connection.accept_uni().await {
        while stream.read_chunk(SINK_READ_BYTES, true).await?.is_some() {}
    }
    Ok(())
}

fn announced(directory: &Path) -> Result<quinn::Endpoint, Failure> {
    let endpoint = listen(directory)?;
    println!("{LISTENING}{}", endpoint.local_addr()?);
    io::Write::flush(&mut io::stdout())?;
    Ok(endpoint)
}
