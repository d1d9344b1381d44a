//! Bundles: this program's executable, as it travels to engines.

use std::{
    env,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{BLOB_BYTES_MAX, Function};
use crate::task::BundleHash;

/// The largest executable that travels, in bytes. Debug builds of large programs reach some hundred megabytes.
const BUNDLE_BYTES_MAX: u64 = BLOB_BYTES_MAX;

/// An executable and its hash.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The BLAKE3 hash of the executable.
    pub(crate) hash: BundleHash,
    /// The length of the executable, in bytes.
    pub(crate) bytes: u64,
    // Stays open, so that what is read later is what was hashed, even when the program is rebuilt meanwhile.
    file: File,
}

/// Why this program cannot travel.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The executable cannot be opened or read.
    #[error("this program's executable {} cannot be read: {source}", path.display())]
    Read {
        /// The executable.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The executable is larger than any bundle may be: 1 GiB.
    #[error(
        "this program's executable has {bytes} bytes, more than the {BUNDLE_BYTES_MAX} that travel: strip it of debug symbols"
    )]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
}

impl Bundle {
    /// The bundle of the running program. Blocks while the executable is read, once in a process; later calls are cheap.
    ///
    /// # Errors
    /// When the executable cannot be read or is too large.
    pub(crate) fn of_this_program() -> Result<Arc<Self>, BundleError> {
        static BUNDLE: OnceLock<Arc<Bundle>> = OnceLock::new();
        static HASHING: Mutex<()> = Mutex::new(());
        if let Some(bundle) = BUNDLE.get() {
            return Ok(Arc::clone(bundle));
        }
        // Threads that come while one is hashing wait for it instead of doing the same work. The lock guards no data.
        let _turn = HASHING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = BUNDLE.get() {
            return Ok(Arc::clone(bundle));
        }
        let bundle = Self::open(executable())?;
        Ok(Arc::clone(BUNDLE.get_or_init(|| Arc::new(bundle))))
    }

    /// Whether a function travels with the running program. Blocks as [`of_this_program`](Self::of_this_program) does.
    pub(crate) fn is_own(function: &Function) -> bool {
        let own = || Self::of_this_program().ok().map(|own| own.hash);
        function.bundle().is_some_and(|bundle| own() == Some(bundle))
    }

    /// Reads up to `len` bytes from `offset` on; fewer at the end of the executable, none past it. Blocks.
    ///
    /// # Errors
    /// When the executable cannot be read.
    pub(crate) fn read_chunk(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let rest = self.bytes.saturating_sub(offset);
        // A rest that does not fit a `usize` is longer than `len` in any case.
        let mut chunk = vec![0; len.min(usize::try_from(rest).unwrap_or(usize::MAX))];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk)
    }

    fn open(path: PathBuf) -> Result<Self, BundleError> {
        let wrap = |source| BundleError::Read { path: path.clone(), source };
        let file = File::open(&path).map_err(wrap)?;
        let bytes = file.metadata().map_err(wrap)?.len();
        if bytes > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge { bytes });
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(wrap)?;
        if hasher.count() != bytes {
            return Err(wrap(io::Error::other("it changed while it was read")));
        }
        Ok(Self { hash: BundleHash(hasher.finalize().into()), bytes, file })
    }
}

/// What programs like this one run on, as architecture, system and C library: `x86_64-linux-gnu`.
pub(crate) fn target() -> String {
    let library = if cfg!(target_env = "gnu") {
        "-gnu"
    } else if cfg!(target_env = "musl") {
        "-musl"
    } else {
        ""
    };
    format!("{}-{}{library}", env::consts::ARCH, env::consts::OS)
}

fn executable() -> PathBuf {
    // On Linux this is the file that runs, even when the path that it was started from has a newer one.
    let link = PathBuf::from("/proc/self/exe");
    if link.exists() { link } else { env::current_exe().unwrap_or(link) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_of_this_program_is_its_executable() {
        let bundle = Bundle::of_this_program().unwrap();
        let file = std::fs::read(env::current_exe().unwrap()).unwrap();
        assert_eq!(bundle.bytes, file.len() as u64);
        assert_eq!(bundle.hash.0, *blake3::hash(&file).as_bytes());
        assert_eq!(bundle.read_chunk(1, 3).unwrap(), b"ELF");
        assert_eq!(bundle.read_chunk(bundle.bytes - 2, 100).unwrap(), file[file.len() - 2..]);
        assert_eq!(bundle.read_chunk(bundle.bytes, 100).unwrap(), Vec::<u8>::new());
        assert_eq!(bundle.read_chunk(u64::MAX, 100).unwrap(), Vec::<u8>::new());
        assert!(Arc::ptr_eq(&bundle, &Bundle::of_this_program().unwrap()));
    }

    #[test]
    fn a_program_that_cannot_be_read_or_is_too_large_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        assert!(Bundle::open(path.clone()).unwrap_err().to_string().contains("program"));
        // A hole costs no disk.
        File::create(&path).unwrap().set_len(BUNDLE_BYTES_MAX + 1).unwrap();
        assert!(matches!(Bundle::open(path), Err(BundleError::TooLarge { bytes }) if bytes == BUNDLE_BYTES_MAX + 1));
    }

    #[test]
    fn the_target_names_architecture_and_system() {
        assert!(target().starts_with(env::consts::ARCH) && target().contains(env::consts::OS));
    }
}
