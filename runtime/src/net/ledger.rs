//! The books of a cluster's certificates: which were issued, and which of them were revoked.
//!
//! `issued.json` and `revoked.json` stand beside the authority. Programs change them one at a time, whether a controller
//! runs or not; a controller reads the revoked ones again whenever the file changes.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use super::{
    certificate::{CertificateFacts, Serial},
    identity::{Role, date},
    private_file::{self, PrivateFileError},
};

/// The longest of the two files, in bytes: room for [`ENTRIES_MAX`] entries of the longest names.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// How many certificates either file lists. What has expired makes room; beyond it nothing more is issued.
pub const ENTRIES_MAX: usize = 16_384;

/// The version of both formats.
const VERSION: u32 = 1;

/// How long a program waits for another that changes the files, which takes milliseconds.
const LOCK_MAX: Duration = Duration::from_secs(5);

/// How often it looks.
const LOCK_LOOK: Duration = Duration::from_millis(5);

const ISSUED_FILE: &str = "list of issued certificates";
const REVOKED_FILE: &str = "list of revoked certificates";

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issued {
    /// Its number.
    pub serial: Serial,
    /// What its node is for.
    pub role: Role,
    /// Its node's name.
    pub name: String,
    /// Whether it makes a client an admin.
    pub admin: bool,
    /// When it became valid, in seconds since 1970.
    pub not_before_s: i64,
    /// When it ends, in seconds since 1970.
    pub not_after_s: i64,
}

/// A certificate that was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoked {
    /// Its number.
    pub serial: Serial,
    /// What its node was for.
    pub role: Role,
    /// Its node's name.
    pub name: String,
    /// When it was revoked, in seconds since 1970.
    pub revoked_s: i64,
    /// When it would have ended, in seconds since 1970. It need not be remembered longer.
    pub not_after_s: i64,
}

impl Revoked {
    /// What the node is told.
    pub(crate) fn text(&self) -> String {
        let (role, name, date) = (self.role, &self.name, day(self.revoked_s));
        format!(
            "its certificate was revoked on {date}; who runs the controller can make a new one with `engineroom cert new {role} --name {name}`"
        )
    }
}

