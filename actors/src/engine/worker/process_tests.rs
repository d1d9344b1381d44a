//! Worker processes for real. The test's own executable is the worker's program: one test is `main` there.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream as Socket,
    path::Path,
    process::{Child, Stdio, exit},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    protocol::{Message, PROTOCOL, Ready, Start, decode_message, decoder, encode_message},
    serve::{MARKER, marker},
    testing::{OWN, batch, results},
    *,
};
use crate::{
    code::{Function, SharedFile, TaskName, encode},
    task::{BlobHash, Cause, TaskOutput},
};

/// Everything here ends at once, or never.
const LONG: Duration = Duration::from_secs(60);

/// What runs in worker processes. Elsewhere it returns at once.
#[test]
fn be_a_worker() {
    init_with(Tasks::new().register(TaskName::new("negate"), |x: i64| -x));
}

/// A program that forgot to call `init`. Elsewhere it returns at once.
#[test]
fn be_a_program_without_init() {
    abort_if_worker();
}

fn program(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let path = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    command.args(["--exact", &path, "--nocapture", "--test-threads=1"]);
    command
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

struct Desk {
    worker: Worker,
    events: UnboundedReceiver<WorkerEvent>,
}

impl Desk {
    fn of(command: Command) -> Self {
        let (sender, events) = unbounded_channel();
        let worker = Worker::command(command, OWN, Arc::new(move |event| drop(sender.send(event)))).unwrap();
        Self { worker, events }
    }

    fn new() -> Self {
        Self::of(program("be_a_worker"))
    }

    /// What comes, but for that it has started.
    async fn event(&mut self) -> WorkerEvent {
        loop {
            let event = tokio::time::timeout(LONG, self.events.recv()).await.expect("an event in time").expect("an event");
            if event != WorkerEvent::Ready {
                return event;
            }
        }
    }

    async fn reports(&mut self, tasks: usize) -> Vec<Report> {
        let mut reports: Vec<Report> = Vec::new();
        while reports.iter().map(|report| report.outcomes.len()).sum::<usize>() < tasks {
            match self.event().await {
                WorkerEvent::Report(report) => reports.push(report),
                other => panic!("{other:?} after {reports:?}"),
            }
        }
        reports
    }

    /// All that comes until the worker is gone.
    async fn rest(mut self) -> (Vec<Report>, WorkerExited) {
        let mut reports = Vec::new();
        loop {
            match self.event().await {
                WorkerEvent::Ready | WorkerEvent::Told(_) => {}
                WorkerEvent::Report(report) => reports.push(report),
                WorkerEvent::Exited(exited) => {
                    tokio::task::yield_now().await;
                    assert!(self.events.try_recv().is_err(), "the exit is the last event");
                    return (reports, exited);
                }
            }
        }
    }
}

fn local<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Returns when the process has ended.
fn await_end(pid: u32) {
    let Some(pid) = Pid::from_raw(pid as i32) else { panic!("not a process: {pid}") };
    // One that is gone completely cannot be opened any more.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let timeout = rustix::event::Timespec { tv_sec: LONG.as_secs() as i64, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)), Ok(1), "the process ends");
}

fn of<F, A, R>(function: F) -> Function
where
    F: Fn(A) -> R + Copy + Send + 'static,
    A: serde::de::DeserializeOwned,
    R: serde::Serialize + 'static,
{
    Function::of_program(function, OWN).unwrap()
}

fn act(what: String) -> Result<String, String> {
    match what.split_once(' ').unwrap_or((&what, "")) {
        ("out", text) => print!("{text}"),
        ("err", text) => eprint!("{text}"),
        ("sh", script) => assert!(shell(script).status().unwrap().success()),
        ("panic", text) => panic!("{text}"),
        ("fail", text) => return Err(text.into()),
        ("abort", text) => {
            eprint!("{text}");
            std::process::abort()
        }
        ("exit", code) => exit(code.parse().unwrap()),
        ("hang", _) => hang(),
        ("stdin", _) => return Ok(std::io::read_to_string(std::io::stdin()).unwrap()),
        ("start", _) => return Ok(Command::new("/bin/sleep").arg("1000").spawn().unwrap().id().to_string()),
        (other, _) => return Ok(other.into()),
    }
    Ok(String::new())
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn actions<const N: usize>(id: u64, actions: [&str; N]) -> Run {
    batch(id, Function::of_program_fallible(act, OWN).unwrap(), actions)
}

#[test]
fn batches_run_in_order_and_tasks_know_who_they_are() {
    local(async {
        let mut desk = Desk::new();
        let whoami = |x: u32| {
            let task = TaskContext::current().unwrap();
            (task.id.index, x, task.engine.0, task.attempt)
        };
        desk.worker.run(Run { first: 50, ..batch(1, of(whoami), 0..5000_u32) }).unwrap();
        desk.worker.run(batch(2, Function::named("negate"), [1_i64, 2])).unwrap();
        let reports = desk.reports(5002).await;
        let (ours, named): (Vec<_>, Vec<_>) = reports.into_iter().partition(|report| report.batch == BatchId(1));
        assert!(results::<(u32, u32, u32, u32)>(&ours).into_iter().eq((0..5000).map(|x| Ok((50 + x, x, 9, 3)))));
        assert_eq!(results::<i64>(&named), [Ok(-1), Ok(-2)]);
        assert!(!desk.worker.cancel(BatchId(1), 0, 1));
    });
}

#[test]
fn a_shared_value_is_decoded_once_for_all_batches() {
    /// Tells of which decoding it is.
    struct Table {
        words: Vec<String>,
        decoding: u32,
    }
    impl<'de> serde::Deserialize<'de> for Table {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            static DECODINGS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let words = Vec::deserialize(deserializer)?;
            Ok(Self { words, decoding: 1 + DECODINGS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) })
        }
    }
    let look_up = |table: &Table, at: usize| (table.words[at].clone(), table.decoding);
    let (dir, mut bytes) = (tempfile::tempdir().unwrap(), Vec::new());
    encode(&["no", "yes"], &mut bytes).unwrap();
    let path = dir.path().join("value");
    std::fs::write(&path, &bytes).unwrap();
    let shared = Some(SharedFile { hash: BlobHash(blake3::hash(&bytes).into()), path, bytes: bytes.len() as u64 });
    local(async {
        let mut desk = Desk::new();
        let function = Function::of_program_sharing(look_up, OWN).unwrap();
        desk.worker.run(Run { shared: shared.clone(), ..batch(1, function.clone(), [0_usize, 1]) }).unwrap();
        let word = |word: &str| Ok((word.to_string(), 1));
        assert_eq!(results::<(String, u32)>(&desk.reports(2).await), [word("no"), word("yes")]);
        // It has what it needs, so that the file need not be there any more.
        drop(dir);
        desk.worker.run(Run { shared, ..batch(2, function.clone(), [1_usize]) }).unwrap();
        assert_eq!(results::<(String, u32)>(&desk.reports(1).await), [word("yes")]);
        desk.worker.run(batch(3, function, [0_usize])).unwrap();
        assert!(matches!(results::<(String, u32)>(&desk.reports(1).await)[..], [Err(Cause::WrongArgument { .. })]));
    });
}

