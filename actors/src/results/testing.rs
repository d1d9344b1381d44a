//! What tests of both backends share.

use std::sync::Arc;

use engineroom_runtime::proto::handshake::Incarnation;

use super::{
    KeepRun, Owner,
    backend::{Answer, Done, JobInfo, Page, Question, Write},
};
use crate::code::{Function, FunctionRef};
use crate::status::StatusCounts;
use crate::task::{Cause, EngineId, JobId, Outcomes, Packed, PackedBuilder, Timing};
use crate::wire::{JobHeader, Run, RunBody};

pub(super) const JOB: JobId = JobId::from_u128(7);

/// Either backend.
pub(super) trait Keeps {
    fn apply(&mut self, write: Write) -> Option<Done>;
    fn answer(&mut self, question: Question) -> Answer;

    fn info(&mut self, job: JobId) -> Option<JobInfo> {
        let Answer::Job(info) = self.answer(Question::Job(job)) else { panic!("another answer") };
        info
    }

    fn status(&mut self, job: JobId, first: u32, count: u32) -> StatusCounts {
        let question = Question::Status { viewer: ada().into(), runs: vec![(job, first, count)] };
        let Answer::Status(status) = self.answer(question) else { panic!("another answer") };
        status
    }

    fn page(&mut self, job: JobId, ranges: &[(u32, u32)], bytes_max: u64) -> Page {
        let Answer::Page(page) = self.answer(Question::Page { job, ranges: ranges.to_vec(), bytes_max }) else {
            panic!("another answer")
        };
        page
    }

    fn record(&mut self, job: JobId, run: Run) -> Option<Run> {
        let Some(Done::Recorded(run, _)) = self.apply(Write::Record { job, run }) else { panic!("another answer") };
        run
    }

    /// Every page of all tasks; runs that came twice once.
    fn everything(&mut self, job: JobId, bytes_max: u64) -> Vec<Run> {
        let (mut all, mut from): (Vec<Run>, u32) = (Vec::new(), 0);
        while from < u32::MAX {
            let page = self.page(job, &[(from, u32::MAX)], bytes_max);
            assert!(page.until > from, "a page goes on");
            let new = page.runs.into_iter().filter(|run| !all.contains(run));
            let new: Vec<Run> = new.collect();
            all.extend(new);
            from = page.until;
        }
        all.sort_by_key(|run| run.first);
        all
    }
}

pub(super) fn ada() -> Arc<str> {
    "ada".into()
}

pub(super) fn header() -> JobHeader {
    JobHeader {
        function: Function { reference: FunctionRef::Named { name: "simulate".into() }, name: "simulate".into() },
        target: String::new(),
        direct: Vec::new(),
        chunk: 0,
        label: Some("evening".into()),
        subscription: 1,
        window_bytes: 1,
        shared: None,
        options: Box::default(),
    }
}

pub(super) fn packed(first: u32, count: u32, bytes: usize) -> Packed {
    let mut packed = PackedBuilder::default();
    (first..first + count).for_each(|index| packed.push(&vec![index as u8; bytes]));
    packed.build()
}

/// Tasks of Ada's.
pub(super) fn keep(job: JobId, first: u32, count: u32) -> Write {
    let owner = Owner { name: ada(), incarnation: Incarnation::from_u128(5) };
    let open = (first == 0).then(|| (owner, header()));
    Write::Keep(KeepRun { job, open, first, arguments: packed(first, count, 20), closed: false })
}

pub(super) fn close(job: JobId, first: u32) -> Write {
    Write::Keep(KeepRun { job, open: None, first, arguments: Packed::default(), closed: true })
}

pub(super) fn ran(first: u32, count: u32, failed: &[u32]) -> Run {
    let outcomes = Outcomes {
        epoch_us: 1_000_000,
        values: packed(first, count, 100),
        timings: (0..count).map(|at| Timing { start_us: at, busy_us: 1 }).collect(),
        failures: failed.iter().map(|at| (*at, Cause::WorkerUnavailable { detail: "none".into() })).collect(),
        ..Outcomes::default()
    };
    Run { first, count, engine: Some(EngineId(3)), attempt: 1, submitted_us: 0, body: RunBody::Ran(outcomes) }
}

pub(super) fn aborted(first: u32, count: u32) -> Run {
    Run { first, count, engine: None, attempt: 0, submitted_us: 0, body: RunBody::Ended(Cause::Aborted) }
}
