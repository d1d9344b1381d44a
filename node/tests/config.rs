//! The order in which settings count, with real variables and real exit codes.

use std::{
    fs,
    process::{Command, Output},
};

struct Place(tempfile::TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        fs::write(place.path().join("config.toml"), config).expect("written");
        Self(place)
    }

    fn run(&self, args: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_engineroom"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGINEROOM_")) {
            command.env_remove(name);
        }
        let (subcommand, options) = args.split_once(' ').unwrap_or((args, ""));
        command.arg(subcommand).arg("--profile-dir").arg(self.0.path()).args(options.split_whitespace());
        command.envs(environment.iter().copied()).output().expect("the program runs")
    }
}

fn line<'a>(output: &'a str, setting: &str) -> &'a str {
    output.lines().find(|line| line.trim_start().starts_with(setting)).expect("every setting has a line")
}

#[test]
fn the_command_line_beats_the_environment_which_beats_the_file() {
    let file = "[controller]\nlisten = \"127.0.0.1:1001\"\n[engine]\nengines = 11\nlabels = { from = \"file\" }\n[log]\nlevel = \"info\"\n";
    let environment = [
        ("ENGINEROOM_LISTEN", "127.0.0.1:1002"),
        ("ENGINEROOM_ENGINES", "12"),
        ("ENGINEROOM_LABELS", "from=environment,more=yes"),
        ("ENGINEROOM_LOG", "debug"),
        ("ENGINEROOM_WORKER_KIND", "thread"),
    ];
    let flags = "config --listen 127.0.0.1:1003 -n 13 --label from=flag --log-level trace";
    for (config, args, variables, listen, engines, label, level, source) in [
        (file, "config", &[][..], "127.0.0.1:1001", "= 11", "from=file", "info", "config.toml)"),
        (
            file,
            "config",
            &environment,
            "127.0.0.1:1002",
            "= 12",
            "from=environment, more=yes",
            "debug",
            "(environment, ENGINEROOM_",
        ),
        (file, flags, &environment, "127.0.0.1:1003", "= 13", "from=flag", "trace", "(command line)"),
        ("", "config", &[], "127.0.0.1:7123", "= ", "(none)", "warn", "(default)"),
    ] {
        let output = Place::new(config).run(args, variables);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        for (setting, value) in
            [("controller.listen", listen), ("engine.engines", engines), ("engine.labels", label), ("log.level", level)]
        {
            let line = line(&text, setting);
            assert!(line.contains(value) && line.contains(source), "{line}");
        }
    }
}

#[test]
fn a_mistake_in_the_file_is_a_usage_error_that_names_its_place() {
    let place = Place::new("[controller]\nlisten = \"127.0.0.1:1\"\nlisn = 1\n");
    for args in ["config", "start", "controller", "engine", "start --daemonize"] {
        let output = place.run(args, &[]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args}: {text}");
        assert!(text.contains("config.toml:3: unknown field `lisn`"), "{args}: {text}");
    }
}

#[test]
fn what_does_not_run_is_told() {
    let place = Place::new("");
    let stop = place.run("stop", &[]);
    assert_eq!(stop.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&stop.stdout).contains("nothing runs on profile"));
    let status = place.run("status", &[]);
    assert_eq!(status.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&status.stderr).contains("no cluster has been started"));
}
