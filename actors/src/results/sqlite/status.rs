//! How many tasks are in which state, and which is the first that has not ended.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    encode::failed_between,
    error::Fault,
    group::JobRow,
    schema::{index, job_of, key},
};
use crate::results::backend::{FirstPending, Viewer};
use crate::scheduler::{Located, Whereabouts};
use crate::status::StatusCounts;
use crate::task::{EngineId, JobId};

/// How many rows the search for a pending task looks at before it gives the reader's other questions a turn.
const LOOKED_AT_MAX: u32 = 20_000;

/// The counts of a list of tasks of one owner.
pub(super) fn of_runs(connection: &Connection, viewer: &Viewer, runs: &[(JobId, u32, u32)]) -> Result<StatusCounts, Fault> {
    let mut sum = StatusCounts::default();
    for (job, first, count) in runs {
        match JobRow::load(connection, *job)?.filter(|row| viewer.sees(&row.owner)) {
            Some(row) => sum += of_row(connection, &row, *first, *count)?,
            None => sum += StatusCounts { total: u64::from(*count), unknown: u64::from(*count), ..StatusCounts::default() },
        }
    }
    Ok(sum)
}

/// The counts of some tasks of a job. Running ones count as pending; the scheduler knows which those are.
pub(super) fn of_row(connection: &Connection, row: &JobRow, first: u32, count: u32) -> Result<StatusCounts, Fault> {
    let end = first.saturating_add(count);
    let known_end = end.min(row.counts.submitted).max(first);
    let (done, failed, evicted) = if first == 0 && end >= row.counts.submitted {
        let (gone, gone_failed) = (u64::from(row.evicted), u64::from(row.evicted_failed));
        (
            u64::from(row.counts.done) - gone.min(u64::from(row.counts.done)),
            u64::from(row.counts.failed) - gone_failed.min(u64::from(row.counts.failed)),
            gone,
        )
    } else {
        let (done, failed) = recorded(connection, row.no, first, known_end)?;
        (done, failed, if row.evicted > 0 { evicted(connection, row.no, first, known_end)? } else { 0 })
    };
    Ok(StatusCounts {
        total: u64::from(count),
        pending: u64::from(known_end - first).saturating_sub(done + evicted),
        succeeded: done.saturating_sub(failed),
        failed,
        evicted,
        unknown: u64::from(end - known_end),
    })
}