#[test]
fn a_failing_task_does_not_fail_its_neighbours() {
    local(async {
        let mut desk = Desk::new();
        desk.worker.run(actions(1, ["a", "panic boom", "fail no luck", "d", "stdin"])).unwrap();
        let reports = desk.reports(5).await;
        let all = results::<String>(&reports);
        assert_eq!((&all[0], &all[3], &all[4]), (&Ok("a".into()), &Ok("d".into()), &Ok(String::new())));
        assert!(matches!(&all[1], Err(Cause::Panicked { message, location: Some(_), .. }) if message == "boom"));
        assert!(matches!(&all[2], Err(Cause::ReturnedError { message, .. }) if message == "no luck"));
        let outputs: Vec<_> = reports.iter().flat_map(|r| r.outcomes.output.iter().map(|(at, o)| (r.first + at, o))).collect();
        let [(1, TaskOutput { stdout, stderr, .. })] = &outputs[..] else { panic!("{outputs:?}") };
        assert!(stdout.is_empty() && stderr.contains("boom"), "the panic is announced as usual: {stderr}");
    });
}

#[test]
fn what_a_task_writes_is_its_own() {
    local(async {
        let mut desk = Desk::new();
        let long = format!("out {}end", "x".repeat(TaskOutput::BYTES_MAX));
        let tasks = ["out one", "nothing", "err two", "sh echo three; echo four >&2", &long, "nothing"];
        desk.worker.run(actions(1, tasks)).unwrap();
        let mut outputs = Vec::new();
        for report in desk.reports(6).await {
            outputs.extend(report.outcomes.output.into_iter().map(|(at, o)| (report.first + at, o.stdout, o.stderr)));
        }
        let (_, last, _) = outputs.pop().unwrap();
        assert!(last.ends_with("xend") && last.len() == TaskOutput::BYTES_MAX);
        let expected = [(0, "one", ""), (2, "", "two"), (3, "three\n", "four\n")];
        assert_eq!(outputs, expected.map(|(at, out, err)| (at, out.to_string(), err.to_string())));
    });
}

