//! What the tool tells of tasks, and does with them, while the program that submitted them has long left.

use std::{collections::HashSet, fs, path::PathBuf};

use engineroom::{Cause, MessageId};
use engineroom_tests::{Finished, Lab, Outcome, Process, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use crate::PROBE;

/// The exit codes of "failed" and "wrong options".
const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;

fn tool(lab: &Lab, line: &str) -> Finished {
    lab.run("engineroom", line.split_whitespace())
}

/// The tool with another connection file.
fn tool_as(lab: &Lab, file: &PathBuf, line: &str) -> Finished {
    let mut command = lab.command("engineroom");
    Process::start("engineroom", command.args(line.split_whitespace()).arg("--connection").arg(file)).finish()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What `tasks --json` lists with these options.
fn listed(lab: &Lab, options: &str) -> Vec<Value> {
    lines(&tool(lab, &format!("tasks --json {options}")).success().stdout)
}

/// The ids of naps that a program submitted and did not wait for.
fn submitted(lab: &Lab, tasks: u64) -> Vec<MessageId> {
    let ids: Vec<String> = lab.run(PROBE, ["submit", &tasks.to_string(), "0"]).success().json();
    ids.iter().map(|id| id.parse().unwrap()).collect()
}

pub fn client_file(lab: &Lab, name: &str, options: &str) -> PathBuf {
    let file = lab.path().join(format!("{name}.json"));
    tool(lab, &format!("cert new client --name {name} --output {} {options}", file.display())).success();
    file
}

#[track_caller]
fn assert_failed(ended: &Finished, code: i32, said: &str) {
    assert_eq!(ended.status.code(), Some(code), "{ended:?}");
    assert!(ended.stderr.contains(said), "should say {said:?}: {ended:?}");
}

#[test]
fn results_are_got_by_the_ids_of_their_tasks() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let job = submitted(&lab, 40)[0].job;
    let ended = tool(&lab, &format!("results get {job}/0-2"));
    assert_failed(&ended, EXIT_FAILED, "3 of 3 tasks have no value");
    let pending = lines(&ended.stdout);
    assert_eq!(pending[2], serde_json::json!({ "id": format!("{job}/2"), "state": "pending" }));

    let _engines = lab.engine_node(2);
    let ended = tool(&lab, &format!("results get {job}/0-39 --wait 100")).success();
    for (number, line) in (0..).zip(lines(&ended.stdout)) {
        assert_eq!(line, serde_json::json!({ "id": format!("{job}/{number}"), "value": number * number }));
    }
    assert_eq!(ended.stdout.lines().count(), 40);

    // Among those that it knows, one that it does not.
    let ended = tool(&lab, &format!("results get {job}/38-41 {job}/7"));
    assert_failed(&ended, EXIT_FAILED, "2 of 5 tasks have no value");
    let got = lines(&ended.stdout);
    assert_eq!((&got[1]["value"], &got[4]["value"]), (&Value::from(39 * 39), &Value::from(49)));
    assert!(got[2]["error"].as_str().unwrap().contains("does not know"), "{got:?}");

    let failures = lab.run(PROBE, ["failures", "25"]).success();
    let outcomes: Vec<Outcome<u64>> = failures.json();
    let ended = tool(&lab, &format!("results get {} {}", outcomes[19].id, outcomes[20].id));
    assert_failed(&ended, EXIT_FAILED, "1 of 2 tasks have no value");
    let got = lines(&ended.stdout);
    assert_eq!(got[0]["value"], 19);
    assert!(got[1]["error"].as_str().unwrap().contains("number 20 panics"), "{got:?}");
}

#[test]
fn tasks_are_listed_by_filters_and_page_by_page() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let job = submitted(&lab, 20)[0].job;
    tool(&lab, &format!("results get {job} --wait 100")).success();
    let all = listed(&lab, "");
    assert_eq!(all.len(), 20);
    for (index, task) in (0..).zip(&all) {
        assert_eq!(task["id"], format!("{job}/{index}"));
        assert_eq!((task["state"].as_str(), task["owner"].as_str()), (Some("succeeded"), Some("client")), "{task}");
        assert!(task["completed_us"].as_u64() >= task["started_us"].as_u64() && task["submitted_us"].is_u64(), "{task}");
    }
    for (options, count) in [
        ("--function nap", 20),
        ("--function other", 0),
        ("--state succeeded", 20),
        ("--state failed,pending", 0),
        ("--since 1h", 20),
        ("--before 1h", 0),
        ("--completed-since 1h", 20),
        ("--completed-before 1h", 0),
        ("--label night", 0),
        ("--owner client", 20),
        (&format!("--job {job}"), 20),
    ] {
        assert_eq!(listed(&lab, options).len(), count, "{options}");
    }
    let by_engine: usize = (0..2).map(|engine| listed(&lab, &format!("--engine {engine}")).len()).sum();
    assert_eq!(by_engine, 20);

    let table = tool(&lab, "tasks --limit 8").success().stdout;
    let last = format!("the list goes on with --after {job}/7");
    assert!(table.lines().count() == 10 && table.lines().last().unwrap().contains(&last), "{table}");
    let rest = tool(&lab, &format!("tasks --after {job}/7")).success().stdout;
    assert!(rest.lines().count() == 13 && !rest.contains("--after"), "{rest}");
    assert!(!tool(&lab, "tasks --limit 20").success().stdout.contains("--after"), "there are no more than twenty");
}

