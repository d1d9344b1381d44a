use std::fs;
use std::os::unix::fs::FileExt;

use tempfile::TempDir;

use super::{Direct, file, image};
use crate::results::{
    Retention, Store, StoreError,
    backend::{Answer, Question},
    testing::{JOB, Keeps, ada, close, keep, ran},
};
use crate::task::{Cause, JobId};
use crate::wire::RunBody;

/// A store with jobs that have ended and one that has not, closed in order: no log.
fn filled() -> Direct {
    let mut store = Direct::new();
    for number in 100..140 {
        let job = JobId::from_u128(number);
        store.apply(keep(job, 0, 50));
        store.record(job, ran(0, 50, &[7]));
        store.apply(close(job, 50));
    }
    store.apply(keep(JOB, 0, 50));
    store
}

fn open(dir: &std::sync::Arc<tempfile::TempDir>) -> Result<Direct, StoreError> {
    Direct::open(dir.clone(), Retention::default())
}

#[test]
fn a_log_that_was_cut_is_recovered_up_to_the_last_whole_commit() {
    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 100));
    (0..20).for_each(|run| drop(store.record(JOB, ran(run * 5, 5, &[]))));
    let log = store.dir.path().join("store.sqlite-wal");
    let bytes = fs::metadata(&log).unwrap().len();
    let mut last = 0;
    for part in 0..=40 {
        let cut = image(store.dir.path());
        let log = fs::OpenOptions::new().write(true).open(cut.path().join("store.sqlite-wal")).unwrap();
        log.set_len(bytes * part / 40).unwrap();
        // All of the schema may be in what was cut: then it is no store, and says so.
        let Ok(mut opened) = open(&cut) else { continue };
        let done = opened.status(JOB, 0, 100).succeeded;
        assert!(done >= last && done % 5 == 0, "{done} after {last}");
        last = done;
    }
    assert_eq!(last, 100);
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let garbage = vec![0xA5; 50_000];
    let cases: [(&str, &[u8]); 3] = [("garbage", &garbage), ("short", b"SQLite"), ("text", b"jobs: none\n")];
    for (name, content) in cases {
        let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
        fs::write(file(dir.path()), content).unwrap();
        let error = open(&dir).err().unwrap();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{name}: {error}");
        assert!(error.to_string().contains("store.sqlite"), "{error}");
        assert_eq!(fs::read(file(dir.path())).unwrap(), content, "{name}");
    }
    let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    let foreign = rusqlite::Connection::open(file(dir.path())).unwrap();
    foreign.execute_batch("CREATE TABLE job(id); INSERT INTO job VALUES (1)").unwrap();
    drop(foreign);
    let before = fs::read(file(dir.path())).unwrap();
    assert!(matches!(open(&dir).err().unwrap(), StoreError::NotAStore { .. }));
    assert_eq!(fs::read(file(dir.path())).unwrap(), before);
}

#[test]
fn a_newer_schema_is_refused() {
    let store = filled();
    let dir = store.dir.clone();
    drop(store);
    let newer = rusqlite::Connection::open(file(dir.path())).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = open(&dir).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("schema 99"), "{error}");
}

#[test]
fn a_store_that_is_gone_or_empty_is_not_replaced_silently() {
    for is_deleted in [false, true] {
        let store = filled();
        let dir = store.dir.clone();
        drop(store);
        if is_deleted {
            fs::remove_file(file(dir.path())).unwrap();
        } else {
            fs::write(file(dir.path()), b"").unwrap();
        }
        let error = open(&dir).err().unwrap();
        assert!(matches!(error, StoreError::Lost { .. }), "{error}");
        let StoreError::Lost { trace, .. } = error else { return };
        fs::remove_file(trace).unwrap();
        assert!(open(&dir).unwrap().restored.jobs.is_empty(), "begun anew, on purpose");
    }
}

#[test]
fn an_empty_file_beside_a_log_is_refused() {
    let store = filled();
    let dir = image(store.dir.path());
    fs::write(file(dir.path()), b"").unwrap();
    fs::remove_file(dir.path().join("store.lock")).unwrap();
    let error = open(&dir).err().unwrap();
    let StoreError::Lost { trace, .. } = &error else { panic!("{error}") };
    assert!(trace.ends_with("store.sqlite-wal"), "{error}");
}

#[test]
fn a_controller_that_ended_while_it_made_a_store_can_start_again() {
    for content in [Some(true), Some(false), None] {
        let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
        match content {
            Some(true) => {
                let blank = rusqlite::Connection::open(file(dir.path())).unwrap();
                blank.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
            }
            Some(false) => fs::write(file(dir.path()), b"").unwrap(),
            None => {}
        }
        let mut store = open(&dir).unwrap();
        store.apply(keep(JOB, 0, 1));
        assert_eq!(store.reopened().restored.jobs.len(), 1);
    }
}

