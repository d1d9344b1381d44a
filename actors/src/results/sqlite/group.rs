//! One transaction: what several stores want kept, applied in order.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{
    encode::{encode_arguments, encode_engines, encode_failures, encode_header, encode_run},
    error::Fault,
    rows::{self, Totals},
    schema::{JOBS_MAX, key},
    status,
};
use crate::results::{
    KeepRun, NoteEngines, Owner,
    backend::{Done, JobInfo, Viewer, Write},
};
use crate::scheduler::Known;
use crate::status::StatusCounts;
use crate::task::JobId;
use crate::wire::{JobCounts, JobHeader, Run, SHARDS};

/// What a row costs beside its body, in bytes: its columns, and its entries in indexes.
const ROW_BYTES: u64 = 96;

/// A transaction under way, and what it has read so far.
pub(super) struct Group<'c> {
    connection: &'c Connection,
    now_us: u64,
    /// Why no new jobs are taken, if that is so.
    refusal: Option<&'c str>,
    jobs: HashMap<JobId, Option<JobRow>>,
    pub totals: Totals,
}

/// What became of a write, but for what the write itself can give.
pub(super) enum Outcome {
    Kept(Result<bool, String>),
    /// When the tasks were submitted; `None` if the outcomes are not wanted.
    Recorded(Option<u64>, bool),
    Looked(Option<JobInfo>),
    Counted(Option<Known>),
    Settled,
    Silent,
}

/// A job's row, as far as writes need it.
#[derive(Clone, Debug)]
pub(super) struct JobRow {
    pub no: i64,
    pub owner: Arc<str>,
    pub counts: JobCounts,
    pub evicted: u32,
    pub evicted_failed: u32,
    pub closed: bool,
    pub ended: bool,
    dirty: bool,
    /// The submission that was looked up last: first, end, time.
    submission: (u32, u32, u64),
}

impl JobRow {
    pub fn info(&self) -> JobInfo {
        JobInfo { owner: self.owner.clone(), counts: self.counts, ended: self.ended }
    }

    /// The row of a job, if there is one.
    pub fn load(connection: &Connection, job: JobId) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(
            "SELECT no, owner, submitted, done, failed, evicted, evicted_failed, closed, ended_us IS NOT NULL FROM job WHERE id = ?1",
        )?;
        let row = statement.query_row(params![job.as_bytes()], |row| {
            Ok(Self {
                no: row.get(0)?,
                owner: row.get_ref(1)?.as_str()?.into(),
                counts: JobCounts { submitted: row.get(2)?, done: row.get(3)?, failed: row.get(4)? },
                evicted: row.get(5)?,
                evicted_failed: row.get(6)?,
                closed: row.get(7)?,
                ended: row.get(8)?,
                dirty: false,
                submission: (0, 0, 0),
            })
        });
        row.optional()
    }
}

impl<'c> Group<'c> {
    pub fn new(connection: &'c Connection, totals: Totals, now_us: u64, refusal: Option<&'c str>) -> Self {
        Self { connection, now_us, refusal, jobs: HashMap::new(), totals }
    }

    /// Applies a write. Purges are not for groups; see [`super::chores`].
    pub fn apply(&mut self, write: &Write) -> Result<Outcome, Fault> {
        match write {
            Write::Keep(keep) => Ok(Outcome::Kept(self.keep(keep)?)),
            Write::Record { job, run } => self.record(*job, run),
            Write::Losses { job, first, count, losses } => {
                if let Some(row) = self.job(*job)?.filter(|row| !row.ended) {
                    rows::set_losses(self.connection, row.no, *first, *count, *losses)?;
                }
                Ok(Outcome::Silent)
            }
            Write::Engines(note) => self.note_engines(note).map(|()| Outcome::Silent),
            Write::Released { job, engines } => {
                let mut update = self.connection.prepare_cached("UPDATE job SET released = 1, engines = ?2 WHERE id = ?1")?;
                update.execute(params![job.as_bytes(), engines.as_ref().map(encode_engines)])?;
                Ok(Outcome::Silent)
            }
            Write::Count { viewer, job, first, count } => Ok(Outcome::Counted(self.count(viewer, *job, *first, *count)?)),
            Write::Take { job, owner, runs } => self.take(*job, owner, runs).map(|()| Outcome::Silent),
            Write::Look { job } => Ok(Outcome::Looked(self.job(*job)?.map(|row| row.info()))),
            Write::Settle | Write::Purge { .. } | Write::PurgeOlder { .. } => Ok(Outcome::Settled),
        }
    }

