//! The two roles of a node: from settings to the line that says it is ready, and to its end.

mod controller;
mod engine;

use std::{io, path::PathBuf, time::Duration, time::Instant};

use engineroom::Profile;

pub(crate) use controller::ControllerPlan;
pub(crate) use engine::EnginePlan;

use crate::{
    background,
    failure::{Failure, say},
    run_file::{self, RunFile, RunFileError},
    serve::{Life, Running, serve},
};

/// What the second of two nodes gets at least of the time in which both have to end.
const DRAIN_LEFT_MIN: Duration = Duration::from_secs(1);

/// How a node stands to whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// It runs in the foreground.
    Foreground,
    /// It outlives the process that started it, which waits for its line.
    Background,
}

impl Attachment {
    /// As the hidden flag says.
    pub(crate) fn of_flag(background: bool) -> Self {
        if background { Attachment::Background } else { Attachment::Foreground }
    }

    /// Leaves the starter's session, if it is to be left, and starts to log. `role` names the log file.
    pub(crate) fn enter(self, profile: &Profile, role: &str, level: &str) -> Result<(), Failure> {
        match self {
            Attachment::Foreground => crate::log::start(level, None),
            Attachment::Background => {
                background::detach()?;
                crate::log::start(level, Some(log_file(profile, role)))
            }
        }
    }

    fn announce(self, line: &str) -> io::Result<()> {
        match self {
            Attachment::Foreground => {
                say(&format!("{line}\n"));
                Ok(())
            }
            Attachment::Background => background::announce(line),
        }
    }
}

/// Where a background process of this role logs to.
pub(crate) fn log_file(profile: &Profile, role: &str) -> PathBuf {
    profile.log_dir().join(format!("{role}.log"))
}

/// Runs a controller until it is told to end.
pub(crate) fn run_controller(plan: ControllerPlan, attachment: Attachment) -> Result<(), Failure> {
    let _claim = claim_controller(&plan.profile)?;
    serve(move || plan.start(), |line| attachment.announce(line))
}

/// Runs an engine node until it is told to end.
pub(crate) fn run_engine(plan: EnginePlan, attachment: Attachment) -> Result<(), Failure> {
    let _claim = claim_engine(&plan)?;
    serve(move || plan.start(), |line| attachment.announce(line))
}

/// Runs a controller and an engine node in this process until they are told to end.
pub(crate) fn run_both(controller: ControllerPlan, engine: EnginePlan) -> Result<(), Failure> {
    // One claim for the one process.
    let _claim = claim_controller(&controller.profile)?;
    serve(move || start_both(controller, engine), |line| Attachment::Foreground.announce(line))
}

fn start_both(controller: ControllerPlan, engine: EnginePlan) -> Result<Running, Failure> {
    let controller = controller.start()?;
    match engine.start() {
        Ok(engine) => {
            let ready = format!("{}\n{}", controller.ready, engine.ready);
            Ok(Running { ready, node: Box::new(Both { controller: controller.node, engine: engine.node }) })
        }
        Err(failure) => {
            let _ = controller.node.shutdown(DRAIN_LEFT_MIN);
            Err(failure)
        }
    }
}

/// A controller and an engine node of one life.
struct Both {
    controller: Box<dyn Life>,
    engine: Box<dyn Life>,
}

impl Life for Both {
    fn is_running(&self) -> bool {
        self.controller.is_running() && self.engine.is_running()
    }

    fn shutdown(self: Box<Self>, deadline: Duration) -> Result<(), String> {
        let began = Instant::now();
        let engine_ended = self.engine.shutdown(deadline);
        let left = deadline.saturating_sub(began.elapsed()).max(DRAIN_LEFT_MIN);
        // Both are ended, whatever the first one says.
        let controller_ended = self.controller.shutdown(left);
        engine_ended.and(controller_ended)
    }
}

fn claim_controller(profile: &Profile) -> Result<RunFile, Failure> {
    profile.create_dirs().map_err(Failure::internal)?;
    RunFile::acquire(run_file::controller(profile)).map_err(|error| already_runs(profile, error))
}

/// The message for a controller that cannot be started since one runs.
pub(crate) fn already_runs(profile: &Profile, error: RunFileError) -> Failure {
    match error {
        RunFileError::Held { pid, .. } => Failure::internal(format!(
            "profile {} ({}) has a controller already, process {pid}: stop it with `engineroom stop --profile-dir {}`, or use \
             another profile",
            profile.name(),
            profile.dir().display(),
            profile.dir().display()
        )),
        error => Failure::internal(error),
    }
}

/// Engine nodes of a profile's own controller are listed there, so that `engineroom stop` ends them. One that belongs to a
/// controller elsewhere is its starter's business.
fn claim_engine(plan: &EnginePlan) -> Result<Option<RunFile>, Failure> {
    plan.profile.create_dirs().map_err(Failure::internal)?;
    if plan.connection != plan.profile.engine_connection_file() {
        return Ok(None);
    }
    run_file::acquire_engine(&plan.profile).map(Some).map_err(Failure::internal)
}

/// `name (directory)`, as messages call a profile.
fn profile_shown(profile: &Profile) -> String {
    format!("profile {} ({})", profile.name(), profile.dir().display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[test]
    fn a_second_controller_on_a_profile_is_refused_with_the_firsts_id() {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::in_dir(place.path());
        let first = claim_controller(&profile).unwrap();
        let failure = claim_controller(&profile).expect_err("held");
        assert_eq!(failure.exit, Exit::Internal);
        for said in [std::process::id().to_string(), place.path().display().to_string(), "engineroom stop".to_owned()] {
            assert!(failure.message.contains(&said), "{failure}");
        }
        drop(first);
        claim_controller(&profile).unwrap();
    }
}
