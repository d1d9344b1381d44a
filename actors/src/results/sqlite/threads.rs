//! The threads of a store: one writes, in groups, and one reads.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{
    chores::Purging,
    error::Fault,
    group::{done, opened},
    open::Lock,
    reader::Reader,
    store::Size,
    writer::Writer,
};
use crate::results::{
    KeepRun, StoreError,
    backend::{Done, Question, Write},
    now_us,
    port::{FromStore, Port},
};
use crate::task::JobId;
use crate::wire::StoreRefusal;

/// How much one group holds at most, in bytes and in writes: so much is in memory twice, and delays those who come after.
const GROUP_BYTES_MAX: u64 = 8 << 20;
const GROUP_WRITES_MAX: usize = 8192;

/// How long a full disk is left alone before the next attempt.
const RETRY: Duration = Duration::from_secs(1);

/// How often is looked for what is too old.
const SWEEP: Duration = Duration::from_secs(60);

/// How long nothing is looked for after a store that holds too much had nothing that may be dropped.
const OVER_SWEEP: Duration = Duration::from_secs(1);

/// How many purges may wait. Each lists at most what one message holds.
const PURGES_MAX: usize = 1024;

/// Something to be written, and who wants to know.
pub(super) struct Item {
    pub port: Arc<Port>,
    pub ticket: Option<u64>,
    pub write: Write,
}

/// What is to be told to whom.
type Told = (Arc<Port>, Vec<(u64, Done)>);

/// Something to be read, and who wants to know.
pub(super) struct Asked {
    pub port: Arc<Port>,
    pub ticket: u64,
    pub question: Question,
}

/// Answers questions until nobody can ask any more.
pub(super) fn read_loop(mut reader: Reader, questions: &Receiver<Asked>, file: &Path) {
    while let Ok(Asked { port, ticket, question }) = questions.recv() {
        match reader.answer(question) {
            Ok(answer) => (port.tell)(FromStore::Answered(ticket, Box::new(answer))),
            Err(fault) => return (port.tell)(FromStore::Failed(failure(file, fault))),
        }
    }
}

/// Writes until nobody can tell anything any more. Holds the lock meanwhile.
pub(super) fn write_loop(writer: Writer, lock: Lock, items: &Receiver<Item>, size: &Size, file: &Path) {
    let mut writing = Writing {
        writer,
        queue: VecDeque::new(),
        ports: BTreeMap::new(),
        purges: VecDeque::new(),
        full_until: None,
        sweep_at: Instant::now(),
        file,
    };
    if let Err(fault) = writing.run(items, size) {
        let text = failure(file, fault);
        tracing::error!("{text}");
        writing.ports.values().for_each(|port| (port.tell)(FromStore::Failed(text.clone())));
    }
    drop(writing);
    drop(lock);
}

fn failure(file: &Path, fault: Fault) -> String {
    StoreError::of_fault(file, fault).to_string()
}

struct Writing<'f> {
    writer: Writer,
    /// What is not on disk yet, in the order in which it was told.
    queue: VecDeque<Item>,
    /// Everybody who has told something.
    ports: BTreeMap<usize, Arc<Port>>,
    purges: VecDeque<(Arc<Port>, Option<u64>, Purging)>,
    /// The disk is full, and is not tried before then.
    full_until: Option<Instant>,
    sweep_at: Instant,
    file: &'f Path,
}

