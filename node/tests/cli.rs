//! The two programs as users call them.

use std::process::{Command, Output};

fn run(program: &str, line: &str) -> Output {
    let path = match program {
        "node" => env!("CARGO_BIN_EXE_node"),
        _ => env!("CARGO_BIN_EXE_engineroom"),
    };
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGINEROOM_")) {
        command.env_remove(name);
    }
    command.env("ENGINEROOM_HOME", place.path()).current_dir(place.path()).args(line.split_whitespace()).output().unwrap()
}

#[test]
fn help_names_every_option_with_its_variable() {
    let profile = ["--profile <NAME>", "--profile-dir <DIR>"];
    let controller = ["--listen <ADDR:PORT>", "--advertise <HOST[:PORT]>", "ENGINEROOM_LISTEN"];
    let engine =
        ["--connection <FILE>", "--engines <N>", "--worker <process|thread>", "--label <KEY=VALUE>", "ENGINEROOM_LABELS"];
    for (program, line, said) in [
        ("node", "--help", [&["--role"][..], &profile, &controller, &engine].concat()),
        ("engineroom", "--help", vec!["start", "stop", "status", "config", "Exit codes"]),
        ("engineroom", "start --help", [&["--daemonize"][..], &profile, &controller].concat()),
        ("engineroom", "stop --help", profile.to_vec()),
        ("engineroom", "status --help", [&["--json", "--connection <FILE>"][..], &profile].concat()),
        ("engineroom", "cert --help", vec!["new", "list", "revoke", "Examples"]),
        (
            "engineroom",
            "cert new --help",
            [&["--name <NAME>", "--days <DAYS>", "--admin", "--output <FILE>"][..], &profile].concat(),
        ),
        ("engineroom", "controller --help", [&profile[..], &controller].concat()),
        ("engineroom", "engine --help", [&profile[..], &engine].concat()),
    ] {
        let output = run(program, line);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{program} {line}: {output:?}");
        for said in said {
            assert!(text.contains(said), "{program} {line} does not say {said:?}:\n{text}");
        }
        assert!(!text.contains("--background"), "{program} {line} shows what is not for users:\n{text}");
    }
}

#[test]
fn versions_are_told() {
    for program in ["node", "engineroom"] {
        let output = run(program, "--version");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")), "{output:?}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    for (program, line, said) in [
        ("node", "", "--role"),
        ("node", "--role client", "client"),
        ("node", "--role controller --listen nowhere", "nowhere"),
        ("node", "--role controller --advertise http://x", "http://x"),
        ("node", "--role engine --engines 0", "0"),
        ("node", "--role engine --worker fibre", "fibre"),
        ("node", "--role engine --label gpu", "gpu"),
        ("node", "--role engine --profile ../up", "../up"),
        ("node", "--role engine --log-level loud,,", "loud"),
        ("engineroom", "", "Usage"),
        ("engineroom", "begin", "begin"),
        ("engineroom", "start -n many", "many"),
        ("engineroom", "status more", "more"),
        ("engineroom", "cert", "Usage"),
        ("engineroom", "cert new controller --name x", "client or engine"),
        ("engineroom", "cert new client", "--name"),
        ("engineroom", "cert new engine --name x --days 0", "1 to 7305"),
        ("engineroom", "cert new engine --name x --admin", "only a client"),
        ("engineroom", "cert new engine --name ../x", "../x"),
        ("engineroom", "cert revoke", "NAME"),
    ] {
        let output = run(program, line);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{program} {line}: {text}");
        assert!(text.contains(said), "{program} {line}: {text}");
    }
}

#[test]
fn no_controller_exits_with_3() {
    for (program, line) in [
        ("node", "--role engine --connection none.json"),
        ("engineroom", "engine --connection none.json"),
        ("node", "--role engine --profile-dir new --connect-timeout 1"),
        ("engineroom", "status"),
        ("engineroom", "status --connection none.json"),
        ("engineroom", "cert new client --name ada"),
        ("engineroom", "cert list"),
        ("engineroom", "cert revoke ada"),
    ] {
        let output = run(program, line);
        assert_eq!(output.status.code(), Some(3), "{program} {line}: {output:?}");
    }
}
