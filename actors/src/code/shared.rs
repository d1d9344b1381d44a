//! Values that the tasks of a job share: what a worker keeps of them, and how a task gets at its own.

use std::{
    any::{Any, TypeId, type_name},
    cell::OnceCell,
    collections::VecDeque,
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::call::{DecodeError, decode_from};
use crate::task::{BlobHash, Cause};

/// How many decoded values a worker keeps: that of the job that runs, and of a few others whose batches come in between.
const VALUES_MAX: usize = 4;

/// How many bytes the values that are kept have together, as they are encoded, unless a single one has more. Decoded they may
/// take a multiple of it.
const VALUES_BYTES_MAX: u64 = 1 << 30;

/// How much of a value's file is read at a time, in bytes.
const READ_BYTES: usize = 256 << 10;

/// Where a worker finds the encoded value that the tasks of a job share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedFile {
    pub(crate) hash: BlobHash,
    pub(crate) path: PathBuf,
    /// Its length.
    pub(crate) bytes: u64,
}

/// A decoded value of whatever type.
type AnyValue = Arc<dyn Any + Send + Sync>;

/// The decoded values of one process: the latest few. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct SharedValues {
    /// The most recently used last.
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

/// One value as one type; a function of another job may take the same bytes for something else.
struct Kept {
    hash: BlobHash,
    bytes: u64,
    of: TypeId,
    value: Arc<OnceLock<Result<AnyValue, Cause>>>,
}

/// What the tasks of one run share, if anything. Decoded when the first of them asks for it.
#[derive(Debug)]
pub(crate) struct Shared {
    values: SharedValues,
    file: Option<SharedFile>,
    value: OnceCell<AnyValue>,
}

impl SharedValues {
    /// What the tasks of a run share whose value is in this file.
    pub(crate) fn of_run(&self, file: Option<&SharedFile>) -> Shared {
        Shared { values: self.clone(), file: file.cloned(), value: OnceCell::new() }
    }

    /// The value in that file. Of several threads that want it at the same time one decodes it.
    fn load<S: DeserializeOwned + Send + Sync + 'static>(&self, file: &SharedFile) -> Result<AnyValue, Cause> {
        let slot = self.slot(file, TypeId::of::<S>());
        let value = slot.get_or_init(|| read::<S>(file)).clone();
        if matches!(value, Err(Cause::WorkerUnavailable { .. })) {
            // The next task tries again; bytes that are no `S` will never be one.
            self.lock().retain(|kept| !Arc::ptr_eq(&kept.value, &slot));
        }
        value
    }

    fn slot(&self, file: &SharedFile, of: TypeId) -> Arc<OnceLock<Result<AnyValue, Cause>>> {
        let mut kept = self.lock();
        let known = kept.iter().position(|kept| kept.hash == file.hash && kept.of == of).and_then(|at| kept.remove(at));
        let latest = known.unwrap_or_else(|| Kept { hash: file.hash, bytes: file.bytes, of, value: Arc::new(OnceLock::new()) });
        let value = Arc::clone(&latest.value);
        kept.push_back(latest);
        let excess =
            |kept: &VecDeque<Kept>| kept.len() > VALUES_MAX || kept.iter().map(|kept| kept.bytes).sum::<u64>() > VALUES_BYTES_MAX;
        let mut dropped = Vec::new();
        while kept.len() > 1 && excess(&kept) {
            dropped.extend(kept.pop_front());
        }
        // To drop a large value takes a while, and runs the program's code.
        drop(kept);
        drop(dropped);
        value
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        // Nothing panics while it holds this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The value.
    pub(super) fn get<S: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<&S, Cause> {
        self.any::<S>()?.downcast_ref().ok_or_else(wrong_type::<S>)
    }

    /// The value, for one who keeps it for longer than the run.
    pub(super) fn hold<S: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Arc<S>, Cause> {
        self.any::<S>()?.clone().downcast().map_err(|_| wrong_type::<S>())
    }

    fn any<S: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<&AnyValue, Cause> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let file = self.file.as_ref().ok_or_else(|| wrong::<S>("its job has none".into()))?;
        let value = self.values.load::<S>(file)?;
        Ok(self.value.get_or_init(|| value))
    }
}

fn read<S: DeserializeOwned + Send + Sync + 'static>(file: &SharedFile) -> Result<AnyValue, Cause> {
    let unreadable =
        |error| Cause::WorkerUnavailable { detail: format!("the value that its tasks share cannot be read: {error}") };
    let mut bytes = Hashed { file: File::open(&file.path).map_err(unreadable)?, hasher: blake3::Hasher::new() };
    let value: Result<S, DecodeError> = decode_from(BufReader::with_capacity(READ_BYTES, &mut bytes));
    io::copy(&mut bytes, &mut io::sink()).map_err(unreadable)?;
    // What is decoded once is used for long, so it must not be another file's content, or that of a disk which fails.
    if BlobHash(bytes.hasher.finalize().into()) != file.hash {
        return Err(unreadable(io::Error::other("its file is damaged")));
    }
    Ok(Arc::new(value.map_err(|error| wrong::<S>(error.to_string()))?))
}