impl Writing<'_> {
    fn run(&mut self, items: &Receiver<Item>, size: &Size) -> Result<(), Fault> {
        while self.receive(items) {
            let is_full = self.full_until.is_some_and(|until| Instant::now() < until);
            if is_full {
                continue;
            }
            let result = self.write_group().and_then(|()| self.chores());
            match result {
                Err(Fault::Full) => self.disk_full(),
                other => other?,
            }
            size.set(self.writer.totals());
        }
        Ok(())
    }

    /// Takes in what has been told; waits for it if there is nothing else to do. False once nobody can tell anything and all is
    /// written that can be.
    fn receive(&mut self, items: &Receiver<Item>) -> bool {
        let now = Instant::now();
        let full = self.full_until.filter(|until| *until > now);
        let idle = self.queue.is_empty() && self.purges.is_empty();
        let wait = match full {
            Some(until) => until - now,
            None if idle => self.sweep_at.saturating_duration_since(now),
            None => Duration::ZERO,
        };
        if !wait.is_zero() {
            match items.recv_timeout(wait) {
                Ok(item) => self.take_in(item),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody waits for what a full disk does not take.
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        loop {
            match items.try_recv() {
                Ok(item) => self.take_in(item),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return !self.queue.is_empty(),
            }
        }
    }

    fn take_in(&mut self, item: Item) {
        self.ports.entry(item.port.number).or_insert_with(|| item.port.clone());
        let opens = matches!(item.write, Write::Keep(KeepRun { open: Some(_), .. }));
        if opens && self.full_until.is_some_and(|until| Instant::now() < until) {
            return tell(&item.port, item.ticket, Done::Kept(Err(self.full_text())));
        }
        self.queue.push_back(item);
    }

    fn write_group(&mut self) -> Result<(), Fault> {
        let count = self.group_len();
        if count == 0 {
            return Ok(());
        }
        let outcomes = self.writer.commit(self.queue.iter().take(count).map(|item| &item.write), now_us())?;
        self.full_until = None;
        let mut told: BTreeMap<usize, Told> = BTreeMap::new();
        for (Item { port, ticket, write }, outcome) in self.queue.drain(..count).zip(outcomes) {
            let write = match write {
                Write::Purge { viewer, runs } => {
                    self.purges.push_back((port, ticket, Purging::of_runs(viewer, runs)));
                    continue;
                }
                Write::PurgeOlder { viewer, shard, before_us } => {
                    self.purges.push_back((port, ticket, Purging::older(viewer, shard, before_us)));
                    continue;
                }
                write => write,
            };
            if let Some(ticket) = ticket
                && let Some(done) = done(write, outcome)
            {
                told.entry(port.number).or_insert_with(|| (port, Vec::new())).1.push((ticket, done));
            }
        }
        told.into_values().for_each(|(port, done)| (port.tell)(FromStore::Committed(done)));
        while self.purges.len() > PURGES_MAX {
            let Some((port, ticket, _)) = self.purges.pop_back() else { break };
            let refusal = StoreRefusal::TooMuch(format!("{PURGES_MAX} purges are under way already: try again later"));
            tell(&port, ticket, Done::Purged(Err(refusal)));
        }
        Ok(())
    }

    fn group_len(&self) -> usize {
        let mut bytes = 0;
        let fits = |item: &&Item| {
            let before = bytes;
            bytes += weight(&item.write);
            before < GROUP_BYTES_MAX
        };
        self.queue.iter().take(GROUP_WRITES_MAX).take_while(fits).count()
    }

    /// One step of what waits beside the queue.
    fn chores(&mut self) -> Result<(), Fault> {
        if let Some((port, ticket, mut purging)) = self.purges.pop_front() {
            match self.writer.purge(&mut purging) {
                Ok(Some(answer)) => tell(&port, ticket, Done::Purged(answer)),
                Ok(None) => self.purges.push_back((port, ticket, purging)),
                Err(fault) => {
                    self.purges.push_front((port, ticket, purging));
                    return Err(fault);
                }
            }
        }
        let now = Instant::now();
        if now >= self.sweep_at {
            let dropped = self.writer.retain(now_us())?;
            self.sweep_at = match dropped {
                true => now,
                false if self.writer.is_over() => now + OVER_SWEEP,
                false => now + SWEEP,
            };
        } else if self.writer.is_over() {
            self.sweep_at = self.sweep_at.min(now + OVER_SWEEP);
        }
        Ok(())
    }

    /// What opens a job is refused, and tried no more; everything else waits until there is space.
    fn disk_full(&mut self) {
        if self.full_until.is_none() {
            tracing::error!("{}; what is acknowledged is kept, and new jobs are refused until there is space", self.full_text());
        }
        // Without what is refused there may be space for the rest, at once.
        let refused = self.refuse_new_jobs();
        self.full_until = Some(if refused { Instant::now() } else { Instant::now() + RETRY });
    }

    /// Returns whether there were any.
    fn refuse_new_jobs(&mut self) -> bool {
        let refused: HashSet<JobId> = opened(self.queue.iter().map(|item| &item.write));
        if refused.is_empty() {
            return false;
        }
        let text = self.full_text();
        self.queue.retain(|item| match &item.write {
            Write::Keep(KeepRun { job, .. }) if refused.contains(job) => {
                tell(&item.port, item.ticket, Done::Kept(Err(text.clone())));
                false
            }
            _ => true,
        });
        true
    }

    fn full_text(&self) -> String {
        format!("the disk of the result store {} is full: free space on it", self.file.display())
    }
}

fn tell(port: &Port, ticket: Option<u64>, done: Done) {
    if let Some(ticket) = ticket {
        (port.tell)(FromStore::Committed(vec![(ticket, done)]));
    }
}

/// What a write holds, in bytes.
fn weight(write: &Write) -> u64 {
    match write {
        Write::Keep(keep) => 512 + keep.arguments.bytes() as u64,
        Write::Record { run, .. } => run.window_bytes(),
        Write::Take { runs, .. } => 64 + 4 * runs.len() as u64,
        _ => 64,
    }
}
