//! Which blobs are on their way here. Pure.

use std::collections::HashMap;

use crate::task::BlobHash;

/// How many blobs may be on their way here at once. Each is an open file; clients that find no room offer again.
pub(super) const UPLOADS_MAX: usize = 64;

/// How many of them one link may have. A client needs two, for its own program and a shared value; so that none can keep the others out.
pub(super) const UPLOADS_PER_LINK_MAX: usize = 4;

/// The uploads of all links, by blob and link: clients with one program do not meet. `L` is a link, `F` a file that grows.
#[derive(Debug)]
pub(super) struct Uploads<L, F> {
    uploads: HashMap<(BlobHash, u64), Upload<L, F>>,
}

#[derive(Debug)]
struct Upload<L, F> {
    from: L,
    /// `None` while it is being made or written to.
    file: Option<F>,
}

impl<L, F> Default for Uploads<L, F> {
    fn default() -> Self {
        Self { uploads: HashMap::new() }
    }
}

impl<L, F> Uploads<L, F> {
    /// Keeps a place for a blob from that link, in place of an upload of the same blob by the same link, which is given up.
    ///
    /// # Errors
    /// When there is no room, or a part of that very upload is being written. Nothing has changed then.
    pub fn reserve(&mut self, hash: BlobHash, link: u64, from: L) -> Result<(), String> {
        match self.uploads.get(&(hash, link)) {
            Some(upload) if upload.file.is_none() => return Err("it is being written: offer it again".into()),
            Some(_) => {}
            None if self.uploads.len() >= UPLOADS_MAX => {
                return Err("too many clients are sending programs or shared values right now: offer it again".into());
            }
            None if self.uploads.keys().filter(|(_, of)| *of == link).count() >= UPLOADS_PER_LINK_MAX => {
                return Err(format!(
                    "a client sends {UPLOADS_PER_LINK_MAX} programs and shared values at once at most: offer it again"
                ));
            }
            None => {}
        }
        self.uploads.insert((hash, link), Upload { from, file: None });
        Ok(())
    }

    /// The file of an upload, to be written to; its place is kept.
    pub fn take(&mut self, hash: BlobHash, link: u64) -> Option<F> {
        self.uploads.get_mut(&(hash, link))?.file.take()
    }

    /// Ends what [`Uploads::reserve`] or [`Uploads::take`] began: with the file, if more of it is to come.
    pub fn put(&mut self, hash: BlobHash, link: u64, file: Option<F>) {
        match file {
            None => drop(self.uploads.remove(&(hash, link))),
            // Its place is gone when its link is: then it is dropped.
            Some(file) => {
                if let Some(upload) = self.uploads.get_mut(&(hash, link)) {
                    upload.file = Some(file);
                }
            }
        }
    }

    /// Drops what comes by links for which `is_up` is false.
    pub fn retain(&mut self, is_up: impl Fn(&L) -> bool) {
        self.uploads.retain(|_, upload| is_up(&upload.from));
    }

    pub fn is_empty(&self) -> bool {
        self.uploads.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{BlobCache, Incoming};

    const ONE: BlobHash = BlobHash([1; 32]);

    #[test]
    fn two_clients_send_one_program_without_meeting() {
        let dir = tempfile::tempdir().unwrap();
        let cache = BlobCache::open(&dir.path().join("cache"), 1_000).unwrap();
        let content = b"#! program";
        let hash = BlobHash(blake3::hash(content).into());
        let mut uploads: Uploads<(), Incoming> = Uploads::default();
        for link in [1, 2] {
            uploads.reserve(hash, link, ()).unwrap();
        }
        for link in [1, 2] {
            uploads.put(hash, link, Some(cache.begin(hash, 10).unwrap()));
        }
        let mut first = uploads.take(hash, 1).unwrap();
        let mut second = uploads.take(hash, 2).unwrap();
        first.write(0, &content[..4]).unwrap();
        uploads.put(hash, 1, Some(first));
        second.write(0, &content[..6]).unwrap();
        uploads.put(hash, 2, Some(second));
        for (link, written) in [(2, 6), (1, 4)] {
            let mut file = uploads.take(hash, link).unwrap();
            file.write(written, &content[written as usize..]).unwrap();
            file.commit().unwrap();
            uploads.put(hash, link, None);
        }
        assert!(cache.contains(hash) && uploads.is_empty());
    }

    #[test]
    fn a_part_of_nothing_finds_nothing_and_takes_nothing_from_others() {
        let mut uploads: Uploads<(), u8> = Uploads::default();
        uploads.reserve(ONE, 1, ()).unwrap();
        uploads.put(ONE, 1, Some(7));
        assert_eq!(uploads.take(ONE, 2), None);
        assert_eq!(uploads.take(BlobHash([2; 32]), 1), None);
        assert_eq!(uploads.take(ONE, 1), Some(7));
        assert_eq!(uploads.take(ONE, 1), None, "it is being written");
        assert!(uploads.reserve(ONE, 1, ()).is_err(), "it is being written");
        uploads.put(ONE, 1, Some(7));
        assert!(uploads.reserve(ONE, 1, ()).is_ok(), "a client that offers again starts again");
        assert_eq!(uploads.take(ONE, 1), None);
    }

    #[test]
    fn uploads_have_bounds_and_end_with_their_link() {
        let mut uploads: Uploads<u64, u8> = Uploads::default();
        let hash = |number: usize| BlobHash([number as u8; 32]);
        for number in 0..UPLOADS_PER_LINK_MAX {
            assert!(uploads.reserve(hash(number), 0, 0).is_ok());
        }
        assert!(uploads.reserve(hash(UPLOADS_PER_LINK_MAX), 0, 0).is_err());
        for link in 1..=(UPLOADS_MAX - UPLOADS_PER_LINK_MAX) as u64 {
            assert!(uploads.reserve(ONE, link, link).is_ok());
        }
        assert!(uploads.reserve(ONE, 1_000, 1_000).is_err());
        uploads.retain(|link| *link != 1);
        uploads.put(ONE, 1, Some(7));
        assert_eq!(uploads.take(ONE, 1), None, "what was being written when its link ended is dropped");
        assert!(uploads.reserve(ONE, 1_000, 1_000).is_ok());
    }
}
