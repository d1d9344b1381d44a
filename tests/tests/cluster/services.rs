//! Named tasks, between programs that differ.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use engineroom::Cause;
use engineroom_tests::{Lab, Outcome, Process, SOON, wait_for};
use rustix::process::Signal;

use crate::PROBE;

#[test]
fn named_tasks_wait_for_a_service_that_has_them_and_run_there() {
    let lab = Lab::new();
    // An engine without the task is passed over.
    let (_engines, _controller) = lab.cluster(1);
    let calls = lab.start(PROBE, ["named", "5"]);
    calls.wait_line("submitted");
    let client = lab.client();
    let waiting = wait_for("a reason to wait", || client.status().ok()?.clients.into_iter().find_map(|client| client.waiting));
    assert!(waiting.contains("triple"), "{waiting}");

    let service = lab.start(PROBE, ["service", "100"]);
    service.wait_line("service ready");
    let outcomes: Vec<Outcome<u64>> = calls.finish().success().json();
    let values: Vec<u64> = outcomes.iter().map(|outcome| outcome.result.clone().unwrap()).collect();
    assert_eq!(values, [100, 103, 106, 109, 112]);
    assert!(outcomes.iter().all(|outcome| outcome.engine == Some(1)), "{outcomes:?}");

    // Either engine could run this function.
    let required: Vec<Outcome<u64>> = lab.run(PROBE, ["named-required", "8"]).success().json();
    assert_eq!(required.iter().map(|outcome| outcome.result.clone().unwrap()).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert!(required.iter().all(|outcome| outcome.engine == Some(1)), "{required:?}");

    let wrong: Vec<Outcome<u64>> = lab.run(PROBE, ["named-wrongly"]).success().json();
    let error = wrong[0].result.clone().unwrap_err();
    assert!(matches!(&error.cause, Cause::WrongArgument { expected, .. } if expected == "u64"), "{error}");
    let text = error.to_string();
    assert!(text.contains(&wrong[0].id) && text.contains("engine 1") && text.contains("u64"), "{text}");

    let (counted, alone): (Vec<Outcome<usize>>, Vec<Outcome<usize>>) = lab.run(PROBE, ["named-sharing"]).success().json();
    assert_eq!(counted.into_iter().map(|outcome| outcome.result.ok()).collect::<Vec<_>>(), [Some(100), Some(100), Some(0)]);
    assert!(alone[0].text.as_ref().is_some_and(|text| text.contains("its job has none")), "{alone:?}");

    service.finish().success();
    wait_for("the service's leave", || (client.engine_ids().len() == 1).then_some(()));
}

#[test]
fn a_service_that_embeds_everything_answers_over_http_and_ends_when_told() {
    let lab = Lab::new();
    let service = Process::start("embed", lab.command("embed").args(["--listen", "127.0.0.1:0", "--engines", "2"]));
    let line = service.wait_line("try http://");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let ask = |query: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        write!(stream, "GET /sum-of-squares?n={query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for (query, status, said) in
        [("10", "200", "\r\n\r\n385"), ("0", "200", "\r\n\r\n0"), ("ten", "400", "n must be a whole number")]
    {
        let answer = ask(query);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(said), "{query}: {answer}");
    }
    service.signal(Signal::TERM);
    let ended = service.finish().success();
    assert!(ended.stderr.is_empty(), "{ended:?}");
    assert_eq!(fs::read_dir(lab.temp_dir()).unwrap().count(), 0);
}
