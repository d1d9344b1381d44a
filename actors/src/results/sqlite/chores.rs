//! What the writer does between groups, in bounded steps: purging what clients ask to be purged, and retention.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    encode::{decode_run, failed_between},
    error::Fault,
    group::{JobRow, insert_run},
    rows::{self, Totals},
    schema::{index, job_of, key},
    status,
};
use crate::results::{Retention, backend::Viewer, part};
use crate::task::{EngineId, JobId};
use crate::wire::{Run, StoreRefusal};

/// How many rows one step changes. A step takes a few milliseconds, for which recordings wait.
const STEP_ROWS: usize = 500;

/// A purge under way.
#[derive(Debug)]
pub(super) struct Purging {
    viewer: Viewer,
    what: What,
    purged: u64,
}

#[derive(Debug)]
enum What {
    /// These tasks; all have been found to have ended once `checked`.
    Runs { runs: Vec<(JobId, u32, u32)>, checked: bool },
    /// Jobs of that shard that ended before that time, from that id on.
    Older { shard: u32, before_us: u64, from: [u8; 16] },
}

impl Purging {
    pub fn of_runs(viewer: Viewer, runs: Vec<(JobId, u32, u32)>) -> Self {
        Self { viewer, what: What::Runs { runs, checked: false }, purged: 0 }
    }

    pub fn older(viewer: Viewer, shard: u32, before_us: u64) -> Self {
        Self { viewer, what: What::Older { shard, before_us, from: [0; 16] }, purged: 0 }
    }

    /// Does a part of it. Returns the answer once it is done. The caller commits.
    pub fn step(&mut self, connection: &Connection, totals: &mut Totals) -> Result<Option<Result<u64, StoreRefusal>>, Fault> {
        match &mut self.what {
            What::Runs { runs, checked } => {
                if !*checked {
                    if let Err(refusal) = check_ended(connection, &self.viewer, runs)? {
                        return Ok(Some(Err(refusal)));
                    }
                    *checked = true;
                }
                let Some((job, first, count)) = runs.pop() else { return Ok(Some(Ok(self.purged))) };
                let Some(row) = JobRow::load(connection, job)? else { return Ok(None) };
                let end = first.saturating_add(count);
                let (purged, next) = purge(connection, totals, row.no, first, end)?;
                self.purged += purged;
                if let Some(next) = next {
                    runs.push((job, next, end - next));
                }
                Ok(None)
            }
            What::Older { shard, before_us, from } => {
                let mut looked_at = 0;
                for job in jobs_from(connection, *shard, *from)? {
                    let is_due =
                        self.viewer.sees(&job.owner) && job.ended_us.is_some_and(|ended| ended < *before_us) && job.holds;
                    if is_due {
                        let (purged, rest) = purge(connection, totals, job.no, 0, u32::MAX)?;
                        self.purged += purged;
                        if rest.is_some() {
                            *from = job.id;
                            return Ok(None);
                        }
                    }
                    let Some(next) = after(job.id) else { return Ok(Some(Ok(self.purged))) };
                    *from = next;
                    if is_due {
                        return Ok(None);
                    }
                    looked_at += 1;
                }
                Ok((looked_at == 0).then_some(Ok(self.purged)))
            }
        }
    }
}

/// A job as [`Purging`] looks at it.
struct Candidate {
    id: [u8; 16],
    no: i64,
    owner: String,
    ended_us: Option<u64>,
    /// Some of its outcomes are here.
    holds: bool,
}

