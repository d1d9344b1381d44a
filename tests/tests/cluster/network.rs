//! Networks that are cut, that lose packets, and clients that move.
//!
//! Controller, engine nodes and clients are on hosts of their own. Where the system permits no such network, the tests say so and
//! pass.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::DirBuilderExt,
    thread,
    time::{Duration, Instant},
};

use engineroom::TaskState;
use engineroom_tests::{Lab, Network, Outcome, Process, Relay, SOON, assert_squares, is_long, recorded, wait_for};

use crate::PROBE;

const CONTROLLER: (&str, &str) = ("controller", "10.77.0.1");
const CLIENT: (&str, &str) = ("client", "10.77.0.2");
const ENGINES: [(&str, &str); 2] = [("engine0", "10.77.0.3"), ("engine1", "10.77.0.4")];

/// Where the client moves to.
const ELSEWHERE: &str = "10.77.0.99";

/// Below the silence that ends a link.
const SHORT_CUT: Duration = Duration::from_secs(10);

/// How many engines a node has.
const ENGINES_OF_NODE: usize = 2;

/// How long a run with a long cut may take in all.
const LIMIT: Duration = Duration::from_secs(240);

/// A cut that ends links.
fn long_cut() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 20 })
}

/// A cluster on a network. Processes stand first, so that they end first.
struct Town {
    _nodes: Vec<Process>,
    _controller: Process,
    network: Network,
    lab: Lab,
}

impl Town {
    /// A cluster with so many engine nodes, or none where that is not permitted.
    fn new(nodes: usize) -> Option<Self> {
        let lab = Lab::new();
        let network = Self::network(nodes).inspect_err(|why| println!("skipped: no network of namespaces here: {why}")).ok()?;
        let start = |host: &str, args: &[&str]| {
            let mut command = network.command(&lab, host, "node");
            Process::start(host, command.args(args).arg("--profile-dir").arg(lab.profile_dir()))
        };
        let listen = format!("{}:7123", CONTROLLER.1);
        let controller = start(CONTROLLER.0, &["--role", "controller", "--listen", &listen, "--advertise", &listen]);
        controller.wait_line("controller ready");
        let engines = ENGINES_OF_NODE.to_string();
        let engine_node = |(host, _): &(&str, &str)| start(host, &["--role", "engine", "--engines", &engines]);
        let nodes: Vec<_> = ENGINES[..nodes].iter().map(engine_node).collect();
        nodes.iter().for_each(|node| drop(node.wait_line("engine node ready")));
        Some(Self { _nodes: nodes, _controller: controller, network, lab })
    }

    fn network(nodes: usize) -> Result<Network, String> {
        let mut network = Network::new()?;
        for (host, address) in [CONTROLLER, CLIENT].iter().chain(&ENGINES[..nodes]) {
            network.connect(host, address)?;
        }
        Ok(network)
    }

    fn probe(&self, args: &[&str]) -> Process {
        let mut command = self.network.command(&self.lab, CLIENT.0, PROBE);
        Process::start("probe", command.args(args).arg("--profile-dir").arg(self.lab.profile_dir()))
    }

    /// Runs a map of so many tasks while `fault` happens to the network, and checks what came of it. Returns how often each
    /// task ran.
    fn run(&self, name: &str, tasks: u32, millis: u32, fault: impl FnOnce(&Network)) -> BTreeMap<u64, usize> {
        let file = self.lab.path().join(format!("runs of {name}"));
        let began = Instant::now();
        let map =
            self.probe(&["logged-map", &tasks.to_string(), &millis.to_string(), file.to_str().expect("a path of this test")]);
        wait_for("tasks that run", || (runs(&file).len() > ENGINES_OF_NODE).then_some(()));
        fault(&self.network);
        let mended = Instant::now();
        let before = runs(&file).len();
        let outcomes: Vec<Outcome<u64>> = map.finish_within(LIMIT).success().json();
        let took = began.elapsed();
        let job = Outcome::job(&outcomes).to_string();
        let recorded: Vec<(u32, TaskState)> = self.probe(&["recorded", &job]).finish().success().json();
        assert_squares(&outcomes, &recorded, tasks);
        let runs = runs(&file);
        println!(
            "{name}: {tasks} tasks of {millis} ms in {took:.1?}, {:.1?} of it after the fault, at whose end {before} had begun; \
             {} ran more than once, none more than {} times",
            mended.elapsed(),
            runs.values().filter(|times| **times > 1).count(),
            runs.values().max().unwrap_or(&0)
        );
        runs
    }
}

/// How often each number stands in a file of the tasks that ran.
fn runs(file: &std::path::Path) -> BTreeMap<u64, usize> {
    let mut runs = BTreeMap::new();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        *runs.entry(line.parse().expect("a number")).or_default() += 1;
    }
    runs
}

fn cut(network: &Network, host: &str, time: Duration) {
    network.cut(host);
    // This is the fault itself.
    thread::sleep(time);
    network.mend(host);
}

#[track_caller]
fn assert_once(runs: &BTreeMap<u64, usize>) {
    let again: Vec<_> = runs.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "nothing was given to anybody else, and yet these ran more than once: {again:?}");
}

