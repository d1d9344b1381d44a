//! `engineroom engines`.

use std::{ops::RangeInclusive, str::FromStr};

use clap::{ArgMatches, Args, Subcommand};
use engineroom::{Client, EngineId};

use super::reach::ReachArgs;
use crate::failure::{Failure, say};

const NOTES: &str = "\
What is done to an engine may hit whoever has tasks there. So administrators may (`engineroom cert new client --admin`), and others
while nobody else has jobs.

Examples:
  engineroom engines restart 3          fresh workers for engine 3; the task that runs there is begun anew
  engineroom engines signal 10 0-3      SIGUSR1 for the workers of four engines
  engineroom engines stop 0-3 7         they finish what they have begun, and leave
  engineroom engines stop --all         all of them, and with them their nodes";

/// How many engines a range may name: as many as a controller has at most.
const RANGE_MAX: u32 = 65_536;

/// Options of `engineroom engines`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct EnginesArgs {
    #[command(subcommand)]
    command: EnginesCommand,
}

#[derive(Debug, Subcommand)]
enum EnginesCommand {
    /// Replace the worker processes of engines
    Restart(TargetArgs),
    /// Send a signal to the worker processes of engines
    Signal(SignalArgs),
    /// Let engines finish what they have begun, and end
    Stop(TargetArgs),
}

#[derive(Debug, Args)]
struct TargetArgs {
    /// Ids, and ranges of ids: 0-3 7
    #[arg(value_name = "ENGINES", required_unless_present = "all", conflicts_with = "all")]
    engines: Vec<Engines>,
    /// All engines that there are
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

#[derive(Debug, Args)]
struct SignalArgs {
    /// Its number, as `kill -l` lists them
    #[arg(value_name = "SIGNAL")]
    signal: i32,
    #[command(flatten)]
    target: TargetArgs,
}

/// One id, or several that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Engines(RangeInclusive<u32>);

impl FromStr for Engines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last && last - first < RANGE_MAX => Ok(Self(first..=last)),
            _ => Err("an engine is a number, and several that follow each other are FIRST-LAST".into()),
        }
    }
}

impl EnginesArgs {
    /// Does what was asked for, to each engine that can be had; fails if one cannot.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        // A subcommand is required, so there is one.
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        match self.command {
            EnginesCommand::Restart(target) => target.each(matches, "restarted", |client, engines| {
                engines.iter().map(|engine| (*engine, client.restart_engine(*engine).map_err(Failure::from))).collect()
            }),
            EnginesCommand::Signal(SignalArgs { signal, target }) => {
                target.each(matches, "signalled", |client, engines| answers(engines, client.send_signal(engines, signal)))
            }
            EnginesCommand::Stop(target) => {
                target.each(matches, "stopping", |client, engines| answers(engines, client.shutdown(engines)))
            }
        }
    }
}

type Answers = Vec<(EngineId, Result<(), Failure>)>;

/// What each engine has answered; if the controller has not done anything, the first says why.
fn answers(engines: &[EngineId], asked: engineroom::Result<Vec<(EngineId, Result<(), String>)>>) -> Answers {
    match asked {
        Ok(answers) => answers
            .into_iter()
            .map(|(engine, done)| (engine, done.map_err(|text| Failure::internal(format!("engine {engine}: {text}")))))
            .collect(),
        Err(error) => engines.first().map(|engine| (*engine, Err(Failure::from(error)))).into_iter().collect(),
    }
}

impl TargetArgs {
    fn each(self, matches: &ArgMatches, done: &str, order: impl FnOnce(&Client, &[EngineId]) -> Answers) -> Result<(), Failure> {
        let Self { engines, all, reach } = self;
        let client = reach.client(matches)?;
        let named = || engines.iter().flat_map(|engines| engines.0.clone()).map(EngineId).collect();
        let engines: Vec<EngineId> = if all { client.engine_ids() } else { named() };
        let mut failed = None;
        for (engine, answer) in order(&client, &engines) {
            match answer {
                Ok(()) => say(&format!("engine {engine}: {done}\n")),
                Err(failure) => {
                    if let Some(Failure { message, .. }) = failed.replace(failure) {
                        eprintln!("{message}");
                    }
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named_by_their_ids() {
        assert_eq!("7".parse(), Ok(Engines(7..=7)));
        assert_eq!("0-3".parse(), Ok(Engines(0..=3)));
        for text in ["", "-", "3-1", "a", "1-b", "-1", "1,2", "0-4294967295"] {
            assert!(text.parse::<Engines>().is_err(), "{text:?}");
        }
    }
}
