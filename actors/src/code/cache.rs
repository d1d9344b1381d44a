//! The directory in which a node keeps *blobs*: what is named by its content, programs and shared values.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use crate::task::BlobHash;

/// The largest blob, in bytes: a program with its debug information, or a value that many tasks share. What is larger would
/// fill the caches of the engine nodes.
pub(crate) const BLOB_BYTES_MAX: u64 = 1 << 30;

/// Blobs on disk, by hash. Holds at most a given number of bytes: to make room, the blobs that were used least recently go
/// first, but never one that is pinned or held.
///
/// Several processes may share a directory. They do not know of each other's pins, so one may drop what another has
/// pinned; the other then finds the blob missing and fetches it again. All methods but [`BlobCache::hold`] block on the disk.
#[derive(Debug)]
pub(crate) struct BlobCache {
    dir: PathBuf,
    bytes_max: u64,
    entries: Mutex<HashMap<BlobHash, Entry>>,
    /// Held while a blob is made available.
    publishing: Mutex<()>,
}

/// Keeps a blob in the cache for as long as it, or a clone of it, lives.
#[derive(Clone, Debug)]
pub(crate) struct BlobPin {
    /// Which blob it is.
    pub(crate) hash: BlobHash,
    /// The file, which is executable.
    pub(crate) path: PathBuf,
    /// Its length.
    pub(crate) bytes: u64,
    /// The same file, open: so it can be read even after another process has dropped it from the directory.
    file: Arc<File>,
    _hold: BlobHold,
}

/// As [`BlobPin`], for who does not read it.
#[derive(Clone, Debug)]
pub(crate) struct BlobHold {
    // The cache counts the owners of this to see whether the blob is held.
    _held: Arc<()>,
}

/// A blob on its way into the cache. Dropped before [`Incoming::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Incoming {
    cache: Arc<BlobCache>,
    hash: BlobHash,
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
    #[error("{} cannot be used to keep programs and shared values: {source}", path.display())]
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
    /// The blob is larger than the cache, or than any blob may be.
    #[error("{hash} has {bytes} bytes; at most {bytes_max} are accepted")]
    TooLarge {
        /// The blob.
        hash: BlobHash,
        /// Its length.
        bytes: u64,
        /// The largest that is accepted.
        bytes_max: u64,
    },
    /// There is no room, because the blobs in the cache are in use.
    #[error("there is no room for {hash} of {bytes} bytes: what is in {} is in use by unfinished jobs; wait until some have ended", path.display())]
    Full {
        /// The blob.
        hash: BlobHash,
        /// Its length.
        bytes: u64,
        /// The cache's directory.
        path: PathBuf,
    },
    /// A part does not follow on the one before, or goes beyond the announced length.
    #[error("{hash} arrives out of order: bytes {offset}..{end} after {received} of {bytes}")]
    OutOfOrder {
        /// The blob.
        hash: BlobHash,
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
    #[error("{hash} arrived damaged: {received} of {bytes} bytes, with the hash {found}")]
    Damaged {
        /// The blob.
        hash: BlobHash,
        /// The announced length.
        bytes: u64,
        /// How much has arrived.
        received: u64,
        /// The hash of what has arrived.
        found: BlobHash,
    },
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    used: SystemTime,
    held: Arc<()>,
}

/// The names of files that are not complete yet, or are being removed, begin so.
const INCOMING: &str = "incoming-";

