//! Starting and stopping, leaving and coming back.

use std::{fs, path::Path};

use engineroom::ClusterStatus;
use engineroom_tests::{Lab, Process, wait_for};

/// All files of a directory and its directories, as paths relative to it.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => found.push(entry.path().strip_prefix(directory).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_cluster_in_the_background_starts_stops_leaves_nothing_and_keeps_its_keys() {
    let lab = Lab::new();
    let start = || lab.run("engineroom", ["start", "-n", "4", "--daemonize", "--listen", "127.0.0.1:0"]).success();
    let started = start();
    assert!(started.stdout.contains("controller ready") && started.stdout.contains("4 engines"), "{}", started.stdout);
    let old = lab.path().join("old.json");
    fs::copy(lab.client_file(), &old).unwrap();
    let status: ClusterStatus = lab.status();
    assert_eq!(status.engines.len(), 4);
    assert_eq!(lab.processes().len(), 2);
    // Workers, too, must be gone afterwards.
    lab.run("hello", [""; 0]).success();
    let second = lab.run("engineroom", ["start"]);
    assert!(!second.status.success() && second.stderr.contains("has a controller already"), "{second:?}");

    let stopped = lab.run("engineroom", ["stop"]).success();
    assert_eq!(stopped.stdout.lines().count(), 2, "{}", stopped.stdout);
    // Workers end by themselves when their engine is gone.
    wait_for("the end of all processes", || lab.processes().is_empty().then_some(()));
    let left = files(&lab.profile_dir());
    let expected = |file: &&String| {
        ["security/", "log/", "state/bundles/", "state/store."].iter().any(|directory| file.starts_with(directory))
    };
    assert_eq!(left.iter().filter(|file| !expected(file)).count(), 0, "{left:?}");
    assert_eq!(files(&lab.temp_dir()), [""; 0]);
    assert_eq!(lab.run("engineroom", ["status"]).status.code(), Some(3));

    start();
    let by_old_file = Process::start("hello", lab.command("hello").arg("--connection").arg(&old)).finish();
    by_old_file.success();
    lab.run("engineroom", ["stop"]).success();
    wait_for("the end of all processes", || lab.processes().is_empty().then_some(()));
}

#[test]
fn a_job_goes_on_without_its_client_and_another_collects_it() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let submitted = lab.run("disconnect", ["submit", "--ids", "job.ids", "--tasks", "60", "--millis", "50"]).success();
    assert!(submitted.stdout.contains("submitted 60 jobs"), "{}", submitted.stdout);
    let first = lab.run("disconnect", ["status", "--ids", "job.ids"]).success();
    let percent = |text: &str| -> u64 { text.strip_prefix("60 jobs, ").unwrap().split(' ').next().unwrap().parse().unwrap() };
    assert!(percent(&first.stdout) < 100, "it takes 1.5 s, and the status does not wait for it: {}", first.stdout);
    let collected = lab.run("disconnect", ["collect", "--ids", "job.ids"]).success();
    assert!(collected.stdout.contains("60 results, all as expected"), "{}", collected.stdout);
    let last = lab.run("disconnect", ["status", "--ids", "job.ids"]).success();
    assert_eq!(percent(&last.stdout), 100);
}
