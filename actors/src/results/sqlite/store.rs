//! The handle of a store on disk.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
};

use super::{
    error::Fault,
    open,
    reader::Reader,
    restore::restore,
    threads::{Asked, Item, read_loop, write_loop},
    writer::Writer,
};
use crate::results::{
    Restored, Retention, StoreError,
    backend::{Question, Write},
    port::{FromStore, Port},
};

/// A store on disk. Its file is closed when the last clone is dropped, which waits until everything that was told before is
/// written; not, if the disk is full.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    threads: Arc<Threads>,
}

/// What a store holds altogether.
#[derive(Debug, Default)]
pub(super) struct Size {
    pub bytes: AtomicU64,
    pub jobs: AtomicU64,
}

#[derive(Debug)]
struct Threads {
    writes: Mutex<Option<Sender<Item>>>,
    questions: Mutex<Option<Sender<Asked>>>,
    read: Option<JoinHandle<()>>,
    written: Option<JoinHandle<()>>,
    ports: AtomicUsize,
    size: Arc<Size>,
    file: PathBuf,
}

impl Store {
    /// Opens the store in `file`, or makes one there. Blocks.
    ///
    /// # Errors
    /// When the file is in use, damaged, or not a store of this version; see [`StoreError`].
    pub fn open(file: &Path, retention: Retention) -> Result<(Self, Restored), StoreError> {
        let (lock, connection) = open::open(file)?;
        let fault = |fault: Fault| StoreError::of_fault(file, fault);
        let life = open::begin_life(&connection).map_err(fault)?;
        let restored = restore(&connection, life).map_err(fault)?;
        let writer = Writer::new(connection, retention).map_err(fault)?;
        let reader = Reader::new(open::open_reader(file)?);
        let size = Arc::new(Size::default());
        size.set(writer.totals());
        let (writes, to_write) = mpsc::channel();
        let (questions, to_read) = mpsc::channel();
        let (sized, name) = (size.clone(), file.to_owned());
        let written = spawn("engineroom-store-write", file, move || write_loop(writer, lock, &to_write, &sized, &name))?;
        let name = file.to_owned();
        let read = spawn("engineroom-store-read", file, move || read_loop(reader, &to_read, &name))?;
        let threads = Threads {
            writes: Mutex::new(Some(writes)),
            questions: Mutex::new(Some(questions)),
            read: Some(read),
            written: Some(written),
            ports: AtomicUsize::new(0),
            size,
            file: file.to_owned(),
        };
        Ok((Self { threads: Arc::new(threads) }, restored))
    }

    /// A user of the store, who is told what becomes of its writes and questions.
    pub(in crate::results) fn attach(&self, tell: Box<dyn Fn(FromStore) + Send + Sync>) -> Arc<Port> {
        Arc::new(Port { number: self.threads.ports.fetch_add(1, Ordering::Relaxed), tell })
    }

    /// Keeps something. What becomes of it is told under the ticket, if there is one.
    pub(in crate::results) fn write(&self, port: &Arc<Port>, ticket: Option<u64>, write: Write) {
        let item = Item { port: port.clone(), ticket, write };
        self.send(&self.threads.writes, port, item);
    }

    /// Reads something.
    pub(in crate::results) fn ask(&self, port: &Arc<Port>, ticket: u64, question: Question) {
        self.send(&self.threads.questions, port, Asked { port: port.clone(), ticket, question });
    }

    /// How many bytes and jobs the store holds altogether.
    pub(in crate::results) fn size(&self) -> (usize, usize) {
        let Size { bytes, jobs } = &*self.threads.size;
        (bytes.load(Ordering::Relaxed) as usize, jobs.load(Ordering::Relaxed) as usize)
    }

    /// The channels are unbounded: what peers may have unacknowledged bounds what is in them.
    fn send<T>(&self, channel: &Mutex<Option<Sender<T>>>, port: &Port, message: T) {
        let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
        if channel.as_ref().is_none_or(|channel| channel.send(message).is_err()) {
            (port.tell)(FromStore::Failed(format!("the result store {} has ended", self.threads.file.display())));
        }
    }
}

impl Size {
    pub fn set(&self, totals: super::rows::Totals) {
        self.bytes.store(totals.bytes, Ordering::Relaxed);
        self.jobs.store(totals.jobs, Ordering::Relaxed);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without their channels the threads end. The one that writes is the last: only a connection that closes alone moves the
        // log into the file. With it ends the lock.
        end(&mut self.questions, &mut self.read);
        end(&mut self.writes, &mut self.written);
    }
}

fn end<T>(channel: &mut Mutex<Option<Sender<T>>>, thread: &mut Option<JoinHandle<()>>) {
    channel.get_mut().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(thread) = thread.take() {
        // A thread that panicked has said so already.
        let _ = thread.join();
    }
}

fn spawn(name: &str, file: &Path, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
    spawned.map_err(|error| StoreError::of_io(file, &error))
}