#[test]
fn what_became_of_tasks_is_exported_and_purged() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let outcomes: Vec<Outcome<u64>> = lab.run(PROBE, ["failures", "25"]).success().json();
    let naps = submitted(&lab, 3);
    tool(&lab, &format!("results get {} --wait 100", naps[0].job)).success();

    let exported = lines(&tool(&lab, "results export").success().stdout);
    assert_eq!(exported.len(), 28);
    let squares: Vec<&Value> = exported[..3].iter().map(|line| &line["value"]).collect();
    assert_eq!(squares, [0, 1, 4], "the newest job is the first");
    for (line, outcome) in exported[3..].iter().zip(&outcomes) {
        assert_eq!(line["id"], outcome.id);
        match &outcome.result {
            Ok(value) => assert_eq!(line["value"], *value),
            Err(_) => assert_eq!(line["error"].as_str(), outcome.text.as_deref()),
        }
    }
    let file = lab.path().join("failed.jsonl");
    assert_eq!(tool(&lab, &format!("results export --state failed --output {}", file.display())).success().stdout, "");
    let failed = lines(&std::fs::read_to_string(&file).unwrap());
    let ids: Vec<&str> = failed.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [&outcomes[10].id, &outcomes[20].id]);

    let purged = tool(&lab, &format!("results purge --json {}/1-2", naps[0].job)).success();
    assert_eq!(purged.stdout.trim(), r#"{"purged":2}"#);
    assert_eq!(tool(&lab, &format!("results get {}", naps[0])).success().stdout.lines().count(), 1);
    assert_eq!(tool(&lab, &format!("results get {}", naps[1])).status.code(), Some(EXIT_FAILED));
    assert_eq!(tool(&lab, "results purge --state failed").success().stdout, "purged: 2\n");
    assert_eq!(listed(&lab, "--state failed").len(), 0);
    assert_eq!(tool(&lab, "results purge --older-than 0s").success().stdout, "purged: 24\n");
    assert_eq!(listed(&lab, "--state succeeded,failed").len(), 0);
}