    /// Writes what belongs to the whole. The caller commits.
    pub fn finish(mut self) -> Result<Totals, Fault> {
        let mut update = self.connection.prepare_cached(
            "UPDATE job SET submitted = :submitted, done = :done, failed = :failed, closed = :closed, \
             ended_us = CASE WHEN :ended THEN coalesce(ended_us, :now) END WHERE no = :no",
        )?;
        for row in self.jobs.drain().filter_map(|(_, row)| row).filter(|row| row.dirty) {
            let JobCounts { submitted, done, failed } = row.counts;
            update.execute(named_params! {
                ":submitted": submitted, ":done": done, ":failed": failed, ":closed": row.closed,
                ":ended": row.ended, ":now": self.now_us as i64, ":no": row.no,
            })?;
        }
        self.totals.write(self.connection)?;
        Ok(self.totals)
    }

    /// The row as it is in this transaction. Changes are for [`put`](Self::put).
    fn job(&mut self, job: JobId) -> Result<Option<JobRow>, Fault> {
        if let Some(row) = self.jobs.get(&job) {
            return Ok(row.clone());
        }
        let row = JobRow::load(self.connection, job)?;
        self.jobs.insert(job, row.clone());
        Ok(row)
    }

    fn put(&mut self, job: JobId, mut row: JobRow) -> Result<bool, Fault> {
        row.dirty = true;
        if !row.ended && row.closed && row.counts.done == row.counts.submitted {
            row.ended = true;
            rows::forget_losses(self.connection, row.no)?;
        }
        let ended = row.ended;
        self.jobs.insert(job, Some(row));
        Ok(ended)
    }

    fn keep(&mut self, keep: &KeepRun) -> Result<Result<bool, String>, Fault> {
        let KeepRun { job, open, first, arguments, closed } = keep;
        let mut row = match (self.job(*job)?, open) {
            (Some(row), Some((owner, _))) if *row.owner != *owner.name => {
                return Ok(Err(format!("job {job} belongs to another client: use a fresh id")));
            }
            (Some(row), _) => row,
            (None, Some((owner, header))) => match self.refusal {
                Some(refusal) => return Ok(Err(refusal.to_owned())),
                None => self.open(*job, owner, header)?,
            },
            (None, None) => return Ok(Err(format!("job {job} is not in the store: its first tasks could not be kept"))),
        };
        // A run has fewer than 2^32 tasks, and a job too, which the scheduler checks.
        let count = arguments.len() as u32;
        let submitted = row.counts.submitted;
        if *first == submitted && !row.ended && count > 0 {
            let body = encode_arguments(arguments)?;
            let bytes = body.len() as u64 + ROW_BYTES;
            let mut insert = self
                .connection
                .prepare_cached("INSERT INTO arguments(key, count, at_us, bytes, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
            insert.execute(params![key(row.no, *first), count, self.now_us as i64, bytes as i64, body])?;
            self.totals.bytes += bytes;
            row.counts.submitted += count;
        } else if first.saturating_add(count) > submitted {
            return Ok(Err(format!("the tasks of job {job} start at {first}, but {submitted} are in the store")));
        }
        row.closed |= *closed;
        self.put(*job, row).map(Ok)
    }

    fn open(&mut self, job: JobId, owner: &Owner, header: &JobHeader) -> Result<JobRow, Fault> {
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO job(id, shard, owner, incarnation, label, function, opened_us, closed, submitted, done, failed, evicted, \
             evicted_failed, header) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0, 0, 0, 0, 0, ?8)",
        )?;
        let incarnation = owner.incarnation.to_string();
        let (shard, function) = (job.shard(SHARDS) as i64, &header.function.name);
        let header_bytes = encode_header(header)?;
        let at = self.now_us as i64;
        let (id, name) = (job.as_bytes(), &*owner.name);
        insert.execute(params![id, shard, name, incarnation, header.label, function, at, header_bytes])?;
        let no = self.connection.last_insert_rowid();
        if no >= JOBS_MAX {
            return Err(Fault::Fatal(format!("it has had {JOBS_MAX} jobs, which is all that it can number")));
        }
        self.totals.jobs += 1;
        Ok(JobRow {
            no,
            owner: owner.name.clone(),
            counts: JobCounts::default(),
            evicted: 0,
            evicted_failed: 0,
            closed: false,
            ended: false,
            dirty: true,
            submission: (0, 0, 0),
        })
    }

    fn record(&mut self, job: JobId, run: &Run) -> Result<Outcome, Fault> {
        let Some(mut row) = self.job(job)? else { return Ok(Outcome::Recorded(None, true)) };
        let unwanted = run.count == 0
            || run.end() > row.counts.submitted
            || row.ended
            || rows::overlaps(self.connection, "run", row.no, run.first, run.end())?
            || (row.evicted > 0 && rows::overlaps(self.connection, "evicted", row.no, run.first, run.end())?);
        if unwanted {
            return Ok(Outcome::Recorded(None, row.ended));
        }
        if !(row.submission.0..row.submission.1).contains(&run.first) {
            row.submission = rows::submission(self.connection, row.no, run.first)?;
        }
        let submitted_us = row.submission.2;
        let bytes = insert_run(self.connection, row.no, run, (submitted_us, self.now_us), false)?;
        self.totals.bytes += bytes;
        row.counts.done += run.count;
        row.counts.failed += run.failed_within(run.first, run.end());
        let ended = self.put(job, row)?;
        Ok(Outcome::Recorded(Some(submitted_us), ended))
    }

    fn count(&mut self, viewer: &Viewer, job: JobId, first: u32, count: u32) -> Result<Option<Known>, Fault> {
        let Some(row) = self.job(job)?.filter(|row| viewer.sees(&row.owner)) else { return Ok(None) };
        let whole = first == 0 && count >= row.counts.submitted;
        let part = if whole { StatusCounts::default() } else { status::of_row(self.connection, &row, first, count)? };
        Ok(Some(row.info().known((first, count), part)))
    }

    fn take(&mut self, job: JobId, owner: &str, runs: &[u32]) -> Result<(), Fault> {
        let Some(row) = self.job(job)?.filter(|row| *row.owner == *owner) else { return Ok(()) };
        let mut update = self.connection.prepare_cached("UPDATE run SET taken = 1 WHERE key = ?1 AND taken = 0")?;
        for first in runs {
            update.execute([key(row.no, *first)])?;
        }
        Ok(())
    }

    fn note_engines(&mut self, note: &NoteEngines) -> Result<(), Fault> {
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO engine(id) VALUES (?1)")?;
        let mut delete = self.connection.prepare_cached("DELETE FROM engine WHERE id = ?1")?;
        note.joined.iter().try_for_each(|engine| insert.execute([engine.0]).map(drop))?;
        note.left.iter().try_for_each(|engine| delete.execute([engine.0]).map(drop))?;
        let mut next = self.connection.prepare_cached("UPDATE meta SET value = max(value, ?1) WHERE name = 'next_engine'")?;
        next.execute([note.next])?;
        Ok(())
    }
}

