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

/// Processor time of the whole machine since it was started, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct ProcessorTime {
    all: f64,
    stolen: f64,
}

impl ProcessorTime {
    /// Until now; nothing where the system does not tell.
    pub fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        // user, nice, system, idle, iowait, irq, softirq, steal; the others are parts of these.
        let ticks: Vec<f64> = text.lines().next()?.split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
        Some(Self { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// Which share of what has passed since then went to others on the same host, while somebody here wanted to run.
    pub fn stolen_since(self, before: Self) -> f64 {
        (self.stolen - before.stolen) / (self.all - before.all).max(1.0)
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
