//! The program `engineroom`.

mod abort;
mod cert;
mod config;
mod engines;
mod fetch;
mod filter;
mod lines;
mod reach;
mod resubmit;
mod results;
mod select;
mod start;
mod status;
mod stop;
mod tasks;
mod value;

use std::process::ExitCode;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    args::{ConnectionArgs, ControllerArgs, EngineArgs, LogArgs, ProfileArgs},
    failure::{Failure, conclude},
    role::{Attachment, ControllerPlan, EnginePlan, run_controller, run_engine},
    settings::Settings,
};

const EXAMPLES: &str = "\
Examples:
  engineroom start                        a controller and one engine a core, until Ctrl-C
  engineroom start -n 4 --daemonize       the same in the background, with 4 engines
  engineroom status                       what engines and clients do
  engineroom tasks --state failed         what failed, and why
  engineroom results export               what became of all tasks, as JSON lines
  engineroom stop                         ends what runs on the profile
  engineroom engine --connection engine.json
                                          more engines, from another machine that was given that file
  engineroom cert new client --name ada   a connection file of her own for another user

Every command takes --profile NAME or --profile-dir DIR: the cluster's directory, with its settings (config.toml), keys, state
and logs. Every option can also be set by the variable that its help names, or in config.toml; the command line comes first, then
the environment, then config.toml. `engineroom config` shows what is in force and why.

Exit codes: 0 done, 1 failed or left work unfinished, 2 wrong options, 3 no controller or refused, 130 ended at once.";

/// Starts, stops and shows a cluster.
#[derive(Debug, Parser)]
#[command(name = "engineroom", version, after_help = EXAMPLES)]
struct Tool {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a controller and an engine node on this machine
    Start(start::StartArgs),
    /// Stop the controller and the engine nodes that run on a profile
    Stop(stop::StopArgs),
    /// Show what engines and clients do, and why anything waits
    Status(status::StatusArgs),
    /// List tasks, those of the newest job first
    Tasks(tasks::TasksArgs),
    /// Get, export and purge what became of tasks
    Results(results::ResultsArgs),
    /// Submit tasks again, as new ones
    Resubmit(resubmit::ResubmitArgs),
    /// Abort tasks that have not ended
    Abort(abort::AbortArgs),
    /// Restart, signal and stop engines
    Engines(engines::EnginesArgs),
    /// Show the settings in force, and where each comes from
    Config(config::ConfigArgs),
    /// Make, list and revoke certificates: who may join the cluster
    Cert(cert::CertArgs),
    /// Run a controller, as `node --role controller` does
    Controller(ControllerCommand),
    /// Run an engine node, as `node --role engine` does
    Engine(EngineCommand),
}

/// One role of a node.
#[derive(Debug, Args)]
struct ControllerCommand {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    controller: ControllerArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Leave the session, and let go of standard output when ready
    #[arg(long, hide = true)]
    background: bool,
}

/// The other role of a node.
#[derive(Debug, Args)]
struct EngineCommand {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    log: LogArgs,
    /// Leave the session, and let go of standard output when ready
    #[arg(long, hide = true)]
    background: bool,
}

/// The program `engineroom`.
pub fn engineroom() -> ExitCode {
    let matches = Tool::command().get_matches();
    let tool = Tool::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // A subcommand is required, so there is one.
    let matches = matches.subcommand().map_or(&matches, |(_, matches)| matches);
    conclude("engineroom", tool.command.run(matches))
}

impl Command {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        match self {
            Command::Start(args) => args.run(matches),
            Command::Stop(args) => args.run(matches),
            Command::Status(args) => args.run(matches),
            Command::Tasks(args) => args.run(matches),
            Command::Results(args) => args.run(matches),
            Command::Resubmit(args) => args.run(matches),
            Command::Abort(args) => args.run(matches),
            Command::Engines(args) => args.run(matches),
            Command::Config(args) => args.run(matches),
            Command::Cert(args) => args.run(matches),
            Command::Controller(args) => args.run(matches),
            Command::Engine(args) => args.run(matches),
        }
    }
}

impl ControllerCommand {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let profile = self.profile.resolve(matches)?;
        let settings = Settings::read(matches, &profile)?;
        let attachment = Attachment::of_flag(self.background);
        attachment.enter(&profile, "controller", &settings.log(&self.log)?.value)?;
        run_controller(ControllerPlan::new(profile.clone(), settings.controller(&self.controller)), attachment)
    }
}

impl EngineCommand {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let profile = self.profile.resolve(matches)?;
        let settings = Settings::read(matches, &profile)?;
        let attachment = Attachment::of_flag(self.background);
        attachment.enter(&profile, "engine", &settings.log(&self.log)?.value)?;
        let connection = settings.connection(&self.connection).value;
        run_engine(EnginePlan::new(profile.clone(), connection, settings.engine(&self.engine)?), attachment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_sound() {
        Tool::command().debug_assert();
    }

    #[test]
    fn lines_of_the_help_are_understood() {
        let mut lines = Vec::new();
        examples(&Tool::command(), &mut lines);
        assert!(lines.len() > 20, "{lines:?}");
        for line in lines {
            let command = line.trim().split("  ").next().unwrap().split(" > ").next().unwrap();
            let parsed =
                Tool::command().mut_subcommands(|sub| sub.mut_args(|arg| arg.env(None))).try_get_matches_from(command.split(' '));
            assert!(parsed.is_ok(), "{command}: {parsed:?}");
        }
    }

    /// The lines with commands in the help of a command, and of those below it.
    fn examples(command: &clap::Command, lines: &mut Vec<String>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        lines.extend(help.lines().filter(|line| line.starts_with("  engineroom")).map(str::to_owned));
        command.get_subcommands().for_each(|command| examples(command, lines));
    }
}