fn jobs_from(connection: &Connection, shard: u32, from: [u8; 16]) -> Result<Vec<Candidate>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT id, no, owner, ended_us, evicted < done FROM job WHERE shard = ?1 AND id >= ?2 ORDER BY id LIMIT ?3",
    )?;
    let rows = statement.query_map(params![shard, from, STEP_ROWS as i64], |row| {
        Ok(Candidate {
            id: row.get(0)?,
            no: row.get(1)?,
            owner: row.get(2)?,
            ended_us: row.get::<_, Option<i64>>(3)?.map(|at| at.max(0) as u64),
            holds: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The id after this one; `None` after the last that there can be.
fn after(id: [u8; 16]) -> Option<[u8; 16]> {
    u128::from_be_bytes(id).checked_add(1).map(u128::to_be_bytes)
}

fn check_ended(connection: &Connection, viewer: &Viewer, runs: &[(JobId, u32, u32)]) -> Result<Result<(), StoreRefusal>, Fault> {
    let mut pending = 0;
    for (job, first, count) in runs {
        let row = JobRow::load(connection, *job)?.filter(|row| viewer.sees(&row.owner));
        let known = row.filter(|row| first.checked_add(*count).is_some_and(|end| end <= row.counts.submitted));
        let Some(row) = known else { return Ok(Err(StoreRefusal::Unknown(*job))) };
        pending += status::of_row(connection, &row, *first, *count)?.pending;
    }
    Ok(if pending == 0 { Ok(()) } else { Err(StoreRefusal::Pending(pending)) })
}

/// Drops the outcomes of `first..end` of a job that has no others under way there. Returns how many there were, and where to go
/// on.
fn purge(connection: &Connection, totals: &mut Totals, job: i64, first: u32, end: u32) -> Result<(u64, Option<u32>), Fault> {
    let mut before =
        connection.prepare_cached("SELECT key FROM run WHERE key < ?1 AND key + count > ?1 ORDER BY key DESC LIMIT 1")?;
    let before = before.query_row([key(job, first)], |row| row.get::<_, i64>(0)).optional()?.filter(|at| job_of(*at) == job);
    let mut within = connection.prepare_cached("SELECT key FROM run WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3")?;
    let within = within.query_map([key(job, first), key(job, end), STEP_ROWS as i64], |row| row.get::<_, i64>(0))?;
    let keys: Vec<i64> = before.into_iter().map(Ok).chain(within).collect::<Result<_, _>>()?;
    let mut purged = 0;
    for at in &keys {
        purged += u64::from(drop_run(connection, totals, *at, (first, end))?);
    }
    let next = keys.last().filter(|_| keys.len() >= STEP_ROWS).map(|at| index(*at).saturating_add(1).max(first));
    Ok((purged, next.filter(|next| *next < end)))
}

/// Drops those outcomes of a run that lie within `bounds`; the others become runs of their own. Returns how many were dropped.
fn drop_run(connection: &Connection, totals: &mut Totals, at: i64, (from, to): (u32, u32)) -> Result<u32, Fault> {
    let stored = Stored::load(connection, at)?;
    let (job, first) = (job_of(at), index(at));
    let end = first.saturating_add(stored.count);
    let (start, stop) = (first.max(from), end.min(to));
    if start >= stop {
        return Ok(0);
    }
    let whole = if start > first || stop < end { Some(stored.run(connection, at)?) } else { None };
    connection.prepare_cached("DELETE FROM run WHERE key = ?1")?.execute([at])?;
    totals.bytes = totals.bytes.saturating_sub(stored.bytes);
    for (left, right) in [(first, start), (stop, end)] {
        if let Some(run) = whole.as_ref().filter(|_| left < right) {
            let times = (run.submitted_us, stored.recorded_us);
            totals.bytes += insert_run(connection, job, &part(run, left, right), times, stored.taken)?;
        }
    }
    let failed = failed_between(stored.failures.as_deref(), stored.failed, start - first, stop - first);
    let mut update =
        connection.prepare_cached("UPDATE job SET evicted = evicted + ?2, evicted_failed = evicted_failed + ?3 WHERE no = ?1")?;
    update.execute(params![job, stop - start, failed])?;
    let gone = rows::cover_evicted(connection, job, start, stop)?;
    let bytes = rows::drop_arguments(connection, job, gone, (start, stop))?;
    totals.bytes = totals.bytes.saturating_sub(bytes);
    Ok(stop - start)
}

/// A run's row, without its body.
struct Stored {
    count: u32,
    failed: u32,
    failures: Option<Vec<u8>>,
    recorded_us: u64,
    taken: bool,
    bytes: u64,
}

impl Stored {
    fn load(connection: &Connection, at: i64) -> Result<Self, Fault> {
        let mut statement =
            connection.prepare_cached("SELECT count, failed, failures, recorded_us, taken, bytes FROM run WHERE key = ?1")?;
        Ok(statement.query_row([at], |row| {
            Ok(Self {
                count: row.get(0)?,
                failed: row.get(1)?,
                failures: row.get(2)?,
                recorded_us: row.get::<_, i64>(3)?.max(0) as u64,
                taken: row.get(4)?,
                bytes: row.get::<_, i64>(5)?.max(0) as u64,
            })
        })?)
    }

    fn run(&self, connection: &Connection, at: i64) -> Result<Run, Fault> {
        let mut statement = connection.prepare_cached("SELECT engine, attempt, submitted_us, body FROM run WHERE key = ?1")?;
        let mut rows = statement.query([at])?;
        let row = rows.next()?.ok_or_else(|| Fault::Damaged(format!("run {at} is missing")))?;
        Ok(Run {
            first: index(at),
            count: self.count,
            engine: row.get::<_, Option<u32>>(0)?.map(EngineId),
            attempt: row.get(1)?,
            submitted_us: row.get::<_, i64>(2)?.max(0) as u64,
            body: decode_run(row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?, self.count)?,
        })
    }
}

/// Drops what is too old or too much, a step of it. Returns whether something was dropped. The caller commits.
pub(super) fn retain(connection: &Connection, totals: &mut Totals, retention: &Retention, now_us: u64) -> Result<bool, Fault> {
    let before = |age: Duration| now_us.saturating_sub(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)) as i64;
    let unfetched = before(retention.unfetched);
    let mut dropped = false;
    for (oldest, limit_us) in [(OLDEST_TAKEN, before(retention.age)), (OLDEST_UNTAKEN, before(retention.age).min(unfetched))] {
        for at in keys_before(connection, oldest, limit_us)? {
            dropped |= drop_run(connection, totals, at, (0, u32::MAX))? > 0;
        }
    }
    for (oldest, limit_us) in [(OLDEST_TAKEN, i64::MAX), (OLDEST_UNTAKEN, unfetched)] {
        if totals.bytes <= retention.bytes {
            break;
        }
        for at in keys_before(connection, oldest, limit_us)? {
            if totals.bytes <= retention.bytes {
                break;
            }
            dropped |= drop_run(connection, totals, at, (0, u32::MAX))? > 0;
        }
    }
    Ok(dropped | forget_jobs(connection, totals, before(retention.age.saturating_mul(2)))?)
}

const OLDEST_TAKEN: &str = "SELECT key FROM run WHERE taken = 1 AND recorded_us < ?1 ORDER BY recorded_us LIMIT ?2";
const OLDEST_UNTAKEN: &str = "SELECT key FROM run WHERE taken = 0 AND recorded_us < ?1 ORDER BY recorded_us LIMIT ?2";

fn keys_before(connection: &Connection, sql: &'static str, limit_us: i64) -> Result<Vec<i64>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let keys = statement.query_map([limit_us, STEP_ROWS as i64], |row| row.get(0))?;
    Ok(keys.collect::<Result<_, _>>()?)
}

/// Forgets ended jobs of which nothing but the row is left.
fn forget_jobs(connection: &Connection, totals: &mut Totals, before_us: i64) -> Result<bool, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT no FROM job WHERE ended_us IS NOT NULL AND evicted = done AND ended_us < ?1 ORDER BY ended_us LIMIT ?2",
    )?;
    let jobs = statement.query_map([before_us, STEP_ROWS as i64], |row| row.get(0))?;
    let jobs: Vec<i64> = jobs.collect::<Result<_, _>>()?;
    for no in &jobs {
        let keys = [key(*no, 0), key(*no, u32::MAX)];
        connection.prepare_cached("DELETE FROM evicted WHERE key BETWEEN ?1 AND ?2")?.execute(keys)?;
        connection.prepare_cached("DELETE FROM job WHERE no = ?1")?.execute([no])?;
        totals.jobs = totals.jobs.saturating_sub(1);
    }
    Ok(!jobs.is_empty())
}