impl BlobCache {
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
        let cache = Self { dir: dir.into(), bytes_max, entries: Mutex::new(entries), publishing: Mutex::default() };
        // Nothing is in use yet, so that there is room for nothing more.
        let dropped = cache.make_room(&mut cache.lock(), 0);
        remove(dropped.unwrap_or_default());
        Ok(Arc::new(cache))
    }

    /// Keeps a blob in the cache until the hold is dropped, if it is there as far as is known. Does not touch the disk.
    pub(crate) fn hold(&self, hash: BlobHash) -> Option<BlobHold> {
        self.lock().get(&hash).map(|entry| BlobHold { _held: Arc::clone(&entry.held) })
    }

    /// Whether the blob is there.
    pub(crate) fn contains(&self, hash: BlobHash) -> bool {
        self.pin(hash).is_some()
    }

    /// The blob, if it is there, kept until the pin is dropped.
    pub(crate) fn pin(&self, hash: BlobHash) -> Option<BlobPin> {
        self.pin_in(&mut self.lock(), hash)
    }

    #[cfg(test)]
    /// The bytes of all blobs that are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().values().map(|entry| entry.bytes).sum()
    }

    /// Begins to take in a blob of `bytes` bytes.
    ///
    /// # Errors
    /// When it is too large, or no file can be made.
    pub(crate) fn begin(self: &Arc<Self>, hash: BlobHash, bytes: u64) -> Result<Incoming, CacheError> {
        let bytes_max = self.bytes_max.min(BLOB_BYTES_MAX);
        if bytes > bytes_max {
            return Err(CacheError::TooLarge { hash, bytes, bytes_max });
        }
        let path = self.passing_path();
        let wrap = |source| CacheError::Io { path: path.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path).map_err(wrap)?;
        file.lock().map_err(wrap)?;
        Ok(Incoming { cache: Arc::clone(self), hash, bytes, received: 0, hasher: blake3::Hasher::new(), file, path })
    }

    fn pin_in(&self, entries: &mut HashMap<BlobHash, Entry>, hash: BlobHash) -> Option<BlobPin> {
        let entry = entries.get_mut(&hash)?;
        let path = self.path(hash);
        let Ok(file) = File::open(&path) else {
            // Another process that shares the directory has dropped it.
            entries.remove(&hash);
            return None;
        };
        entry.used = SystemTime::now();
        // So that the order of use outlives this process. If it cannot be kept, a blob is merely dropped too early.
        let _ = file.set_modified(entry.used);
        let bytes = entry.bytes;
        Some(BlobPin { hash, path, bytes, file: Arc::new(file), _hold: BlobHold { _held: Arc::clone(&entry.held) } })
    }

    /// Drops blobs, least recently used first, so that `bytes` more fit; none, and `None`, if that cannot be. The caller has to
    /// [`remove`] the files, without the lock: to remove a long one takes longer than others may wait.
    fn make_room(&self, entries: &mut HashMap<BlobHash, Entry>, bytes: u64) -> Option<Vec<PathBuf>> {
        let total: u64 = entries.values().map(|entry| entry.bytes).sum();
        let mut excess = total.saturating_add(bytes).saturating_sub(self.bytes_max);
        let mut idle: Vec<_> = entries.iter().filter(|(_, entry)| Arc::strong_count(&entry.held) == 1).collect();
        idle.sort_unstable_by_key(|(_, entry)| entry.used);
        let mut chosen = Vec::new();
        for (hash, entry) in idle.into_iter() {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(entry.bytes);
            chosen.push(*hash);
        }
        if excess > 0 {
            return None;
        }
        let drop_one = |hash: BlobHash| {
            entries.remove(&hash);
            let passing = self.passing_path();
            // A file that cannot be moved will be found again when the cache is next opened.
            fs::rename(self.path(hash), &passing).ok().map(|()| passing)
        };
        Some(chosen.into_iter().filter_map(drop_one).collect())
    }

    /// A fresh name for a file that comes or goes.
    fn passing_path(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.dir.join(format!("{INCOMING}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    fn path(&self, hash: BlobHash) -> PathBuf {
        self.dir.join(hash.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BlobHash, Entry>> {
        // Each change under the lock is a single insertion or removal, so a panic leaves nothing half done.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobPin {
    /// Under which name this process and its workers read the file, as long as the pin lives.
    pub(crate) fn readable_path(&self) -> PathBuf {
        if cfg!(target_os = "linux") {
            // By the descriptor, which is of use after the file has lost its name.
            return format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into();
        }
        self.path.clone()
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

    /// Checks the blob and makes it available; from then on it outlives a power failure.
    ///
    /// # Errors
    /// When a part is missing or the hash is another, when there is no room, or the disk fails. The cache is then as if
    /// the blob had never come.
    pub(crate) fn commit(self) -> Result<BlobPin, CacheError> {
        let found = BlobHash(self.hasher.finalize().into());
        let (cache, hash, bytes, received) = (&self.cache, self.hash, self.bytes, self.received);
        if found != hash || received != bytes {
            return Err(CacheError::Damaged { hash, bytes, received, found });
        }
        let wrap = |source| CacheError::Io { path: self.path.clone(), source };
        // A file under its final name is trusted from then on, so it must not be empty after a power failure.
        self.file.sync_all().map_err(wrap)?;
        // One after the other, so that the room that was made is there for whom it was made. The lock guards no data.
        let _turn = cache.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pin) = cache.pin(hash) {
            // It came twice at the same time. The first stays: it may be pinned.
            return Ok(pin);
        }
        let dropped = cache.make_room(&mut cache.lock(), bytes);
        remove(dropped.ok_or_else(|| CacheError::Full { hash, bytes, path: cache.dir.clone() })?);
        fs::rename(&self.path, cache.path(hash)).map_err(wrap)?;
        // Nor must its name be lost, once others can find it.
        File::open(&cache.dir).and_then(|dir| dir.sync_all()).map_err(wrap)?;
        let mut entries = cache.lock();
        entries.insert(hash, Entry { bytes, used: SystemTime::now(), held: Arc::new(()) });
        cache.pin_in(&mut entries, hash).ok_or_else(|| wrap(io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After a commit the file has another name, and there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes files that the cache has dropped. One that stays is removed when the cache is next opened.
fn remove(dropped: Vec<PathBuf>) {
    for path in dropped {
        let _ = fs::remove_file(path);
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

fn hash_from_name(name: &str) -> Option<BlobHash> {
    let hash = blake3::Hash::from_hex(name).ok()?;
    let hash = BlobHash(hash.into());
    // Refuses capital letters, which the cache never writes.
    (hash.to_string() == name).then_some(hash)
}

#[cfg(test)]
mod tests;