#[test]
fn a_cut_of_10_s_ends_no_link_and_no_task_runs_twice() {
    let Some(town) = Town::new(2) else { return };
    let runs = town.run("10 s without an engine node", 700, 50, |network| cut(network, ENGINES[0].0, SHORT_CUT));
    assert_once(&runs);
}

#[test]
fn a_map_goes_on_without_an_engine_node_that_is_cut_off_and_with_it_when_it_is_back() {
    let Some(town) = Town::new(2) else { return };
    let cut_s = long_cut().as_secs();
    // The other node alone would need twice the time of the cut.
    let tasks = (cut_s * 2 * 1000 / 50 * ENGINES_OF_NODE as u64) as u32;
    let name = format!("{cut_s} s without one of two engine nodes");
    let runs = town.run(&name, tasks, 50, |network| cut(network, ENGINES[0].0, long_cut()));
    let again: usize = runs.values().map(|times| times - 1).sum();
    // What it had when it was cut off: a batch running and one waiting for each engine, each of few of these slow tasks.
    assert!(again <= 16 * ENGINES_OF_NODE, "{again} runs too many");
    let back = town.probe(&["sleep-map", "40", "20"]).finish().success().json::<Vec<Outcome<u64>>>();
    assert_eq!(Outcome::by_engine(&back).len(), 2 * ENGINES_OF_NODE, "all engines are there again");
}

#[test]
fn an_engine_node_that_nobody_could_replace_goes_on_with_its_tasks_when_it_is_back() {
    let Some(town) = Town::new(1) else { return };
    let name = format!("{} s without the only engine node", long_cut().as_secs());
    let runs = town.run(&name, 60, 200, |network| cut(network, ENGINES[0].0, long_cut()));
    assert_once(&runs);
}

#[test]
fn a_client_that_is_cut_off_or_moves_gets_its_results() {
    let Some(town) = Town::new(1) else { return };
    let cut_s = long_cut().as_secs();
    let runs = town.run(&format!("{cut_s} s without the client"), 300, 50, |network| cut(network, CLIENT.0, long_cut()));
    assert_once(&runs);
    let runs = town.run("the client moves", 300, 20, |network| network.move_to(CLIENT.0, ELSEWHERE));
    assert_once(&runs);
}

#[test]
fn a_network_that_loses_packets_is_slow_and_no_more() {
    let Some(town) = Town::new(2) else { return };
    if !is_long() {
        // The program itself takes a minute through such a network.
        town.probe(&["squares", "100"]).finish().success();
    }
    let disturb = |host: &(&str, &str)| town.network.disturb(host.0, 50, 5);
    if let Err(why) = [CLIENT, ENGINES[0], ENGINES[1]].iter().try_for_each(disturb) {
        println!("skipped: this system has no netem: {why}");
        return;
    }
    assert_once(&town.run("5 % loss and 50 ms delay each way", 500, 20, |_| {}));
}

#[test]
fn a_relay_that_loses_datagrams_is_slow_and_no_more() {
    let lab = Lab::new();
    let _controller = lab.controller();
    if !is_long() {
        // The program itself takes a minute through such a network.
        let _near = lab.engine_node(1);
        lab.run(PROBE, ["squares", "10"]).success();
    }
    let (far, file) = (lab.path().join("far"), lab.path().join("runs"));
    let security = far.join("security");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&security).expect("a directory of the test's own");
    let mut relays = Vec::new();
    for (seed, from) in (1..).zip([lab.client_file(), lab.engine_file()]) {
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&from).expect("there")).expect("JSON");
        let target = text["address"].as_str().and_then(|address| address.parse().ok()).expect("an address");
        let relay = Relay::new(target, Duration::from_millis(50), 5, seed);
        text["address"] = relay.address().to_string().into();
        let to = security.join(from.file_name().expect("a file"));
        fs::copy(&from, &to).expect("with its mode");
        fs::write(&to, text.to_string()).expect("written");
        relays.push(relay);
    }
    let far = far.to_str().expect("a path of this test");
    let node =
        Process::start("engine node", lab.command("node").args(["--role", "engine", "--engines", "4", "--profile-dir", far]));
    node.wait_line("engine node ready");
    let began = Instant::now();
    let args = ["logged-map", "500", "20", file.to_str().expect("a path of this test"), "--profile-dir", far];
    let map = Process::start("probe", lab.command(PROBE).args(args));
    let outcomes: Vec<Outcome<u64>> = map.finish_within(2 * SOON).success().json();
    let took = began.elapsed();
    assert_squares(&outcomes, &recorded(&lab.client(), Outcome::job(&outcomes)).expect("the controller is there"), 500);
    let counts: Vec<_> = relays.iter().map(Relay::counts).collect();
    println!("500 tasks of 20 ms in {took:.1?}; datagrams seen and lost on the way of client and engines: {counts:?}");
    assert!(counts.iter().all(|(_, lost)| *lost > 0), "{counts:?}");
    assert_once(&runs(&file));
}
