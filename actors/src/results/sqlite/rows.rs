//! Small steps on the tables, each within somebody's transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::schema::{index, job_of, key};

/// What the file holds altogether; kept in the file, so that nobody has to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// The bytes of outcomes and arguments, their rows included.
    pub bytes: u64,
    pub jobs: u64,
}

impl Totals {
    pub fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let of = |name: &str| connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get::<_, i64>(0));
        Ok(Self { bytes: of("bytes")?.max(0) as u64, jobs: of("jobs")?.max(0) as u64 })
    }

    pub fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut update = connection.prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1 AND value <> ?2")?;
        update.execute(params!["bytes", self.bytes as i64])?;
        update.execute(params!["jobs", self.jobs as i64])?;
        Ok(())
    }
}

/// Whether a run of tasks in `table` overlaps `first..end`. Runs of a table do not overlap each other.
pub(super) fn overlaps(connection: &Connection, table: &'static str, job: i64, first: u32, end: u32) -> rusqlite::Result<bool> {
    let sql = match table {
        "evicted" => "SELECT key, end - (key & 4294967295) FROM evicted WHERE key < ?1 ORDER BY key DESC LIMIT 1",
        _ => "SELECT key, count FROM run WHERE key < ?1 ORDER BY key DESC LIMIT 1",
    };
    let mut statement = connection.prepare_cached(sql)?;
    let before = statement.query_row([key(job, end)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
    Ok(before.is_some_and(|(at, count)| job_of(at) == job && at + count > key(job, first)))
}

/// The submission that a task belongs to: first task, end, time. `(0, 0, 0)` if it is not known.
pub(super) fn submission(connection: &Connection, job: i64, task: u32) -> rusqlite::Result<(u32, u32, u64)> {
    let mut statement =
        connection.prepare_cached("SELECT key, count, at_us FROM arguments WHERE key <= ?1 ORDER BY key DESC LIMIT 1")?;
    let found = statement
        .query_row([key(job, task)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    let of_job = found.filter(|(at, count, _)| job_of(*at) == job && task - index(*at) < *count);
    Ok(of_job.map_or((0, 0, 0), |(at, count, time)| (index(at), index(at).saturating_add(count), time as u64)))
}

/// Tasks were lost with an engine so many times. What was known of some of them before is replaced.
pub(super) fn set_losses(connection: &Connection, job: i64, first: u32, count: u32, losses: u32) -> rusqlite::Result<()> {
    let (start, stop) = (key(job, first), key(job, first.saturating_add(count)));
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO losses(key, count, losses) VALUES (?1, ?2, ?3)")?;
    for (at, count, losses) in losses_within(connection, start, stop)? {
        connection.prepare_cached("DELETE FROM losses WHERE key = ?1")?.execute([at])?;
        if at < start {
            insert.execute(params![at, start - at, losses])?;
        }
        if at + count > stop {
            insert.execute(params![stop, at + count - stop, losses])?;
        }
    }
    if start < stop {
        insert.execute(params![start, stop - start, losses])?;
    }
    Ok(())
}

/// Rows of losses that overlap the keys `start..stop`: key, count, losses; ascending.
pub(super) fn losses_within(connection: &Connection, start: i64, stop: i64) -> rusqlite::Result<Vec<(i64, i64, u32)>> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let mut before =
        connection.prepare_cached("SELECT key, count, losses FROM losses WHERE key < ?1 ORDER BY key DESC LIMIT 1")?;
    let before: Option<(i64, i64, u32)> = before.query_row([start], row).optional()?;
    let mut within =
        connection.prepare_cached("SELECT key, count, losses FROM losses WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
    let within = within.query_map([start, stop], row)?;
    before.filter(|(at, count, _)| at + count > start).map(Ok).into_iter().chain(within).collect()
}

/// A job has ended: what was lost with engines does not matter any more.
pub(super) fn forget_losses(connection: &Connection, job: i64) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM losses WHERE key BETWEEN ?1 AND ?2")?;
    delete.execute([key(job, 0), key(job, u32::MAX)]).map(drop)
}

/// Notes that the outcomes of `first..end` are gone. They meet no others that are; neighbours become one row.
pub(super) fn cover_evicted(connection: &Connection, job: i64, first: u32, end: u32) -> rusqlite::Result<(u32, u32)> {
    let (mut first, mut end) = (first, end);
    let mut before = connection.prepare_cached("SELECT key, end FROM evicted WHERE key < ?1 ORDER BY key DESC LIMIT 1")?;
    let before = before.query_row([key(job, first)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?))).optional()?;
    let mut delete = connection.prepare_cached("DELETE FROM evicted WHERE key = ?1")?;
    if let Some((at, stop)) = before.filter(|(at, stop)| job_of(*at) == job && *stop >= first) {
        delete.execute([at])?;
        (first, end) = (index(at), end.max(stop));
    }
    let mut after = connection.prepare_cached("SELECT end FROM evicted WHERE key = ?1")?;
    if let Some(stop) = after.query_row([key(job, end)], |row| row.get::<_, u32>(0)).optional()? {
        delete.execute([key(job, end)])?;
        end = stop;
    }
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO evicted(key, end) VALUES (?1, ?2)")?;
    insert.execute(params![key(job, first), end])?;
    Ok((first, end))
}

/// Deletes the arguments of submissions that lie wholly within `first..end` and overlap `part`. Returns their bytes.
pub(super) fn drop_arguments(
    connection: &Connection,
    job: i64,
    (first, end): (u32, u32),
    part: (u32, u32),
) -> rusqlite::Result<u64> {
    let mut before = connection.prepare_cached("SELECT max(key) FROM arguments WHERE key <= ?1")?;
    let from = before.query_row([key(job, part.0)], |row| row.get::<_, Option<i64>>(0))?;
    let from = from.unwrap_or(i64::MIN).max(key(job, first));
    let mut delete =
        connection.prepare_cached("DELETE FROM arguments WHERE key >= ?1 AND key < ?2 AND key + count <= ?3 RETURNING bytes")?;
    let bytes = delete.query_map([from, key(job, part.1), key(job, end)], |row| row.get::<_, i64>(0))?;
    bytes.map(|bytes| bytes.map(|bytes| bytes.max(0) as u64)).sum()
}
