use std::os::unix::fs::PermissionsExt;

use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn open(&self, bytes_max: u64) -> Arc<BlobCache> {
        BlobCache::open(&self.path(), bytes_max).unwrap()
    }

    fn files(&self) -> usize {
        fs::read_dir(self.path()).unwrap().count()
    }
}

fn hash(content: &[u8]) -> BlobHash {
    BlobHash(blake3::hash(content).into())
}

fn add(cache: &Arc<BlobCache>, content: &[u8]) -> Result<BlobPin, CacheError> {
    let mut incoming = cache.begin(hash(content), content.len() as u64)?;
    let (a, b) = content.split_at(content.len() / 2);
    incoming.write(0, a)?;
    incoming.write(a.len() as u64, b)?;
    incoming.commit()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn blobs_are_kept_by_hash_as_executables() {
    let place = Place::new();
    let cache = place.open(1000);
    let pin = add(&cache, b"#! program").unwrap();
    assert_eq!(pin.path, place.path().join(hash(b"#! program").to_string()));
    assert_eq!(fs::read(&pin.path).unwrap(), b"#! program");
    assert_eq!((mode(&place.path()), mode(&pin.path)), (0o700, 0o700));
    // And found again by the next process.
    let again = place.open(1000);
    assert!(again.contains(pin.hash) && !again.contains(hash(b"other")));
    assert_eq!(again.bytes(), 10);
}

#[test]
fn what_is_damaged_or_out_of_order_leaves_nothing() {
    let place = Place::new();
    let cache = place.open(1000);
    let mut short = cache.begin(hash(b"abcdef"), 6).unwrap();
    short.write(0, b"abc").unwrap();
    for (offset, part) in [(0, &b"abc"[..]), (4, b"ef"), (3, b"defg"), (u64::MAX, b"x")] {
        assert!(matches!(short.write(offset, part), Err(CacheError::OutOfOrder { .. })), "{offset}");
    }
    assert!(matches!(short.commit(), Err(CacheError::Damaged { received: 3, .. })));
    let mut wrong = cache.begin(hash(b"abcdef"), 6).unwrap();
    wrong.write(0, b"abcdeX").unwrap();
    assert!(matches!(wrong.commit(), Err(CacheError::Damaged { .. })));
    drop(cache.begin(hash(b"abcdef"), 6).unwrap());
    assert_eq!((place.files(), cache.contains(hash(b"abcdef"))), (0, false));
}

#[test]
fn the_least_recently_used_make_room_but_never_one_in_use() {
    let place = Place::new();
    let cache = place.open(30);
    let a = add(&cache, b"aaaaaaaaaa").unwrap();
    let (b, c) = (hash(b"bbbbbbbbbb"), hash(b"cccccccccc"));
    add(&cache, b"bbbbbbbbbb").unwrap();
    add(&cache, b"cccccccccc").unwrap();
    assert!(cache.contains(b));
    let d = add(&cache, b"dddddddddd").unwrap();
    assert!(cache.contains(a.hash) && cache.contains(b) && !cache.contains(c));
    assert!(matches!(add(&cache, &[b'e'; 20]), Err(CacheError::Full { .. })));
    drop(d.clone());
    assert!(cache.contains(d.hash), "a clone that is dropped does not unpin");
    drop(d);
    add(&cache, &[b'e'; 20]).unwrap();
    assert_eq!((cache.bytes(), place.files()), (30, 2));
    assert!(a.path.exists());
}

#[test]
fn what_is_held_or_pinned_stays_and_is_readable_without_its_name() {
    let place = Place::new();
    let cache = place.open(20);
    let pin = add(&cache, b"aaaaaaaaaa").unwrap();
    add(&cache, b"bbbbbbbbbb").unwrap();
    let hold = cache.hold(hash(b"bbbbbbbbbb")).unwrap();
    assert!(cache.hold(hash(b"cccccccccc")).is_none());
    assert!(matches!(add(&cache, b"cccccccccc"), Err(CacheError::Full { .. })));
    assert_eq!((cache.bytes(), place.files()), (20, 2), "what does not fit drives nothing out");
    drop(hold);
    add(&cache, b"cccccccccc").unwrap();
    assert!(!cache.contains(hash(b"bbbbbbbbbb")) && cache.contains(pin.hash));
    fs::remove_file(&pin.path).unwrap();
    assert_eq!((fs::read(pin.readable_path()).unwrap(), pin.bytes), (b"aaaaaaaaaa".to_vec(), 10));
}

#[test]
fn the_order_of_use_outlives_the_process() {
    let place = Place::new();
    let (a, b) = {
        let cache = place.open(100);
        let (a, b) = (add(&cache, b"aaaaaaaaaa").unwrap(), add(&cache, b"bbbbbbbbbb").unwrap());
        let set = |pin: &BlobPin, seconds| {
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::open(&pin.path).unwrap().set_modified(time).unwrap();
        };
        set(&a, 2000);
        set(&b, 1000);
        (a.hash, b.hash)
    };
    let cache = place.open(15);
    assert!(cache.contains(a) && !cache.contains(b));
}

#[test]
fn leftovers_go_but_not_what_is_being_written() {
    let place = Place::new();
    let cache = place.open(100);
    fs::write(place.path().join("incoming-1-1"), b"half").unwrap();
    let mut incoming = cache.begin(hash(b"abcdef"), 6).unwrap();
    incoming.write(0, b"abc").unwrap();
    let other = place.open(100);
    assert_eq!(place.files(), 1);
    incoming.write(3, b"def").unwrap();
    incoming.commit().unwrap();
    assert!(cache.contains(hash(b"abcdef")) && !other.contains(hash(b"abcdef")));
}

#[test]
fn a_blob_that_another_process_dropped_is_missing() {
    let place = Place::new();
    let cache = place.open(100);
    let pin = add(&cache, b"abcdef").unwrap();
    fs::remove_file(&pin.path).unwrap();
    assert!(!cache.contains(pin.hash));
    assert_eq!(cache.bytes(), 0);
    add(&cache, b"abcdef").unwrap();
    assert!(pin.path.exists());
}

#[test]
fn a_blob_that_comes_twice_is_there_once() {
    let place = Place::new();
    let cache = place.open(100);
    let first = add(&cache, b"abcdef").unwrap();
    let second = add(&cache, b"abcdef").unwrap();
    drop(first);
    assert_eq!((cache.bytes(), place.files()), (6, 1));
    assert_eq!(fs::read(second.path).unwrap(), b"abcdef");
}

#[test]
fn what_is_too_large_is_refused_before_it_comes() {
    let place = Place::new();
    let small = place.open(10);
    assert!(matches!(small.begin(hash(b""), 11), Err(CacheError::TooLarge { bytes_max: 10, .. })));
    let large = place.open(u64::MAX / 2);
    assert!(matches!(large.begin(hash(b""), BLOB_BYTES_MAX + 1), Err(CacheError::TooLarge { .. })));
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let error = BlobCache::open(&place.path(), 10).unwrap_err().to_string();
    assert!(error.contains("0770") && error.contains("chmod 700"), "{error}");
}
