//! A disk that gets full while tasks run, and has space again.

use std::{fs, time::Duration};

use engineroom::TaskState;
use engineroom_tests::{Finished, Lab, Process, SmallDisk, memory_peak_mib, recorded, wait_for};

use crate::PROBE;

/// More than the store's log may hold before it is moved to the file, twice: the disk is to be full when the test says so.
const DISK_MIB: u32 = 128;

const TASKS: u32 = 3000;

/// How long may pass until a program knows that its submission is refused.
const REFUSAL_LIMIT: Duration = Duration::from_secs(60);

/// The most memory that the controller may take meanwhile, in MiB.
const MEMORY_LIMIT_MIB: u64 = 300;

fn start_controller(lab: &Lab) -> Process {
    lab.start("node", ["--role", "controller", "--listen", "127.0.0.1:0"])
}

/// The message that the disk is full, without a panic.
#[track_caller]
fn assert_says_full(ended: &Finished) {
    assert!(!ended.status.success(), "{ended:?}");
    assert!(ended.stderr.contains("store.sqlite") && ended.stderr.contains("free space"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

fn assert_refused(lab: &Lab) {
    let ended = lab.start(PROBE, ["squares", "10"]).finish_within(REFUSAL_LIMIT);
    assert_says_full(&ended);
    println!("refused within {:.1?}: {}", ended.took, ended.stderr.trim());
}

/// A controller that was killed is followed by one that waits for space, or by one that says why it cannot start; then by one
/// that starts once there is space.
fn restart_on_full_disk(lab: &Lab, disk: &SmallDisk, controller: Process) -> Process {
    controller.kill();
    let next = start_controller(lab);
    if next.has_line_or_ends("controller ready") {
        println!("the next controller waits for space");
        disk.free();
        return next;
    }
    let ended = next.finish();
    assert_says_full(&ended);
    println!("the next controller refuses to start: {}", ended.stderr.trim());
    disk.free();
    lab.controller()
}

#[test]
fn a_full_disk_refuses_submissions_loses_nothing_and_goes_on_when_there_is_space() {
    let lab = Lab::new();
    let disk = match SmallDisk::mount(&lab.profile().state_dir(), DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: no disk of the test's own here: {why}"),
    };
    let (_engines, controller) = lab.cluster(2);
    // The program has to be there before the disk is full.
    lab.run(PROBE, ["squares", "10"]).success();
    let file = lab.path().join("job");
    let args = ["texts", &TASKS.to_string(), "5", "4096", file.to_str().expect("a path of this test")];
    let map = lab.start(PROBE, args);
    map.wait_line("submitted");
    let job = fs::read_to_string(&file).expect("written").parse().expect("the id of a job");
    let succeeded = || {
        let recorded = recorded(&lab.client(), job).unwrap_or_default();
        Some(recorded.iter().filter(|(_, state)| *state == TaskState::Succeeded).count())
    };
    wait_for("results", || succeeded().filter(|count| *count > 100));
    disk.fill();
    controller.wait_stderr("is full: free space");
    // What the last commit took may have given a few pages back.
    disk.fill();
    assert_refused(&lab);
    let kept = succeeded().unwrap_or_default();
    assert_eq!(lab.status().engines.len(), 2, "it answers");
    assert_refused(&lab);
    println!("{kept} of {TASKS} results kept when it was full; controller's peak: {} MiB", memory_peak_mib(controller.pid()));
    assert!(memory_peak_mib(controller.pid()) < MEMORY_LIMIT_MIB);

    let controller = restart_on_full_disk(&lab, &disk, controller);
    let ended = map.finish().success();
    assert_eq!(ended.json::<u32>(), TASKS, "all results are right");
    let expected: Vec<_> = (0..TASKS).map(|index| (index, TaskState::Succeeded)).collect();
    assert_eq!(recorded(&lab.client(), job).expect("the controller is there"), expected, "one recorded outcome a task");
    lab.run(PROBE, ["squares", "10"]).success();
    println!("complete {:.1?} after there was space; controller's peak: {} MiB", ended.took, memory_peak_mib(controller.pid()));
    assert!(!controller.stderr().contains("panicked") && memory_peak_mib(controller.pid()) < MEMORY_LIMIT_MIB);
}

#[test]
fn a_controller_goes_on_by_itself_once_its_disk_has_space() {
    let lab = Lab::new();
    let disk = match SmallDisk::mount(&lab.profile().state_dir(), DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: no disk of the test's own here: {why}"),
    };
    let (_engines, controller) = lab.cluster(2);
    let file = lab.path().join("job");
    let map = lab.start(PROBE, ["texts", "1000", "5", "4096", file.to_str().expect("a path of this test")]);
    map.wait_line("submitted");
    wait_for("tasks that have ended", || {
        let engines = lab.client().status().ok()?.engines;
        (engines.iter().map(|engine| engine.completed).sum::<u64>() > 50).then_some(())
    });
    disk.fill();
    controller.wait_stderr("is full: free space");
    disk.free();
    assert_eq!(map.finish().success().json::<u32>(), 1000);
    lab.run(PROBE, ["squares", "10"]).success();
}
