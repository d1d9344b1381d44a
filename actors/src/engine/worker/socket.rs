//! The engine's end of the socket to a worker process.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
};

use tokio::{io::AsyncReadExt, net::unix::pipe, task::yield_now};

use super::protocol::LONG_PART_BYTES;

/// Reads what the process says. The system is asked to tell of that alone: when it tells of a stream that the process has read
/// something, which tokio asks it to, the engine wakes once more for each message, for nothing.
#[derive(Debug)]
pub(super) struct Reading(pipe::Receiver);

/// Writes to the process. The socket is there but while a write waits, or after one has failed.
#[derive(Debug)]
pub(super) struct Writing(Option<UnixStream>);

/// The two directions of a socket, on the thread of a runtime.
///
/// # Errors
/// Those of the system.
pub(super) fn directions(socket: UnixStream) -> io::Result<(Reading, Writing)> {
    socket.set_nonblocking(true)?;
    let reading = pipe::Receiver::from_owned_fd_unchecked(socket.try_clone()?.into())?;
    Ok((Reading(reading), Writing(Some(socket))))
}

impl Reading {
    /// Reads what is there, once something is; 0 bytes once the process has closed its end.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).await
    }
}

impl Writing {
    /// Writes all of it. When that fails, a part may have been written, and nothing more can be.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut socket = self.0.take().ok_or(io::ErrorKind::BrokenPipe)?;
            match socket.write(&bytes[..bytes.len().min(LONG_PART_BYTES)]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket = room(socket).await?,
                Err(error) => return Err(error),
            }
            self.0 = Some(socket);
            if !bytes.is_empty() {
                // The engine's thread has others to serve, and the process may read as quickly as it writes.
                yield_now().await;
            }
        }
        Ok(())
    }
}

/// Waits until the process has read something. It takes no further descriptor, of which there may be none.
async fn room(socket: UnixStream) -> io::Result<UnixStream> {
    let waiting = pipe::Sender::from_owned_fd_unchecked(socket.into())?;
    waiting.writable().await?;
    Ok(waiting.into_nonblocking_fd()?.into())
}

#[cfg(test)]
mod tests {
    use std::{io::Read, sync::mpsc, thread};

    use super::*;

    #[test]
    fn bytes_pass_both_ways_however_slowly_the_other_end_reads() {
        const LENGTH: usize = 3 << 20;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (go, goes) = mpsc::channel();
        let other = thread::spawn(move || {
            let (mut short, mut long) = ([0; 3], vec![0; LENGTH]);
            theirs.read_exact(&mut short).unwrap();
            theirs.write_all(b"first").unwrap();
            // The socket is full by now.
            goes.recv().unwrap();
            theirs.read_exact(&mut long).unwrap();
            theirs.write_all(&long).unwrap();
            short
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut reading, mut writing) = directions(ours).unwrap();
            writing.write_all(b"abc").await.unwrap();
            let mut buffer = vec![0; 64 << 10];
            let read = reading.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], b"first");
            let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
            let written = writing.write_all(&sent);
            tokio::join!(async { written.await.unwrap() }, async { go.send(()).unwrap() });
            let mut came = Vec::new();
            loop {
                match reading.read(&mut buffer).await.unwrap() {
                    0 => break,
                    read => came.extend_from_slice(&buffer[..read]),
                }
            }
            assert!(came == sent, "{} bytes came of {LENGTH}", came.len());
            assert!(writing.write_all(&sent).await.is_err(), "nobody is there to read");
        });
        assert_eq!(&other.join().unwrap(), b"abc");
    }

    #[test]
    fn a_write_that_waits_ends_when_the_other_end_does() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut reading, mut writing) = directions(ours).unwrap();
            let long = vec![7; 3 << 20];
            let write = async {
                assert!(writing.write_all(&long).await.is_err());
                assert!(writing.write_all(b"more").await.is_err());
            };
            let end = async {
                // Until it waits for room.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                theirs.read_exact(&mut [0; 1000]).unwrap();
                drop(theirs);
            };
            tokio::join!(write, end);
            assert!(matches!(reading.read(&mut [0; 10]).await, Ok(0) | Err(_)));
        });
    }
}
