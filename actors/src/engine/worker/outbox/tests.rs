use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::engine::worker::testing::idle;

impl ReportSink for Sender<Report> {
    fn send(&mut self, report: Report) {
        let _ = Sender::send(self, report);
    }
}

fn outbox() -> (Outbox<Sender<Report>>, Receiver<Report>) {
    let (sender, reports) = channel();
    (Outbox::start(sender).unwrap(), reports)
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
