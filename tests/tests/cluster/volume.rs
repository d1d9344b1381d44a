//! Many tasks.

use std::fs;

use engineroom_tests::{Lab, memory_peak_mib, wait_for};
use rustix::process::Signal;

use crate::PROBE;

/// The most memory that a program may take for a map of any length, in MiB.
const MEMORY_LIMIT_MIB: u64 = 300;

#[test]
fn a_lazy_map_of_millions_needs_little_memory() {
    let lab = Lab::new();
    let (_engines, controller) = lab.cluster(2);
    let ended = lab.run("lazy", ["--items", "2000000"]).success();
    assert!(ended.stdout.contains("sum   3999998000000\n"), "{}", ended.stdout);
    let peak = ended.stdout.lines().find_map(|line| line.strip_prefix("peak ")).expect("it tells its peak");
    let client: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    let controller = memory_peak_mib(controller.pid());
    eprintln!("client {client} MiB, controller {controller} MiB\n{}", ended.stdout);
    assert!(client < MEMORY_LIMIT_MIB && controller < MEMORY_LIMIT_MIB, "client {client} MiB, controller {controller} MiB");
}

#[test]
fn results_that_nobody_reads_fill_no_memory() {
    const TASKS: u64 = 8000;
    let lab = Lab::new();
    let (engines, controller) = lab.cluster(2);
    // 500 MiB of results.
    let client = lab.start(PROBE, ["unread", &TASKS.to_string(), "65536"]);
    client.wait_line("submitted");
    let asking = lab.client();
    wait_for("all results", || {
        let completed: u64 = asking.status().ok()?.engines.iter().map(|engine| engine.completed).sum();
        (completed >= TASKS).then_some(())
    });
    let peaks = || [&client, &controller, &engines].map(|process| memory_peak_mib(process.pid()));
    let unread = peaks();
    println!("peaks while nothing is read: client, controller and engine node {unread:?} MiB");
    assert!(unread.iter().all(|peak| *peak < MEMORY_LIMIT_MIB), "{unread:?} MiB");
    assert_eq!(client.finish().success().json::<u64>(), TASKS, "all are there, and right");
    let read = [&controller, &engines].map(|process| memory_peak_mib(process.pid()));
    println!("peaks after all was read: controller and engine node {read:?} MiB");
    assert!(read.iter().all(|peak| *peak < MEMORY_LIMIT_MIB), "{read:?} MiB");
}

#[test]
fn a_client_with_a_million_tasks_does_not_hold_up_another() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let mut flood = lab.start(PROBE, ["flood", "1000000"]);
    flood.wait_line("queued");
    let waiting = wait_for("a long queue", || {
        let status = lab.status();
        status.clients.into_iter().find(|client| client.queued > 100_000 && client.running > 0)
    });
    assert_eq!(waiting.waiting.as_deref(), Some("all engines are busy"), "{waiting:?}");
    assert!(waiting.address.is_some() && waiting.jobs == 1, "{waiting:?}");

    let median_us: u64 = lab.run(PROBE, ["ping", "200"]).success().json();
    assert!(flood.is_running());
    eprintln!("median round trip beside a million queued tasks: {median_us} us");
    // A tenth of it is aimed at; tests run side by side.
    assert!(median_us < 100_000, "{median_us} us");
    flood.close_stdin();
    flood.finish().success();
}

#[test]
fn what_a_full_link_does_not_take_comes_later_and_in_its_order() {
    const MAPS: u64 = 100;
    let lab = Lab::new();
    let (_engine, controller) = lab.cluster(2);
    let go = lab.path().join("go");
    let program = lab.start(PROBE, ["overfill", &MAPS.to_string(), go.to_str().unwrap()]);
    program.wait_line("ready");
    // Who does not read fills the links to it.
    controller.signal(Signal::STOP);
    fs::write(&go, "").unwrap();
    program.wait_line("submitted");
    controller.signal(Signal::CONT);
    let sums: Vec<u64> = program.finish().success().json();
    assert_eq!(sums, vec![60 * 24_500 + 100; MAPS as usize]);
}
