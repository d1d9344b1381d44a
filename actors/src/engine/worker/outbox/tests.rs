use std::{
    io::{Seek, SeekFrom, Write},
    sync::mpsc::{Receiver, Sender, channel},
};

use super::*;
use crate::engine::worker::testing::idle;
use crate::task::{OutputStream, Piece};

impl ReportSink for Sender<Report> {
    fn send(&mut self, report: Report) {
        let _ = Sender::send(self, report);
    }

    fn tell(&mut self, _: Told) {}
}

impl ReportSink for Sender<Told> {
    fn send(&mut self, _: Report) {}

    fn tell(&mut self, told: Told) {
        let _ = Sender::send(self, told);
    }
}

fn outbox() -> (Outbox<Sender<Report>>, Receiver<Report>) {
    let (sender, reports) = channel();
    (Outbox::start(sender, None).unwrap(), reports)
}

fn run(first: u32, tasks: usize, reporting: Reporting) -> Run {
    Run { reporting, ..idle(5, first, tasks) }
}

/// A task that ended right when the last report went, so that no time has passed.
fn ended<S>(outbox: &Outbox<S>, result: Result<&'static [u8], Cause>) -> Ended<'static> {
    let now = outbox.shared.lock().last_report;
    Ended { start: now, end: now, result: result.map(Cow::Borrowed), output: None }
}

#[test]
fn quick_outcomes_travel_together() {
    let (outbox, reports) = outbox();
    outbox.begin(&run(10, 4, Reporting::Coalesced));
    // The helper may look in between, if this thread is not scheduled for long; what arrives is the same.
    for result in [Ok(&b"a"[..]), Err(Cause::Aborted), Ok(b"c")] {
        outbox.push(ended(&outbox, result));
    }
    assert_eq!(outbox.push(ended(&outbox, Ok(b"d"))), Pushed::Sent);
    let (mut next, mut values, mut failed) = (10, Vec::new(), Vec::new());
    while next < 14 {
        let report = reports.recv().unwrap();
        assert_eq!((report.batch, report.first), (BatchId(5), next));
        assert!(report.outcomes.is_sound());
        values.extend(report.outcomes.values.iter().map(<[u8]>::to_vec));
        failed.extend(report.outcomes.failures.iter().map(|(offset, _)| next + offset));
        next += report.outcomes.len() as u32;
    }
    assert_eq!(values, [&b"a"[..], b"", b"c", b"d"]);
    assert_eq!(failed, [11]);
}

#[test]
fn stragglers_are_sent_while_the_next_task_runs() {
    let (outbox, reports) = outbox();
    for round in 0..3 {
        outbox.begin(&run(round, 2, Reporting::Coalesced));
        outbox.push(ended(&outbox, Ok(b"early")));
        // Nobody pushes the second: a long task.
        let report = reports.recv().unwrap();
        assert_eq!((report.first, report.outcomes.len()), (round, 1));
        outbox.push(ended(&outbox, Ok(b"late")));
        assert_eq!(reports.recv().unwrap().first, round + 1);
    }
}

#[test]
fn the_end_of_a_task_that_was_announced_goes_at_once_lest_the_crash_of_the_next_is_blamed_on_it() {
    let (outbox, reports) = outbox();
    outbox.begin(&run(0, 3, Reporting::Coalesced));
    // It takes long enough to be announced, and ends right then.
    assert!(reports.recv().unwrap().outcomes.is_empty());
    assert_eq!(outbox.push(ended(&outbox, Ok(b"done"))), Pushed::Sent);
    let report = reports.recv().unwrap();
    assert_eq!((report.first, report.outcomes.len()), (0, 1));
}

#[test]
fn slow_and_large_outcomes_go_at_once() {
    let (outbox, _reports) = outbox();
    outbox.begin(&run(0, 10, Reporting::Coalesced));
    let mut slow = ended(&outbox, Ok(b"slow"));
    slow.end += REPORT_AFTER;
    assert_eq!(outbox.push(slow), Pushed::Sent);
    static LARGE: [u8; REPORT_BYTES] = [0; REPORT_BYTES];
    assert_eq!(outbox.push(ended(&outbox, Ok(&LARGE))), Pushed::Sent);
    let long = Cause::ReturnedError { type_name: String::new(), message: "x".repeat(REPORT_BYTES), value: None };
    assert_eq!(outbox.push(ended(&outbox, Err(long))), Pushed::Sent);
}

#[test]
fn careful_batches_report_each_task() {
    let (outbox, reports) = outbox();
    outbox.begin(&run(0, 3, Reporting::Careful));
    for index in 0..3 {
        assert_eq!(outbox.push(ended(&outbox, Ok(b""))), Pushed::Sent);
        assert_eq!(reports.recv().unwrap().first, index);
    }
}

#[test]
fn times_count_from_the_first_task_of_a_report() {
    let (outbox, reports) = outbox();
    outbox.begin(&run(0, 1, Reporting::Coalesced));
    let before = unix_us(Instant::now());
    let start = Instant::now();
    outbox.push(Ended { start, end: start + Duration::from_millis(3), result: Ok(Cow::Borrowed(b"")), output: None });
    let outcomes = reports.recv().unwrap().outcomes;
    assert_eq!(outcomes.timings, [Timing { start_us: 0, busy_us: 3000 }]);
    // The clock of the system may be set meanwhile, but not by an hour.
    assert!(outcomes.epoch_us.abs_diff(before) < 3_600_000_000);
}

#[test]
fn the_helper_ends_with_its_outbox() {
    let (outbox, reports) = outbox();
    drop(outbox);
    // The helper holds the sender until it ends.
    assert!(reports.recv().is_err());
}

#[test]
fn the_engine_hears_which_task_takes_long_if_it_could_be_another() {
    let (outbox, reports) = outbox();
    outbox.begin(&run(7, 3, Reporting::Coalesced));
    // Nobody pushes: the first task takes long.
    let report = reports.recv().unwrap();
    assert_eq!((report.first, report.outcomes.len()), (7, 0));
    outbox.push(ended(&outbox, Ok(b"a")));
    assert_eq!(reports.recv().unwrap().first, 7);
    let report = reports.recv().unwrap();
    assert_eq!((report.first, report.outcomes.len()), (8, 0));
}

#[test]
fn what_the_running_task_tells_is_sent_and_the_newest_counts() {
    let (sender, all_told) = channel::<Told>();
    let outbox = Outbox::start(sender, None).unwrap();
    let bulletin = outbox.bulletin();
    let progress = |progress| News { progress: Some(progress), ..News::default() };
    outbox.begin(&run(10, 1, Reporting::Coalesced));
    bulletin.post(BatchId(5), 11, progress(0.9));
    bulletin.post(BatchId(4), 10, progress(0.9));
    bulletin.post(BatchId(5), 10, progress(0.1));
    assert_eq!(all_told.recv().unwrap(), Told { batch: BatchId(5), index: 10, news: progress(0.1) });
    // The next ones are held back for a while.
    for step in 2..=9 {
        bulletin.post(BatchId(5), 10, progress(f64::from(step) / 10.0));
    }
    let mut latest = 0.1;
    while latest < 0.9 {
        let told = all_told.recv().unwrap().news.progress.unwrap();
        assert!(told > latest, "{told} after {latest}");
        latest = told;
    }
}

#[test]
fn what_was_published_last_travels_with_the_outcome_of_its_task() {
    let (outbox, reports) = outbox();
    outbox.begin(&run(0, 2, Reporting::Careful));
    let published = |value: &'static [u8]| News { published: Some(value.into()), ..News::default() };
    outbox.bulletin().post(BatchId(5), 0, published(b"first"));
    outbox.bulletin().post(BatchId(5), 0, published(b"last"));
    outbox.push(ended(&outbox, Err(Cause::Aborted)));
    outbox.push(ended(&outbox, Ok(b"plain")));
    let left = |report: Report| report.outcomes.output_of(0).and_then(|output| output.published.clone());
    let mut with_outcomes = reports.iter().filter(|report| !report.outcomes.is_empty());
    assert_eq!(left(with_outcomes.next().unwrap()).as_deref(), Some(&b"last"[..]));
    assert_eq!(left(with_outcomes.next().unwrap()), None);
}

#[test]
fn what_the_running_task_writes_is_told_up_to_its_end_and_anew_for_the_next() {
    let (sender, all_told) = channel::<Told>();
    let mut file = tempfile::tempfile().unwrap();
    let follower = Follower::of([&file, &tempfile::tempfile().unwrap()]).unwrap();
    let outbox = Outbox::start(sender, Some(follower)).unwrap();
    let bulletin = outbox.bulletin();
    let mut follow = |text: &str| {
        file.write_all(text.as_bytes()).unwrap();
        bulletin.follow();
        all_told.try_recv().ok().map(|told| (told.index, told.news.written))
    };
    let piece = |until, text: &str| vec![Piece { stream: OutputStream::Stdout, until, text: text.into() }];
    assert_eq!(follow("before any task"), None);
    outbox.begin(&run(7, 2, Reporting::Careful));
    outbox.taking_output();
    assert_eq!(follow(""), None, "whose it is is being found out");
    outbox.push(ended(&outbox, Ok(b"first")));
    file.set_len(0).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut follow = |text: &str| {
        file.write_all(text.as_bytes()).unwrap();
        bulletin.follow();
        all_told.try_recv().ok().map(|told| (told.index, told.news.written))
    };
    assert_eq!(follow("one "), Some((8, piece(4, "one "))));
    assert_eq!(follow(""), None);
    assert_eq!(follow("two"), Some((8, piece(7, "two"))));
}
