//! All rows, one after the other, each in a process of its own.

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use engineroom_tests::Process;

use crate::{
    Failure,
    machine::{Machine, ProcessorTime},
    options::{Options, Scale},
    reading::Reading,
    report::Report,
    row::Row,
};

/// How long one row may take. Reached only when something hangs.
const ROW_LIMIT: Duration = Duration::from_secs(900);

/// Above this, in processes that want to run, something else is at work, and figures are not to be trusted.
const LOAD_MAX: f64 = 0.5;

/// A round in which others on the same host took more than this share of the processors is measured again: each wake then takes several
/// times as long, also for the bare limits.
const STOLEN_MAX: f64 = 0.02;

/// How often it is measured again at most. Then the round counts in which least was taken.
const REPEATS_MAX: usize = 3;

/// Measures what the options say and reports it.
pub fn run(options: &Options) -> Result<(), Failure> {
    build_node()?;
    let machine = Machine::read();
    if machine.load_before > LOAD_MAX {
        eprintln!(
            "warning: the load average is {}: unless that was cargo, something else runs here and takes part of what is measured",
            machine.load_before
        );
    }
    let rows = options.rows();
    let mut report = Report::new(machine, options.scale(), rows.clone());
    for run in 1..=options.runs {
        report.add(measure_run(&rows, options.scale(), &format!("run {run} of {}", options.runs))?);
    }
    println!("{}", report.table());
    let path = options.json_path("speed.json");
    report.write(&path)
}

/// All rows, those that vary in several rounds: a row and what it is compared with take turns, so that both meet the same moods
/// of the machine.
fn measure_run(rows: &[Row], scale: Scale, name: &str) -> Result<Reading, Failure> {
    let mut readings = Vec::new();
    let rounds = rows.iter().map(|row| row.rounds(scale)).max().unwrap_or_default();
    for round in 1..=rounds {
        for row in rows.iter().filter(|row| round <= row.rounds(scale)) {
            readings.push(measure_undisturbed(*row, scale, &format!("{name}, round {round}"))?);
        }
    }
    Ok(Reading::merged(readings))
}

/// Measures a row, again if the machine was disturbed. The share that was stolen stands with the samples.
fn measure_undisturbed(row: Row, scale: Scale, name: &str) -> Result<Reading, Failure> {
    let mut least: Option<(f64, Reading)> = None;
    for _ in 0..=REPEATS_MAX {
        let (began, before) = (Instant::now(), ProcessorTime::read());
        let reading = measure_apart(row, scale)?;
        let stolen = ProcessorTime::read().zip(before).map_or(0.0, |(now, before)| now.stolen_since(before));
        let (row, seconds, percent) = (row.name(), began.elapsed().as_secs_f64(), 100.0 * stolen);
        eprintln!("{name}: {row} measured in {seconds:.1} s, {percent:.1} % of the processors stolen");
        if least.as_ref().is_none_or(|(so_far, _)| stolen < *so_far) {
            least = Some((stolen, reading.samples(&format!("{row}.stolen"), vec![stolen])));
        }
        if stolen <= STOLEN_MAX {
            break;
        }
    }
    least.map(|(_, reading)| reading).ok_or_else(|| "nothing was measured".into())
}

/// Measures a row in this process and prints its reading, for [`measure_apart`].
pub fn measure_here(row: Row, scale: Scale) -> Result<(), Failure> {
    let reading = row.measure(scale).map_err(|failure| format!("{}: {failure}", row.name()))?;
    println!("{}", serde_json::to_string(&reading)?);
    Ok(())
}

/// Measures a row in a process of its own, so that its peak of memory, its threads and its end are its own.
pub fn measure_apart(row: Row, scale: Scale) -> Result<Reading, Failure> {
    let name = row.name();
    let mut command = Command::new(env::current_exe()?);
    command.args(["measure", &name]);
    if scale == Scale::Quick {
        command.arg("--quick");
    }
    let ended = Process::start(&name, &mut command).finish_within(ROW_LIMIT);
    if !ended.status.success() {
        return Err(format!("{name} could not be measured ({})\n{}{}", ended.status, ended.stdout, ended.stderr).into());
    }
    eprint!("{}", ended.stderr);
    Ok(ended.json())
}

/// Builds the programs that are to be measured: cargo builds them for tests of their own package only, and those that are
/// there may be older than the sources.
pub fn build_node() -> Result<(), Failure> {
    let Some(cargo) = env::var_os("CARGO") else {
        eprintln!("warning: not started by cargo: the programs `node` and `engineroom` are taken as they are");
        return Ok(());
    };
    let status =
        Command::new(cargo).args(["build", "--release", "-p", "engineroom-node", "-p", "engineroom-tests", "--bins"]).status()?;
    if status.success() { Ok(()) } else { Err("engineroom-node cannot be built: see above".into()) }
}
