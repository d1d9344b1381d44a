//! `engineroom cert` on the files of a profile.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn command(program: &str, place: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGINEROOM_")) {
        command.env_remove(name);
    }
    command.env("ENGINEROOM_HOME", place).current_dir(place);
    command
}

fn cert(place: &Path, line: &str) -> Output {
    command(env!("CARGO_BIN_EXE_engineroom"), place).arg("cert").args(line.split_whitespace()).output().unwrap()
}

fn said(place: &Path, line: &str) -> String {
    let output = cert(place, line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(place: &Path, line: &str, code: i32) -> String {
    let output = cert(place, line);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {text}");
    assert_eq!(text.lines().count(), 1, "{line}: {text}");
    text
}

fn listed(place: &Path) -> Vec<(String, String)> {
    let all: Vec<Value> = serde_json::from_str(&said(place, "list --json")).unwrap();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
    all.iter().map(|one| (format!("{} {}", text(one, "role"), text(one, "name")), text(one, "state"))).collect()
}

/// A profile that a controller has been started on.
fn profile(place: &Path) {
    let mut controller = command(env!("CARGO_BIN_EXE_node"), place);
    controller.args(["--role", "controller", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut controller = controller.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(controller.stdout.take().unwrap()).read_line(&mut line).unwrap();
    controller.kill().unwrap();
    controller.wait().unwrap();
    assert!(line.contains("controller ready"), "{line}");
}

#[test]
fn certificates_are_made_listed_and_revoked_without_a_controller() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    profile(place);
    let security = place.join("profiles/default/security");
    let text = said(place, "new client --name ada --admin");
    let file = security.join("client-ada.json");
    assert!(text.contains(&file.display().to_string()) && text.contains("admin client ada"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let address = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["address"].clone();
    assert_eq!(address(&file), address(&security.join("client.json")));
    assert!(refused(place, "new client --name ada", 1).contains("--replace"));

    let text = said(place, "new engine --name rack-4 --days 90 --output far.json");
    assert!(text.contains("node --role engine --connection far.json") && text.contains("90 days"), "{text}");
    assert!(place.join("far.json").exists());
    assert!(refused(place, "new engine --name rack-5 --output far.json", 1).contains("far.json exists"));

    assert!(said(place, "revoke rack-4").contains("revoked engine rack-4"));
    assert!(refused(place, "revoke rack-4", 1).contains("it was revoked on 2"));
    assert!(refused(place, "revoke nobody", 1).contains("cert list"));
    said(place, "new client --name rack-4");
    said(place, "new engine --name rack-4");
    assert!(refused(place, "revoke rack-4", 2).contains("--role"));
    let expected = [
        ("controller controller", "valid"),
        ("client client", "valid"),
        ("engine engine", "valid"),
        ("client ada", "valid"),
        ("engine rack-4", "revoked"),
        ("client rack-4", "valid"),
        ("engine rack-4", "valid"),
    ];
    assert_eq!(listed(place), expected.map(|(name, state)| (name.to_owned(), state.to_owned())));
    let table = said(place, "list");
    assert!(table.lines().count() == 8 && table.contains("rack-4  ") && table.contains("yes"), "{table}");
}
