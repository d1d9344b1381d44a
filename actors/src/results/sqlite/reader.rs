//! Answers to questions, each from one snapshot of the file.

use rusqlite::{Connection, OptionalExtension};

use super::{
    encode::{decode_arguments, decode_header, read_outcomes},
    error::Fault,
    group::JobRow,
    records,
    schema::{index, job_of, key},
    status,
};
use crate::results::{
    backend::{Answer, Page, Question, Viewer},
    evicted_run,
};
use crate::task::{EngineId, JobId, Packed};
use crate::wire::{FetchTasks, FetchedTasks, Run, StoreRefusal};

/// How many evicted ranges one page tells of.
const PAGE_EVICTED_MAX: u32 = 4096;

/// How many bytes of arguments one answer to [`FetchTasks`] has; one submission of more comes alone.
const ARGUMENTS_BYTES_MAX: usize = 1 << 20;

/// Reads a store's file.
pub(super) struct Reader {
    connection: Connection,
}

impl Reader {
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    pub fn answer(&mut self, question: Question) -> Result<Answer, Fault> {
        // All of an answer comes from one state of the file.
        let snapshot = self.connection.transaction()?;
        Ok(match question {
            Question::Job(job) => Answer::Job(JobRow::load(&snapshot, job)?.map(|row| row.info())),
            Question::Page { job, ranges, bytes_max } => Answer::Page(page(&snapshot, job, &ranges, bytes_max)?),
            Question::Status { viewer, runs } => Answer::Status(status::of_runs(&snapshot, &viewer, &runs)?),
            Question::FirstPending { viewer, job, first, end } => {
                Answer::FirstPending(status::first_pending(&snapshot, &viewer, job, first, end)?)
            }
            Question::Tasks { viewer, fetch } => Answer::Tasks(tasks(&snapshot, &viewer, &fetch)?),
            Question::Whereabouts { viewer, question } => Answer::Whereabouts(status::located(&snapshot, &viewer, &question)?),
            Question::Records { viewer, query } => Answer::Records(Ok(records::page(&snapshot, &viewer, &query)?)),
        })
    }
}

fn page(connection: &Connection, job: JobId, ranges: &[(u32, u32)], bytes_max: u64) -> Result<Page, Fault> {
    let mut page = Page { runs: Vec::new(), until: ranges.last().map_or(0, |(_, end)| *end) };
    let Some(row) = JobRow::load(connection, job)? else { return Ok(page) };
    let (mut bytes, mut seen, mut is_full) = (0, 0, false);
    for (first, end) in ranges {
        let mut end = (*end).min(row.counts.submitted);
        let mut gone = Vec::new();
        if row.evicted > 0 {
            gone = status::evicted_within(connection, row.no, *first, end, PAGE_EVICTED_MAX)?;
            let is_cut = gone.len() == PAGE_EVICTED_MAX as usize;
            end = gone.last().filter(|_| is_cut).map_or(end, |(_, stop)| *stop);
            is_full |= is_cut;
        }
        let mut statement = connection.prepare_cached(
            "SELECT key, count, engine, attempt, submitted_us, body FROM run \
             WHERE key >= coalesce((SELECT max(key) FROM run WHERE key < ?1), ?1) AND key < ?2 ORDER BY key",
        )?;
        let mut rows = statement.query([key(row.no, *first), key(row.no, end)])?;
        while let Some(run) = rows.next()? {
            let (at, count): (i64, u32) = (run.get(0)?, run.get(1)?);
            let (start, stop) = (index(at), index(at).saturating_add(count));
            // The one before may be of another job, or may not reach into the range; one between two ranges comes once.
            if job_of(at) != row.no || stop <= *first || stop <= seen {
                continue;
            }
            let run = read_run(run, start, count)?;
            (bytes, seen) = (bytes + run.window_bytes(), stop);
            page.runs.push(run);
            if bytes >= bytes_max {
                (is_full, end) = (true, stop.min(end));
                break;
            }
        }
        page.runs
            .extend(gone.into_iter().filter(|(start, _)| *start < end).map(|(start, stop)| evicted_run(start, stop.min(end))));
        if is_full {
            page.until = page.until.min(end);
            break;
        }
    }
    Ok(page)
}

fn read_run(row: &rusqlite::Row<'_>, first: u32, count: u32) -> Result<Run, Fault> {
    Ok(Run {
        first,
        count,
        engine: row.get::<_, Option<u32>>(2)?.map(EngineId),
        attempt: row.get(3)?,
        submitted_us: row.get::<_, i64>(4)?.max(0) as u64,
        body: read_outcomes(row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?, count),
    })
}

fn tasks(connection: &Connection, viewer: &Viewer, fetch: &FetchTasks) -> Result<Result<FetchedTasks, StoreRefusal>, Fault> {
    let unknown = Err(StoreRefusal::Unknown(fetch.job));
    let Some(row) = JobRow::load(connection, fetch.job)?.filter(|row| viewer.sees(&row.owner)) else { return Ok(unknown) };
    let mut statement = connection.prepare_cached("SELECT header FROM job WHERE no = ?1")?;
    let header = statement.query_row([row.no], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    let Some(header) = header else { return Ok(unknown) };
    let mut fetched = FetchedTasks { header: Box::new(decode_header(&header)?), runs: Vec::new(), next: None };
    let mut bytes = 0;
    for (first, count) in &fetch.ranges {
        let end = first.saturating_add(*count).min(row.counts.submitted);
        let mut statement = connection.prepare_cached(
            "SELECT key, count, body FROM arguments \
             WHERE key >= coalesce((SELECT max(key) FROM arguments WHERE key <= ?1), ?1) AND key < ?2 ORDER BY key",
        )?;
        let mut rows = statement.query([key(row.no, *first), key(row.no, end)])?;
        while let Some(found) = rows.next()? {
            let (start, arguments) = read_arguments(found)?;
            let (from, to) = (start.max(*first), start.saturating_add(arguments.len() as u32).min(end));
            if job_of(found.get(0)?) != row.no || from >= to {
                continue;
            }
            if bytes >= ARGUMENTS_BYTES_MAX {
                fetched.next = Some(from);
                return Ok(Ok(fetched));
            }
            let asked = arguments.slice((from - start) as usize, (to - from) as usize);
            bytes += asked.bytes();
            fetched.runs.push((from, asked));
        }
    }
    Ok(Ok(fetched))
}

/// The first task and the arguments of a row of key, count and body.
pub(super) fn read_arguments(row: &rusqlite::Row<'_>) -> Result<(u32, Packed), Fault> {
    let (at, count): (i64, u32) = (row.get(0)?, row.get(1)?);
    let body = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok((index(at), decode_arguments(body, count)?))
}
