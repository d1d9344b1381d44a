//! The worker's side of a worker process: what `engineroom::init()` does.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    panic::resume_unwind,
    process,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use engineroom_runtime::proto::frame::RawDecoder;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    process::{Pid, Signal, getpgrp, getpid, kill_current_process_group, kill_process},
    stdio::dup2_stdin,
};

use super::{
    Report, Run, Told,
    capture::Capture,
    outbox::{Bulletin, ReportSink},
    protocol::{Message, PROTOCOL, ProtocolError, READ_BYTES, Ready, Start, decode_message, decoder, encode_message},
    runner::Runner,
    thread::STACK_BYTES,
};
use crate::code::Tasks;

/// The environment variable that makes a program a worker: `<protocol version>:<process id of the engine's node>`.
pub(super) const MARKER: &str = "ENGINEROOM_WORKER";

/// The exit code of a program that was started as a worker and does what a worker must not do.
const EXIT_MISUSED: i32 = 70;

/// How often is looked whether the running task has written something, for those who follow it. Each look costs two system calls.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// The exit code of a worker that cannot serve.
const EXIT_CANNOT_SERVE: i32 = 71;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// Must be the first call in the `main` of every program that submits functions.
///
/// Engines start that very program as a worker, to call its functions. There this call serves tasks and never returns.
/// Everywhere else it returns at once. A worker is started without the arguments of the command line, and with the environment of its
/// engine: what a task needs of those is a part of its argument.
///
/// It may be the first call in a `main` that is asynchronous, too: tasks run outside of its runtime, and may start one of their own. A
/// `main` that is not, and starts the runtime afterwards, saves each worker the threads of a runtime that it never uses.
///
/// ```
/// engineroom::init();
/// // … connect, submit, print
/// ```
pub fn init() {
    init_with(Tasks::new());
}

/// As [`init`], for a program that also runs named tasks.
pub fn init_with(tasks: Tasks) {
    INITIALISED.store(true, Ordering::Release);
    if is_worker() {
        let Err(error) = outside_of_runtimes(|| serve(tasks)).unwrap_or_else(|error| Err(error.into()));
        eprintln!("this program was started as an engineroom worker, but cannot serve: {error}");
        process::exit(EXIT_CANNOT_SERVE);
    }
}

/// Whether the program has called [`init`] or [`init_with`].
pub(crate) fn was_initialised() -> bool {
    INITIALISED.load(Ordering::Acquire)
}

/// Ends the process if it was started as a worker and has not called [`init`]. Called before anything that connects,
/// so that a program which lacks the call does not submit its tasks once more from within each engine, and so on.
pub(crate) fn abort_if_worker() {
    if !was_initialised() && is_worker() {
        eprintln!(
            "this program was started as an engineroom worker, but connects to a cluster: call engineroom::init() first in main"
        );
        process::exit(EXIT_MISUSED);
    }
}

/// The value of [`MARKER`] for the workers of this process.
pub(super) fn marker() -> String {
    format!("{PROTOCOL}:{}", process::id())
}

/// Whether an engine has started this process as a worker.
///
/// The processes that a task starts inherit the marker, but not the socket: their standard input is something else, or a
/// socket that was not made by the engine's process.
fn is_worker() -> bool {
    let Ok(marker) = std::env::var(MARKER) else { return false };
    let engine = marker.split_once(':').and_then(|(_, pid)| pid.parse().ok()).and_then(Pid::from_raw);
    let stdin = io::stdin();
    let is_socket = fstat(&stdin).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
    is_socket && engine.is_some() && made_by(engine, &stdin)
}

#[cfg(target_os = "linux")]
fn made_by(maker: Option<Pid>, socket: impl AsFd) -> bool {
    // Of a socket pair, the peer is the process that made the pair, for ever.
    rustix::net::sockopt::socket_peercred(socket).is_ok_and(|peer| Some(peer.pid) == maker)
}

#[cfg(not(target_os = "linux"))]
fn made_by(_maker: Option<Pid>, _socket: impl AsFd) -> bool {
    true
}