/// A list of certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file cannot be read or written, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is no JSON of the expected form.
    #[error("{what} {} is malformed: {reason}; restore it from a copy", path.display())]
    Malformed {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is full of certificates that are still valid.
    #[error("{what} {} has {ENTRIES_MAX} certificates that have not expired, as many as it takes", path.display())]
    Full {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Another program keeps the directory locked.
    #[error("another program has been changing the certificates in {} for {} s: try again when it has ended", directory.display(), LOCK_MAX.as_secs())]
    Busy {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be locked.
    #[error("cannot lock directory {}: {source}", directory.display())]
    Lock {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Both lists, for as long as no other program may change them.
pub(crate) struct Ledger {
    directory: PathBuf,
    issued: Vec<Issued>,
    revoked: Vec<Revoked>,
    /// Dropped, it lets others in.
    _lock: File,
}

impl Ledger {
    /// Reads the lists of a directory, which must be there. Blocks while another program changes them, for five seconds at
    /// most.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        let lock = lock(directory)?;
        let issued = read(ISSUED_FILE, &issued_path(directory))?;
        let revoked = read(REVOKED_FILE, &revoked_path(directory))?;
        Ok(Self { directory: directory.to_owned(), issued, revoked, _lock: lock })
    }

    /// Every certificate that was issued, oldest first.
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// When a certificate was revoked, if it was.
    pub fn revocation(&self, serial: &Serial) -> Option<&Revoked> {
        self.revoked.iter().find(|revoked| revoked.serial == *serial)
    }

    /// Whether some certificate of that name is neither revoked nor expired.
    pub fn is_in_use(&self, role: Role, name: &str, now: OffsetDateTime) -> bool {
        let of_name = |issued: &&Issued| issued.role == role && issued.name == name;
        self.issued.iter().filter(of_name).any(|issued| self.is_valid(issued, now))
    }

    /// Enters a certificate, if it is not there.
    pub fn record(&mut self, facts: &CertificateFacts, now: OffsetDateTime) -> Result<(), LedgerError> {
        if self.issued.iter().any(|issued| issued.serial == facts.serial) {
            return Ok(());
        }
        let path = issued_path(&self.directory);
        if self.issued.len() >= ENTRIES_MAX {
            self.issued.retain(|issued| issued.not_after_s > now.unix_timestamp());
        }
        if self.issued.len() >= ENTRIES_MAX {
            return Err(LedgerError::Full { what: ISSUED_FILE, path });
        }
        self.issued.push(Issued {
            serial: facts.serial.clone(),
            role: facts.name.role,
            name: facts.name.name().to_owned(),
            admin: facts.admin,
            not_before_s: facts.not_before.unix_timestamp(),
            not_after_s: facts.not_after.unix_timestamp(),
        });
        write(ISSUED_FILE, &path, &self.issued)
    }

    /// Revokes all certificates of that name that are neither revoked nor expired; gives them.
    pub fn revoke(&mut self, role: Role, name: &str, now: OffsetDateTime) -> Result<Vec<Issued>, LedgerError> {
        let named = self.issued.iter().filter(|issued| issued.role == role && issued.name == name);
        let found: Vec<Issued> = named.filter(|issued| self.is_valid(issued, now)).cloned().collect();
        let path = revoked_path(&self.directory);
        if self.revoked.len() + found.len() > ENTRIES_MAX {
            self.revoked.retain(|revoked| revoked.not_after_s > now.unix_timestamp());
        }
        if self.revoked.len() + found.len() > ENTRIES_MAX {
            return Err(LedgerError::Full { what: REVOKED_FILE, path });
        }
        self.revoked.extend(found.iter().map(|issued| Revoked {
            serial: issued.serial.clone(),
            role,
            name: name.to_owned(),
            revoked_s: now.unix_timestamp(),
            not_after_s: issued.not_after_s,
        }));
        if !found.is_empty() {
            write(REVOKED_FILE, &path, &self.revoked)?;
        }
        Ok(found)
    }

    /// Takes a certificate out again that never left this machine.
    pub fn forget(&mut self, serial: &Serial) -> Result<(), LedgerError> {
        self.issued.retain(|issued| issued.serial != *serial);
        write(ISSUED_FILE, &issued_path(&self.directory), &self.issued)
    }

    fn is_valid(&self, issued: &Issued, now: OffsetDateTime) -> bool {
        issued.not_after_s > now.unix_timestamp() && self.revocation(&issued.serial).is_none()
    }
}

/// The list of revoked certificates in such a directory; one that is not there is empty.
pub(crate) fn read_revoked(path: &Path) -> Result<Vec<Revoked>, LedgerError> {
    read(REVOKED_FILE, path)
}

/// Where the revoked certificates are listed.
pub(crate) fn revoked_path(directory: &Path) -> PathBuf {
    directory.join("revoked.json")
}

/// A day in UTC, as year-month-day.
pub(crate) fn day(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "(no date)".to_owned(), date)
}

fn issued_path(directory: &Path) -> PathBuf {
    directory.join("issued.json")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<L> {
    version: u32,
    certificates: L,
}

fn read<T: DeserializeOwned>(what: &'static str, path: &Path) -> Result<Vec<T>, LedgerError> {
    let bytes = match private_file::read_secret(what, path, FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(PrivateFileError::Missing { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let malformed = |reason: String| LedgerError::Malformed { what, path: path.to_owned(), reason };
    let text: Text<Vec<T>> = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    match text.version == VERSION {
        true => Ok(text.certificates),
        false => Err(malformed(format!("it has version {}, this program reads version {VERSION}", text.version))),
    }
}

fn write<T: Serialize>(what: &'static str, path: &Path, certificates: &[T]) -> Result<(), LedgerError> {
    let text = Text { version: VERSION, certificates };
    let malformed = |error: serde_json::Error| LedgerError::Malformed { what, path: path.to_owned(), reason: error.to_string() };
    let mut json = serde_json::to_vec_pretty(&text).map_err(malformed)?;
    json.push(b'\n');
    Ok(private_file::write(what, path, &json)?)
}

/// Locks the directory itself, so that no file is left behind. The system unlocks it when this program ends, however it does.
fn lock(directory: &Path) -> Result<File, LedgerError> {
    let failed = |source| LedgerError::Lock { directory: directory.to_owned(), source };
    let file = File::open(directory).map_err(failed)?;
    let until = Instant::now() + LOCK_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                return Err(LedgerError::Busy { directory: directory.to_owned() });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_LOOK),
        }
    }
}

#[cfg(test)]
mod tests;
