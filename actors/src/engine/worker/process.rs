//! The engine's side of a worker process.

use std::{
    cell::Cell,
    convert::Infallible,
    future::pending,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use engineroom_runtime::proto::frame::{RawDecoder, RawFrame};
use rustix::{net::sockopt::set_socket_send_buffer_size, process::Signal};
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, spawn_local, yield_now},
    time::timeout,
};

use super::{
    EventSink, Run, RunError, WorkerEvent, WorkerExited,
    capture::OutputFiles,
    control::RUNS_MAX,
    keeper::{Demise, Leash, keep},
    protocol::{
        LONG_PART_BYTES, Message, PROTOCOL, ProtocolError, READ_BYTES, Ready, Said, Start, decode_message, decode_said, decoder,
        encode_message,
    },
    serve::{MARKER, marker},
    socket::{Reading, Writing, directions},
};
use crate::task::{BundleHash, WorkerExit};

/// How long a program may take from its start to `engineroom::init()`. Long enough to load a large program from a slow disk
/// on a busy machine; a program that has not got there by then never will.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The stack of the thread that keeps a process, in bytes. There is one for each engine, and it does little.
const KEEPER_STACK_BYTES: usize = 256 << 10;

/// A worker process. Dropping it kills the process, with all that it has started.
#[derive(Debug)]
pub(super) struct ProcessWorker {
    runs: mpsc::Sender<Run>,
    leash: Arc<Leash>,
    conversation: AbortHandle,
}

impl ProcessWorker {
    /// Starts `command` as a worker process of the program `bundle`.
    ///
    /// # Errors
    /// When the system has no more files or threads.
    pub(super) fn start(mut command: Command, bundle: BundleHash, sink: EventSink) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        for end in [&ours, &theirs] {
            // A smaller buffer costs speed only.
            let _ = set_socket_send_buffer_size(end, LONG_PART_BYTES);
        }
        let outputs = OutputFiles::create()?;
        let (stdout, stderr) = outputs.share()?;
        command.env(MARKER, marker()).stdin(OwnedFd::from(theirs)).stdout(stdout).stderr(stderr).process_group(0);
        let kept = ours.try_clone()?;
        let (reading, writing) = directions(ours)?;

        let leash = Leash::new();
        let (demise_sender, demise) = oneshot::channel();
        let held = Arc::clone(&leash);
        thread::Builder::new().name("worker-keeper".into()).stack_size(KEEPER_STACK_BYTES).spawn(move || {
            // Nobody listens any more when the worker was dropped.
            let _ = demise_sender.send(keep(command, &held, &kept, &outputs));
        })?;

        let (runs, to_send) = mpsc::channel(RUNS_MAX);
        let guard = KillOnDrop(Arc::clone(&leash));
        let conversation = spawn_local(async move {
            let unsent = Cell::new(None);
            let exited = tokio::select! {
                biased;
                exited = listen(Reader::new(reading), &guard, &unsent, demise, &sink) => exited,
                never = speak(writing, &guard, &unsent, bundle, to_send) => match never {},
            };
            sink(WorkerEvent::Exited(exited));
        });
        Ok(Self { runs, leash, conversation: conversation.abort_handle() })
    }

    /// See [`Worker::run`](super::Worker::run).
    pub(super) fn run(&self, run: Run) -> Result<(), RunError> {
        self.runs.try_send(run).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RunError::Busy,
            mpsc::error::TrySendError::Closed(_) => RunError::Gone,
        })
    }

    /// See [`Worker::signal`](super::Worker::signal).
    pub(super) fn signal(&self, signal: i32) -> bool {
        Signal::from_named_raw(signal).is_some_and(|signal| self.leash.signal(signal))
    }

    #[cfg(test)]
    /// See [`Worker::kill`](super::Worker::kill).
    pub(super) fn kill(&self) {
        self.leash.kill();
    }
}

impl Drop for ProcessWorker {
    fn drop(&mut self) {
        self.conversation.abort();
        self.leash.kill();
    }
}

