use std::{
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    time::{Duration, Instant},
};

use super::{Direct, file};
use crate::results::{
    backend::{Answer, Done, Question, Write},
    port::{FromStore, Port},
    sqlite::{
        store::Size,
        threads::{Item, write_loop},
        writer::Writer,
    },
    testing::{JOB, Keeps, ada, keep, ran},
};
use crate::status::StatusCounts;
use crate::task::JobId;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

struct Running {
    items: Option<mpsc::Sender<Item>>,
    told: mpsc::Receiver<FromStore>,
    port: Arc<Port>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(writer: Writer, lock: super::Lock, path: std::path::PathBuf) -> Self {
        let (items, receiver) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let port = Arc::new(Port { number: 0, tell: Box::new(move |message| drop(tell.send(message))) });
        let thread = std::thread::spawn(move || write_loop(writer, lock, &receiver, &Size::default(), &path));
        Self { items: Some(items), told, port, thread: Some(thread) }
    }

    fn write(&self, ticket: u64, write: Write) {
        let item = Item { port: self.port.clone(), ticket: Some(ticket), write };
        self.items.as_ref().unwrap().send(item).unwrap();
    }

    /// The next things that are told, until there are so many.
    fn told(&self, count: usize) -> Vec<(u64, Done)> {
        let until = Instant::now() + LONG;
        let mut all = Vec::new();
        while all.len() < count {
            match self.told.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(FromStore::Committed(done)) => all.extend(done),
                other => panic!("{other:?} after {all:?}"),
            }
        }
        assert_eq!(all.len(), count);
        all
    }

    fn end(mut self) {
        self.items = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_full_disk_refuses_new_jobs_and_the_rest_is_kept_once_there_is_space() {
    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 100_000));
    let (dir, pages) = (store.dir.clone(), store.writer.pages());
    let Direct { writer, mut reader, _lock: lock, .. } = store;
    let pages_max = writer.pages_max.clone();
    pages_max.store(pages + 4, Relaxed);
    let running = Running::start(writer, lock, file(dir.path()));
    let (new, open) = (JobId::from_u128(50), |first| Write::Record { job: JOB, run: ran(first, 1000, &[]) });
    running.write(1, open(0));
    running.write(2, keep(new, 0, 1));
    running.write(3, Write::Settle);
    running.write(4, open(1000));
    let told = running.told(1);
    let [(2, Done::Kept(Err(text)))] = &told[..] else { panic!("{told:?}") };
    assert!(text.contains("is full: free space") && text.contains("store.sqlite"), "{text}");
    running.write(5, keep(JobId::from_u128(51), 0, 1));
    assert!(matches!(running.told(1)[..], [(5, Done::Kept(Err(_)))]), "while it is full, others are refused too");
    let answer = reader.answer(Question::Status { viewer: ada().into(), runs: vec![(JOB, 0, 2000)] });
    assert!(matches!(answer, Ok(Answer::Status(StatusCounts { pending: 2000, .. }))), "{answer:?}");
    pages_max.store(0, Relaxed);
    let told = running.told(3);
    assert!(matches!(told[..], [(1, Done::Recorded(Some(_), false)), (3, Done::Settled), (4, Done::Recorded(Some(_), false))]));
    running.write(6, keep(new, 0, 1));
    assert!(matches!(running.told(1)[..], [(6, Done::Kept(Ok(false)))]), "there is space");
    drop(reader);
    running.end();
    let mut store = Direct::open(dir, super::Retention::default()).unwrap();
    assert_eq!(store.status(JOB, 0, 2000).succeeded, 2000);
}

#[test]
fn a_store_ends_although_its_disk_is_full() {
    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 100_000));
    let (dir, pages) = (store.dir.clone(), store.writer.pages());
    let Direct { writer, _lock: lock, .. } = store;
    writer.pages_max.store(pages, Relaxed);
    let running = Running::start(writer, lock, file(dir.path()));
    running.write(1, Write::Record { job: JOB, run: ran(0, 1000, &[]) });
    running.write(2, keep(JobId::from_u128(50), 0, 1));
    running.told(1);
    running.end();
}

#[test]
fn groups_of_many_writes_answer_each_in_order() {
    let store = Direct::new();
    let dir = store.dir.clone();
    let Direct { writer, reader, _lock: lock, .. } = store;
    drop(reader);
    let running = Running::start(writer, lock, file(dir.path()));
    running.write(0, keep(JOB, 0, 20_000));
    (0..20_000).for_each(|task| running.write(u64::from(task) + 1, Write::Record { job: JOB, run: ran(task, 1, &[]) }));
    running.write(20_001, Write::Settle);
    let told = running.told(20_002);
    assert!(told.iter().map(|(ticket, _)| *ticket).eq(0..20_002));
    assert!(told[1..20_001].iter().all(|(_, done)| matches!(done, Done::Recorded(Some(_), false))));
    running.end();
    let mut store = Direct::open(dir, super::Retention::default()).unwrap();
    assert_eq!(store.status(JOB, 0, 20_000).succeeded, 20_000);
}
