//! Who gets in, and what those are told who do not.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use engineroom_tests::{Finished, Lab, Process};

/// Within which a refusal must have been told.
const REFUSAL_LIMIT: Duration = Duration::from_secs(5);

/// The exit code of "no way into the cluster".
const EXIT_CONNECTION: i32 = 3;

fn hello(lab: &Lab, connection: &Path) -> Finished {
    Process::start("hello", lab.command("hello").arg("--connection").arg(connection)).finish()
}

/// A copy of a connection file in which one field is that of another.
fn mixed(lab: &Lab, base: &Path, fields: &[(&str, &Path)]) -> PathBuf {
    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let mut file = read(base);
    for (field, from) in fields {
        let value = read(from)[field].take();
        assert!(value.is_string(), "{field} is a field of connection files");
        file[*field] = value;
    }
    let path = lab.path().join("mixed.json");
    let _ = fs::remove_file(&path);
    fs::write(&path, file.to_string()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[track_caller]
fn assert_refused(what: &str, ended: &Finished, said: &[&str]) -> String {
    assert_eq!(ended.status.code(), Some(EXIT_CONNECTION), "{what}: {ended:?}");
    assert!(ended.took < REFUSAL_LIMIT, "{what}: {ended:?}");
    assert!(ended.stdout.is_empty() && ended.stderr.lines().count() == 1, "{what}: {ended:?}");
    for said in said {
        assert!(ended.stderr.contains(said), "{what} should say {said:?}: {}", ended.stderr);
    }
    ended.stderr.clone()
}

#[test]
fn a_client_that_must_not_in_is_refused_within_five_seconds_and_told_why() {
    let (lab, other) = (Lab::new(), Lab::new());
    let (_engine, _controller) = lab.cluster(1);
    other.controller().kill();
    let (own, foreign) = (lab.client_file(), other.client_file());

    let mut texts = Vec::new();
    // As it is: its controller does not run.
    texts.push(assert_refused("a cluster that does not run", &hello(&lab, &foreign), &["nothing answers at 127.0.0.1"]));
    // The other cluster's file, for this cluster's address: this controller's certificate is not of the other's authority.
    let ended = hello(&lab, &mixed(&lab, &foreign, &[("address", &own)]));
    texts.push(assert_refused("another cluster's file", &ended, &["mixed.json"]));
    // A client that trusts this controller and shows the other cluster's certificate.
    let ended = hello(&lab, &mixed(&lab, &own, &[("certificate", &foreign), ("key", &foreign)]));
    texts.push(assert_refused("another cluster's certificate", &ended, &[]));
    texts.push(assert_refused("the engines' file", &hello(&lab, &lab.engine_file()), &["engine.json", "client"]));
    texts.push(assert_refused("no file", &hello(&lab, &lab.path().join("none.json")), &["none.json"]));
    fs::write(lab.path().join("bad.json"), "{}").unwrap();
    fs::set_permissions(lab.path().join("bad.json"), fs::Permissions::from_mode(0o600)).unwrap();
    texts.push(assert_refused("no connection file", &hello(&lab, &lab.path().join("bad.json")), &["bad.json"]));
    let readable = lab.path().join("readable.json");
    fs::copy(&own, &readable).unwrap();
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    texts.push(assert_refused("a readable file", &hello(&lab, &readable), &["readable.json", "0644", "chmod 600"]));
    eprint!("{}", texts.concat());
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 7, "each has a message of its own: {texts:#?}");

    lab.run("hello", ["--engines", "1"]).success();
}

#[test]
fn an_engine_node_with_the_wrong_file_is_refused_and_told_why() {
    let lab = Lab::new();
    let controller = lab.controller();
    let node = |file: &Path| {
        let mut command = lab.command("node");
        command.args(["--role", "engine", "--connect-timeout", "3", "--connection"]).arg(file);
        Process::start("node", command.arg("--profile-dir").arg(lab.path().join("elsewhere"))).finish()
    };
    for (file, said) in [(lab.client_file(), "client.json"), (lab.path().join("none.json"), "none.json")] {
        let ended = node(&file);
        assert_eq!(ended.status.code(), Some(EXIT_CONNECTION), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
    }
    controller.kill();
    let ended = node(&lab.engine_file());
    assert_eq!(ended.status.code(), Some(EXIT_CONNECTION), "{ended:?}");
}
