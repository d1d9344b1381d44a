//! `engineroom stop`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, Args};

use crate::{
    args::ProfileArgs,
    background::{self, Stopped},
    failure::{Failure, say},
    run_file,
    serve::DRAIN_DEADLINE,
};

/// What a process gets beyond the drain's deadline before it is killed.
const MARGIN: Duration = Duration::from_secs(5);

const NOTES: &str = "\
Engine nodes are stopped first, then the controller. Each finishes what it runs, for at most 10 s; a process that does not end is
killed. It stops whatever runs on the profile on this machine, however it was started; engine nodes that were given another
connection file are not the profile's. When nothing runs, it says so and exits with 0.";

/// Options of `engineroom stop`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    profile: ProfileArgs,
}

impl StopArgs {
    /// Stops what runs on the profile.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let profile = self.profile.resolve(matches)?;
        let engines: Vec<PathBuf> = run_file::engines(&profile).collect();
        let mut ended = stop_holders("engine node", &engines)?;
        ended.extend(stop_holders("controller", &[run_file::controller(&profile)])?);
        if ended.is_empty() {
            say(&format!("nothing runs on profile {} ({})\n", profile.name(), profile.dir().display()));
        }
        ended.iter().for_each(|(_, line)| say(line));
        match ended.iter().any(|(stopped, _)| *stopped == Stopped::Killed) {
            false => Ok(()),
            true => Err(Failure::internal("what was killed may have left work unfinished")),
        }
    }
}

/// Stops the processes that hold these files, all at a time, and leaves none of the files behind. Says how each ended.
fn stop_holders(what: &str, files: &[PathBuf]) -> Result<Vec<(Stopped, String)>, Failure> {
    let mut pids = Vec::new();
    for file in files {
        if let Some(pid) = run_file::holder(file).map_err(Failure::internal)? {
            background::tell_to_end(pid)?;
            pids.push(pid);
        }
    }
    let mut ended = Vec::new();
    for pid in pids {
        let stopped = background::await_end(pid, DRAIN_DEADLINE + MARGIN)?;
        let how = match stopped {
            Stopped::Itself => "stopped",
            Stopped::Killed => "did not end in time and was killed",
        };
        ended.push((stopped, format!("{what} {how} (process {pid})\n")));
    }
    files.iter().for_each(|file| run_file::remove_stale(file));
    Ok(ended)
}
