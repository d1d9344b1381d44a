//! The machine, as far as figures depend on it.

use std::{fs, process::Command, thread};

use serde::Serialize;
use time::OffsetDateTime;

/// What figures can only be read with.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// How many tasks the system runs at once.
    pub cores: usize,
    /// What the processor calls itself.
    pub processor: String,
    /// The system's version.
    pub kernel: String,
    /// When the measurement began, in UTC.
    pub date: String,
    /// The commit of the sources, with `-dirty` if they differ from it; `unknown` outside a checkout.
    pub commit: String,
    /// How many processes wanted to run in the minute before.
    pub load_before: f64,
}

impl Machine {
    /// All that, in a line.
    pub fn describe(&self) -> String {
        let Self { cores, processor, kernel, date, commit, load_before } = self;
        format!("{processor}, {cores} cores, Linux {kernel}, load {load_before} before, commit {commit}, {date}")
    }

    /// This machine, now.
    pub fn read() -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            processor: processor().unwrap_or_else(|| "unknown".into()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            date: OffsetDateTime::now_utc().to_string(),
            commit: commit().unwrap_or_else(|| "unknown".into()),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN),
        }
    }
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).to_owned())
}

fn commit() -> Option<String> {
    let described = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output().ok()?;
    let text = String::from_utf8(described.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| described.status.success() && !text.is_empty())
}
