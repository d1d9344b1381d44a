//! Submit a long job, leave, and come back for the results: three programs that share only a file of message ids.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand};
use engineroom_examples::{ClusterOptions, Failure, ids_file, run, say};

/// How many errors are shown when many tasks have failed.
const ERRORS_SHOWN: usize = 5;

/// Submits a long job and leaves; later tells how far it is, and collects its results.
///
/// Examples:
///   disconnect submit --profile lab --ids job.ids --tasks 200 --millis 100
///   disconnect status --profile lab --ids job.ids
///   disconnect collect --profile lab --ids job.ids
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    #[command(subcommand)]
    step: Step,

    #[command(flatten)]
    cluster: ClusterOptions,
}

#[derive(Subcommand)]
enum Step {
    /// Submit the job, store its message ids, and leave
    Submit {
        /// The file for the message ids; it must be new or empty
        #[arg(long, value_name = "FILE")]
        ids: PathBuf,
        /// How many tasks
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=ids_file::IDS_MAX as u64))]
        tasks: u64,
        /// How long each takes, in milliseconds
        #[arg(long, value_name = "MS", default_value_t = 100)]
        millis: u64,
    },
    /// Say how far the job is, without waiting for it
    Status {
        /// The file with the message ids
        #[arg(long, value_name = "FILE")]
        ids: PathBuf,
    },
    /// Wait for the job to end and fetch all its results
    Collect {
        /// The file with the message ids
        #[arg(long, value_name = "FILE")]
        ids: PathBuf,
    },
}

fn main() -> ExitCode {
    engineroom::init();
    run(|| {
        let options = Options::parse();
        if !options.cluster.is_remote() {
            return Err(Failure::Usage(
                "name a cluster with --profile, --profile-dir or --connection: one embedded in this program would end with \
                 it, and the job too (`engineroom start` starts one that stays)"
                    .into(),
            ));
        }
        match options.step {
            Step::Submit { ids, tasks, millis } => submit(&options.cluster, &ids, tasks, millis),
            Step::Status { ids } => status(&options.cluster, &ids),
            Step::Collect { ids } => collect(&options.cluster, &ids),
        }
    })
}

/// Stands for an experiment that takes its time.
fn experiment((number, millis): (u64, u64)) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    number * number
}

fn submit(cluster: &ClusterOptions, path: &Path, tasks: u64, millis: u64) -> Result<(), Failure> {
    let file = ids_file::create(path)?;
    let client = cluster.connect()?.client;
    let job = client.load_balanced_view().label("disconnect").map(experiment, (0..tasks).map(|number| (number, millis)));
    ids_file::write(&file, &job.message_ids()).map_err(Failure::write(path))?;
    client.close()?; // returns once the cluster has all of the job
    say!("submitted {tasks} jobs; their message ids are in {}", path.display())?;
    Ok(())
}

fn status(cluster: &ClusterOptions, path: &Path) -> Result<(), Failure> {
    let ids = ids_file::read(path)?;
    let counts = cluster.connect()?.client.result_status(&ids)?;
    // Rounded down, so that 100 % means all.
    say!("{} jobs, {} % complete", counts.total, 100 * counts.done() / counts.total.max(1))?;
    for (count, what) in [
        (counts.failed, "failed"),
        (counts.evicted, "ended, but their results were dropped since to make room"),
        (counts.unknown, "are not known to this cluster: is it the one that they were submitted to?"),
    ] {
        if count > 0 {
            say!("{count} of them {what}")?;
        }
    }
    Ok(())
}

fn collect(cluster: &ClusterOptions, path: &Path) -> Result<(), Failure> {
    let ids = ids_file::read(path)?;
    let session = cluster.connect()?;
    let results = session.client.get_result::<u64>(ids)?.wait_interactive()?.results()?;

    let mut sum = 0;
    let mut failed = 0;
    for (number, result) in (0..).zip(&results) {
        match result {
            Ok(square) if *square == number * number => sum += square,
            Ok(other) => return Err(Failure::Work(format!("result {number} is {other} instead of {}", number * number))),
            Err(error) => {
                failed += 1;
                if failed <= ERRORS_SHOWN {
                    eprintln!("{error}");
                }
            }
        }
    }
    if failed > 0 {
        return Err(Failure::Work(format!("{failed} of {} tasks failed", results.len())));
    }
    say!("{} results, all as expected; their sum is {sum}", results.len())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_can_be_named_before_and_after_the_step() {
        for line in ["disconnect --profile lab status --ids f", "disconnect status --ids f --profile lab"] {
            let options = Options::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(options.cluster.is_remote(), "{line}");
        }
    }

    #[test]
    fn every_step_needs_a_file() {
        for step in ["submit", "status", "collect"] {
            assert!(Options::try_parse_from(["disconnect", step]).is_err(), "{step}");
        }
    }
}
