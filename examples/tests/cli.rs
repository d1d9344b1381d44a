//! The programs as users call them, each on a cluster of its own.

use std::{
    fs,
    process::{Command, Output},
};

const PROGRAMS: [(&str, &str); 9] = [
    ("hello", env!("CARGO_BIN_EXE_hello")),
    ("factorial", env!("CARGO_BIN_EXE_factorial")),
    ("pi", env!("CARGO_BIN_EXE_pi")),
    ("epidemic", env!("CARGO_BIN_EXE_epidemic")),
    ("disconnect", env!("CARGO_BIN_EXE_disconnect")),
    ("lazy", env!("CARGO_BIN_EXE_lazy")),
    ("embed", env!("CARGO_BIN_EXE_embed")),
    ("sweep", env!("CARGO_BIN_EXE_sweep")),
    ("wordcount", env!("CARGO_BIN_EXE_wordcount")),
];

/// Runs `program argument...` in a directory of its own.
fn run_in(place: &tempfile::TempDir, line: &str) -> Output {
    let mut words = line.split(' ');
    let name = words.next().unwrap();
    let (_, path) = PROGRAMS.iter().find(|(program, _)| *program == name).unwrap();
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os().filter(|(variable, _)| variable.to_string_lossy().starts_with("ENGINEROOM_")) {
        command.env_remove(variable);
    }
    let temporary = place.path().join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    command.env("ENGINEROOM_HOME", place.path().join("home")).env("TMPDIR", temporary);
    command.current_dir(place.path()).args(words).output().unwrap()
}

fn run(line: &str) -> Output {
    run_in(&tempfile::tempdir().unwrap(), line)
}

fn stdout(line: &str) -> String {
    let output = run(line);
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_program_explains_itself_and_its_cluster_options() {
    for (name, _) in PROGRAMS {
        let help = stdout(&format!("{name} --help"));
        for said in ["Examples:", "Usage:", "--profile <NAME>", "--profile-dir <DIR>", "--connection <FILE>", "--engines <N>"] {
            assert!(help.contains(said), "{name} --help does not say {said:?}:\n{help}");
        }
    }
}

#[test]
fn programs_without_a_cluster_start_one_and_say_so() {
    let output = run("hello --engines 2");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert_eq!(err, "no cluster given: started an embedded one with 2 engines on this machine\n");
    assert!(out.starts_with("x^2 for x in 0..10: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]\nx^30 for x in 0..8: [0, 1, 1073741824, "));
    assert_eq!(out.lines().count(), 2);
}

#[test]
fn an_embedded_cluster_leaves_no_file_behind() {
    let place = tempfile::tempdir().unwrap();
    assert!(run_in(&place, "factorial 3 --engines 1").status.success());
    let left: Vec<_> = fs::read_dir(place.path().join("tmp")).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn numbers_are_computed_as_asked() {
    assert_eq!(stdout("factorial 3 5 --engines 1"), "3! = 6\n5! = 120\n");
    assert_eq!(stdout("factorial --engines 2").lines().count(), 6);
    let pi = stdout("pi --points 100000 --engines 3");
    assert!(pi.starts_with("pi             3.1") && pi.contains("from 100000 points on 3 engines"), "{pi}");
    assert_eq!(pi, stdout("pi --points 100000 --engines 3"), "one seed, one estimate");
    assert!(stdout("lazy --items 1000 --engines 1").starts_with("sum   999000\n"));
}

#[test]
fn an_epidemic_agrees_with_theory_and_writes_curve_and_table() {
    let place = tempfile::tempdir().unwrap();
    let line = "epidemic --nodes 2000 --points 2 --repetitions 20 --csv curve.csv --plot curve.svg --engines 2";
    let output = run_in(&place, line);
    assert!(output.status.success(), "{output:?}");
    let csv = fs::read_to_string(place.path().join("curve.csv")).unwrap();
    for line in csv.lines().skip(1) {
        let fields: Vec<f64> = line.split(',').map(|field| field.parse().unwrap()).collect();
        let [t, size, _, theory, outbreaks] = fields[..] else { panic!("{line}") };
        assert!((size - theory).abs() < 0.02 && outbreaks > 10.0, "T = {t}: {line}");
    }
    assert_eq!(csv.lines().count(), 3);
    assert!(fs::read_to_string(place.path().join("curve.svg")).unwrap().contains("</svg>"));
}

#[test]
fn wrong_usage_exits_with_2() {
    for line in [
        "hello --engines 0",
        "hello more",
        "factorial -1",
        "factorial five",
        "factorial 100001",
        "pi --points 0",
        "lazy --items none",
        "epidemic --t-max 1.5",
        "epidemic --network a --nodes 3",
        "epidemic --csv none/curve.csv",
        "disconnect",
        "disconnect submit",
        "disconnect submit --ids job.ids",
        "hello --connection a --profile b",
        "embed --listen here",
        "sweep",
        "sweep wait",
        "sweep cancel --profile none",
        "sweep submit --load much --profile none",
        "wordcount",
    ] {
        let output = run(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{line}: {output:?}");
    }
}

#[test]
fn no_cluster_where_one_was_named_exits_with_3() {
    for line in [
        "hello --profile none",
        "factorial 3 --profile-dir none",
        "pi --connection none.json",
        "disconnect submit --ids job.ids --profile none",
        "sweep show --profile none",
    ] {
        let output = run(line);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{line}: {text}");
        assert!(text.contains("there is no connection file") && text.lines().count() == 1, "{line}: {text}");
    }
}

#[test]
fn a_file_that_is_not_a_network_is_refused_with_its_line() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("bad.txt"), "# a comment\n1 2\n3 x\n").unwrap();
    let output = run_in(&place, "epidemic --network bad.txt");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("bad.txt") && text.contains('3'), "{text}");
}

#[test]
fn words_are_counted_file_by_file_in_order() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("texts")).unwrap();
    for (number, text) in (0..).zip(["one two", "two", "Two three"]) {
        fs::write(place.path().join(format!("texts/{number}.txt")), text).unwrap();
    }
    let output = run_in(&place, "wordcount texts --top 1 --latency-ms 5");
    assert!(output.status.success(), "{output:?}");
    let texts = place.path().join("texts").canonicalize().unwrap();
    let files: String =
        (0..).zip([2, 1, 2]).map(|(number, words)| format!("{words:>9} {}/{number}.txt\n", texts.display())).collect();
    let expected = format!("{files}        5 words, 3 different\n        3 two\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(String::from_utf8_lossy(&output.stderr).contains("with 32 engines"), "{output:?}");
    assert_eq!(run_in(&place, "wordcount none").status.code(), Some(1));
}
