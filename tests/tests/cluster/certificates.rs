//! Certificates of one's own: revoked while their nodes work, and expired.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use engineroom::ConnectionFile;
use engineroom_runtime::net::{authority::Authority, identity::Role};
use engineroom_tests::{Finished, Lab, Outcome, Process, wait_for};

use crate::PROBE;

/// Within which a revocation must have taken effect.
const CUT_OFF_LIMIT: Duration = Duration::from_secs(5);

/// The exit code of "refused".
const EXIT_CONNECTION: i32 = 3;

fn engine_with(lab: &Lab, file: &Path) -> Process {
    let mut command = lab.command("node");
    command.args(["--role", "engine", "--engines", "2", "--connect-timeout", "20", "--connection"]).arg(file);
    Process::start("node", command.arg("--profile-dir").arg(lab.path().join("elsewhere")))
}

fn hello(lab: &Lab, file: &Path) -> Finished {
    Process::start("hello", lab.command("hello").arg("--connection").arg(file)).finish()
}

fn engines(lab: &Lab) -> usize {
    lab.client().status().expect("the controller answers").engines.len()
}

#[track_caller]
fn assert_refused(ended: &Finished, said: &[&str]) {
    assert_eq!(ended.status.code(), Some(EXIT_CONNECTION), "{ended:?}");
    for said in said {
        assert!(ended.stderr.contains(said), "should say {said:?}: {}", ended.stderr);
    }
}

/// A connection file whose certificate ended as it was made.
fn expired_file(lab: &Lab, role: Role) -> PathBuf {
    let security = lab.profile().security_dir();
    let read = |name: &str| std::fs::read_to_string(security.join(name)).expect("the controller has made it");
    let authority = Authority::load(&read("ca.pem"), &read("ca.key")).expect("an authority");
    let file = ConnectionFile::load(lab.client_file()).expect("a connection file");
    let path = lab.path().join(format!("late-{role}.json"));
    let identity = authority.issue(role, "late", 0).expect("a certificate");
    ConnectionFile::new(&path, file.address(), identity).and_then(|file| file.save()).expect("a file");
    path
}

#[test]
fn a_revoked_engine_node_is_cut_off_within_five_seconds_and_cannot_return() {
    let lab = Lab::new();
    let (_other, controller) = lab.cluster(1);
    let file = lab.path().join("rack-4.json");
    let make = ["cert", "new", "engine", "--name", "rack-4", "--output", file.to_str().unwrap()];
    lab.run("engineroom", make).success();
    let doomed = engine_with(&lab, &file);
    doomed.wait_line("engine node ready");
    let map = lab.start(PROBE, ["sleep-map", "400", "20"]);
    wait_for("tasks on all engines", || {
        let status = lab.client().status().ok()?;
        (status.engines.len() == 3 && status.engines.iter().all(|engine| engine.completed > 0)).then_some(())
    });

    lab.run("engineroom", ["cert", "revoke", "rack-4"]).success();
    let revoked = Instant::now();
    wait_for("the end of its engines", || (engines(&lab) == 1).then_some(()));
    let took = revoked.elapsed();
    assert!(took < CUT_OFF_LIMIT, "{took:?}");
    assert_refused(&doomed.finish(), &["rack-4.json", "revoked on 2", "engineroom cert new engine --name rack-4"]);

    // Its tasks go elsewhere.
    let outcomes: Vec<Outcome<u64>> = map.finish().success().json();
    for (number, outcome) in (0..).zip(&outcomes) {
        assert_eq!(outcome.result, Ok(number * number), "{}", outcome.id);
    }
    assert_eq!(outcomes.len(), 400);

    // Neither to this controller nor to its next life.
    assert_refused(&engine_with(&lab, &file).finish(), &["rack-4.json", "revoked on 2"]);
    controller.kill();
    let _controller = lab.controller();
    assert_refused(&engine_with(&lab, &file).finish(), &["rack-4.json", "revoked on 2"]);
    wait_for("the other node", || (engines(&lab) == 1).then_some(()));

    lab.run("engineroom", [&make[..], &["--replace"]].concat()).success();
    engine_with(&lab, &file).wait_line("engine node ready");
}

#[test]
fn a_revoked_client_hears_why_its_tasks_will_not_come_and_cannot_return() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    let ops = lab.path().join("ops.json");
    lab.run("engineroom", ["cert", "new", "client", "--name", "ops", "--admin", "--output", ops.to_str().unwrap()]).success();
    let waiting = lab.start(PROBE, ["sleep-map", "1000", "1000"]);
    waiting.wait_line("submitted");
    lab.run("engineroom", ["cert", "revoke", "client"]).success();
    let revoked = Instant::now();
    let ended = waiting.finish();
    let took = revoked.elapsed();
    assert!(took < CUT_OFF_LIMIT, "{took:?}");
    assert!(
        !ended.status.success() && ended.stderr.contains("client.json") && ended.stderr.contains("revoked on 2"),
        "{ended:?}"
    );
    assert_refused(
        &hello(&lab, &lab.client_file()),
        &["client.json", "revoked on 2", "engineroom cert new client --name client"],
    );
    let status = Process::start("engineroom", lab.command("engineroom").args(["status", "--connection"]).arg(&ops)).finish();
    assert!(status.success().stdout.contains("1 engine"), "others are let in");

    lab.run("engineroom", ["cert", "new", "client", "--name", "client"]).success();
    assert_eq!(engines(&lab), 1);
}

#[test]
fn an_expired_connection_file_is_named_with_its_date() {
    let lab = Lab::new();
    let (_engine, _controller) = lab.cluster(1);
    for role in [Role::Client, Role::Engine] {
        let file = expired_file(&lab, role);
        let ended = match role {
            Role::Engine => engine_with(&lab, &file).finish(),
            _ => hello(&lab, &file),
        };
        assert_refused(&ended, &[&format!("connection file {}", file.display()), " expired on 2", "get a new one"]);
    }
}
