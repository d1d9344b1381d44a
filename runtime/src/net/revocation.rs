//! Which certificates a node refuses although they are valid.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    certificate::Serial,
    ledger::{LedgerError, Revoked, read_revoked, revoked_path},
};

/// The revoked certificates, as the file says that lists them; read again when the file has changed.
///
/// A list that becomes unreadable or vanishes lets nobody in: what was known goes on to count, and the log says so.
#[derive(Debug)]
pub struct Revocations {
    path: PathBuf,
    seen: Option<Stamp>,
    by_serial: HashMap<Serial, Revoked>,
}

impl Revocations {
    /// Reads the list of a security directory; one that is not there is empty.
    ///
    /// # Errors
    ///
    /// When the file is malformed, or others can read it: to start without it could let revoked nodes in.
    pub fn load(directory: &Path) -> Result<Self, LedgerError> {
        let mut revocations = Self { path: revoked_path(directory), seen: None, by_serial: HashMap::new() };
        revocations.read()?;
        Ok(revocations)
    }

    /// Reads the list again if the file has changed. To look is one system call.
    pub fn refresh(&mut self) {
        let stamp = Stamp::of(&self.path);
        if stamp == self.seen {
            return;
        }
        let read = match stamp {
            Some(_) => self.read().map_err(|error| error.to_string()),
            None => Err(format!("{} is gone", self.path.display())),
        };
        if let Err(text) = read {
            // Once for each change, not at every look.
            self.seen = stamp;
            let known = self.by_serial.len();
            tracing::error!("the list of revoked certificates: {text}; the {known} that are known stay revoked");
        }
    }

    /// Why a certificate is refused, if it is.
    pub fn find(&self, serial: &Serial) -> Option<&Revoked> {
        self.by_serial.get(serial)
    }

    fn read(&mut self) -> Result<(), LedgerError> {
        // Before reading: what changes in between is seen next time.
        let stamp = Stamp::of(&self.path);
        let list = read_revoked(&self.path)?;
        self.by_serial = list.into_iter().map(|revoked| (revoked.serial.clone(), revoked)).collect();
        self.seen = stamp;
        Ok(())
    }
}

/// What tells two versions of a file apart, which is replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(data) => Some(Self {
                inode: data.ino(),
                bytes: data.len(),
                modified: (data.mtime(), data.mtime_nsec()),
                changed: (data.ctime(), data.ctime_nsec()),
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!("{}: {error}", path.display());
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::net::{
        authority::Authority, certificate::CertificateFacts, identity::Role, ledger::Ledger, private_file,
        private_file::tests::TestDir,
    };

    #[test]
    fn a_change_of_the_file_is_seen_and_a_broken_or_lost_one_lets_nobody_in() {
        let (dir, authority, now) = (TestDir::new(), Authority::create("lab").unwrap(), OffsetDateTime::now_utc());
        let directory = dir.path("");
        let mut revocations = Revocations::load(&directory).unwrap();
        let facts: Vec<CertificateFacts> = ["one", "two"]
            .map(|name| CertificateFacts::read(&authority.issue(Role::Engine, name, 1).unwrap().certificate).unwrap())
            .into();
        let revoke = |number: usize| {
            let mut ledger = Ledger::open(&directory).unwrap();
            ledger.record(&facts[number], now).unwrap();
            assert_eq!(ledger.revoke(Role::Engine, facts[number].name.name(), now).unwrap().len(), 1);
        };
        let mut found = |number: usize| {
            revocations.refresh();
            revocations.find(&facts[number].serial).map(Revoked::text)
        };
        assert_eq!(found(0), None);
        revoke(0);
        let text = found(0).unwrap();
        assert!(text.contains("revoked on 2") && text.contains("engineroom cert new engine --name one"), "{text}");
        assert_eq!(found(1), None);
        revoke(1);
        assert!(found(0).is_some() && found(1).is_some());
        let path = revoked_path(&directory);
        private_file::write("list", &path, b"nonsense").unwrap();
        assert!(found(0).is_some() && found(1).is_some());
        assert!(Revocations::load(&directory).is_err(), "no start without it");
        fs::remove_file(&path).unwrap();
        assert!(found(0).is_some() && found(1).is_some());
        private_file::write("list", &path, br#"{"version": 1, "certificates": []}"#).unwrap();
        assert!(found(0).is_none(), "what an operator takes back is taken back");
    }
}