/// A file, and the hash of what was read of it.
struct Hashed {
    file: File,
    hasher: blake3::Hasher,
}

impl Read for Hashed {
    fn read(&mut self, part: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(part)?;
        self.hasher.update(&part[..read]);
        Ok(read)
    }
}

/// A run has one function, which asks for one type; and values are kept by their type. So this does not happen.
fn wrong_type<S>() -> Cause {
    wrong::<S>("it is in use as another type".into())
}

fn wrong<S>(text: String) -> Cause {
    Cause::WrongArgument {
        expected: type_name::<S>().into(),
        message: format!("this is about the value that the tasks share: {text}"),
    }
}

impl fmt::Debug for SharedValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().iter().map(|kept| kept.hash)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::code::encode;

    fn file<T: Serialize>(dir: &tempfile::TempDir, name: &str, value: &T) -> SharedFile {
        let mut bytes = Vec::new();
        encode(value, &mut bytes).unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        SharedFile { hash: BlobHash(blake3::hash(&bytes).into()), path, bytes: bytes.len() as u64 }
    }

    /// Counts how often it is decoded.
    struct Counted(u32);

    static DECODED: AtomicUsize = AtomicUsize::new(0);

    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Ordering::Relaxed);
            Ok(Self(u32::deserialize(deserializer)?))
        }
    }

    #[test]
    fn a_value_is_decoded_once_for_all_runs_and_threads() {
        let dir = tempfile::tempdir().unwrap();
        let (values, file) = (SharedValues::default(), file(&dir, "a", &7_u32));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        let shared = values.of_run(Some(&file));
                        assert_eq!((shared.get::<Counted>().unwrap().0, shared.get::<Counted>().unwrap().0), (7, 7));
                    }
                });
            }
        });
        assert_eq!(DECODED.load(Ordering::Relaxed), 1);
        assert_eq!(values.of_run(Some(&file)).get::<u64>(), Ok(&7), "the same bytes as another type");
    }

    #[test]
    fn the_latest_few_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let values = SharedValues::default();
        let files: Vec<_> = (0..=VALUES_MAX).map(|number| file(&dir, &number.to_string(), &number)).collect();
        let get = |at: usize| values.of_run(Some(&files[at])).get::<usize>().copied();
        for at in 0..VALUES_MAX {
            assert_eq!(get(at), Ok(at));
        }
        assert_eq!(get(0), Ok(0));
        assert_eq!(get(VALUES_MAX), Ok(VALUES_MAX));
        files.iter().for_each(|file| std::fs::remove_file(&file.path).unwrap());
        assert_eq!((get(0), get(VALUES_MAX)), (Ok(0), Ok(VALUES_MAX)));
        assert!(matches!(get(1), Err(Cause::WorkerUnavailable { .. })), "the least recently used is gone");
        // Two that are too long together are not kept together.
        let long = |at: usize| SharedFile { bytes: VALUES_BYTES_MAX, ..files[at].clone() };
        values.slot(&long(2), TypeId::of::<u8>());
        values.slot(&long(3), TypeId::of::<u8>());
        assert_eq!(values.lock().len(), 1);
    }

    #[test]
    fn what_cannot_be_had_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let values = SharedValues::default();
        let text = file(&dir, "text", &"text");
        let Err(Cause::WrongArgument { expected, message }) = values.of_run(Some(&text)).get::<u32>().copied() else { panic!() };
        assert!(expected == "u32" && message.contains("the value that the tasks share"), "{message}");
        assert!(matches!(values.of_run(None).get::<u32>(), Err(Cause::WrongArgument { .. })));
        let other = file(&dir, "other", &"other");
        let path = dir.path().join("moved");
        let moved = SharedFile { path: path.clone(), ..other.clone() };
        let get = || values.of_run(Some(&moved)).get::<String>().cloned();
        assert!(matches!(get(), Err(Cause::WorkerUnavailable { .. })));
        std::fs::copy(&text.path, &path).unwrap();
        assert!(matches!(get(), Err(Cause::WorkerUnavailable { detail }) if detail.contains("damaged")));
        std::fs::copy(&other.path, &path).unwrap();
        assert_eq!(get(), Ok("other".to_string()), "it is tried again");
    }
}
