//! Processes of a test.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

use crate::{SOON, wait_for};

/// Why no line comes any more.
const ENDED: &str = "its output has ended";

/// A running program. Killed when dropped; if the test has failed, what it wrote is shown.
pub struct Process {
    name: String,
    child: Child,
    out: Arc<Stream>,
    err: Arc<Stream>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
    /// How long it ran, as the test saw it.
    pub took: Duration,
}

/// One output of a process, as far as it has come.
#[derive(Default)]
struct Stream {
    state: Mutex<StreamState>,
    changed: Condvar,
}

#[derive(Default)]
struct StreamState {
    text: String,
    ended: bool,
}

impl Process {
    /// Starts a program. `name` is what messages call it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "{:?} cannot be started ({error}): run `cargo test --release --workspace`, which builds it",
                command.get_program()
            )
        });
        let out = Stream::of(child.stdout.take().expect("piped"));
        let err = Stream::of(child.stderr.take().expect("piped"));
        Self { name: name.to_owned(), child, out, err }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line of its standard output contains `text`, and gives that line.
    ///
    /// # Panics
    /// When no such line comes within [`SOON`], or the output ends without it.
    pub fn wait_line(&self, text: &str) -> String {
        let found = self.out.wait_line(text);
        found.unwrap_or_else(|why| panic!("{}: no line with {text:?} ({why})", self.name))
    }

    /// Waits until a line of its standard output contains `text`. False if it ends without it.
    ///
    /// # Panics
    /// When neither happens within [`SOON`].
    pub fn has_line_or_ends(&self, text: &str) -> bool {
        match self.out.wait_line(text) {
            Ok(_) => true,
            Err(ENDED) => false,
            Err(why) => panic!("{}: no line with {text:?} ({why})", self.name),
        }
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// Waits until it has written `text` to its standard error.
    ///
    /// # Panics
    /// When that does not come within [`SOON`].
    pub fn wait_stderr(&self, text: &str) {
        self.err.wait_line(text).unwrap_or_else(|why| panic!("{}: no {text:?} on standard error ({why})", self.name));
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it has been waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("ids of processes are positive");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: cannot be signalled: {error}", self.name));
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Waits for its end and the end of its output.
    ///
    /// # Panics
    /// When that does not come within [`SOON`].
    pub fn finish(self) -> Finished {
        self.finish_within(SOON)
    }

    /// As [`Process::finish`], with a bound of the test's own.
    ///
    /// # Panics
    /// As [`Process::finish`].
    pub fn finish_within(mut self, limit: Duration) -> Finished {
        let began = Instant::now();
        self.close_stdin();
        // Its output ends when it does, and that is announced.
        let ended = self.out.wait_end(limit) && self.err.wait_end(limit.saturating_sub(began.elapsed()));
        assert!(ended, "{} did not end within {limit:?}", self.name);
        let child = &mut self.child;
        let status = wait_for("the end of a process that has closed its output", || child.try_wait().expect("its own child"));
        Finished { status, stdout: self.out.text(), stderr: self.err.text(), took: began.elapsed() }
    }

    fn end(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() {
            eprintln!("---- {} wrote\n{}---- and to standard error\n{}----", self.name, self.out.text(), self.err.text());
        }
    }
}

impl Finished {
    /// This, if the program has succeeded.
    ///
    /// # Panics
    /// When it has not.
    pub fn success(self) -> Self {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self
    }

    /// The last line of its standard output, which is JSON.
    ///
    /// # Panics
    /// When it is not.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{}", self.stderr))
    }
}

impl Stream {
    fn of(pipe: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let fed = stream.clone();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            loop {
                let mut line = Vec::new();
                let read = pipe.read_until(b'\n', &mut line);
                let mut state = fed.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.text.push_str(&String::from_utf8_lossy(&line));
                state.ended = !matches!(read, Ok(1..));
                fed.changed.notify_all();
                if state.ended {
                    return;
                }
            }
        });
        stream
    }

    fn text(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    fn wait_line(&self, text: &str) -> Result<String, &'static str> {
        let find = |state: &StreamState| state.text.lines().find(|line| line.contains(text)).map(str::to_owned);
        let state = self.wait_while(SOON, |state| find(state).is_none() && !state.ended);
        find(&state).ok_or(if state.ended { ENDED } else { "in time" })
    }

    fn wait_end(&self, limit: Duration) -> bool {
        self.wait_while(limit, |state| !state.ended).ended
    }

    fn wait_while(
        &self,
        limit: Duration,
        mut condition: impl FnMut(&StreamState) -> bool,
    ) -> std::sync::MutexGuard<'_, StreamState> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, limit, |state| condition(state));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
