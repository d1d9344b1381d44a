//! The program `node`.

use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, ValueEnum, error::ErrorKind, parser::ValueSource};

use crate::{
    args::{ConnectionArgs, ControllerArgs, EngineArgs, LogArgs, ProfileArgs},
    failure::{Failure, conclude},
    role::{Attachment, ControllerPlan, EnginePlan, run_controller, run_engine},
    settings::Settings,
};

const EXAMPLES: &str = "\
Examples:
  node --role controller                              a controller for this machine, profile `default`
  node --role engine                                  an engine node of it, one engine a core
  node --role controller --listen 0.0.0.0:7123 --advertise head.lab
                                                      a controller for other machines too
  node --role engine --connection engine.json -n 8    an engine node on another machine, which was given that file

Every option can also be set by the variable that its help names, or in config.toml of the profile. The command line comes
first, then the environment, then config.toml.

A node prints one line when it is ready. SIGTERM and Ctrl-C let it finish what it runs, for at most 10 s; a second one ends it
at once. Exit codes: 0 done, 1 failed or left work unfinished, 2 wrong options, 3 no controller or refused, 130 ended at once.";

/// One process of an engineroom cluster: a controller, or a node with engines.
#[derive(Debug, Parser)]
#[command(name = "node", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Node {
    /// What this process is in its cluster
    #[arg(long, value_enum)]
    role: Role,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    controller: ControllerArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Takes jobs from clients, gives their tasks to engines, keeps results
    Controller,
    /// Runs tasks
    Engine,
}

/// The program `node`.
pub fn node() -> ExitCode {
    let matches = Node::command().get_matches();
    let node = Node::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Err(wrong) = refuse_other_roles_options(node.role, &matches) {
        Node::command().error(ErrorKind::ArgumentConflict, wrong).exit();
    }
    conclude("node", node.run(&matches))
}

impl Node {
    fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let profile = self.profile.resolve(matches)?;
        let settings = Settings::read(matches, &profile)?;
        let level = settings.log(&self.log)?.value;
        Attachment::Foreground.enter(&profile, "node", &level)?;
        match self.role {
            Role::Controller => {
                let plan = ControllerPlan::new(profile.clone(), settings.controller(&self.controller));
                run_controller(plan, Attachment::Foreground)
            }
            Role::Engine => {
                let connection = settings.connection(&self.connection).value;
                let plan = EnginePlan::new(profile.clone(), connection, settings.engine(&self.engine)?);
                run_engine(plan, Attachment::Foreground)
            }
        }
    }
}

/// An option of the other role would be ignored, and an option that is ignored misleads. Variables may serve both roles.
fn refuse_other_roles_options(role: Role, matches: &ArgMatches) -> Result<(), String> {
    let none = Command::new("");
    let (others, owner, role) = match role {
        Role::Controller => (ConnectionArgs::augment_args(EngineArgs::augment_args(none)), "engine nodes", "controller"),
        Role::Engine => (ControllerArgs::augment_args(none), "controllers", "engine"),
    };
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match others.get_arguments().find(|arg| given(arg.get_id().as_str())) {
        Some(arg) => {
            let option = arg.get_long().unwrap_or_default();
            Err(format!("--{option} is an option of {owner}, and this node's role is {role}"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<(), String> {
        let matches = Node::command().mut_args(|arg| arg.env(None)).try_get_matches_from(line.split_whitespace());
        let matches = matches.map_err(|error| error.to_string())?;
        let node = Node::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        refuse_other_roles_options(node.role, &matches)
    }

    #[test]
    fn the_command_is_sound() {
        Node::command().debug_assert();
    }

    #[test]
    fn each_role_has_its_options() {
        for line in [
            "node --role controller",
            "node --role controller --listen 127.0.0.1:0 --advertise h --profile x --profile-dir y --log-level info",
            "node --role engine --connection f --engines 2 --worker thread --label a=b --label c=d --connect-timeout 3 --profile x",
        ] {
            assert_eq!(check(line), Ok(()), "{line}");
        }
    }

    #[test]
    fn options_of_the_other_role_and_no_role_are_refused() {
        for (line, said) in [
            ("node --profile x", "--role"),
            ("node --role client", "controller, engine"),
            ("node --role controller --engines 2", "--engines is an option of engine nodes, and this node's role is controller"),
            ("node --role controller --worker thread", "--worker is an option of engine nodes"),
            ("node --role controller --label a=b", "--label is an option of engine nodes"),
            ("node --role controller --connection f", "--connection is an option of engine nodes"),
            ("node --role engine --listen 127.0.0.1:1", "--listen is an option of controllers, and this node's role is engine"),
            ("node --role engine --store sqlite", "--store"),
        ] {
            let wrong = check(line).expect_err(line);
            assert!(wrong.contains(said), "{line}: {wrong}");
        }
    }
}