#[test]
fn a_crash_costs_the_running_task_only() {
    local(async {
        for (crash, expected, words) in
            [("abort dying words", WorkerExit::Signal(6), "dying words"), ("exit 3", WorkerExit::Code(3), "")]
        {
            let desk = Desk::new();
            desk.worker.run(actions(1, ["a", "err not these words", "c"])).unwrap();
            desk.worker.run(Run { reporting: Reporting::Careful, ..actions(2, ["f", crash, "h"]) }).unwrap();
            let (reports, exited) = desk.rest().await;
            let (first, second): (Vec<_>, Vec<_>) = reports.into_iter().partition(|report| report.batch == BatchId(1));
            assert_eq!(results::<String>(&first).len(), 3);
            assert_eq!(results::<String>(&second), [Ok("f".into())]);
            assert_eq!((exited.exit, exited.not_started, &exited.last_output[..]), (expected, None, words));
        }
    });
}

#[test]
fn all_that_was_reported_before_a_crash_arrives() {
    local(async {
        let desk = Desk::new();
        let work = |x: u32| if x == 3000 { exit(0) } else { vec![x; 100] };
        desk.worker.run(Run { reporting: Reporting::Careful, ..batch(1, of(work), 0..4000) }).unwrap();
        let (reports, exited) = desk.rest().await;
        assert!(results::<Vec<u32>>(&reports).into_iter().eq((0..3000).map(|x| Ok(vec![x; 100]))));
        assert_eq!(exited.exit, WorkerExit::Code(0));
    });
}

#[test]
fn a_killed_worker_ends_in_the_middle_of_a_task_with_all_it_has_started() {
    local(async {
        let mut desk = Desk::new();
        desk.worker.run(actions(1, ["start", "hang", "never"])).unwrap();
        // Comes although the next task does not end.
        let [Ok(pid)] = &results::<String>(&desk.reports(1).await)[..] else { panic!("one result") };
        desk.worker.kill();
        let worker = desk.worker;
        let (reports, exited) = Desk { worker, events: desk.events }.rest().await;
        assert!(reports.is_empty());
        assert_eq!((exited.exit, exited.not_started), (WorkerExit::Signal(9), None));
        await_end(pid.parse().unwrap());
    });
}

#[test]
fn a_dropped_worker_ends_and_is_not_heard_of_any_more() {
    local(async {
        let mut desk = Desk::new();
        desk.worker.run(batch(1, of(|()| std::process::id()), [()])).unwrap();
        desk.worker.run(actions(2, ["hang"])).unwrap();
        let [Ok(pid)] = results::<u32>(&desk.reports(1).await)[..] else { panic!("one result") };
        drop(desk.worker);
        await_end(pid);
        assert!(desk.events.recv().await.is_none());
    });
}

#[test]
fn a_worker_that_is_gone_takes_no_batches() {
    local(async {
        let mut desk = Desk::new();
        desk.worker.run(actions(1, ["exit 0"])).unwrap();
        assert!(matches!(desk.event().await, WorkerEvent::Exited(_)));
        assert_eq!(desk.worker.run(actions(2, ["a"])), Err(RunError::Gone));
        desk.worker.kill();
    });
}

#[test]
fn large_arguments_and_results_pass() {
    local(async {
        let mut desk = Desk::new();
        let text = "0123456789abcdef".repeat(1 << 20);
        desk.worker.run(batch(1, of(|text: String| text + "!"), [&text, &text])).unwrap();
        let all = results::<String>(&desk.reports(2).await);
        assert!(all.iter().all(|result| result.as_ref().is_ok_and(|r| r.len() == text.len() + 1 && r.ends_with("f!"))));
    });
}

