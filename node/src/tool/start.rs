//! `engineroom start`.

use std::ffi::OsString;

use clap::{ArgMatches, Args};
use engineroom::Profile;

use crate::{
    args::{ControllerArgs, EngineArgs, LogArgs, ProfileArgs},
    background::{self, Background},
    failure::{Failure, say},
    role::{Attachment, ControllerPlan, EnginePlan, already_runs, log_file, run_both},
    run_file::{self, RunFileError},
    serve::DRAIN_DEADLINE,
    settings::{ControllerSettings, EngineSettings, Settings},
};

const EXAMPLES: &str = "\
Examples:
  engineroom start                              one engine a core, until Ctrl-C
  engineroom start -n 4 --daemonize             in the background; returns when both are ready
  engineroom start --profile two --listen 127.0.0.1:0 --daemonize
                                                a second cluster beside the first, on a port of its own

With --daemonize, processes log to log/controller.log and log/engine.log in the profile's directory, and their ids are in
run/controller.pid and run/engine.pid. A start on the same profile uses the same keys, so that connection files stay valid.";

/// Options of `engineroom start`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StartArgs {
    /// Run in the background, and return when the cluster is ready
    #[arg(long)]
    daemonize: bool,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    controller: ControllerArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl StartArgs {
    /// Starts a controller and an engine node.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let profile = self.profile.resolve(matches)?;
        let settings = Settings::read(matches, &profile)?;
        let (controller, engine) = (settings.controller(&self.controller), settings.engine(&self.engine)?);
        let level = settings.log(&self.log)?.value;
        refuse_second(&profile)?;
        if self.daemonize {
            return start_background(
                &profile,
                controller_args(&profile, &controller, &level),
                engine_args(&profile, &engine, &level),
            );
        }
        Attachment::Foreground.enter(&profile, "start", &level)?;
        let connection = profile.engine_connection_file();
        run_both(ControllerPlan::new(profile.clone(), controller), EnginePlan::new(profile.clone(), connection, engine))
    }
}

/// Says at once that a controller runs, rather than by way of a log. The claim that counts is the controller's own.
fn refuse_second(profile: &Profile) -> Result<(), Failure> {
    let path = run_file::controller(profile);
    match run_file::holder(&path) {
        Ok(None) => Ok(()),
        Ok(Some(pid)) => Err(already_runs(profile, RunFileError::Held { pid, path })),
        Err(error) => Err(already_runs(profile, error)),
    }
}

fn start_background(profile: &Profile, controller: Vec<OsString>, engine: Vec<OsString>) -> Result<(), Failure> {
    profile.create_dirs().map_err(Failure::internal)?;
    let launch = |what, args, role| background::launch(what, args, profile.dir(), &log_file(profile, role));
    let controller = launch("controller", controller, "controller")?;
    let engine = match launch("engine node", engine, "engine") {
        Ok(engine) => engine,
        Err(failure) => {
            // Half a cluster is not what was asked for.
            background::stop(controller.pid, DRAIN_DEADLINE)?;
            return Err(failure);
        }
    };
    let shown = |node: &Background| format!("{} (process {})\n", node.ready, node.pid);
    say(&format!(
        "{}{}stop with: engineroom stop --profile-dir {}\n",
        shown(&controller),
        shown(&engine),
        profile.dir().display()
    ));
    Ok(())
}

/// What is in force here is what is in force there, wherever it came from: all of it goes on the command line.
fn controller_args(profile: &Profile, settings: &ControllerSettings, level: &str) -> Vec<OsString> {
    let mut args = common_args("controller", profile, level);
    args.extend(["--listen".into(), settings.listen.value.to_string().into()]);
    if let Some(host) = &settings.advertise.value {
        args.extend(["--advertise".into(), host.as_str().into()]);
    }
    args
}

fn engine_args(profile: &Profile, settings: &EngineSettings, level: &str) -> Vec<OsString> {
    let mut args = common_args("engine", profile, level);
    // It is this profile's engine node, whatever the environment says of others.
    args.extend(["--connection".into(), profile.engine_connection_file().into()]);
    args.extend(["--engines".into(), settings.engines.value.to_string().into()]);
    args.extend(["--worker".into(), settings.worker.value.to_string().into()]);
    let timeout = settings.connect_timeout.value.min(background::READY_TIMEOUT);
    args.extend(["--connect-timeout".into(), timeout.as_secs().to_string().into()]);
    for (key, value) in &settings.labels.value {
        args.extend(["--label".into(), format!("{key}={value}").into()]);
    }
    for (name, amount) in &settings.resources.value {
        args.extend(["--resource".into(), format!("{name}={amount}").into()]);
    }
    args
}

fn common_args(role: &str, profile: &Profile, level: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![role.into(), "--background".into()];
    args.extend(["--profile".into(), profile.name().into()]);
    args.extend(["--profile-dir".into(), profile.dir().into()]);
    args.extend(["--log-level".into(), level.into()]);
    args
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;
    use crate::run_file::RunFile;

    /// Settings of a command line, as `start` has them.
    fn settings(line: &str, profile: &Profile) -> (ControllerSettings, EngineSettings) {
        let command = StartArgs::augment_args(Command::new("start")).mut_args(|arg| arg.env(None));
        let matches = command.get_matches_from(line.split_whitespace());
        let args = StartArgs::from_arg_matches(&matches).unwrap();
        let settings = Settings::read(&matches, profile).unwrap();
        (settings.controller(&args.controller), settings.engine(&args.engine).unwrap())
    }

    #[test]
    fn background_processes_are_given_what_is_in_force() {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::resolve(Some("lab"), Some(place.path())).unwrap();
        std::fs::write(
            profile.config_file(),
            "[engine]\nworker = \"thread\"\nlabels = { site = \"x\" }\nresources = { gpu = 1 }\n",
        )
        .unwrap();
        let (controller, engine) = settings("start -n 4 --listen 127.0.0.1:0 --advertise head --connect-timeout 600", &profile);
        let dir = place.path().display().to_string();
        let shown =
            |args: Vec<OsString>| args.iter().map(|arg| arg.to_str().unwrap().replace(&dir, "DIR")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            shown(controller_args(&profile, &controller, "info")),
            "controller --background --profile lab --profile-dir DIR --log-level info --listen 127.0.0.1:0 --advertise head"
        );
        assert_eq!(
            shown(engine_args(&profile, &engine, "warn")),
            "engine --background --profile lab --profile-dir DIR --log-level warn --connection DIR/security/engine.json \
             --engines 4 --worker thread --connect-timeout 20 --label site=x --resource gpu=1"
        );
    }

    #[test]
    fn a_profile_that_runs_is_not_started_again() {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::in_dir(place.path());
        refuse_second(&profile).unwrap();
        profile.create_dirs().unwrap();
        let _claim = RunFile::acquire(run_file::controller(&profile)).unwrap();
        let failure = refuse_second(&profile).expect_err("runs");
        assert!(failure.message.contains("has a controller already"), "{failure}");
    }
}