/// Makes a call on a thread that belongs to no asynchronous runtime: on this one or, in a `main` that is asynchronous, on one of its
/// own. Otherwise tasks that start a runtime and block on it would panic.
fn outside_of_runtimes<T: Send>(call: impl FnOnce() -> T + Send) -> io::Result<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(call());
    }
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("engineroom-worker".into()).stack_size(STACK_BYTES);
        Ok(builder.spawn_scoped(scope, call)?.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

enum Never {}

/// Serves until the engine is gone.
fn serve(tasks: Tasks) -> Result<Never, ProtocolError> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Tasks that read standard input find nothing, instead of the engine's messages.
    dup2_stdin(File::open("/dev/null")?).map_err(io::Error::from)?;
    let bulletin = Arc::default();
    watch(stream.try_clone()?, Arc::clone(&bulletin))?;
    let mut writer = Writer { stream: stream.try_clone()? };
    let mut reader = Reader { stream, decoder: decoder(), buffer: vec![0; READ_BYTES] };

    let start: Start = reader.next()?;
    // Sent in any case: the engine checks it too, and can tell the user.
    writer.send(&Ready { protocol: PROTOCOL, pid: process::id() })?;
    if start.protocol != PROTOCOL {
        return Err(ProtocolError::Version { worker: PROTOCOL, engine: start.protocol });
    }
    let mut capture = Capture::of_this_process()?;
    // What was written before the first task belongs to none.
    Capture::flush();
    capture.take();
    let mut runner = Runner::of_process(start.bundle, tasks, capture, writer)?;
    // It was empty, as this is the only place that sets it.
    let _ = bulletin.set(runner.bulletin());
    loop {
        runner.run(&reader.next::<Run>()?);
    }
}

/// Ends the process, also in the middle of a task, as soon as the engine is gone; and tells what the running task writes.
fn watch(socket: UnixStream, bulletin: Arc<OnceLock<Arc<dyn Bulletin>>>) -> io::Result<()> {
    let every = Timespec { tv_sec: FOLLOW_EVERY.as_secs() as i64, tv_nsec: 0 };
    let watch = move || loop {
        // Without any flag, only the end of the connection wakes. Errors pass: they are interruptions by signals.
        match poll(&mut [PollFd::new(&socket, PollFlags::empty())], Some(&every)) {
            Ok(0) => bulletin.get().into_iter().for_each(|bulletin| bulletin.follow()),
            Ok(_) => vanish(),
            Err(_) => {}
        }
    };
    thread::Builder::new().name("engine-watcher".into()).spawn(watch).map(drop)
}

/// Ends the process and what its tasks have started. Without any cleaning up: tasks may be running, and nobody is left who
/// would hear of it.
fn vanish() -> ! {
    // A process group of another's making is not ours to kill.
    let _ = if getpgrp() == getpid() { kill_current_process_group(Signal::KILL) } else { kill_process(getpid(), Signal::KILL) };
    process::exit(EXIT_CANNOT_SERVE)
}

/// Reads messages from the engine.
struct Reader {
    stream: UnixStream,
    decoder: RawDecoder,
    buffer: Vec<u8>,
}

impl Reader {
    /// The next message. Does not return when the engine is gone.
    fn next<M: Message>(&mut self) -> Result<M, ProtocolError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return decode_message(&frame);
            }
            // Whoever sleeps in a read of a Unix socket is also woken each time that its peer takes what was written to it, for
            // nothing; in a poll, only by what comes. Errors pass: the read tells them.
            let _ = poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], None);
            let read = match self.decoder.room() {
                Some(room) => self.stream.read(room).inspect(|read| self.decoder.filled(*read)),
                None => self.stream.read(&mut self.buffer).inspect(|read| self.decoder.push(&self.buffer[..*read])),
            };
            match read {
                Ok(0) => vanish(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => vanish(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes messages to the engine.
struct Writer {
    stream: UnixStream,
}

impl Writer {
    fn send<M: Message>(&mut self, message: &M) -> io::Result<()> {
        encode_message(message)?.chunks().iter().try_for_each(|chunk| self.stream.write_all(chunk))
    }
}

impl ReportSink for Writer {
    fn send(&mut self, report: Report) {
        // Reports are cut well below the longest message, so only a socket without an engine fails.
        if Writer::send(self, &report).is_err() {
            vanish();
        }
    }

    fn tell(&mut self, told: Told) {
        if Writer::send(self, &told).is_err() {
            vanish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::outside_of_runtimes;

    #[test]
    fn tasks_may_block_on_runtimes_where_main_is_asynchronous() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let answer = runtime().block_on(async { outside_of_runtimes(|| runtime().block_on(async { 42 })) });
        assert_eq!(answer.expect("a thread"), 42);
        assert_eq!(outside_of_runtimes(|| std::thread::current().id()).expect("no thread"), std::thread::current().id());
    }
}
