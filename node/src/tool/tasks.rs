//! `engineroom tasks`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{ArgMatches, Args};
use engineroom::{Client, MessageId, TaskFilter, TaskRecord};
use serde::Serialize;

use super::{
    filter::{FilterArgs, state_name},
    lines::{Lines, Stop, ended},
    reach::ReachArgs,
    select::PAGE_TASKS,
    status::table,
};
use crate::failure::Failure;

/// How many tasks are listed unless it is said: a screen or two.
const LIMIT: u32 = 50;

/// The most tasks that are listed at once: a table has to be held until its columns are known. An export has no such bound.
const LIMIT_MAX: u32 = 100_000;

/// How many characters of labels, functions and errors are in tables.
const LABEL_CHARS: usize = 24;
const FUNCTION_CHARS: usize = 32;
const ERROR_CHARS: usize = 80;

const NOTES: &str = "\
With --json each task is a line with one JSON object: id, state, label, function, owner, engine, attempt, submitted_us, started_us,
completed_us, error. Times are microseconds since 1970; what is not known is null. Where the list goes on is told on standard error.

Examples:
  engineroom tasks                               the newest tasks
  engineroom tasks --state failed --since 2h     what was submitted within two hours and failed
  engineroom tasks --label night --limit 1000    a thousand of those with a label
  engineroom tasks --state pending --json        for programs";

/// Options of `engineroom tasks`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct TasksArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// List at most so many
    #[arg(long, value_name = "N", default_value_t = LIMIT, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)), help_heading = "Options")]
    limit: u32,
    /// Go on after the task with this id
    #[arg(long, value_name = "ID", help_heading = "Options")]
    after: Option<MessageId>,
    /// Print JSON, one object a line
    #[arg(long, help_heading = "Options")]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

impl TasksArgs {
    /// Prints tasks.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let now = SystemTime::now();
        let filter = self.filters.filter(now)?;
        let client = self.reach.client(matches)?;
        let mut lines = Lines::standard();
        let printed = if self.json {
            print_json(&client, &filter, self.after, self.limit, &mut lines)
        } else {
            print_table(&client, &filter, self.after, self.limit, &mut lines, now)
        };
        ended(printed)
    }
}

fn print_json(client: &Client, filter: &TaskFilter, after: Option<MessageId>, limit: u32, lines: &mut Lines) -> Result<(), Stop> {
    let more = list(client, filter, after, limit, |page| {
        for record in &page {
            lines.json(&TaskLine::of(record))?;
        }
        lines.flush()
    })?;
    if let Some(last) = more {
        eprintln!("{}", more_shown(last));
    }
    Ok(())
}

fn print_table(
    client: &Client,
    filter: &TaskFilter,
    after: Option<MessageId>,
    limit: u32,
    lines: &mut Lines,
    now: SystemTime,
) -> Result<(), Stop> {
    let mut records = Vec::new();
    let more = list(client, filter, after, limit, |page| {
        records.extend(page);
        Ok(())
    })?;
    let now_us = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    lines.text(shown(&records, u64::try_from(now_us).unwrap_or(u64::MAX)).trim_end())?;
    if let Some(last) = more {
        lines.text(&more_shown(last))?;
    }
    lines.flush()
}

/// Has `each` see to at most `limit` tasks, in pages. Answers the last of them, if there are more.
fn list(
    client: &Client,
    filter: &TaskFilter,
    mut after: Option<MessageId>,
    limit: u32,
    mut each: impl FnMut(Vec<TaskRecord>) -> Result<(), Stop>,
) -> Result<Option<MessageId>, Stop> {
    let (mut left, mut last) = (limit, None);
    loop {
        // Once there are enough, one more tells whether there are more.
        let wanted = left.clamp(1, PAGE_TASKS as u32);
        let (page, next) = client.query(filter, after, wanted)?;
        if left == 0 && !page.is_empty() {
            return Ok(last);
        }
        left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        last = page.last().map(|record| record.id).or(last);
        if !page.is_empty() {
            each(page)?;
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(None),
        }
    }
}

fn more_shown(last: MessageId) -> String {
    format!("There are more; the list goes on with --after {last}")
}

/// A task as a line of JSON. The fields are documented in the help, and stay.
#[derive(Debug, Serialize)]
pub(super) struct TaskLine<'a> {
    id: String,
    state: &'static str,
    label: Option<&'a str>,
    function: &'a str,
    owner: &'a str,
    engine: Option<u32>,
    attempt: u32,
    submitted_us: u64,
    started_us: Option<u64>,
    completed_us: Option<u64>,
    #[serde(skip_serializing_if = "Error::is_left_out")]
    error: Error<'a>,
}

/// The field `error`: elsewhere it is told in full, by a field of its own.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Error<'a> {
    Told(Option<&'a str>),
    LeftOut,
}

impl Error<'_> {
    fn is_left_out(&self) -> bool {
        matches!(self, Error::LeftOut)
    }
}

impl<'a> TaskLine<'a> {
    /// All that is known of a task.
    fn of(record: &'a TaskRecord) -> Self {
        Self { error: Error::Told(record.error.as_deref()), ..Self::without_error(record) }
    }

    /// All but its error.
    pub(super) fn without_error(record: &'a TaskRecord) -> Self {
        Self {
            id: record.id.to_string(),
            state: state_name(record.state),
            label: record.label.as_deref(),
            function: &record.function,
            owner: &record.owner,
            engine: record.engine.map(|engine| engine.0),
            attempt: record.attempt,
            submitted_us: record.submitted_us,
            started_us: record.started_us,
            completed_us: record.completed_us,
            error: Error::LeftOut,
        }
    }
}

