//! `engineroom results`.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use clap::{ArgMatches, Args, Subcommand};
use engineroom::{Client, MessageId, TaskFilter, TaskRecord, TaskState};
use serde::Serialize;

use super::{
    fetch::{Answer, answers},
    filter::{ENDED, FilterArgs, Span},
    lines::{Lines, Stop, ended},
    reach::ReachArgs,
    select::{SelectArgs, Selection, Tasks, records},
    tasks::TaskLine,
};
use crate::failure::Failure;

/// The longest `--wait`, in seconds: a day.
const WAIT_S_MAX: u64 = 24 * 60 * 60;

/// What the controller is said not to know.
const UNKNOWN: &str =
    "the controller does not know this task: it was submitted elsewhere, by another owner, or has been purged since";

const NOTES: &str = "\
Every line is one JSON object: id, and either value or error. Bytes in values are shown in hexadecimal, and numbers and keys that
JSON has not as text; then a note says so. A task that has not ended has neither, but \"state\":\"pending\".

Examples:
  engineroom results get 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17
  engineroom results get 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b --wait 60    all of a job, for which it waits
  engineroom results export --label night --output night.jsonl            what became of tasks with a label
  engineroom results purge 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b            has the controller forget a job
  engineroom results purge --older-than 30d                               and what ended long ago";

const GET_NOTES: &str = "\
Exits with 1 if a task has no value, and with 0 if all have one.

Examples:
  engineroom results get 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/3-17
  engineroom results get 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b --wait 60";

const EXPORT_NOTES: &str = "\
Every line is one JSON object: id, state, label, function, owner, engine, attempt, submitted_us, started_us, completed_us, and
value or error. Tasks that have not ended are left out.

Examples:
  engineroom results export > all.jsonl
  engineroom results export --completed-since 1d --output day.jsonl";

const PURGE_NOTES: &str = "\
Outcomes and arguments are gone for good. If one of the tasks has not ended, none is purged: abort it, wait for it, or leave it out,
as by --state succeeded. With --json it prints {\"purged\":N}.

Examples:
  engineroom results purge 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b
  engineroom results purge --state succeeded --completed-before 2d
  engineroom results purge --older-than 30d";

/// Options of `engineroom results`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct ResultsArgs {
    #[command(subcommand)]
    command: ResultsCommand,
}

#[derive(Debug, Subcommand)]
enum ResultsCommand {
    /// Print values and errors of tasks, by their ids
    Get(GetArgs),
    /// Write what became of all tasks that pass the filters
    Export(ExportArgs),
    /// Have the controller forget what became of tasks
    Purge(PurgeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = GET_NOTES)]
struct GetArgs {
    /// <job>/<index> for a task, <job>/<first>-<last> for several, <job> for all of a job
    #[arg(value_name = "ID", required = true)]
    ids: Vec<Tasks>,
    /// Wait so long for tasks that have not ended
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=WAIT_S_MAX))]
    wait: Option<u64>,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = EXPORT_NOTES)]
struct ExportArgs {
    #[command(flatten)]
    filters: FilterArgs,
    /// Write into this file instead of the standard output; overwrites it
    #[arg(long, value_name = "FILE", help_heading = "Options")]
    output: Option<PathBuf>,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Args)]
#[command(after_help = PURGE_NOTES)]
struct PurgeArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// All jobs that ended longer ago than that: 90s, 15m, 2h, 3d
    #[arg(long, value_name = "SPAN", help_heading = "Which tasks")]
    older_than: Option<Span>,
    /// Print JSON
    #[arg(long, help_heading = "Options")]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

impl ResultsArgs {
    /// Does what was asked for.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        // A subcommand is required, so there is one.
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        match self.command {
            ResultsCommand::Get(args) => args.run(matches),
            ResultsCommand::Export(args) => args.run(matches),
            ResultsCommand::Purge(args) => args.run(matches),
        }
    }
}

impl GetArgs {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let client = self.reach.client(matches)?;
        let deadline = self.wait.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        let (mut lines, mut total, mut without) = (Lines::standard(), 0u64, 0u64);
        let printed = Selection::Ids(self.ids).pages(&client, |ids| {
            answers(&client, ids, deadline, |place, answer| {
                total += 1;
                without += u64::from(!matches!(answer, Answer::Value(_)));
                let bytes = lines.json(&ResultLine { id: ids[place].to_string(), outcome: Outcome::of(&answer) })?;
                // One who waits sees what there is.
                lines.flush().map(|()| bytes)
            })
        });
        match printed {
            Ok(()) if without > 0 => Err(Failure::internal(format!("{without} of {total} tasks have no value"))),
            printed => ended(printed),
        }
    }
}

impl ExportArgs {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let filter = self.filters.filter(SystemTime::now())?;
        if filter.states.contains(&TaskState::Pending) {
            return Err(Failure::usage("tasks that have not ended have nothing to be exported: `engineroom tasks` lists them"));
        }
        let states = if filter.states.is_empty() { ENDED.to_vec() } else { filter.states };
        let client = self.reach.client(matches)?;
        let mut lines = self.output.as_deref().map_or_else(|| Ok(Lines::standard()), Lines::file)?;
        let exported = records(&client, &TaskFilter { states, ..filter }, |page| export(&client, page, &mut lines));
        ended(exported.and_then(|()| lines.flush()))
    }
}

