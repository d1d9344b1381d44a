//! Disks that get full.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

/// A small disk at a directory. Gone when dropped, whatever is open on it.
pub struct SmallDisk {
    directory: PathBuf,
}

impl SmallDisk {
    /// Makes the directory, readable by its owner only, and mounts a disk of so many MiB there.
    ///
    /// # Errors
    /// The reason, where this system does not permit it.
    ///
    /// # Panics
    /// When the directory cannot be made.
    pub fn mount(directory: &Path, mib: u32) -> Result<Self, String> {
        fs::create_dir_all(directory).expect("a directory of the test's own");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "engineroom-test"])
            .arg(directory)
            .output()
            .map_err(|error| format!("`mount` cannot be run: {error}"))?;
        match mount.status.success() {
            true => Ok(Self { directory: directory.to_owned() }),
            false => Err(format!("`mount -t tmpfs` fails: {}", String::from_utf8_lossy(&mount.stderr).trim())),
        }
    }

    /// Takes all space that is left, and gives how many bytes that was.
    ///
    /// # Panics
    /// When something else than the lack of space prevents it.
    pub fn fill(&self) -> u64 {
        let mut filler = File::options().append(true).create(true).open(self.filler()).expect("a file to write to");
        let mut chunk: &[u8] = &[0; 1 << 16];
        loop {
            match filler.write(chunk) {
                Ok(_) => {}
                // The last page may be had in smaller pieces.
                Err(error) if error.kind() == ErrorKind::StorageFull && chunk.len() > 1 => chunk = &chunk[..chunk.len() / 2],
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
        filler.metadata().expect("it is open").len()
    }

    /// Gives back what [`SmallDisk::fill`] has taken.
    ///
    /// # Panics
    /// When it was not filled.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("the disk was filled");
    }

    fn filler(&self) -> PathBuf {
        self.directory.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a controller that still runs may have its store open.
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}
