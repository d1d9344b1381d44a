//! The example programs, on engines that have never seen them.

use std::{fs, io, path::PathBuf};

use engineroom_tests::Lab;
use rustix::process::Signal;
use serde_json::Value;

/// The social network that the main job runs on, where it is at hand: 4,039 nodes in one component.
const NETWORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/facebook_combined.txt");

/// A network to simulate on. With T = 1 an outbreak reaches all of it.
fn network(lab: &Lab) -> PathBuf {
    if fs::exists(NETWORK).is_ok_and(|there| there) {
        return NETWORK.into();
    }
    let ring: String = (0..500).map(|node| format!("{node} {}\n{node} {}\n", (node + 1) % 500, (node + 7) % 500)).collect();
    let path = lab.path().join("ring.txt");
    fs::write(&path, ring).unwrap();
    path
}

#[test]
fn programs_run_on_the_engines_of_two_nodes_that_have_never_seen_them() {
    let lab = Lab::new();
    let (_first, _controller) = lab.cluster(2);
    let _second = lab.engine_node(2);

    let factorial = lab.run("factorial", ["--engines", "4"]).success();
    let lines: Vec<&str> = factorial.stdout.lines().collect();
    assert_eq!((lines.len(), lines[1], lines[3]), (6, "6! = 720", "20! = 2432902008176640000"));

    let hello = lab.run("hello", [""; 0]).success();
    assert!(hello.stdout.contains("[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]"), "{}", hello.stdout);
    assert!(hello.stdout.contains("22539340290692258087863249"), "{}", hello.stdout);

    let pi = lab.run("pi", ["--points", "1000000"]).success();
    assert!(pi.stdout.contains("on 4 engines"), "{}", pi.stdout);
    let estimate: f64 = pi.stdout.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((estimate - std::f64::consts::PI).abs() < 0.01, "{}", pi.stdout);

    let network = network(&lab);
    let network = ["--network", network.to_str().unwrap()];
    let ended =
        lab.run("epidemic", network.into_iter().chain(["--points", "2", "--repetitions", "8", "--csv", "curve.csv"])).success();
    let curve = fs::read_to_string(lab.path().join("curve.csv")).unwrap();
    let last = curve.lines().last().unwrap();
    // With T = 1 the outbreak is all nodes, every time.
    assert_eq!(last, "1.000000,1.000000,0.000000,,8", "{}", ended.stdout);
    assert!(fs::read_to_string(lab.path().join("epidemic.svg")).unwrap().contains("</svg>"));
}

#[test]
fn an_example_whose_reader_has_left_ends_quietly() {
    let lab = Lab::new();
    let (_node, _controller) = lab.cluster(1);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut hello = lab.command("hello");
    let ended = hello.arg("--profile-dir").arg(lab.profile_dir()).stdout(writer).output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn one_seed_makes_one_curve_whatever_the_engines() {
    let lab = Lab::new();
    let (_node, _controller) = lab.cluster(3);
    let small = "--nodes 1000 --points 4 --repetitions 12 --seed 5 --csv";
    let mut curves = Vec::new();
    for (file, cluster) in [("a", "--engines 1"), ("b", "--engines 4"), ("c", "--profile-dir profile --engines 3")] {
        let mut command = lab.command("epidemic");
        command.args(small.split(' ')).arg(file).args(cluster.split(' '));
        engineroom_tests::Process::start("epidemic", &mut command).finish().success();
        curves.push(fs::read_to_string(lab.path().join(file)).unwrap());
    }
    assert!(curves[0].starts_with("t,mean_size,std_error,theory,outbreaks\n") && curves[0].lines().count() == 5, "{}", curves[0]);
    assert_eq!(curves[0], curves[1]);
    assert_eq!(curves[0], curves[2]);
}

#[test]
fn a_pipeline_builds_networks_simulates_where_they_are_and_sums_up_there() {
    let lab = Lab::new();
    let (_first, _controller) = lab.cluster(2);
    let _second = lab.engine_node(1);
    let small = "--networks 5 --nodes 500 --parts 3 --repetitions 4 --seed 2";
    // All columns but the engine, which is the last one.
    let results = |stdout: &str| -> Vec<Vec<String>> {
        let rows = stdout.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
        rows.map(|row| row.split_whitespace().take(5).map(str::to_owned).collect()).collect()
    };
    let of_cluster = lab.run("pipeline", small.split(' ').chain(["--engines", "3"])).success().stdout;
    assert!(of_cluster.contains(" of 60 epidemics took off"), "{of_cluster}");
    let mut alone = lab.command("pipeline");
    alone.args(small.split(' ')).args(["--engines", "1"]);
    let alone = engineroom_tests::Process::start("pipeline", &mut alone).finish().success().stdout;
    assert_eq!(results(&of_cluster).len(), 6, "{of_cluster}");
    assert_eq!(results(&of_cluster), results(&alone));
}

/// How many points of the notebook are in each state.
fn states(notebook: &Value) -> [usize; 3] {
    let is = |entry: &&Value, state: &str| entry["state"] == state || entry["state"].get(state).is_some();
    ["done", "pending", "cancelled"].map(|state| notebook.as_array().unwrap().iter().filter(|entry| is(entry, state)).count())
}

#[test]
fn a_notebook_outlives_its_programs_and_the_controller() {
    let lab = Lab::new();
    let controller = lab.controller();
    let notebook = || serde_json::from_slice::<Value>(&fs::read(lab.path().join("book.json")).unwrap()).unwrap();
    let sweep = |line: &str| lab.run("sweep", line.split(' ').chain(["--notebook", "book.json"])).success().stdout;

    let engines = lab.engine_node(2);
    sweep("submit --design pointwise --load 0.1,0.5,0.9 --customers 100,200,300 --repetitions 5");
    sweep("wait");
    assert_eq!(states(&notebook()), [3, 0, 0]);
    let summary = &notebook()[1]["state"]["done"];
    let [mean, variance, min, max] = ["mean", "variance", "min", "max"].map(|key| summary[key].as_f64().unwrap());
    assert!(summary["count"] == 5 && variance > 0.0 && min < mean && mean < max, "{summary}");

    // Without engines nothing of these can have ended before the controller is gone.
    engines.signal(Signal::TERM);
    engines.finish();
    sweep("submit --load 0.2,0.4 --customers 50,60,70,80 --repetitions 3");
    assert_eq!(states(&notebook()), [3, 8, 0]);
    controller.kill();
    let _controller = lab.controller();
    let shown = sweep("show");
    assert_eq!((shown.lines().count(), shown.matches(": pending").count()), (11, 8), "{shown}");
    let shown = sweep("cancel 4 6 10");
    assert!(shown.starts_with("cancelled 3 points that waited and 0 that ran\n"), "{shown}");
    assert_eq!(states(&notebook()), [3, 5, 3]);

    let _engines = lab.engine_node(2);
    let shown = sweep("wait");
    assert_eq!(states(&notebook()), [8, 0, 3]);
    let cancelled = shown.lines().filter(|line| line.ends_with(": cancelled")).filter_map(|line| line.split_whitespace().next());
    assert_eq!(cancelled.collect::<Vec<_>>(), ["4", "6", "10"]);
    assert_eq!(sweep("show"), shown);
}
