//! The engine node.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use engineroom::{ConnectionFile, EngineConfig, EngineId, EngineNode, Profile, WorkerKind, profile::EngineCount};

use super::profile_shown;
use crate::{
    failure::Failure,
    serve::{Life, Running},
    settings::{EngineSettings, Setting},
};

/// How often an engine node looks for a connection file that its controller has yet to write.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// An engine node that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct EnginePlan {
    /// The profile it takes its settings from.
    pub(crate) profile: Profile,
    /// The connection file that lets it in.
    pub(crate) connection: PathBuf,
    engines: EngineCount,
    worker: WorkerKind,
    labels: BTreeMap<String, String>,
    resources: BTreeMap<String, u64>,
    connect_timeout: Duration,
}

impl EnginePlan {
    /// A plan from settings.
    pub(crate) fn new(profile: Profile, connection: PathBuf, settings: EngineSettings) -> Self {
        let EngineSettings { engines, worker, labels, resources, connect_timeout } = settings;
        let Setting { value: engines, .. } = engines;
        Self {
            profile,
            connection,
            engines,
            worker: worker.value,
            labels: labels.value,
            resources: resources.value,
            connect_timeout: connect_timeout.value,
        }
    }

    /// Starts it. Returns when the controller has registered its engines.
    pub(crate) fn start(self) -> Result<Running, Failure> {
        let began = Instant::now();
        self.await_connection_file();
        let connection = ConnectionFile::load(&self.connection).map_err(Failure::connection)?;
        let mut config = EngineConfig::new(connection);
        config.engines = self.engines.get();
        config.worker = self.worker;
        config.labels = self.labels.clone();
        config.resources = self.resources.clone();
        config.rank = engineroom::launcher_rank()?;
        config.connect_timeout = self.connect_timeout.saturating_sub(began.elapsed()).max(LOOK_INTERVAL);
        let node = EngineNode::start(config)?;
        let ready = ready_line(&node.engine_ids(), node.controller(), &self.profile);
        Ok(Running { ready, node: Box::new(node) })
    }

    /// A controller that is started at the same time on a new profile writes the file in a moment. One that was named by its
    /// path is there or is an error.
    fn await_connection_file(&self) {
        if self.connection.exists() || self.connection != self.profile.engine_connection_file() {
            return;
        }
        let seconds = self.connect_timeout.as_secs();
        eprintln!("there is no {} yet: waiting {seconds} s for a controller to make it", self.connection.display());
        let began = Instant::now();
        while !self.connection.exists() && began.elapsed() < self.connect_timeout {
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Life for EngineNode {
    fn is_running(&self) -> bool {
        EngineNode::is_running(self)
    }

    fn cut_off(&self) -> Option<Failure> {
        EngineNode::cut_off(self).map(Failure::from)
    }

    fn is_done(&self) -> bool {
        EngineNode::is_done(self)
    }

    fn shutdown(self: Box<Self>, deadline: Duration) -> Result<(), String> {
        let report = EngineNode::shutdown(*self, deadline);
        if report.finished { Ok(()) } else { Err(format!("the engine node: {report}")) }
    }
}

fn ready_line(ids: &[EngineId], controller: &str, profile: &Profile) -> String {
    let plural = if ids.len() == 1 { "" } else { "s" };
    let (count, ids) = (ids.len(), ranges(ids));
    format!("engine node ready: {count} engine{plural} (ids {ids}) at {controller}, {}", profile_shown(profile))
}

/// `0-3, 7`.
fn ranges(ids: &[EngineId]) -> String {
    let mut ids: Vec<u32> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let runs: Vec<String> = ids
        .chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [only] => only.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect();
    runs.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_names_engines_address_and_profile() {
        let profile = Profile::in_dir("/p/lab");
        for (ids, engines) in [
            (vec![0, 1], "2 engines (ids 0-1)"),
            (vec![7], "1 engine (ids 7)"),
            (vec![9, 2, 3, 4, 6], "5 engines (ids 2-4, 6, 9)"),
        ] {
            let ids: Vec<EngineId> = ids.into_iter().map(EngineId).collect();
            let line = ready_line(&ids, "127.0.0.1:7123", &profile);
            assert_eq!(line, format!("engine node ready: {engines} at 127.0.0.1:7123, profile lab (/p/lab)"));
        }
    }
}