fn export(client: &Client, page: &[TaskRecord], lines: &mut Lines) -> Result<(), Stop> {
    let ids: Vec<MessageId> = page.iter().map(|record| record.id).collect();
    answers(client, &ids, None, |place, answer| {
        lines.json(&ExportLine { task: TaskLine::without_error(&page[place]), outcome: Outcome::of(&answer) })
    })
}

impl PurgeArgs {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let what = match self.older_than {
            Some(_) if !self.select.is_empty() => {
                return Err(Failure::usage("--older-than is about whole jobs, of all: give it without ids and filters"));
            }
            Some(age) => Err(age),
            None => Ok(self.select.selection()?),
        };
        let client = self.reach.client(matches)?;
        let mut purged = 0;
        let done = match what {
            Err(age) => client.purge_older_than(age.duration()).map(|count| purged = count).map_err(Stop::from),
            Ok(selection) => refuse_pending(&client, &selection).and_then(|()| {
                selection.pages(&client, |ids| {
                    purged += client.purge_results(ids.iter().copied())?;
                    Ok(())
                })
            }),
        };
        let mut lines = Lines::standard();
        if done.is_ok() || purged > 0 {
            let told = match self.json {
                true => lines.json(&serde_json::json!({ "purged": purged })).map(drop),
                false => lines.text(&format!("purged: {purged}")),
            };
            ended(told.and_then(|()| lines.flush()))?;
        }
        ended(done)
    }
}

/// Fails if one of the tasks has not ended, before others are gone.
fn refuse_pending(client: &Client, selection: &Selection) -> Result<(), Stop> {
    let mut pending = 0;
    let mut count = |ids: &[MessageId]| {
        pending += client.result_status(ids)?.pending;
        Ok(())
    };
    match selection {
        Selection::Filter(filter) if !filter.states.is_empty() && !filter.states.contains(&TaskState::Pending) => {}
        Selection::Filter(filter) => {
            let filter = TaskFilter { states: vec![TaskState::Pending], ..filter.clone() };
            Selection::Filter(filter).pages(client, &mut count)?;
        }
        ids => ids.pages(client, &mut count)?,
    }
    match pending {
        0 => Ok(()),
        _ => Err(Failure::internal(format!(
            "{pending} of the tasks have not ended, so nothing was purged: abort them, wait for them, or leave them out"
        ))
        .into()),
    }
}

#[derive(Serialize)]
struct ResultLine<'a> {
    id: String,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

#[derive(Serialize)]
struct ExportLine<'a> {
    #[serde(flatten)]
    task: TaskLine<'a>,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

/// What became of a task, in JSON.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Value {
        value: &'a serde_json::Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<&'static str>,
    },
    Error {
        error: &'a str,
    },
    Pending {
        state: &'static str,
    },
}

impl<'a> Outcome<'a> {
    fn of(answer: &'a Answer) -> Self {
        match answer {
            Answer::Value(shown) => Outcome::Value { value: &shown.value, note: shown.note() },
            Answer::NoValue(error) => Outcome::Error { error },
            Answer::Unknown => Outcome::Error { error: UNKNOWN },
            Answer::Pending => Outcome::Pending { state: "pending" },
        }
    }
}

#[cfg(test)]
mod tests {
    use engineroom::JobId;

    use super::*;
    use crate::tool::value::Shown;

    const ID: &str = "00000000-0000-0000-0000-000000000001/2";

    fn line(answer: &Answer) -> String {
        serde_json::to_string(&ResultLine { id: ID.to_owned(), outcome: Outcome::of(answer) }).unwrap()
    }

    fn value(packed: &[u8]) -> Answer {
        Answer::Value(rmp_serde::from_slice::<Shown>(packed).unwrap())
    }

    #[test]
    fn a_line_has_a_value_or_an_error() {
        for (answer, rest) in [
            (value(&[7]), r#""value":7}"#),
            (value(&[0xc0]), r#""value":null}"#),
            (
                value(&[0xc4, 1, 0xab]),
                r#""value":"ab","note":"bytes are shown in hexadecimal, and numbers and keys that JSON has not as text"}"#,
            ),
            (Answer::NoValue("it was aborted".into()), r#""error":"it was aborted"}"#),
            (Answer::Pending, r#""state":"pending"}"#),
        ] {
            assert_eq!(line(&answer), format!(r#"{{"id":"{ID}",{rest}"#));
        }
        assert!(line(&Answer::Unknown).contains("does not know"));
    }

    #[test]
    fn a_line_of_an_export_has_no_field_twice() {
        let record = TaskRecord {
            id: MessageId { job: JobId::from_u128(1), index: 2 },
            state: TaskState::Failed,
            label: None,
            function: "f".into(),
            owner: "ada".into(),
            engine: None,
            attempt: 0,
            submitted_us: 1,
            started_us: None,
            completed_us: Some(2),
            error: Some("short".into()),
        };
        let answer = Answer::NoValue("long".into());
        let line = ExportLine { task: TaskLine::without_error(&record), outcome: Outcome::of(&answer) };
        let expected = format!(
            r#"{{"id":"{ID}","state":"failed","label":null,"function":"f","owner":"ada","engine":null,"attempt":0,"submitted_us":1,"started_us":null,"completed_us":2,"error":"long"}}"#
        );
        assert_eq!(serde_json::to_string(&line).unwrap(), expected);
    }
}
