//! Starts one worker process, looks after it, and tells how it ended. Blocks, so it has a thread of its own.

use std::{
    io,
    net::Shutdown,
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use super::capture::OutputFiles;
use crate::task::WorkerExit;

/// How often the length of the output files is checked.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// How often a program is tried that is still open for writing. Another thread that starts a process at the moment in which
/// the program's file is complete keeps the file open for that moment.
const BUSY_RETRIES: u32 = 20;

/// How long is waited between those.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Stops a process at any time of its life.
#[derive(Debug)]
pub(super) struct Leash {
    life: Mutex<Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It has not been started yet.
    Due,
    /// It runs, or is dead and not buried: its number is not given to another process.
    Alive(Pid),
    /// It is no more, or never will be.
    Over,
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Demise {
    /// How it ended.
    pub(super) exit: WorkerExit,
    /// Why it was never started.
    pub(super) not_started: Option<String>,
    /// The end of what it wrote to standard error.
    pub(super) last_output: String,
}

impl Leash {
    /// The leash of a process that is to be started.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { life: Mutex::new(Life::Due) })
    }

    /// Kills the process and all that it has started, as far as they have stayed in its process group. Before its start,
    /// prevents that.
    pub(super) fn kill(&self) {
        let mut life = self.lock();
        match *life {
            Life::Due => *life = Life::Over,
            Life::Alive(pid) => kill_group(pid),
            Life::Over => {}
        }
    }

    /// Sends a signal to the process and all that it has started; whether there is a process.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        match *self.lock() {
            Life::Alive(pid) => kill_process_group(pid, signal).is_ok(),
            Life::Due | Life::Over => false,
        }
    }

    fn start(&self, command: &mut Command) -> io::Result<Option<Child>> {
        let mut life = self.lock();
        if *life == Life::Over {
            return Ok(None);
        }
        let child = command.spawn()?;
        *life = Life::Alive(Pid::from_child(&child));
        Ok(Some(child))
    }

    fn bury(&self, child: &mut Child) -> io::Result<ExitStatus> {
        // Under the lock, so that nobody kills by the number of a process whose number is free again.
        let mut life = self.lock();
        if let Life::Alive(pid) = *life {
            kill_group(pid);
        }
        *life = Life::Over;
        child.wait()
    }

    fn lock(&self) -> MutexGuard<'_, Life> {
        // Nothing under the lock panics half way through a change.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the process and returns when it is gone. `socket` is the engine's end; it is shut down at the end, so that its
/// reader gets what the process has sent, and then the end of the stream.
pub(super) fn keep(mut command: Command, leash: &Leash, socket: &UnixStream, outputs: &OutputFiles) -> Demise {
    let started = start(&mut command, leash);
    let program = command.get_program().to_string_lossy().into_owned();
    // The command holds the process's end of the socket. As long as it is open here, the engine's end never closes.
    drop(command);
    let (exit, not_started) = match started {
        Ok(Some(mut child)) => {
            watch(&child, socket, outputs);
            leash.kill();
            let pid = Pid::from_child(&child);
            while wait_for(pid, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) == Err(Errno::INTR) {}
            (leash.bury(&mut child).map_or(WorkerExit::Unknown, exit_of), None)
        }
        Ok(None) => (WorkerExit::Signal(Signal::KILL.as_raw()), Some("it was stopped before it was started".into())),
        Err(error) => (WorkerExit::Unknown, Some(format!("the program {program} cannot be executed: {error}"))),
    };
    // Fails only where the stream has ended already.
    let _ = socket.shutdown(Shutdown::Both);
    Demise { exit, not_started, last_output: outputs.last_output() }
}

fn start(command: &mut Command, leash: &Leash) -> io::Result<Option<Child>> {
    let mut retries = 0;
    loop {
        match leash.start(command) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && retries < BUSY_RETRIES => {
                retries += 1;
                thread::sleep(BUSY_PAUSE);
            }
            result => return result,
        }
    }
}

/// Returns when the process has closed its socket, which it does when it ends at the latest, or has ended while another
/// process holds that end of the socket.
fn watch(child: &Child, socket: &UnixStream, outputs: &OutputFiles) {
    let pid = Pid::from_child(child);
    let timeout = Timespec { tv_sec: CHECK_EVERY.as_secs() as i64, tv_nsec: 0 };
    loop {
        // Without any flag, only the end of the connection wakes.
        match poll(&mut [PollFd::new(socket, PollFlags::empty())], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return,
            // The system is out of memory: that passes, or this process does.
            Err(_) => thread::sleep(CHECK_EVERY),
        }
        outputs.trim();
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if wait_for(pid, options) == Ok(true) {
            return;
        }
    }
}

/// Whether the process has ended.
fn wait_for(pid: Pid, options: WaitIdOptions) -> Result<bool, Errno> {
    waitid(WaitId::Pid(pid), options).map(|status| status.is_some())
}

fn kill_group(pid: Pid) {
    // Fails only where nobody of the group is left.
    let _ = kill_process_group(pid, Signal::KILL);
}

fn exit_of(status: ExitStatus) -> WorkerExit {
    match (status.code(), status.signal()) {
        (Some(code), _) => WorkerExit::Code(code),
        (None, Some(signal)) => WorkerExit::Signal(signal),
        (None, None) => WorkerExit::Unknown,
    }
}
