//! The directory in which a node keeps bundles.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use super::BUNDLE_BYTES_MAX;
use crate::task::BundleHash;

/// Bundles on disk, by hash. Holds at most a given number of bytes: to make room, the bundles that were used least
/// recently go first, but never one that is pinned.
///
/// Several processes may share a directory. They do not know of each other's pins, so one may drop what another has
/// pinned; the other then finds the bundle missing and fetches it again. All methods block on the disk.
#[derive(Debug)]
pub(crate) struct BundleCache {
    dir: PathBuf,
    bytes_max: u64,
    entries: Mutex<HashMap<BundleHash, Entry>>,
}

/// Keeps a bundle in the cache for as long as it, or a clone of it, lives.
#[derive(Clone, Debug)]
pub(crate) struct BundlePin {
    /// Which bundle it is.
    pub(crate) hash: BundleHash,
    /// The executable file.
    pub(crate) path: PathBuf,
    // The cache counts the owners of this to see whether the bundle is pinned.
    _held: Arc<()>,
}

/// A bundle on its way into the cache. Dropped before [`Incoming::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Incoming {
    cache: Arc<BundleCache>,
    hash: BundleHash,
    bytes: u64,
    received: u64,
    hasher: blake3::Hasher,
    // Locked as long as it is written, so that another process that opens the cache leaves it alone.
    file: File,
    path: PathBuf,
}

/// Why the cache cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The system refuses.
    #[error("{} cannot be used to keep programs: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others could put programs there, which the node would run.
    #[error("{} belongs to another user or is writable by others (mode {mode:04o}): run chmod 700 on it, or name another", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The bundle is larger than the cache, or than any bundle may be.
    #[error("program {hash} has {bytes} bytes; at most {bytes_max} are accepted")]
    TooLarge {
        /// The bundle.
        hash: BundleHash,
        /// Its length.
        bytes: u64,
        /// The largest that is accepted.
        bytes_max: u64,
    },
    /// There is no room, because the bundles in the cache are in use.
    #[error("there is no room for program {hash} of {bytes} bytes: the programs in {} are in use; allow it more bytes", path.display())]
    Full {
        /// The bundle.
        hash: BundleHash,
        /// Its length.
        bytes: u64,
        /// The cache's directory.
        path: PathBuf,
    },
    /// A part does not follow on the one before, or goes beyond the announced length.
    #[error("program {hash} arrives out of order: bytes {offset}..{end} after {received} of {bytes}")]
    OutOfOrder {
        /// The bundle.
        hash: BundleHash,
        /// Where the part begins.
        offset: u64,
        /// Where it ends.
        end: u64,
        /// How much has arrived.
        received: u64,
        /// The announced length.
        bytes: u64,
    },
    /// The bytes are not those of that hash.
    #[error("program {hash} arrived damaged: {received} of {bytes} bytes, with the hash {found}")]
    Damaged {
        /// The bundle.
        hash: BundleHash,
        /// The announced length.
        bytes: u64,
        /// How much has arrived.
        received: u64,
        /// The hash of what has arrived.
        found: BundleHash,
    },
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    used: SystemTime,
    held: Arc<()>,
}

/// The names of files that are not complete yet begin so.
const INCOMING: &str = "incoming-";

impl BundleCache {
    /// Opens the cache in `dir`, which is made if it does not exist, and drops what is beyond `bytes_max`. Removes
    /// what an earlier process left half done.
    ///
    /// # Errors
    /// When the directory cannot be used, or others could write to it.
    pub(crate) fn open(dir: &Path, bytes_max: u64) -> Result<Arc<Self>, CacheError> {
        let wrap = |source| CacheError::Io { path: dir.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(wrap)?;
        let metadata = fs::metadata(dir).map_err(wrap)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(CacheError::Unsafe { path: dir.into(), mode: metadata.mode() & 0o7777 });
        }
        let mut entries = HashMap::new();
        for file in fs::read_dir(dir).map_err(wrap)? {
            let file = file.map_err(wrap)?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(INCOMING) {
                remove_leftover(&file.path());
            } else if let (Some(hash), Ok(metadata)) = (hash_from_name(&name), file.metadata())
                && metadata.is_file()
            {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.insert(hash, Entry { bytes: metadata.len(), used, held: Arc::new(()) });
            }
        }
        let cache = Self { dir: dir.into(), bytes_max, entries: Mutex::new(entries) };
        cache.make_room(&mut cache.lock(), 0);
        Ok(Arc::new(cache))
    }

    /// Whether the bundle is there.
    pub(crate) fn contains(&self, hash: BundleHash) -> bool {
        self.pin(hash).is_some()
    }

    /// The bundle, if it is there, kept until the pin is dropped.
    pub(crate) fn pin(&self, hash: BundleHash) -> Option<BundlePin> {
        self.pin_in(&mut self.lock(), hash)
    }