#[test]
fn failed_tasks_are_submitted_again() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    let outcomes: Vec<Outcome<u64>> = lab.run(PROBE, ["failures", "35"]).success().json();
    let old: MessageId = outcomes[0].id.parse().unwrap();
    let again = tool(&lab, &format!("resubmit --state failed --job {} --json", old.job)).success();
    let again = lines(&again.stdout);
    let of: Vec<&str> = again.iter().map(|line| line["of"].as_str().unwrap()).collect();
    assert_eq!(of, [&outcomes[10].id, &outcomes[20].id, &outcomes[30].id]);
    let ids: Vec<&str> = again.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().chain(&of).collect::<HashSet<_>>().len(), 6, "they are new");
    let ended = tool(&lab, &format!("results get --wait 100 {}", ids.join(" ")));
    assert_failed(&ended, EXIT_FAILED, "3 of 3");
    assert!(
        lines(&ended.stdout)[2]["error"].as_str().unwrap().contains("number 30 is odd"),
        "the same function again: {ended:?}"
    );

    let id = tool(&lab, &format!("resubmit {}/5", old.job)).success().stdout;
    let ended = tool(&lab, &format!("results get --wait 100 {}", id.trim())).success();
    assert_eq!(lines(&ended.stdout)[0]["value"], 5);
}

#[test]
fn tasks_that_have_not_ended_are_aborted_and_not_purged() {
    let lab = Lab::new();
    // There is no engine, so that none can end.
    let _controller = lab.controller();
    let job = submitted(&lab, 5)[0].job;
    for which in [format!("{job}"), format!("{job}/2"), format!("--job {job}"), "--function nap".to_owned()] {
        assert_failed(&tool(&lab, &format!("results purge {which}")), EXIT_FAILED, "have not ended");
    }
    assert_eq!(listed(&lab, "--state pending").len(), 5);
    for (line, said) in [
        ("abort", "which tasks?"),
        ("resubmit", "which tasks?"),
        ("results purge", "which tasks?"),
        ("results export --state pending", "have not ended"),
        (&format!("abort {job} --state pending"), "either ids or filters"),
        (&format!("results purge {job} --older-than 3d"), "--older-than"),
        ("abort 17", "<job>/<index>"),
    ] {
        assert_failed(&tool(&lab, line), EXIT_USAGE, said);
    }

    assert_eq!(tool(&lab, &format!("abort --json {job}/0-1")).success().stdout, "{\"active\":0,\"in_threads\":0,\"queued\":2}\n");
    assert_eq!(listed(&lab, "--state aborted").len(), 2);
    assert!(tool(&lab, "abort --function nap").success().stdout.starts_with("aborted: 3 that waited, 0 "));
    assert_eq!(listed(&lab, "--state aborted").len(), 5);
    let ended = tool(&lab, &format!("results get {job}/4"));
    assert!(lines(&ended.stdout)[0]["error"].as_str().unwrap().contains("aborted"), "{ended:?}");
    assert_eq!(tool(&lab, &format!("results purge {job}")).success().stdout, "purged: 5\n");
}

#[test]
fn another_owner_sees_and_changes_nothing() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let eve = client_file(&lab, "eve", "");
    let ended_job = submitted(&lab, 3)[0].job;
    let engines = lab.engine_node(1);
    tool(&lab, &format!("results get {ended_job}/0-2 --wait 100")).success();
    engines.kill();
    let job = submitted(&lab, 2)[0].job;

    assert_eq!(tool_as(&lab, &eve, "tasks").success().stdout, "no tasks\n");
    assert_eq!(tool_as(&lab, &eve, "tasks --owner client --json").success().stdout, "");
    assert_eq!(tool_as(&lab, &eve, "results export").success().stdout, "");
    for (line, said) in [
        (format!("results get {ended_job}/0"), "1 of 1 tasks have no value"),
        (format!("results get {ended_job}"), "does not know"),
        (format!("results purge {ended_job}/0-2"), "does not know"),
        (format!("resubmit {ended_job}/0"), "does not know"),
    ] {
        let ended = tool_as(&lab, &eve, &line);
        assert_failed(&ended, EXIT_FAILED, said);
        assert!(!ended.stdout.contains("value"), "{ended:?}");
    }
    // Whether that is an error is one thing; that it does nothing, the other.
    tool_as(&lab, &eve, &format!("abort {job}/0-1"));
    assert_eq!(tool_as(&lab, &eve, "results purge --older-than 0s").success().stdout, "purged: 0\n");
    assert_eq!((listed(&lab, "--state pending").len(), listed(&lab, "--state succeeded").len()), (2, 3));
}