/// Writes a run. Returns how many bytes it takes.
pub(super) fn insert_run(
    connection: &Connection,
    job: i64,
    run: &Run,
    (submitted_us, recorded_us): (u64, u64),
    taken: bool,
) -> Result<u64, Fault> {
    let body = encode_run(&run.body)?;
    let failures = encode_failures(&run.body, run.count);
    let bytes = (body.len() + failures.as_ref().map_or(0, Vec::len)) as u64 + ROW_BYTES;
    let mut insert = connection.prepare_cached(
        "INSERT INTO run(key, count, failed, failures, engine, attempt, submitted_us, recorded_us, taken, bytes, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    insert.execute(params![
        key(job, run.first),
        run.count,
        run.failed_within(run.first, run.end()),
        failures,
        run.engine.map(|engine| engine.0),
        run.attempt,
        submitted_us as i64,
        recorded_us as i64,
        taken,
        bytes as i64,
        body,
    ])?;
    Ok(bytes)
}

/// What is told to those who wait for a write.
pub(super) fn done(write: Write, outcome: Outcome) -> Option<Done> {
    match (write, outcome) {
        (_, Outcome::Kept(kept)) => Some(Done::Kept(kept)),
        (Write::Record { run, .. }, Outcome::Recorded(submitted, ended)) => {
            Some(Done::Recorded(submitted.map(|submitted_us| Run { submitted_us, ..run }), ended))
        }
        (_, Outcome::Recorded(_, ended)) => Some(Done::Recorded(None, ended)),
        (_, Outcome::Looked(info)) => Some(Done::Looked(info)),
        (_, Outcome::Counted(known)) => Some(Done::Counted(known)),
        (_, Outcome::Settled) => Some(Done::Settled),
        (_, Outcome::Silent) => None,
    }
}

/// The jobs that a queue of writes opens.
pub(super) fn opened<'w>(writes: impl Iterator<Item = &'w Write>) -> HashSet<JobId> {
    let opens = |write: &Write| match write {
        Write::Keep(KeepRun { job, open: Some(_), .. }) => Some(*job),
        _ => None,
    };
    writes.filter_map(opens).collect()
}