/// How many tasks of `first..end` have an outcome that is here, and how many of those failed.
fn recorded(connection: &Connection, job: i64, first: u32, end: u32) -> Result<(u64, u64), Fault> {
    let (mut done, mut failed) = (0, 0);
    let mut statement = connection.prepare_cached(
        "SELECT key, count, failed, CASE WHEN key < ?1 OR key + count > ?2 THEN failures END FROM run \
         WHERE key >= coalesce((SELECT max(key) FROM run WHERE key <= ?1), ?1) AND key < ?2",
    )?;
    let mut rows = statement.query([key(job, first), key(job, end)])?;
    while let Some(row) = rows.next()? {
        let (at, count, of_run): (i64, u32, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let start = index(at);
        let (from, to) = (first.max(start), end.min(start.saturating_add(count)));
        if job_of(at) != job || from >= to {
            continue;
        }
        let is_whole = to - from == count;
        let failures = row.get_ref(3)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        done += u64::from(to - from);
        failed += u64::from(if is_whole { of_run } else { failed_between(failures, of_run, from - start, to - start) });
    }
    Ok((done, failed))
}

/// Where tasks ran whose outcomes are here. Looks at each run.
pub(super) fn located(connection: &Connection, viewer: &Viewer, question: &Whereabouts) -> Result<Located, Fault> {
    let mut located = Located::default();
    let row = JobRow::load(connection, question.of)?.filter(|row| viewer.sees(&row.owner));
    let Some(row) = row else { return Ok(located) };
    let (first, end) = (question.first, question.first.saturating_add(question.count).min(row.counts.submitted));
    let mut statement = connection.prepare_cached(
        "SELECT key, count, failed, engine, CASE WHEN key < ?1 OR key + count > ?2 THEN failures END FROM run \
         WHERE key >= coalesce((SELECT max(key) FROM run WHERE key <= ?1), ?1) AND key < ?2 ORDER BY key",
    )?;
    let mut rows = statement.query([key(row.no, first), key(row.no, end)])?;
    while let Some(run) = rows.next()? {
        let (at, count, of_run): (i64, u32, u32) = (run.get(0)?, run.get(1)?, run.get(2)?);
        let start = index(at);
        let (from, to) = (first.max(start), end.min(start.saturating_add(count)));
        if job_of(at) != row.no || from >= to {
            continue;
        }
        let failures = run.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let failed = if to - from == count { of_run } else { failed_between(failures, of_run, from - start, to - start) };
        if located.add(run.get::<_, Option<u32>>(3)?.map(EngineId), question.counting(to - from, failed), question.most) {
            return Ok(located);
        }
    }
    if row.evicted > 0 && first < end {
        located.nowhere += evicted(connection, row.no, first, end)?;
    }
    Ok(located)
}

fn evicted(connection: &Connection, job: i64, first: u32, end: u32) -> Result<u64, Fault> {
    let ranges = evicted_within(connection, job, first, end, u32::MAX)?;
    Ok(ranges.iter().map(|(start, stop)| u64::from(stop - start)).sum())
}

/// The evicted parts of `first..end`, as start and end, ascending; at most so many of them.
pub(super) fn evicted_within(
    connection: &Connection,
    job: i64,
    first: u32,
    end: u32,
    most: u32,
) -> Result<Vec<(u32, u32)>, Fault> {
    let mut statement = connection.prepare_cached(
        "SELECT key, end FROM evicted WHERE key >= coalesce((SELECT max(key) FROM evicted WHERE key <= ?1), ?1) AND key < ?2 \
         ORDER BY key LIMIT ?3",
    )?;
    let rows = statement.query_map(params![key(job, first), key(job, end), i64::from(most) + 1], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?))
    })?;
    let mut ranges = Vec::new();
    for row in rows {
        let (at, stop) = row?;
        let (from, to) = (index(at).max(first), stop.min(end));
        if job_of(at) == job && from < to && ranges.len() < most as usize {
            ranges.push((from, to));
        }
    }
    Ok(ranges)
}

/// The first task of `first..end` without an outcome.
pub(super) fn first_pending(
    connection: &Connection,
    viewer: &Viewer,
    job: JobId,
    first: u32,
    end: u32,
) -> Result<FirstPending, Fault> {
    let row = JobRow::load(connection, job)?.filter(|row| viewer.sees(&row.owner) && end <= row.counts.submitted);
    let Some(row) = row else { return Ok(FirstPending::Unknown) };
    if row.counts.done == row.counts.submitted {
        return Ok(FirstPending::None);
    }
    let (mut at, mut looked_at) = (first, 0);
    while at < end {
        if looked_at >= LOOKED_AT_MAX {
            return Ok(FirstPending::LookOn(at));
        }
        let before = at;
        at = covered_until(connection, "run", row.no, at)?;
        if row.evicted > 0 {
            at = covered_until(connection, "evicted", row.no, at)?;
        }
        let mut rows = connection.prepare_cached("SELECT key, count FROM run WHERE key >= ?1 AND key <= ?2 ORDER BY key")?;
        let mut rows = rows.query([key(row.no, at), key(row.no, u32::MAX)])?;
        while looked_at < LOOKED_AT_MAX
            && let Some(run) = rows.next()?
        {
            looked_at += 1;
            if index(run.get(0)?) != at {
                break;
            }
            at = at.saturating_add(run.get(1)?);
        }
        if at == before {
            return Ok(FirstPending::At(at));
        }
    }
    Ok(FirstPending::None)
}

/// The end of the run of a table that has this task; the task itself if there is none.
fn covered_until(connection: &Connection, table: &str, job: i64, task: u32) -> Result<u32, Fault> {
    let sql = match table {
        "evicted" => "SELECT key, end FROM evicted WHERE key <= ?1 ORDER BY key DESC LIMIT 1",
        _ => "SELECT key, (key & 4294967295) + count FROM run WHERE key <= ?1 ORDER BY key DESC LIMIT 1",
    };
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_row([key(job, task)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?))).optional()?;
    Ok(found.filter(|(at, _)| job_of(*at) == job).map_or(task, |(_, end)| end.max(task)))
}
