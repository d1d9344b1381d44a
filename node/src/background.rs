//! Processes that outlive the one that started them.
//!
//! The child's standard error is its log file, its standard output a pipe to the parent. When it is ready it says so on that
//! pipe, then leads its standard output to the log as well: the parent gets one line or the end of the pipe, and holds nothing
//! of the child's afterwards, nor the child of the parent's.

use std::{
    ffi::OsString,
    fs,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

use crate::failure::{Exit, Failure};

/// How long a background process may take until it is ready.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest line that says that a process is ready, in bytes.
const READY_LINE_BYTES_MAX: u64 = 16 * 1024;

/// How much of a log is shown when its process could not start: its last lines, as a screen holds them.
const LOG_LINES_SHOWN: usize = 20;

/// How much of a log is read for that, in bytes.
const LOG_BYTES_SHOWN: u64 = 8 * 1024;

/// How often a process that is to end is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How long a process that was killed may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// A background process that is ready.
#[derive(Debug)]
pub(crate) struct Background {
    /// Its id.
    pub(crate) pid: u32,
    /// What it said.
    pub(crate) ready: String,
}

/// Starts this very program with these arguments, in the background, and returns when it is ready. `what` is what errors call
/// it.
pub(crate) fn launch(what: &str, args: Vec<OsString>, dir: &Path, log: &Path) -> Result<Background, Failure> {
    let program = std::env::current_exe().map_err(Failure::internal)?;
    launch_program(what, Command::new(program).args(args), dir, log, READY_TIMEOUT)
}

fn launch_program(what: &str, command: &mut Command, dir: &Path, log: &Path, limit: Duration) -> Result<Background, Failure> {
    let unusable = |error: io::Error| Failure::internal(format!("{}: {error}", log.display()));
    let log_file = crate::log::open(log).map_err(unusable)?;
    let log_start = log_file.metadata().map_err(unusable)?.len();
    let mut child = command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .map_err(|error| Failure::internal(format!("the {what} could not be started: {error}")))?;
    let pid = child.id();
    let answer = match child.stdout.take() {
        Some(stdout) => first_line(stdout, limit),
        None => Ok(None),
    };
    let (exit, problem) = match answer {
        Ok(Some(ready)) => return Ok(Background { pid, ready }),
        Ok(None) => match reap(&mut child) {
            Some(status) => (Exit::from_code(status.code()), format!("the {what} could not start ({status})")),
            None => (Exit::Internal, format!("the {what} closed its output and was killed")),
        },
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let _ = child.kill().and_then(|()| child.wait());
            (Exit::Internal, format!("the {what} was not ready after {} s and was killed", limit.as_secs()))
        }
    };
    let message = match last_lines(log, log_start) {
        lines if lines.is_empty() => format!("{problem}; its log {} says nothing", log.display()),
        lines => format!("{problem}; its log {} ends with\n{lines}", log.display()),
    };
    Err(Failure { exit, message })
}

/// The first line, or `None` when the process closed its output without one.
fn first_line(stdout: ChildStdout, limit: Duration) -> Result<Option<String>, RecvTimeoutError> {
    let (tell, told) = mpsc::channel();
    // The thread ends with the pipe, which the child's end closes at the latest.
    thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(stdout).take(READY_LINE_BYTES_MAX).read_line(&mut line);
        let _ = tell.send(read.is_ok().then(|| line.trim_end().to_owned()).filter(|line| !line.is_empty()));
    });
    told.recv_timeout(limit)
}

/// How a child that closed its output ended. One that goes on without it is killed.
fn reap(child: &mut Child) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + KILL_LIMIT;
    while Instant::now() < end {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(LOOK_INTERVAL),
            Err(_) => return None,
        }
    }
    let _ = child.kill().and_then(|()| child.wait());
    None
}

/// The last lines that were written to the log since it was `start` bytes long.
fn last_lines(log: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.min(length).max(length.saturating_sub(LOG_BYTES_SHOWN))))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_SHOWN).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}

/// Detaches this process from the terminal and the session of the one that started it.
pub(crate) fn detach() -> Result<(), Failure> {
    rustix::process::setsid().map(drop).map_err(|error| Failure::internal(format!("could not leave the session: {error}")))
}

/// Tells the process that started this one that it is ready, and lets go of it.
///
/// # Errors
/// When nobody is there to be told.
pub(crate) fn announce(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    writeln!(out, "{line}").and_then(|()| out.flush())
}

/// How a process that was told to end did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// By itself.
    Itself,
    /// It had to be killed.
    Killed,
}

