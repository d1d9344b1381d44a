//! `engineroom status`.

use std::{fmt::Write, sync::mpsc, thread, time::Duration};

use clap::{ArgMatches, Args};
use engineroom::{Client, ClientStatus, ClusterStatus, ConnectionFile, EngineState, EngineStatus};

use super::reach::ReachArgs;
use crate::failure::{Failure, say};

/// How long the controller may take to answer. A live one takes milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);

const EXAMPLES: &str = "\
Examples:
  engineroom status                        engines, and per client what is queued, running, and why anything waits
  engineroom status --json                 the same for programs
  engineroom status --connection client.json
                                           of a cluster elsewhere, whose client connection file this is

Exits with 3 when no controller answers.";

/// Options of `engineroom status`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

impl StatusArgs {
    /// Prints the cluster's status.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let status = self.reach.ask(matches, ask)?;
        match self.json {
            true => say(&format!("{}\n", serde_json::to_string_pretty(&status).map_err(Failure::internal)?)),
            false => say(&shown(&status)),
        }
        Ok(())
    }
}

fn ask(connection: ConnectionFile) -> Result<ClusterStatus, Failure> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let answer = Client::connect(connection).and_then(|client| client.status());
        let _ = tell.send(answer.map_err(Failure::from));
    });
    let silent = || Failure::connection(format!("the controller did not answer within {} s", ANSWER_TIMEOUT.as_secs()));
    told.recv_timeout(ANSWER_TIMEOUT).map_err(|_| silent())?
}

fn shown(status: &ClusterStatus) -> String {
    let mut text = format!(
        "cluster {}, version {}, up {}; {} held, {} of results\n\n",
        status.cluster,
        status.version,
        duration_shown(status.uptime_ms / 1000),
        count(status.jobs, "job"),
        bytes_shown(status.result_bytes)
    );
    text.push_str(&format!("{}\n", count(status.engines.len() as u64, "engine")));
    if !status.engines.is_empty() {
        let head = ["id", "node", "state", "running", "waiting", "completed", "address", "labels", "resources"];
        text.push_str(&table(&head, status.engines.iter().map(engine_row).collect()));
    }
    text.push_str(&format!("\n{}\n", count(status.clients.len() as u64, "client")));
    if !status.clients.is_empty() {
        let head = ["name", "address", "jobs", "queued", "running", "waits because"];
        text.push_str(&table(&head, status.clients.iter().map(client_row).collect()));
    }
    text
}

fn engine_row(engine: &EngineStatus) -> Vec<String> {
    let running = match engine.state {
        EngineState::Idle => 0,
        EngineState::Busy | EngineState::Draining => engine.tasks.min(1),
    };
    let state = match engine.state {
        EngineState::Idle => "idle",
        EngineState::Busy => "busy",
        EngineState::Draining => "draining",
    };
    let rank = engine.info.rank.map(|rank| format!("rank={rank}"));
    let labels = engine.info.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<String> = rank.into_iter().chain(labels).collect();
    let resources: Vec<String> = engine.info.resources.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    vec![
        engine.info.id.to_string(),
        engine.info.node.clone(),
        state.to_owned(),
        running.to_string(),
        (engine.tasks - running).to_string(),
        engine.completed.to_string(),
        engine.address.clone(),
        labels.join(","),
        resources.join(","),
    ]
}

fn client_row(client: &ClientStatus) -> Vec<String> {
    vec![
        client.name.clone(),
        client.address.clone().unwrap_or_else(|| "(left)".to_owned()),
        client.jobs.to_string(),
        client.queued.to_string(),
        client.running.to_string(),
        client.waiting.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

/// Columns as wide as their widest cell, two spaces apart.
pub(super) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| (*cell).to_owned()).collect()).chain(rows).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String does not fail.
            let _ = write!(line, "  {cell:<width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn duration_shown(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

fn bytes_shown(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ClusterStatus {
        // By way of JSON, as it comes to programs.
        let text = r#"{
            "cluster": "lab", "version": "0.1.0", "uptime_ms": 3725000, "jobs": 1, "result_bytes": 2048,
            "engines": [
                {"id": 0, "node": "alpha", "labels": {"gpu": "a100", "rack": "3"}, "resources": {"memory_gb": 16}, "state": "busy", "tasks": 5, "completed": 12, "address": "127.0.0.1:4"},
                {"id": 11, "node": "b", "labels": {}, "state": "idle", "tasks": 0, "completed": 0, "address": "127.0.0.1:5"}
            ],
            "clients": [{"name": "client", "address": null, "jobs": 1, "queued": 999, "running": 5, "waiting": "all engines are busy"}]
        }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_cluster_is_shown_with_engines_clients_and_reasons() {
        let expected = "\
cluster lab, version 0.1.0, up 1 h 2 min; 1 job held, 2.0 KiB of results

2 engines
  id  node   state  running  waiting  completed  address      labels           resources
  0   alpha  busy   1        4        12         127.0.0.1:4  gpu=a100,rack=3  memory_gb=16
  11  b      idle   0        0        0          127.0.0.1:5

1 client
  name    address  jobs  queued  running  waits because
  client  (left)   1     999     5        all engines are busy
";
        assert_eq!(shown(&status()), expected);
    }

    #[test]
    fn an_empty_cluster_has_no_tables() {
        let empty = ClusterStatus { engines: Vec::new(), clients: Vec::new(), ..status() };
        assert!(shown(&empty).ends_with("\n\n0 engines\n\n0 clients\n"), "{}", shown(&empty));
    }

    #[test]
    fn times_and_sizes_read_well() {
        for (seconds, shown) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration_shown(seconds), shown);
        }
        for (bytes, shown) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")] {
            assert_eq!(bytes_shown(bytes), shown);
        }
    }
}