    #[cfg(test)]
    /// The bytes of all bundles that are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().values().map(|entry| entry.bytes).sum()
    }

    /// Begins to take in a bundle of `bytes` bytes.
    ///
    /// # Errors
    /// When it is too large, or no file can be made.
    pub(crate) fn begin(self: &Arc<Self>, hash: BundleHash, bytes: u64) -> Result<Incoming, CacheError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let bytes_max = self.bytes_max.min(BUNDLE_BYTES_MAX);
        if bytes > bytes_max {
            return Err(CacheError::TooLarge { hash, bytes, bytes_max });
        }
        let path = self.dir.join(format!("{INCOMING}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let wrap = |source| CacheError::Io { path: path.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path).map_err(wrap)?;
        file.lock().map_err(wrap)?;
        Ok(Incoming { cache: Arc::clone(self), hash, bytes, received: 0, hasher: blake3::Hasher::new(), file, path })
    }

    fn pin_in(&self, entries: &mut HashMap<BundleHash, Entry>, hash: BundleHash) -> Option<BundlePin> {
        let entry = entries.get_mut(&hash)?;
        let path = self.path(hash);
        let Ok(file) = File::open(&path) else {
            // Another process that shares the directory has dropped it.
            entries.remove(&hash);
            return None;
        };
        entry.used = SystemTime::now();
        // So that the order of use outlives this process. If it cannot be kept, a bundle is merely dropped too early.
        let _ = file.set_modified(entry.used);
        Some(BundlePin { hash, path, _held: Arc::clone(&entry.held) })
    }

    /// Drops bundles, least recently used first, until `bytes` more fit. Whether they do.
    fn make_room(&self, entries: &mut HashMap<BundleHash, Entry>, bytes: u64) -> bool {
        let mut total: u64 = entries.values().map(|entry| entry.bytes).sum();
        while total.saturating_add(bytes) > self.bytes_max {
            let idle = entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.held) == 1);
            let Some((&hash, entry)) = idle.min_by_key(|(_, entry)| entry.used) else { return false };
            total -= entry.bytes;
            // A file that cannot be removed will be found again when the cache is next opened.
            let _ = fs::remove_file(self.path(hash));
            entries.remove(&hash);
        }
        true
    }

    fn path(&self, hash: BundleHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BundleHash, Entry>> {
        // Each change under the lock is a single insertion or removal, so a panic leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Incoming {
    /// Takes in the next part.
    ///
    /// # Errors
    /// When the part does not follow on the one before, or the disk is full.
    pub(crate) fn write(&mut self, offset: u64, part: &[u8]) -> Result<(), CacheError> {
        let end = offset.saturating_add(part.len() as u64);
        if offset != self.received || end > self.bytes {
            let (hash, received, bytes) = (self.hash, self.received, self.bytes);
            return Err(CacheError::OutOfOrder { hash, offset, end, received, bytes });
        }
        self.file.write_all(part).map_err(|source| CacheError::Io { path: self.path.clone(), source })?;
        self.hasher.update(part);
        self.received = end;
        Ok(())
    }

    /// Checks the bundle and makes it available.
    ///
    /// # Errors
    /// When a part is missing or the hash is another, when there is no room, or the disk fails. The cache is then as if
    /// the bundle had never come.
    pub(crate) fn commit(self) -> Result<BundlePin, CacheError> {
        let found = BundleHash(self.hasher.finalize().into());
        let (cache, hash, bytes, received) = (&self.cache, self.hash, self.bytes, self.received);
        if found != hash || received != bytes {
            return Err(CacheError::Damaged { hash, bytes, received, found });
        }
        let wrap = |source| CacheError::Io { path: self.path.clone(), source };
        // A file under its final name is trusted from then on, so it must not be empty after a power failure.
        self.file.sync_all().map_err(wrap)?;
        let mut entries = cache.lock();
        if let Some(pin) = cache.pin_in(&mut entries, hash) {
            // It came twice at the same time. The first stays: it may be pinned.
            return Ok(pin);
        }
        if !cache.make_room(&mut entries, bytes) {
            return Err(CacheError::Full { hash, bytes, path: cache.dir.clone() });
        }
        let path = cache.path(hash);
        fs::rename(&self.path, &path).map_err(wrap)?;
        let held = Arc::new(());
        entries.insert(hash, Entry { bytes, used: SystemTime::now(), held: Arc::clone(&held) });
        Ok(BundlePin { hash, path, _held: held })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After a commit the file has another name, and there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes an incomplete file, unless a living process is writing it.
fn remove_leftover(path: &Path) {
    if let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
    {
        // One that stays costs disk, not correctness.
        let _ = fs::remove_file(path);
    }
}

fn hash_from_name(name: &str) -> Option<BundleHash> {
    let hash = blake3::Hash::from_hex(name).ok()?;
    let hash = BundleHash(hash.into());
    // Refuses capital letters, which the cache never writes.
    (hash.to_string() == name).then_some(hash)
}

#[cfg(test)]
mod tests;