#[test]
fn a_program_that_does_not_serve_says_why() {
    local(async {
        for (command, exit, told) in [
            (shell("exit 0"), WorkerExit::Code(0), "engineroom::init()"),
            (shell("echo no library >&2; exit 127"), WorkerExit::Code(127), "no library"),
            (shell("kill -s KILL $$"), WorkerExit::Signal(9), "was killed by signal 9"),
            (shell("echo this is no frame >&0; sleep 1000"), WorkerExit::Signal(9), "a frame announces"),
            (shell("exec 0<&-; sleep 1000"), WorkerExit::Signal(9), "engineroom::init()"),
            (program("be_a_program_without_init"), WorkerExit::Code(70), "call engineroom::init() first"),
            (Command::new("/nowhere/program"), WorkerExit::Unknown, "/nowhere/program cannot be executed"),
        ] {
            let desk = Desk::of(command);
            desk.worker.run(actions(1, ["a"])).unwrap();
            let (reports, exited) = desk.rest().await;
            assert!(reports.is_empty());
            let reason = exited.not_started.unwrap_or_default();
            let by_others = exit == WorkerExit::Signal(9) && !told.contains("frame");
            assert_eq!(exited.killed, by_others, "{told}");
            assert!(exited.exit == exit && reason.contains(told), "{}: {reason}", exited.exit);
        }
    });
}

#[test]
fn a_worker_can_be_killed_at_any_moment_of_its_start() {
    local(async {
        // Before the program runs, mostly; the keeper's thread may be quicker.
        let desk = Desk::of(shell("sleep 1000"));
        desk.worker.kill();
        let (_, exited) = desk.rest().await;
        assert_eq!(exited.exit, WorkerExit::Signal(9));
        assert!(exited.not_started.is_some());
        let worker = Worker::process(Path::new("/bin/true"), OWN, Arc::new(|_| ())).unwrap();
        drop(worker);
    });
}

#[test]
fn a_program_that_a_task_starts_is_no_worker() {
    local(async {
        let mut desk = Desk::new();
        // The marker is inherited; init() must return all the same.
        let start = |stdin: u8| {
            let (socket, _other) = Socket::pair().unwrap();
            let stdin = if stdin == 0 { Stdio::inherit() } else { std::os::fd::OwnedFd::from(socket).into() };
            assert!(std::env::var(MARKER).is_ok());
            program("be_a_worker").stdin(stdin).status().unwrap().code()
        };
        desk.worker.run(batch(1, of(start), [0_u8, 1])).unwrap();
        assert_eq!(results::<Option<i32>>(&desk.reports(2).await), [Ok(Some(0)), Ok(Some(0))]);
    });
}

/// A worker process without the engine's side.
struct Bare {
    child: Child,
    socket: Socket,
}

impl Bare {
    fn start(protocol: u32) -> Self {
        let (socket, theirs) = Socket::pair().unwrap();
        let mut command = program("be_a_worker");
        command.env(MARKER, marker()).stdin(std::os::fd::OwnedFd::from(theirs));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        drop(command);
        let mut bare = Self { child, socket };
        bare.send(&Start { protocol, bundle: OWN });
        assert_eq!(bare.receive::<Ready>(), Ready { protocol: PROTOCOL, pid: bare.child.id() });
        bare
    }

    fn send<M: Message>(&mut self, message: &M) {
        let bytes = encode_message(message).unwrap().into_chunks().concat();
        self.socket.write_all(&bytes).unwrap();
    }

    fn receive<M: Message>(&mut self) -> M {
        let mut decoder = decoder();
        loop {
            if let Some(frame) = decoder.next_frame().unwrap() {
                return decode_message(&frame).unwrap();
            }
            let mut byte = [0];
            self.socket.read_exact(&mut byte).unwrap();
            decoder.push(&byte);
        }
    }
}

#[test]
fn a_worker_ends_with_its_engine_also_while_a_task_runs() {
    let mut idle = Bare::start(PROTOCOL);
    let mut busy = Bare::start(PROTOCOL);
    busy.send(&Run { reporting: Reporting::Careful, ..actions(1, ["a", "hang"]) });
    assert_eq!(busy.receive::<Report>().outcomes.len(), 1);
    drop((idle.socket, busy.socket));
    await_end(idle.child.id());
    await_end(busy.child.id());
    let codes = [idle.child.wait().unwrap().code(), busy.child.wait().unwrap().code()];
    assert_eq!(codes, [None, None], "both are killed");
}

#[test]
fn a_worker_refuses_an_engine_that_speaks_otherwise() {
    let mut worker = Bare::start(PROTOCOL + 1);
    assert_eq!(worker.child.wait().unwrap().code(), Some(71));
    let mut worker = Bare::start(PROTOCOL);
    worker.socket.write_all(&[0xff; 64]).unwrap();
    assert_eq!(worker.child.wait().unwrap().code(), Some(71));
}
