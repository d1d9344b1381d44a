//! `engineroom abort`.

use clap::{ArgMatches, Args};
use engineroom::TaskState;

use super::{
    lines::{Lines, ended},
    reach::ReachArgs,
    select::SelectArgs,
};
use crate::failure::Failure;

const NOTES: &str = "\
Those that wait never run; those that run are stopped, unless they end first. What has ended stays as it is.
With --json it prints {\"queued\":N,\"active\":N}: how many waited, and how many were at an engine.

Examples:
  engineroom abort 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b         all of a job
  engineroom abort 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/3-17    some of a job
  engineroom abort --label night --since 2h                     what was submitted with a label within two hours";

/// Options of `engineroom abort`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct AbortArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Print JSON
    #[arg(long, help_heading = "Options")]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

impl AbortArgs {
    /// Aborts tasks.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let selection = self.select.selection()?.or_states(&[TaskState::Pending]);
        let client = self.reach.client(matches)?;
        let (mut queued, mut active, mut in_threads) = (0u64, 0u64, 0u64);
        let aborted = selection.pages(&client, |ids| {
            let counts = client.abort(ids.iter().copied())?;
            queued += u64::from(counts.queued);
            active += u64::from(counts.active);
            in_threads += u64::from(counts.in_threads);
            Ok(())
        });
        let mut lines = Lines::standard();
        let told = match self.json {
            true => lines.json(&serde_json::json!({ "queued": queued, "active": active, "in_threads": in_threads })).map(drop),
            false if in_threads > 0 => lines.text(&format!(
                "aborted: {queued} that waited, {active} that were at an engine, of which {in_threads} in threads, which may go on to \
                 their end"
            )),
            false => lines.text(&format!("aborted: {queued} that waited, {active} that were at an engine")),
        };
        ended(told.and_then(|()| lines.flush()))?;
        ended(aborted)
    }
}
