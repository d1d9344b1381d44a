//! What a controller that starts finds in its store: the jobs that have not ended.

use engineroom_runtime::proto::handshake::Incarnation;
use rusqlite::Connection;

use super::{
    encode::{decode_engines, decode_header},
    error::Fault,
    reader::read_arguments,
    rows,
    schema::{index, job_of, key},
};
use crate::results::{Owner, PendingTasks, Restored, RestoredEnd, RestoredJob, now_us};
use crate::task::{EngineId, JobId, Packed, Ranges};

/// Reads what has not ended. Looks at nothing else.
pub(super) fn restore(connection: &Connection, life: u64) -> Result<Restored, Fault> {
    let next_engine = connection.query_row("SELECT value FROM meta WHERE name = 'next_engine'", [], |row| row.get(0))?;
    let mut engines = connection.prepare("SELECT id FROM engine ORDER BY id")?;
    let engines = engines.query_map([], |row| row.get(0).map(EngineId))?.collect::<Result<_, _>>()?;
    let mut restored =
        Restored { first_batch: life << LIFE_SHIFT, next_engine, engines, jobs: Vec::new(), ended: ended(connection)? };
    let mut statement = connection
        .prepare("SELECT no, id, owner, incarnation, header, submitted, closed, failed, released, engines FROM job WHERE ended_us IS NULL ORDER BY no")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (no, submitted) = (row.get(0)?, row.get(5)?);
        let owner = owner(
            no,
            row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?,
            row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?,
        )?;
        let pending = pending(connection, no, submitted)?;
        let header = decode_header(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?)?;
        let waited = if header.options.queue_timeout_us.is_some() { waited(connection, no)? } else { Vec::new() };
        restored.jobs.push(RestoredJob {
            id: JobId::from_bytes(row.get(1)?),
            owner,
            header,
            submitted,
            failed: row.get(7)?,
            closed: row.get(6)?,
            released: row.get(8)?,
            engines: row.get_ref(9)?.as_blob_or_null().map_err(rusqlite::Error::from)?.map(decode_engines).transpose()?,
            waited,
            arguments: arguments(connection, no, &pending)?,
            pending,
        });
    }
    Ok(restored)
}

/// How many of the newest jobs are looked at for those that have ended: more than clients have open when a controller ends, and
/// some ten milliseconds.
const ENDED_MAX: u32 = 16_384;

fn ended(connection: &Connection) -> Result<Vec<RestoredEnd>, Fault> {
    let mut statement = connection.prepare(
        "SELECT no, id, owner, incarnation, submitted FROM \
         (SELECT no, id, owner, incarnation, submitted, ended_us FROM job ORDER BY no DESC LIMIT ?1) \
         WHERE ended_us IS NOT NULL ORDER BY no",
    )?;
    let mut rows = statement.query([ENDED_MAX])?;
    let mut ended = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, incarnation): (String, String) = (row.get(2)?, row.get(3)?);
        let owner = owner(row.get(0)?, &name, &incarnation)?;
        ended.push(RestoredEnd { id: JobId::from_bytes(row.get(1)?), owner, submitted: row.get(4)? });
    }
    Ok(ended)
}

fn owner(no: i64, name: &str, incarnation: &str) -> Result<Owner, Fault> {
    let incarnation = u128::from_str_radix(incarnation, 16)
        .map_err(|_| Fault::Damaged(format!("job {no} has no valid incarnation of its owner")))?;
    Ok(Owner { name: name.into(), incarnation: Incarnation::from_u128(incarnation) })
}

/// For how long tasks up to an index have been waiting, in microseconds.
fn waited(connection: &Connection, job: i64) -> Result<Vec<(u32, u64)>, Fault> {
    let now_us = now_us();
    let mut statement = connection.prepare("SELECT key, count, at_us FROM arguments WHERE key BETWEEN ?1 AND ?2 ORDER BY key")?;
    let mut rows = statement.query([key(job, 0), key(job, u32::MAX)])?;
    let mut waited = Vec::new();
    while let Some(row) = rows.next()? {
        let at_us = row.get::<_, i64>(2)?.max(0) as u64;
        waited.push((index(row.get(0)?).saturating_add(row.get(1)?), now_us.saturating_sub(at_us)));
    }
    Ok(waited)
}

/// How many batches one life of a controller may make, as a power of two: more than it can within a century.
const LIFE_SHIFT: u32 = 40;

fn pending(connection: &Connection, job: i64, submitted: u32) -> Result<Vec<PendingTasks>, Fault> {
    let mut ended = Ranges::default();
    for sql in [
        "SELECT key, count FROM run WHERE key BETWEEN ?1 AND ?2",
        "SELECT key, end - (key & 4294967295) FROM evicted WHERE key BETWEEN ?1 AND ?2",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([key(job, 0), key(job, u32::MAX)])?;
        while let Some(row) = rows.next()? {
            let first = index(row.get(0)?);
            ended.cover(first, first.saturating_add(row.get(1)?));
        }
    }
    let mut pending = Vec::new();
    for (first, end) in ended.gaps(0, submitted) {
        split_by_losses(connection, job, (first, end), &mut pending)?;
    }
    Ok(pending)
}

fn split_by_losses(
    connection: &Connection,
    job: i64,
    (first, end): (u32, u32),
    pending: &mut Vec<PendingTasks>,
) -> Result<(), Fault> {
    let mut add = |first: u32, end: u32, losses: u32| {
        if first < end {
            pending.push(PendingTasks { first, count: end - first, losses });
        }
    };
    let mut next = first;
    for (at, count, losses) in rows::losses_within(connection, key(job, first), key(job, end))? {
        // Within this job's keys after the cut, so that the indices are its own.
        let (start, stop) = (at.max(key(job, first)), (at + count).min(key(job, end)));
        let (start, stop) = (index(start), if stop == key(job, end) { end } else { index(stop) });
        add(next, start, 0);
        add(start, stop, losses);
        next = stop;
    }
    add(next, end, 0);
    Ok(())
}

fn arguments(connection: &Connection, job: i64, pending: &[PendingTasks]) -> Result<Vec<(u32, Packed)>, Fault> {
    let mut all: Vec<(u32, Packed)> = Vec::new();
    let mut next = 0;
    for PendingTasks { first, count, .. } in pending {
        let end = first.saturating_add(*count);
        let mut statement = connection.prepare_cached(
            "SELECT key, count, body FROM arguments \
             WHERE key >= coalesce((SELECT max(key) FROM arguments WHERE key <= ?1), ?1) AND key < ?2 ORDER BY key",
        )?;
        let mut rows = statement.query([key(job, next.max(*first)), key(job, end)])?;
        next = next.max(*first);
        while let Some(row) = rows.next()? {
            let (at, count): (i64, u32) = (row.get(0)?, row.get(1)?);
            let stop = index(at).saturating_add(count);
            if job_of(at) != job || stop <= next {
                continue;
            }
            if index(at) > next {
                return Err(Fault::Damaged(format!("the arguments of task {next} of job {job} are missing")));
            }
            let (start, arguments) = read_arguments(row)?;
            all.push((start, arguments));
            next = stop;
        }
        if next < end {
            return Err(Fault::Damaged(format!("the arguments of task {next} of job {job} are missing")));
        }
    }
    Ok(all)
}