fn shown(records: &[TaskRecord], now_us: u64) -> String {
    if records.is_empty() {
        return "no tasks\n".to_owned();
    }
    let head = ["id", "state", "label", "function", "engine", "attempt", "submitted", "took", "error"];
    table(&head, records.iter().map(|record| row(record, now_us)).collect())
}

fn row(record: &TaskRecord, now_us: u64) -> Vec<String> {
    let nothing = || "-".to_owned();
    let took = match (record.started_us, record.completed_us) {
        (Some(started), Some(completed)) => took_shown(completed.saturating_sub(started)),
        _ => nothing(),
    };
    vec![
        record.id.to_string(),
        state_name(record.state).to_owned(),
        record.label.as_deref().map_or_else(nothing, |label| start_of(label, LABEL_CHARS)),
        end_of(&record.function, FUNCTION_CHARS),
        record.engine.map_or_else(nothing, |engine| engine.to_string()),
        record.attempt.to_string(),
        format!("{} ago", age_shown(now_us.saturating_sub(record.submitted_us) / 1_000_000)),
        took,
        record.error.as_deref().map_or_else(nothing, |error| start_of(error.lines().next().unwrap_or_default(), ERROR_CHARS)),
    ]
}

/// The first characters of a text. Others wrote it: what would steer a terminal is not shown.
fn start_of(text: &str, chars: usize) -> String {
    let mut start: String = text.chars().take(chars).map(harmless).collect();
    if text.chars().nth(chars).is_some() {
        start.pop();
        start.push('…');
    }
    start
}

/// The last characters of a text: paths of functions differ there.
fn end_of(text: &str, chars: usize) -> String {
    let Some(beyond) = text.chars().count().checked_sub(chars).filter(|beyond| *beyond > 0) else {
        return text.chars().map(harmless).collect();
    };
    std::iter::once('…').chain(text.chars().skip(beyond + 1).map(harmless)).collect()
}

fn harmless(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

fn age_shown(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn took_shown(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..120_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => age_shown(us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use engineroom::{EngineId, JobId, TaskState};
    use serde_json::json;

    use super::*;

    fn record() -> TaskRecord {
        TaskRecord {
            id: MessageId { job: JobId::from_u128(0x0192_f0c1_2b3d_7e4f_8a5b_6c7d_8e9f_0a1b), index: 3 },
            state: TaskState::Failed,
            label: Some("night".into()),
            function: "probe::ends::end_somehow".into(),
            owner: "ada".into(),
            engine: Some(EngineId(2)),
            attempt: 1,
            submitted_us: 1_000_000_000,
            started_us: Some(1_001_000_000),
            completed_us: Some(1_001_012_345),
            error: Some("the function panicked: \u{1b}[2J\nno more".into()),
        }
    }

    fn pending() -> TaskRecord {
        let (started_us, completed_us) = (None, None);
        let (state, attempt) = (TaskState::Pending, 0);
        TaskRecord { state, attempt, started_us, completed_us, label: None, engine: None, error: None, ..record() }
    }

    #[test]
    fn tasks_are_a_table_of_what_is_known() {
        let expected = "  id                                      state    label  function                  engine  attempt  submitted  took     error
  0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/3  failed   night  probe::ends::end_somehow  2       1        5 min ago  12.3 ms  the function panicked: \u{fffd}[2J
  0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/3  pending  -      probe::ends::end_somehow  -       0        5 min ago  -        -
";
        assert_eq!(shown(&[record(), pending()], 1_300_000_000), expected);
        assert_eq!(shown(&[], 0), "no tasks\n");
    }

    #[test]
    fn lines_of_json_have_the_fields_that_are_documented() {
        let line = serde_json::to_value(TaskLine::of(&record())).unwrap();
        let expected = json!({
            "id": "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/3", "state": "failed", "label": "night",
            "function": "probe::ends::end_somehow", "owner": "ada", "engine": 2, "attempt": 1, "submitted_us": 1_000_000_000,
            "started_us": 1_001_000_000, "completed_us": 1_001_012_345, "error": "the function panicked: \u{1b}[2J\nno more",
        });
        assert_eq!(line, expected);
        let documented = NOTES.replace(['\n', '.'], " ");
        for field in expected.as_object().unwrap().keys() {
            assert!(documented.contains(&format!(" {field}")), "{field}");
        }
        let line = serde_json::to_value(TaskLine::of(&pending())).unwrap();
        assert_eq!((&line["error"], line.as_object().unwrap().len()), (&json!(null), 11));
        let line = serde_json::to_value(TaskLine::without_error(&record())).unwrap();
        assert_eq!(line.get("error"), None);
    }

    #[test]
    fn long_texts_are_cut_where_they_say_least() {
        for (text, start, end) in [
            ("", "", ""),
            ("abcde", "abcde", "abcde"),
            ("abcdef", "abcd…", "…cdef"),
            ("äöüßéè", "äöüß…", "…üßéè"),
            ("a\u{9b}\tb", "a\u{fffd}\u{fffd}b", "a\u{fffd}\u{fffd}b"),
        ] {
            assert_eq!((start_of(text, 5).as_str(), end_of(text, 5).as_str()), (start, end), "{text:?}");
        }
    }

    #[test]
    fn spans_read_well() {
        for (us, shown) in
            [(0, "0 µs"), (1_500, "1.5 ms"), (2_000_000, "2.0 s"), (3_600_000_000, "60 min"), (u64::MAX, "213503982 d")]
        {
            assert_eq!(took_shown(us), shown);
        }
    }
}
