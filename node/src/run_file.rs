//! Which process runs what on a profile: `run/controller.pid`, `run/engine.pid`, `run/engine-2.pid` and so on.
//!
//! The process itself makes its file, writes its id into it, holds an advisory lock on it for as long as it lives, and removes
//! it when it ends. The lock, not the id, says whether the process is there: it ends with the process, however that ends, and
//! no other process inherits it with the id.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use engineroom::Profile;

/// The most engine nodes of one profile on one machine. One node can have all the engines that a machine is good for.
const ENGINE_NODES_MAX: usize = 64;

/// How often a lock that is held is tried again, and how often an id that is not yet written is read again: whoever looks at a
/// file holds its lock for a moment, and whoever makes one needs a moment to write.
const TRIES: usize = 10;

/// The time between two tries.
const TRY_INTERVAL: Duration = Duration::from_millis(20);

/// This process's claim on a role in a profile, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunFile {
    path: PathBuf,
    // Holds the lock.
    _file: File,
}

/// Why a role cannot be claimed or looked up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFileError {
    /// Another process has it.
    #[error("process {pid} holds {}", path.display())]
    Held {
        /// That process.
        pid: u32,
        /// The file.
        path: PathBuf,
    },
    /// A process that is not on this machine has it.
    #[error("{} is held by a process that is not here: by another machine or container that shares the directory", path.display())]
    HeldElsewhere {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RunFile {
    /// Claims this file.
    pub(crate) fn acquire(path: PathBuf) -> Result<Self, RunFileError> {
        let io = |source| RunFileError::Io { path: path.clone(), source };
        for _ in 0..TRIES {
            let mut file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io)?;
            match file.try_lock() {
                // The owner before us removes the file while it holds the lock: then ours is a file that nobody else sees.
                Ok(()) if is_at(&file, &path) => {
                    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
                    return Ok(Self { path, _file: file });
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => thread::sleep(TRY_INTERVAL),
                Err(TryLockError::Error(source)) => return Err(io(source)),
            }
        }
        match holder(&path)? {
            Some(pid) => Err(RunFileError::Held { pid, path }),
            None => Err(io(io::ErrorKind::WouldBlock.into())),
        }
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // A file that stays is taken for what it is: one whose lock nobody holds.
        let _ = fs::remove_file(&self.path);
    }
}

/// The controller's file.
pub(crate) fn controller(profile: &Profile) -> PathBuf {
    profile.run_dir().join("controller.pid")
}

/// Claims the first free one of the engine nodes' files.
pub(crate) fn acquire_engine(profile: &Profile) -> Result<RunFile, RunFileError> {
    let mut last = None;
    for path in engines(profile) {
        match RunFile::acquire(path) {
            Err(held @ (RunFileError::Held { .. } | RunFileError::HeldElsewhere { .. })) => last = Some(held),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| RunFileError::HeldElsewhere { path: profile.run_dir() }))
}

/// The engine nodes' files, in order.
pub(crate) fn engines(profile: &Profile) -> impl Iterator<Item = PathBuf> {
    let dir = profile.run_dir();
    (1..=ENGINE_NODES_MAX).map(move |slot| match slot {
        1 => dir.join("engine.pid"),
        slot => dir.join(format!("engine-{slot}.pid")),
    })
}

/// The process that holds this file, if one does.
pub(crate) fn holder(path: &Path) -> Result<Option<u32>, RunFileError> {
    let io = |source| RunFileError::Io { path: path.to_owned(), source };
    for _ in 0..TRIES {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io(source)),
        };
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        match written_pid(&mut file).map_err(io)? {
            Some(pid) if has_open(pid, &file) => return Ok(Some(pid)),
            // It has not written its id yet, or is just going.
            _ => {}
        }
        thread::sleep(TRY_INTERVAL);
    }
    Err(RunFileError::HeldElsewhere { path: path.to_owned() })
}

/// Removes a file that the death of its process left behind; one that is held stays.
pub(crate) fn remove_stale(path: &Path) {
    if path.exists() && matches!(holder(path), Ok(None)) {
        drop(RunFile::acquire(path.to_owned()));
    }
}

fn written_pid(file: &mut File) -> io::Result<Option<u32>> {
    /// The longest content, in bytes: a number and a line's end.
    const PID_BYTES_MAX: u64 = 16;
    let mut text = String::new();
    file.rewind()?;
    file.take(PID_BYTES_MAX).read_to_string(&mut text)?;
    // Without its line's end the number may be half written.
    Ok(text.strip_suffix('\n').and_then(|pid| pid.parse().ok()))
}

fn is_at(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), fs::metadata(path)), (Ok(ours), Ok(theirs)) if same_file(&ours, &theirs))
}

fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Whether that process has the file open. A lock can be held from another machine, where its id means another process.
fn has_open(pid: u32, file: &File) -> bool {
    let Ok(ours) = file.metadata() else { return false };
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().filter_map(|entry| fs::metadata(entry.path()).ok()).any(|theirs| same_file(&ours, &theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Profile) {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::in_dir(place.path());
        profile.create_dirs().unwrap();
        (place, profile)
    }

    #[test]
    fn a_role_is_claimed_once_and_free_again_afterwards() {
        let (_place, profile) = place();
        let path = controller(&profile);
        assert_eq!(holder(&path).unwrap(), None);
        for _ in 0..2 {
            let claim = RunFile::acquire(path.clone()).unwrap();
            let us = std::process::id();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{us}\n"));
            assert_eq!(holder(&path).unwrap(), Some(us));
            assert!(matches!(RunFile::acquire(path.clone()), Err(RunFileError::Held { pid, .. }) if pid == us));
            drop(claim);
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_a_dead_process_left_behind_is_no_claim() {
        let (_place, profile) = place();
        let path = controller(&profile);
        // The id is that of a process that lives: only the lock counts.
        fs::write(&path, "1\n").unwrap();
        assert_eq!(holder(&path).unwrap(), None);
        drop(RunFile::acquire(path.clone()).unwrap());
        fs::write(&path, "1\n").unwrap();
        remove_stale(&path);
        assert!(!path.exists());
    }

    #[test]
    fn a_held_file_is_not_stale() {
        let (_place, profile) = place();
        let claim = RunFile::acquire(controller(&profile)).unwrap();
        remove_stale(&controller(&profile));
        assert!(controller(&profile).exists());
        drop(claim);
    }

    #[test]
    fn a_lock_whose_process_is_not_here_is_told() {
        let (_place, profile) = place();
        let path = controller(&profile);
        let claim = RunFile::acquire(path.clone()).unwrap();
        // Process 0 is never a user's.
        fs::write(&path, "0\n").unwrap();
        assert!(matches!(holder(&path), Err(RunFileError::HeldElsewhere { .. })));
        drop(claim);
    }

    #[test]
    fn engine_nodes_take_the_first_free_file() {
        let (_place, profile) = place();
        let name = |claim: &RunFile| claim.path.file_name().unwrap().to_str().unwrap().to_owned();
        let first = acquire_engine(&profile).unwrap();
        let second = acquire_engine(&profile).unwrap();
        assert_eq!((name(&first).as_str(), name(&second).as_str()), ("engine.pid", "engine-2.pid"));
        drop(first);
        assert_eq!(name(&acquire_engine(&profile).unwrap()), "engine.pid");
    }
}
