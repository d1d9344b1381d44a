//! Lists of single tasks: those of the newest job first, within a job by index.

use rusqlite::{Connection, params};

use super::{
    encode::read_outcomes,
    error::Fault,
    schema::{index, job_of, key},
};
use crate::results::backend::Viewer;
use crate::task::{Cause, EngineId, JobId, MessageId, Outcomes, TaskFilter, TaskRecord, TaskState};
use crate::wire::{QueryTasks, RunBody, TaskPage};

/// How many records one page has at most.
const RECORDS_MAX: usize = 1000;

/// How many jobs and tasks one page looks at: a few tens of milliseconds.
const LOOKED_AT_MAX: u32 = 20_000;

/// How much of an error a record has, in bytes.
const ERROR_BYTES_MAX: usize = 512;

/// A job, as far as its tasks' records have it.
struct Job {
    id: JobId,
    no: i64,
    owner: String,
    label: Option<String>,
    function: String,
    submitted: u32,
}

/// What a page has so far.
struct Scan<'q> {
    query: &'q QueryTasks,
    page: TaskPage,
    looked_at: u32,
    records_max: usize,
}

/// Consecutive tasks of one kind.
enum Span {
    Pending,
    Evicted,
    Run(i64),
}

/// The next tasks of an owner that a query asks for.
pub(super) fn page(connection: &Connection, viewer: &Viewer, query: &QueryTasks) -> Result<TaskPage, Fault> {
    let records_max = (query.limit as usize).clamp(1, RECORDS_MAX);
    let mut scan = Scan { query, page: TaskPage::default(), looked_at: 0, records_max };
    let filter = &query.filter;
    if filter.owner.as_ref().is_some_and(|of| !viewer.sees(of)) {
        return Ok(scan.page);
    }
    let newest = filter.job.unwrap_or(JobId::from_bytes([0xFF; 16]));
    let oldest = filter.job.unwrap_or(JobId::from_bytes([0; 16]));
    let start = query.after.map_or(newest, |after| after.job.min(newest));
    let mut statement = connection.prepare_cached(
        "SELECT id, no, owner, label, function, submitted, opened_us FROM job \
         WHERE shard = ?1 AND id <= ?2 AND id >= ?3 ORDER BY id DESC",
    )?;
    let mut rows = statement.query(params![query.shard, start.as_bytes(), oldest.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let job = Job {
            id: JobId::from_bytes(row.get(0)?),
            no: row.get(1)?,
            owner: row.get(2)?,
            label: row.get(3)?,
            function: row.get(4)?,
            submitted: row.get(5)?,
        };
        let opened_us = row.get::<_, i64>(6)?.max(0) as u64;
        let first = match query.after {
            Some(after) if after.job == job.id => after.index.saturating_add(1),
            _ => 0,
        };
        scan.looked_at += 1;
        let is_asked_for = viewer.sees(&job.owner)
            && filter.owner.as_ref().is_none_or(|of| *of == job.owner)
            && filter.label.as_ref().is_none_or(|label| job.label.as_ref() == Some(label))
            && filter.function.as_ref().is_none_or(|part| job.function.contains(part.as_str()))
            && filter.submitted_before_us.is_none_or(|before| opened_us < before);
        if is_asked_for && !scan.job(connection, &job, first)? {
            return Ok(scan.page);
        }
        if scan.is_full() {
            scan.page.next = Some(MessageId { job: job.id, index: u32::MAX });
            return Ok(scan.page);
        }
    }
    Ok(scan.page)
}

impl Scan<'_> {
    fn is_full(&self) -> bool {
        self.looked_at >= LOOKED_AT_MAX || self.page.records.len() >= self.records_max
    }

    fn wants(&self, state: TaskState) -> bool {
        let states = &self.query.filter.states;
        states.is_empty() || states.contains(&state)
    }

    /// Looks at the tasks of a job from `first` on. False if the page was full before the job's end; then `next` is set.
    fn job(&mut self, connection: &Connection, job: &Job, first: u32) -> Result<bool, Fault> {
        let mut next = first;
        while next < job.submitted {
            let (span, end) = span_at(connection, job, next)?;
            next = match span {
                Span::Run(at) => self.run(connection, job, at, next)?,
                Span::Pending => self.blank(connection, job, TaskState::Pending, (next, end))?,
                Span::Evicted => self.blank(connection, job, TaskState::Evicted, (next, end))?,
            };
            // Every span goes on by a task at least, so that there is one before the next.
            if next < job.submitted && self.is_full() {
                self.page.next = Some(MessageId { job: job.id, index: next - 1 });
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tasks of which nothing is known but that they are there.
    fn blank(&mut self, connection: &Connection, job: &Job, state: TaskState, (first, end): (u32, u32)) -> Result<u32, Fault> {
        self.looked_at += 1;
        let filter = &self.query.filter;
        let is_dated = filter.completed_after_us.is_some() || filter.completed_before_us.is_some();
        if !self.wants(state) || filter.engine.is_some() || is_dated {
            return Ok(end);
        }
        let mut submission = (0, 0, 0);
        for at in first..end {
            if at > first && self.is_full() {
                return Ok(at);
            }
            self.looked_at += 1;
            if !(submission.0..submission.1).contains(&at) {
                submission = super::rows::submission(connection, job.no, at)?;
            }
            self.add(record(job, at, state, submission.2));
        }
        Ok(end)
    }

    /// The tasks of a run from `first` on.
    fn run(&mut self, connection: &Connection, job: &Job, at: i64, first: u32) -> Result<u32, Fault> {
        self.looked_at += 1;
        let mut statement = connection
            .prepare_cached("SELECT count, failed, engine, attempt, submitted_us, recorded_us, body FROM run WHERE key = ?1")?;
        let mut rows = statement.query([at])?;
        let row = rows.next()?.ok_or_else(|| Fault::Damaged(format!("run {at} is missing")))?;
        let (count, failed): (u32, u32) = (row.get(0)?, row.get(1)?);
        let end = index(at).saturating_add(count);
        let engine = row.get::<_, Option<u32>>(2)?.map(EngineId);
        let wants_values = self.wants(TaskState::Succeeded);
        let wants_failures = self.wants(TaskState::Failed) || self.wants(TaskState::Aborted);
        let is_wanted = (wants_values && failed < count) || (wants_failures && failed > 0);
        if !is_wanted || self.query.filter.engine.is_some_and(|asked| engine != Some(asked)) {
            return Ok(end);
        }
        let body = read_outcomes(row.get_ref(6)?.as_blob().map_err(rusqlite::Error::from)?, count);
        let (submitted_us, recorded_us) = (row.get::<_, i64>(4)?.max(0) as u64, row.get::<_, i64>(5)?.max(0) as u64);
        let attempt = row.get(3)?;
        for task in first..end {
            if task > first && self.is_full() {
                return Ok(task);
            }
            self.looked_at += 1;
            let mut record = TaskRecord { engine, attempt, ..record(job, task, TaskState::Succeeded, submitted_us) };
            fill(&mut record, &body, task - index(at), recorded_us);
            self.add(record);
        }
        Ok(end)
    }

    fn add(&mut self, record: TaskRecord) {
        if self.wants(record.state) && times_match(&self.query.filter, &record) {
            self.page.records.push(record);
        }
    }
}

/// What of a job is at a task, and where that ends.
fn span_at(connection: &Connection, job: &Job, task: u32) -> Result<(Span, u32), Fault> {
    let here = key(job.no, task);
    let mut end = job.submitted;
    for table in ["run", "evicted"] {
        let sql = match table {
            "run" => {
                "SELECT key, (key & 4294967295) + count FROM run WHERE key >= coalesce((SELECT max(key) FROM run WHERE key <= ?1), ?1) ORDER BY key LIMIT 2"
            }
            _ => {
                "SELECT key, end FROM evicted WHERE key >= coalesce((SELECT max(key) FROM evicted WHERE key <= ?1), ?1) ORDER BY key LIMIT 2"
            }
        };
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([here])?;
        while let Some(row) = rows.next()? {
            let (at, stop): (i64, u32) = (row.get(0)?, row.get(1)?);
            if job_of(at) != job.no {
                continue;
            }
            if at <= here && stop > task {
                return Ok((if table == "run" { Span::Run(at) } else { Span::Evicted }, stop.min(job.submitted)));
            }
            if at > here {
                end = end.min(index(at));
            }
        }
    }
    Ok((Span::Pending, end))
}

fn record(job: &Job, index: u32, state: TaskState, submitted_us: u64) -> TaskRecord {
    TaskRecord {
        id: MessageId { job: job.id, index },
        state,
        label: job.label.clone(),
        function: job.function.clone(),
        owner: job.owner.clone(),
        engine: None,
        attempt: 0,
        submitted_us,
        started_us: None,
        completed_us: None,
        error: None,
    }
}

fn fill(record: &mut TaskRecord, body: &RunBody, offset: u32, recorded_us: u64) {
    let cause = match body {
        RunBody::Ended(cause) => {
            record.completed_us = Some(recorded_us);
            Some(cause)
        }
        RunBody::Ran(outcomes) => {
            fill_times(record, outcomes, offset);
            outcomes.failure(offset)
        }
    };
    if let Some(cause) = cause {
        record.state = if *cause == Cause::Aborted { TaskState::Aborted } else { TaskState::Failed };
        record.error = Some(shortened(cause.to_string()));
    }
}

fn fill_times(record: &mut TaskRecord, outcomes: &Outcomes, offset: u32) {
    if let Some(timing) = outcomes.timings.get(offset as usize) {
        let started = outcomes.epoch_us.saturating_add(u64::from(timing.start_us));
        record.started_us = Some(started);
        record.completed_us = Some(started.saturating_add(u64::from(timing.busy_us)));
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > ERROR_BYTES_MAX {
        let end = (0..=ERROR_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn times_match(filter: &TaskFilter, record: &TaskRecord) -> bool {
    let after = |limit: Option<u64>, at: Option<u64>| limit.is_none_or(|limit| at.is_some_and(|at| at >= limit));
    let before = |limit: Option<u64>, at: Option<u64>| limit.is_none_or(|limit| at.is_some_and(|at| at < limit));
    after(filter.submitted_after_us, Some(record.submitted_us))
        && before(filter.submitted_before_us, Some(record.submitted_us))
        && after(filter.completed_after_us, record.completed_us)
        && before(filter.completed_before_us, record.completed_us)
}