#[test]
fn a_second_controller_is_refused() {
    let store = Direct::new();
    let error = open(&store.dir).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    let dir = store.dir.clone();
    drop(store);
    let (first, _) = Store::open(&file(dir.path()), Retention::default()).unwrap();
    assert!(matches!(Store::open(&file(dir.path()), Retention::default()), Err(StoreError::InUse { .. })));
    let clone = first.clone();
    drop(first);
    assert!(Store::open(&file(dir.path()), Retention::default()).is_err(), "a clone holds it");
    drop(clone);
    assert!(Store::open(&file(dir.path()), Retention::default()).is_ok(), "dropping the last one waits for its threads");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    fs::create_dir(file(dir.path())).unwrap();
    let text = open(&dir).err().unwrap().to_string();
    assert!(text.contains("store.sqlite"), "{text}");
    assert!(Store::open(std::path::Path::new("/nowhere/at/all/store.sqlite"), Retention::default()).is_err());
}

#[test]
fn flipped_bytes_are_noticed_or_harmless_and_never_panic() {
    let store = filled();
    let dir = store.dir.clone();
    drop(store);
    let bytes = fs::metadata(file(dir.path())).unwrap().len();
    let (mut refused, mut read) = (0, 0);
    for at in (0..bytes).step_by(3989) {
        let copy = image(dir.path());
        let damaged = fs::OpenOptions::new().read(true).write(true).open(file(copy.path())).unwrap();
        let mut byte = [0];
        damaged.read_exact_at(&mut byte, at).unwrap();
        damaged.write_all_at(&[byte[0] ^ 0x11], at).unwrap();
        drop(damaged);
        let Ok(mut opened) = open(&copy) else {
            refused += 1;
            continue;
        };
        for number in 100..140 {
            let job = JobId::from_u128(number);
            let question = Question::Page { job, ranges: vec![(0, u32::MAX)], bytes_max: 1 << 20 };
            match opened.reader.answer(question) {
                Ok(Answer::Page(page)) => {
                    for run in page.runs {
                        if matches!(run.body, RunBody::Ended(Cause::Damaged { .. })) {
                            refused += 1;
                            continue;
                        }
                        assert_eq!(run.body, ran(0, 50, &[7]).body, "byte {at} of {bytes}: what is served is what was recorded");
                        read += 1;
                    }
                }
                Ok(other) => panic!("{other:?}"),
                Err(fault) => {
                    let text = StoreError::of_fault(&file(copy.path()), fault).to_string();
                    assert!(text.contains("damaged"), "{text}");
                    refused += 1;
                }
            }
            let _ = opened.reader.answer(Question::Status { viewer: ada().into(), runs: vec![(job, 1, 3)] });
        }
    }
    assert!(refused > 5 && read > 100, "{refused} refused, {read} read");
}

#[test]
fn outcomes_that_are_damaged_say_so_and_others_are_served() {
    let mut store = filled();
    let [damaged, intact] = [100, 101].map(JobId::from_u128);
    let connection = rusqlite::Connection::open(file(store.dir.path())).unwrap();
    let flip = "UPDATE run SET body = CAST(substr(body, 1, 20) || x'FF' || substr(body, 22) AS BLOB) WHERE key >> 32 = \
                (SELECT no FROM job WHERE id = (SELECT id FROM job ORDER BY no LIMIT 1))";
    assert_eq!(connection.execute(flip, []).unwrap(), 1);
    let mut page = |job| match store.reader.answer(Question::Page { job, ranges: vec![(0, 50)], bytes_max: 1 << 20 }) {
        Ok(Answer::Page(page)) => page.runs,
        other => panic!("{other:?}"),
    };
    let [run] = &page(damaged)[..] else { panic!("one run") };
    let RunBody::Ended(Cause::Damaged { detail }) = &run.body else { panic!("{run:?}") };
    assert!(run.count == 50 && detail.contains("checksum"), "{run:?}");
    assert_eq!(page(intact)[0].body, ran(0, 50, &[7]).body);
}

#[test]
fn a_store_that_ends_in_order_leaves_no_log() {
    let dir = TempDir::new().unwrap();
    let file = file(dir.path());
    for round in 0..100u32 {
        let (store, _) = Store::open(&file, Retention::default()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let port = store.attach(Box::new(move |message| drop(tell.send(message))));
        store.write(&port, Some(1), keep(JobId::from_u128(u128::from(round) + 1), 0, 1000));
        store.ask(&port, 2, Question::Status { viewer: ada().into(), runs: vec![(JOB, 0, 1000)] });
        // Both threads wait when they are told to end.
        let _ = (told.recv().unwrap(), told.recv().unwrap());
        drop(store);
        assert!(!dir.path().join("store.sqlite-wal").exists(), "round {round}");
    }
}
