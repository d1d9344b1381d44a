//! A place for one cluster.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use engineroom::{Client, ClusterStatus, Profile};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Finished, Process, SOON, system::processes_of};

/// A temporary directory with one profile and the caches of its engine nodes, and whatever runs on it.
///
/// Everything that it starts has [`Lab::home`] in its environment; dropping it kills what has that and still runs.
pub struct Lab {
    directory: TempDir,
}

impl Lab {
    /// An empty place. Nothing runs.
    ///
    /// # Panics
    /// When there can be no temporary directory.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("engineroom-lab-").tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("tmp")).expect("a directory of one's own");
        Self { directory }
    }

    /// A controller and an engine node with so many engines, both ready. The engine node stands first, so that it is dropped
    /// first.
    ///
    /// # Panics
    /// When they do not get ready.
    pub fn cluster(&self, engines: usize) -> (Process, Process) {
        let controller = self.controller();
        (self.engine_node(engines), controller)
    }

    /// Starts a controller, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn controller(&self) -> Process {
        self.controller_with([])
    }

    /// Starts a controller with further options, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn controller_with<const N: usize>(&self, options: [&str; N]) -> Process {
        let usual = ["--role", "controller", "--listen", "127.0.0.1:0"];
        let controller = self.start("node", usual.iter().chain(&options));
        controller.wait_line("controller ready");
        controller
    }

    /// Starts an engine node with so many engines, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn engine_node(&self, engines: usize) -> Process {
        let node = self.start("node", ["--role", "engine", "--engines", &engines.to_string()]);
        node.wait_line("engine node ready");
        node
    }

    /// Starts a program on the profile, with `--profile-dir` after its other arguments.
    pub fn start<I: IntoIterator<Item: AsRef<OsStr>>>(&self, program: &str, args: I) -> Process {
        Process::start(program, self.command(program).args(args).arg("--profile-dir").arg(self.profile_dir()))
    }

    /// Runs a program on the profile to its end, with `--profile-dir` after its other arguments.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, program: &str, args: I) -> Finished {
        self.start(program, args).finish()
    }

    /// A command for a program: a path, or the name of one that was built along with the tests. What the environment of the
    /// tests says of engineroom does not count.
    pub fn command(&self, program: &str) -> Command {
        let path = if program.contains('/') { PathBuf::from(program) } else { program_path(program) };
        let mut command = Command::new(path);
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ENGINEROOM_")) {
            command.env_remove(name);
        }
        command.env("ENGINEROOM_HOME", self.home()).env("TMPDIR", self.temp_dir()).current_dir(self.path());
        command
    }

    /// A client of this process. It can ask, wait and collect, but not submit functions, which only programs with
    /// `engineroom::init()` can.
    ///
    /// # Panics
    /// When the controller does not take it.
    pub fn client(&self) -> Client {
        Client::connect_within(self.profile(), SOON).expect("the controller runs")
    }

    /// What `engineroom status --json` says.
    ///
    /// # Panics
    /// When it fails, or says something else.
    pub fn status(&self) -> ClusterStatus {
        let status = self.run("engineroom", ["status", "--json"]).success();
        serde_json::from_str(&status.stdout).expect("the JSON that is documented")
    }

    /// The profile.
    pub fn profile(&self) -> Profile {
        Profile::in_dir(self.profile_dir())
    }

    /// The profile's directory. The first controller makes it.
    pub fn profile_dir(&self) -> PathBuf {
        self.path().join("profile")
    }

    /// The connection file for clients.
    pub fn client_file(&self) -> PathBuf {
        self.profile().client_connection_file()
    }

    /// The connection file for engines.
    pub fn engine_file(&self) -> PathBuf {
        self.profile().engine_connection_file()
    }

    /// What stands for `~/.engineroom`.
    pub fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    /// What its programs take for the directory of temporary files.
    pub fn temp_dir(&self) -> PathBuf {
        self.path().join("tmp")
    }

    /// The directory of all this, for files of the test.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Whatever of it runs: id and command line.
    pub fn processes(&self) -> Vec<(u32, String)> {
        processes_of(&self.home())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            if let Some(pid) = Pid::from_raw(pid as i32) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Where cargo puts programs: in the directory above that of the test's own executable.
fn program_path(name: &str) -> PathBuf {
    let own = env::current_exe().expect("a process has an executable");
    let directory = own.ancestors().find(|directory| directory.join(name).is_file());
    let directory = directory
        .unwrap_or_else(|| panic!("there is no program {name} beside {}: run `cargo test --release --workspace`", own.display()));
    directory.join(name)
}