/// Held by the task that talks to the process, so that the process ends with the runtime even if its worker is forgotten.
struct KillOnDrop(Arc<Leash>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Sends batches. Never returns: when the process is gone, `listen` says so, and one that cannot be told what to do is ended.
async fn speak(
    mut writing: Writing,
    guard: &KillOnDrop,
    unsent: &Cell<Option<io::Error>>,
    bundle: BundleHash,
    mut runs: mpsc::Receiver<Run>,
) -> Infallible {
    let start = Start { protocol: PROTOCOL, bundle };
    let mut sent = send(&mut writing, &start).await;
    while sent.is_ok() {
        let Some(run) = runs.recv().await else { break };
        sent = send(&mut writing, &run).await;
    }
    if let Err(error) = sent {
        let is_gone = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        unsent.set((!is_gone).then_some(error));
        guard.0.kill();
    }
    pending().await
}

async fn send<M: Message>(writing: &mut Writing, message: &M) -> io::Result<()> {
    for chunk in encode_message(message)?.chunks() {
        writing.write_all(chunk).await?;
    }
    Ok(())
}

/// Hands on reports until the process is gone.
async fn listen(
    mut reader: Reader,
    guard: &KillOnDrop,
    unsent: &Cell<Option<io::Error>>,
    demise: oneshot::Receiver<Demise>,
    sink: &EventSink,
) -> WorkerExited {
    let not_ready = await_ready(&mut reader).await.err();
    if not_ready.is_none() {
        sink(WorkerEvent::Ready);
    }
    let mut fault = None;
    while not_ready.is_none() {
        match reader.next(decode_said).await {
            Ok(Some(Said::Report(report))) => sink(WorkerEvent::Report(report)),
            Ok(Some(Said::Told(told))) => sink(WorkerEvent::Told(told)),
            Ok(None) => break,
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    // A process that has closed its socket, or does not keep to the protocol, is of no use.
    guard.0.kill();
    let fault = fault.or_else(|| unsent.take().map(ProtocolError::from));
    let unknown = |_| Demise { exit: WorkerExit::Unknown, not_started: None, last_output: String::new() };
    let Demise { exit, not_started, mut last_output } = demise.await.unwrap_or_else(unknown);
    let own_doing = fault.is_some() || matches!(not_ready, Some(NotReady::TimedOut | NotReady::Fault(_)));
    let killed = exit == WorkerExit::Signal(Signal::KILL.as_raw()) && !own_doing;
    if let Some(fault) = fault {
        last_output = format!("{last_output}\n(the engine has stopped the worker: {fault})");
    }
    let not_started = not_started.or_else(|| not_ready.map(|why| explain(&why, exit, &last_output)));
    WorkerExited { exit, last_output, not_started, killed }
}

/// Why a process never served.
enum NotReady {
    Ended,
    TimedOut,
    Fault(ProtocolError),
}

async fn await_ready(reader: &mut Reader) -> Result<(), NotReady> {
    match timeout(START_TIMEOUT, reader.next(decode_message::<Ready>)).await {
        Ok(Ok(Some(Ready { protocol: PROTOCOL, .. }))) => Ok(()),
        Ok(Ok(Some(Ready { protocol: worker, .. }))) => Err(NotReady::Fault(ProtocolError::Version { worker, engine: PROTOCOL })),
        Ok(Ok(None)) => Err(NotReady::Ended),
        Ok(Err(fault)) => Err(NotReady::Fault(fault)),
        Err(_) => Err(NotReady::TimedOut),
    }
}

fn explain(why: &NotReady, exit: WorkerExit, last_output: &str) -> String {
    let reason = match why {
        NotReady::Ended => format!("the program {exit} and never called engineroom::init(): call it first in main"),
        NotReady::TimedOut => format!(
            "the program did not call engineroom::init() within {} s of its start: call it first in main",
            START_TIMEOUT.as_secs()
        ),
        NotReady::Fault(fault) => fault.to_string(),
    };
    match last_output.trim() {
        "" => reason,
        output => format!("{reason}; its last output: {output}"),
    }
}

/// Reads messages from the process.
struct Reader {
    reading: Reading,
    decoder: RawDecoder,
    buffer: Vec<u8>,
}

impl Reader {
    fn new(reading: Reading) -> Self {
        Self { reading, decoder: decoder(), buffer: vec![0; READ_BYTES] }
    }

    /// The next message, or `None` when the process has closed its end. A message that has not come completely by then does
    /// not count.
    async fn next<M>(&mut self, read: fn(&RawFrame) -> Result<M, ProtocolError>) -> Result<Option<M>, ProtocolError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return read(&frame).map(Some);
            }
            let read = match self.decoder.room() {
                Some(room) => {
                    let bytes = room.len().min(LONG_PART_BYTES);
                    let read = self.reading.read(&mut room[..bytes]).await;
                    if let Ok(read) = read {
                        self.decoder.filled(read);
                        // The engine's thread has others to serve, and the worker may be as quick as it is.
                        yield_now().await;
                    }
                    read
                }
                None => self.reading.read(&mut self.buffer).await.inspect(|read| self.decoder.push(&self.buffer[..*read])),
            };
            match read {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // The process ended before it had read all that was sent to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
