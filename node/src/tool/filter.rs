//! Filters on the command line: which tasks a command is about.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use engineroom::{EngineId, JobId, TaskFilter, TaskState};

use crate::failure::Failure;

/// The longest span of time, in seconds: 50 years. It still ends after 1970, and more is a slip of the hand.
const SPAN_S_MAX: u64 = 50 * 365 * 86_400;

/// How often a state may be given on the command line; there are five of them.
const STATES_MAX: usize = 16;

/// Which tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Which tasks")]
pub(super) struct FilterArgs {
    /// In this state: pending, succeeded, failed, aborted or evicted; repeat it for more
    #[arg(long = "state", value_name = "STATE", value_parser = state, value_delimiter = ',')]
    states: Vec<TaskState>,
    /// Of this job
    #[arg(long, value_name = "JOB", value_parser = job)]
    job: Option<JobId>,
    /// Of jobs with this label
    #[arg(long, value_name = "LABEL")]
    label: Option<String>,
    /// Of jobs whose function has this in its name
    #[arg(long, value_name = "TEXT")]
    function: Option<String>,
    /// That this engine ran last
    #[arg(long, value_name = "N")]
    engine: Option<u32>,
    /// Submitted within that time: 90s, 15m, 2h, 3d
    #[arg(long, value_name = "SPAN")]
    since: Option<Span>,
    /// Submitted longer ago than that
    #[arg(long, value_name = "SPAN")]
    before: Option<Span>,
    /// Ended within that time
    #[arg(long, value_name = "SPAN")]
    completed_since: Option<Span>,
    /// Ended longer ago than that
    #[arg(long, value_name = "SPAN")]
    completed_before: Option<Span>,
    /// Submitted by this owner; only an administrator sees the tasks of others
    #[arg(long, value_name = "NAME")]
    owner: Option<String>,
}

impl FilterArgs {
    /// Whether there is no filter at all.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The filter, for somebody whose clock says `now`.
    ///
    /// # Errors
    /// When nothing could pass it, or there are too many states.
    pub(super) fn filter(&self, now: SystemTime) -> Result<TaskFilter, Failure> {
        if self.states.len() > STATES_MAX {
            return Err(Failure::usage(format!("--state can be given {STATES_MAX} times; there are five states")));
        }
        some_time("--since", self.since, "--before", self.before)?;
        some_time("--completed-since", self.completed_since, "--completed-before", self.completed_before)?;
        let at = |span: Option<Span>| span.map(|span| span.before_us(now));
        Ok(TaskFilter {
            states: self.states.clone(),
            job: self.job,
            label: self.label.clone(),
            function: self.function.clone(),
            engine: self.engine.map(EngineId),
            submitted_after_us: at(self.since),
            submitted_before_us: at(self.before),
            completed_after_us: at(self.completed_since),
            completed_before_us: at(self.completed_before),
            owner: self.owner.clone(),
        })
    }
}

/// A span of time: `90s`, `15m`, `2h`, `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span(Duration);

impl Span {
    /// How long it is.
    pub(super) fn duration(self) -> Duration {
        self.0
    }

    /// So long before `now`, in microseconds since the Unix epoch.
    fn before_us(self, now: SystemTime) -> u64 {
        let since = now.checked_sub(self.0).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
        u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a span of time such as 90s, 15m, 2h or 3d, of at most {} days", SPAN_S_MAX / 86_400);
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let unit_s = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(wrong()),
        };
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_s));
        let seconds = seconds.filter(|seconds| *seconds <= SPAN_S_MAX).ok_or_else(wrong)?;
        Ok(Self(Duration::from_secs(seconds)))
    }
}

/// What happened within one span and longer ago than another: that is never, if the other is as long.
fn some_time(within: &str, since: Option<Span>, beyond: &str, before: Option<Span>) -> Result<(), Failure> {
    match (since, before) {
        (Some(since), Some(before)) if since <= before => {
            Err(Failure::usage(format!("no task passes: the span of {within} must be longer than that of {beyond}")))
        }
        _ => Ok(()),
    }
}

/// The state that is called so.
fn state(text: &str) -> Result<TaskState, String> {
    let named = |state: &TaskState| state_name(*state) == text;
    STATES.iter().copied().find(named).ok_or_else(|| "choose pending, succeeded, failed, aborted or evicted".to_owned())
}