/// Tells a process to end, waits until it has, and kills it when it has not after `limit`.
pub(crate) fn stop(pid: u32, limit: Duration) -> Result<Stopped, Failure> {
    tell_to_end(pid)?;
    await_end(pid, limit)
}

/// Tells a process to end. Told twice, it ends at once.
pub(crate) fn tell_to_end(pid: u32) -> Result<(), Failure> {
    signal(pid, Signal::TERM)
}

/// Waits until a process that was told to end has done so, and kills it when it has not after `limit`.
pub(crate) fn await_end(pid: u32, limit: Duration) -> Result<Stopped, Failure> {
    if is_gone_within(pid, limit) {
        return Ok(Stopped::Itself);
    }
    signal(pid, Signal::KILL)?;
    match is_gone_within(pid, KILL_LIMIT) {
        true => Ok(Stopped::Killed),
        false => Err(Failure::internal(format!("process {pid} could not be killed"))),
    }
}

fn signal(pid: u32, signal: Signal) -> Result<(), Failure> {
    match as_pid(pid).map(|pid| rustix::process::kill_process(pid, signal)) {
        Some(Ok(()) | Err(rustix::io::Errno::SRCH)) | None => Ok(()),
        Some(Err(error)) => Err(Failure::internal(format!("process {pid} could not be told to end: {error}"))),
    }
}

fn is_gone_within(pid: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while is_alive(pid) {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK_INTERVAL);
    }
    true
}

/// Whether that process still runs. One that has ended and was not waited for does not.
fn is_alive(pid: u32) -> bool {
    let there = as_pid(pid).is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
    there && state(pid) != Some('Z')
}

/// The state letter of `/proc/<pid>/stat`, which follows the command's name in parentheses.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Result<Background, Failure>, String) {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("x.log");
        fs::write(&log, "a line of an earlier life\n").unwrap();
        let launched = launch_program("engine node", Command::new("sh").args(["-c", script]), place.path(), &log, limit);
        (launched, fs::read_to_string(&log).unwrap())
    }

    #[test]
    fn a_process_is_ready_when_it_says_so_and_goes_on() {
        let (launched, _) = shell("echo ready: 2 engines; exec >&2; sleep 600", Duration::from_secs(60));
        let background = launched.unwrap();
        assert_eq!(background.ready, "ready: 2 engines");
        assert!(is_alive(background.pid));
        assert_eq!(stop(background.pid, Duration::from_secs(60)).unwrap(), Stopped::Itself);
        assert!(!is_alive(background.pid));
    }

    #[test]
    fn a_process_that_fails_is_told_with_its_code_and_last_lines() {
        for (script, exit, said) in [
            ("echo refused: wrong cluster >&2; exit 3", Exit::Connection, "refused: wrong cluster"),
            ("echo one >&2; echo two >&2; exit 1", Exit::Internal, "ends with\none\ntwo"),
            ("exit 2", Exit::Usage, "says nothing"),
            ("kill -9 $$", Exit::Internal, "signal: 9"),
        ] {
            let (launched, log) = shell(script, Duration::from_secs(60));
            let failure = launched.expect_err(script);
            assert_eq!(failure.exit, exit, "{script}: {failure}");
            assert!(failure.message.contains(said), "{script}: {failure}");
            assert!(!failure.message.contains("earlier life") && log.contains("earlier life"), "{failure}");
        }
    }

    #[test]
    fn a_process_that_never_gets_ready_is_killed() {
        let (launched, log) = shell("echo $$ >&2; exec sleep 600", Duration::from_millis(200));
        let failure = launched.expect_err("never ready");
        assert!(failure.message.contains("was killed"), "{failure}");
        if let Some(pid) = log.lines().nth(1) {
            assert!(!is_alive(pid.parse().unwrap()));
        }
    }

    #[test]
    fn a_process_that_ignores_the_signal_is_killed() {
        let (launched, _) = shell("trap '' TERM; echo ready; while :; do sleep 1; done", Duration::from_secs(60));
        let pid = launched.unwrap().pid;
        assert_eq!(stop(pid, Duration::from_millis(100)).unwrap(), Stopped::Killed);
        assert!(!is_alive(pid));
    }

    #[test]
    fn only_the_last_lines_of_a_long_log_are_shown() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("x.log");
        fs::write(&log, (0..10_000).map(|i| format!("line {i}\n")).collect::<String>()).unwrap();
        let shown = last_lines(&log, 0);
        assert_eq!(shown.lines().count(), LOG_LINES_SHOWN);
        assert!(shown.ends_with("line 9999"));
    }
}