#[test]
fn an_administrator_sees_and_changes_what_others_own() {
    let lab = Lab::new();
    let _controller = lab.controller();
    let ops = client_file(&lab, "ops", "--admin");
    let ended_job = submitted(&lab, 3)[0].job;
    let engines = lab.engine_node(1);
    tool(&lab, &format!("results get {ended_job}/0-2 --wait 100")).success();
    engines.signal(Signal::TERM);
    engines.finish().success();
    let job = submitted(&lab, 2)[0].job;

    assert_eq!(tool_as(&lab, &ops, "tasks --json").success().stdout.lines().count(), 5);
    assert_eq!(tool_as(&lab, &ops, "tasks --json --owner client").success().stdout.lines().count(), 5);
    assert_eq!(tool_as(&lab, &ops, "tasks --json --owner eve").success().stdout, "");
    let got = lines(&tool_as(&lab, &ops, &format!("results get {ended_job}")).success().stdout);
    assert_eq!(got[2]["value"], 4);
    assert!(tool_as(&lab, &ops, &format!("abort {job}")).success().stdout.starts_with("aborted: 2 "));
    assert_eq!(tool_as(&lab, &ops, &format!("results purge {job}")).success().stdout, "purged: 2\n");
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let lab = Lab::new();
    let (_engines, _controller) = lab.cluster(2);
    // More than fits a pipe.
    let job = submitted(&lab, 2_000)[0].job;
    tool(&lab, &format!("results get {job}/0-1999 --wait 100")).success();
    let program = lab.command("engineroom");
    for line in ["tasks --limit 2000", "tasks --limit 2000 --json", "results export"] {
        let mut shell = lab.command("/bin/sh");
        shell.args(["-c", &format!("{{ \"$0\" {line} --profile-dir \"$1\"; echo \"ended with $?\" >&2; }} | head -n 1")]);
        let ended = Process::start("sh", shell.arg(program.get_program()).arg(lab.profile_dir())).finish().success();
        assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, "ended with 0\n"), "{line}");
    }
}

#[test]
fn results_that_made_room_for_newer_ones_say_so() {
    // A controller that keeps everything in memory keeps 32 MiB of what has been fetched.
    const TASKS: u64 = 48;
    let lab = Lab::new();
    let _controller = lab.controller_with(["--store", "memory"]);
    let _engines = lab.engine_node(2);
    let file = lab.path().join("job");
    let texts = ["texts", &TASKS.to_string(), "0", &(1 << 20).to_string(), file.to_str().expect("a path of this test")];
    assert_eq!(lab.run(PROBE, texts).success().json::<u64>(), TASKS);
    let job = fs::read_to_string(file).expect("written").parse().expect("the id of a job");
    let ids: Vec<_> = (0..TASKS as u32).map(|index| MessageId { job, index }).collect();
    let client = lab.client();
    // The last of them were fetched when the program ended; that is not waited for.
    let counts = wait_for("results that made room", || client.result_status(&ids).ok().filter(|counts| counts.evicted > 0));
    assert_eq!(counts.evicted + counts.succeeded, TASKS, "{counts:?}");
    let results = client.get_result::<String>(ids).expect("open").results().expect("the job is known");
    let evicted: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(!evicted.is_empty() && evicted.iter().all(|error| error.cause == Cause::Evicted), "{evicted:?}");
    assert!(results[0].is_err() && results[TASKS as usize - 1].is_ok(), "the oldest go first");
}