fn job(text: &str) -> Result<JobId, String> {
    text.parse().map_err(|_| format!("{text:?} is not a job: expected <uuid>, what stands before the / in the ids of its tasks"))
}

const STATES: [TaskState; 5] =
    [TaskState::Pending, TaskState::Succeeded, TaskState::Failed, TaskState::Aborted, TaskState::Evicted];

/// States of tasks that have ended.
pub(super) const ENDED: [TaskState; 4] = [TaskState::Succeeded, TaskState::Failed, TaskState::Aborted, TaskState::Evicted];

/// The word for a state, here and in JSON.
pub(super) fn state_name(state: TaskState) -> &'static str {
    match state {
        TaskState::Pending => "pending",
        TaskState::Succeeded => "succeeded",
        TaskState::Failed => "failed",
        TaskState::Aborted => "aborted",
        TaskState::Evicted => "evicted",
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;
    use crate::failure::Exit;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filters: FilterArgs,
    }

    fn parsed(line: &str) -> Result<FilterArgs, clap::Error> {
        let words = ["tool"].into_iter().chain(line.split_whitespace());
        Command::command().try_get_matches_from(words).and_then(|matches| Command::from_arg_matches(&matches)).map(|c| c.filters)
    }

    #[test]
    fn spans_are_numbers_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("3d", 259_200), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "3", "d", "1.5h", "-1h", "3 d", "3w", "3dd", "99999999999999999999s", "213503982334602d", "18251d"] {
            assert!(text.parse::<Span>().is_err_and(|error| error.contains("15m")), "{text}");
        }
    }

    #[test]
    fn each_option_is_a_part_of_the_filter() {
        let now = UNIX_EPOCH + Duration::from_secs(10_000);
        let job = "0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b";
        let all = TaskFilter::default();
        for (line, filter) in [
            ("", all.clone()),
            ("--state failed", TaskFilter { states: vec![TaskState::Failed], ..all.clone() }),
            ("--state failed,aborted", TaskFilter { states: vec![TaskState::Failed, TaskState::Aborted], ..all.clone() }),
            (
                "--state evicted --state pending",
                TaskFilter { states: vec![TaskState::Evicted, TaskState::Pending], ..all.clone() },
            ),
            (&format!("--job {job}"), TaskFilter { job: job.parse().ok(), ..all.clone() }),
            ("--label night", TaskFilter { label: Some("night".into()), ..all.clone() }),
            ("--function nap", TaskFilter { function: Some("nap".into()), ..all.clone() }),
            ("--engine 3", TaskFilter { engine: Some(EngineId(3)), ..all.clone() }),
            ("--since 2h", TaskFilter { submitted_after_us: Some(2_800_000_000), ..all.clone() }),
            ("--before 10s", TaskFilter { submitted_before_us: Some(9_990_000_000), ..all.clone() }),
            ("--completed-since 1m", TaskFilter { completed_after_us: Some(9_940_000_000), ..all.clone() }),
            ("--completed-before 1d", TaskFilter { completed_before_us: Some(0), ..all.clone() }),
            ("--owner ada", TaskFilter { owner: Some("ada".into()), ..all.clone() }),
        ] {
            let args = parsed(line).unwrap();
            assert_eq!(args.is_empty(), line.is_empty(), "{line}");
            assert_eq!(args.filter(now).unwrap(), filter, "{line}");
        }
    }

    #[test]
    fn what_can_be_no_filter_is_refused() {
        for line in ["--state done", "--state", "--job 17", "--engine x", "--since yesterday"] {
            assert!(parsed(line).is_err(), "{line}");
        }
        for line in ["--since 2h --before 3h", "--since 2h --before 2h", "--completed-since 1s --completed-before 1m"] {
            let failure = parsed(line).unwrap().filter(SystemTime::now()).expect_err(line);
            assert_eq!(failure.exit, Exit::Usage, "{line}");
        }
        assert!(parsed("--since 3h --before 2h").unwrap().filter(SystemTime::now()).is_ok());
    }

    #[test]
    fn the_words_for_states_are_those_of_json() {
        for named in STATES {
            assert_eq!(serde_json::to_value(named).unwrap(), state_name(named));
            assert_eq!(state(state_name(named)), Ok(named));
        }
    }
}
