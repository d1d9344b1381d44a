//! Other task runtimes, measured on this machine in the same run.
//!
//! They are Python packages; a peer that is not installed is named, with what would install it, and the others are measured.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use engineroom_tests::Process;
use serde::Serialize;
use serde_json::Value;

use crate::{
    Failure,
    line::Unit,
    machine::Machine,
    options::{Options, PeersOptions},
    reading::Reading,
    report::{aligned, write_json},
    row::Row,
    suite::{build_node, measure_apart},
};

/// How long one peer may take. Reached only when something hangs.
const PEER_LIMIT: Duration = Duration::from_secs(600);

/// What is compared: the name in readings, and what it is.
const FIGURES: [(&str, &str, Unit); 4] = [
    ("latency.p50_us", "round trip of a task, p50", Unit::Micros),
    ("single.per_second", "single tasks", Unit::PerSecond),
    ("map.per_second", "items of a map", Unit::PerSecond),
    ("bulk.mb_per_second", "a result of 256 MiB", Unit::MbPerSecond),
];

/// The rows of ours that have these figures.
const ROWS: [Row; 4] = [Row::Latency, Row::Single, Row::Map, Row::Bulk];

/// What the scripts share.
const COMMON: &str = include_str!("../peers/common.py");

const PEERS: [Peer; 3] = [
    Peer { name: "Ray", module: "ray", package: "ray", script: include_str!("../peers/ray_peer.py") },
    Peer { name: "Dask", module: "distributed", package: "distributed", script: include_str!("../peers/dask_peer.py") },
    Peer {
        name: "IPython Parallel",
        module: "ipyparallel",
        package: "ipyparallel",
        script: include_str!("../peers/ipyparallel_peer.py"),
    },
];

/// Another task runtime.
struct Peer {
    name: &'static str,
    /// What a script imports.
    module: &'static str,
    /// What pip installs.
    package: &'static str,
    script: &'static str,
}

/// One column of the table.
#[derive(Serialize)]
struct Column {
    name: &'static str,
    reading: Reading,
}

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    counts: &'static str,
    columns: &'a [Column],
}

/// Measures engineroom and each peer that is there, and shows them side by side.
pub fn compare(options: &Options, peers: &PeersOptions) -> Result<(), Failure> {
    build_node()?;
    let machine = Machine::read();
    let measure = |row: Row| {
        eprintln!("engineroom: {}", row.name());
        measure_apart(row, options.scale())
    };
    let ours = ROWS.into_iter().map(measure).collect::<Result<Vec<_>, _>>()?;
    let mut columns = vec![Column { name: "engineroom", reading: Reading::merged(ours) }];
    for peer in &PEERS {
        if !peer.is_installed(&peers.python)? {
            let Peer { name, package, .. } = peer;
            eprintln!("{name} is not installed: {} -m pip install {package} numpy", peers.python);
            continue;
        }
        eprintln!("{}", peer.name);
        match peer.measure(&peers.python, options.scale().of(10_000, 1_000)) {
            Ok(reading) => columns.push(Column { name: peer.name, reading }),
            // The others are there all the same.
            Err(failure) => eprintln!("{failure}"),
        }
    }
    println!("{}{}\n\n{}", machine.describe(), options.scale().warning(), table(&columns));
    let path = options.json_path("peers.json");
    write_json(&path, &Document { machine: &machine, counts: options.scale().of("full", "quick"), columns: &columns })
}

impl Peer {
    fn is_installed(&self, python: &str) -> Result<bool, Failure> {
        let import = format!("import numpy, {}", self.module);
        let status = Command::new(python).args(["-c", &import]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Ok(status.map_err(|error| format!("{python} cannot be started ({error}): name another Python with --python"))?.success())
    }

    fn measure(&self, python: &str, tasks: u32) -> Result<Reading, Failure> {
        let directory = tempfile::Builder::new().prefix("engineroom-peer-").tempdir()?;
        let script = self.write_scripts(directory.path())?;
        let mut command = Command::new(python);
        command.arg(&script).env("PEER_TASKS", tasks.to_string()).current_dir(directory.path());
        let ended = Process::start(self.name, &mut command).finish_within(PEER_LIMIT);
        let figures = ended.stdout.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let figures = figures.as_ref().and_then(Value::as_object).filter(|_| ended.status.success());
        let figures = figures.ok_or_else(|| format!("{}: {}\n{}{}", self.name, ended.status, ended.stdout, ended.stderr))?;
        Ok(figures
            .iter()
            .fold(Reading::default(), |reading, (name, value)| reading.figure(name, value.as_f64().unwrap_or(f64::NAN))))
    }

    fn write_scripts(&self, directory: &Path) -> Result<std::path::PathBuf, Failure> {
        let script = directory.join("peer.py");
        fs::write(directory.join("common.py"), COMMON)?;
        fs::write(&script, self.script)?;
        Ok(script)
    }
}

fn table(columns: &[Column]) -> String {
    let heads = std::iter::once(String::new()).chain(columns.iter().map(|column| column.name.to_owned())).collect();
    let line = |(figure, what, unit): (&str, &str, Unit)| {
        let cell = |column: &Column| column.reading.figures.get(figure).map_or_else(String::new, |value| unit.show(*value));
        std::iter::once(what.to_owned()).chain(columns.iter().map(cell)).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(FIGURES.map(line)).collect();
    aligned(&rows, 1..=columns.len())
}
