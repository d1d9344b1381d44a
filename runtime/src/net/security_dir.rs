//! The directory in which a controller keeps its cluster's authority and its own identity.

use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::net::{
    authority::{Authority, AuthorityError, CERTIFICATE_DAYS},
    certificate::CertificateFacts,
    connection_file::{self, ConnectionFile, ConnectionFileError},
    identity::{Identity, IdentityError, Role},
    ledger::{Ledger, LedgerError},
    pem,
    private_file::{self, PrivateFileError},
};

/// The longest certificate or key file, in bytes. One has about 1 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What errors call the files.
const KEY_FILE: &str = "key file";
const CERTIFICATE_FILE: &str = "certificate file";

/// The name of the one controller that lives on such a directory.
const CONTROLLER_NAME: &str = "controller";

/// `ca.pem`, `ca.key`, `controller.pem` and `controller.key` in one directory, readable by its owner only, and the
/// connection files `client.json` and `engine.json` beside them. What was issued and what was revoked is listed there, too.
#[derive(Debug)]
pub struct SecurityDir {
    directory: PathBuf,
    authority: Authority,
    controller: Identity,
}

impl SecurityDir {
    /// Opens the directory, or makes it with a new authority of that name. What is there is used again, under the name that it
    /// has: a directory that was moved is still the same cluster; a controller's certificate that
    /// is missing or about to expire is made anew.
    ///
    /// # Errors
    ///
    /// When a key is readable by others, a file is broken, half of the authority is missing.
    pub fn open_or_create(directory: impl Into<PathBuf>, cluster: &str) -> Result<Self, SecurityDirError> {
        let directory = directory.into();
        private_file::create_directory(&directory)?;
        let mut ledger = Ledger::open(&directory)?;
        let authority = match load_authority(&directory)? {
            Some(authority) => authority,
            None => create_authority(&directory, cluster)?,
        };
        let controller = match load_controller(&directory, &authority)? {
            Some(controller) if !is_due(&controller) => controller,
            // With its key, by which peers know a controller that was restarted.
            Some(controller) => save_controller(&directory, authority.renew(&controller, CERTIFICATE_DAYS)?)?,
            None => save_controller(&directory, authority.issue(Role::Controller, CONTROLLER_NAME, CERTIFICATE_DAYS)?)?,
        };
        record(&mut ledger, &controller)?;
        Ok(Self { directory, authority, controller })
    }

    /// As [`open_or_create`](Self::open_or_create), for a controller that has been running for long: the connection files that
    /// are there are renewed, too, where that is due.
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create) and [`connection_file`](Self::connection_file).
    pub fn renew(directory: impl Into<PathBuf>, cluster: &str) -> Result<Self, SecurityDirError> {
        let security = Self::open_or_create(directory, cluster)?;
        for role in [Role::Client, Role::Engine] {
            match connection_file::address(security.directory.join(format!("{role}.json"))) {
                Ok(address) => drop(security.connection_file(role, &address)?),
                Err(ConnectionFileError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(security)
    }

    /// The cluster's authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The controller's identity.
    pub fn controller(&self) -> &Identity {
        &self.controller
    }

    /// The connection file for clients or engines, `client.json` or `engine.json`, which reach the controller at `address`.
    /// A file that is there is kept, with its identity, and given the address if it has another; one that is about to expire
    /// is renewed, for as long as it was made for; one that is missing, has expired or is of another authority is made anew.
    /// One that was revoked stays what it is: a new one is the operator's decision.
    ///
    /// # Errors
    ///
    /// When the file is readable by others or malformed, or cannot be written.
    pub fn connection_file(&self, role: Role, address: &str) -> Result<ConnectionFile, SecurityDirError> {
        let path = self.directory.join(format!("{role}.json"));
        let mut ledger = Ledger::open(&self.directory)?;
        let file = match ConnectionFile::load(&path) {
            Ok(file) if self.is_own(file.identity()) && file.role() == role => {
                let facts = facts(file.identity())?;
                let revoked = ledger.revocation(&facts.serial).is_some();
                if revoked {
                    tracing::warn!(
                        "{} was revoked and lets nobody in: `engineroom cert new {role} --name {}` makes a new one",
                        path.display(),
                        facts.name.name()
                    );
                }
                if !revoked && facts.is_due(OffsetDateTime::now_utc()) {
                    ConnectionFile::new(path, address, self.authority.renew(file.identity(), facts.days())?)?
                } else if file.address() == address {
                    record(&mut ledger, file.identity())?;
                    return Ok(file);
                } else {
                    file.with_address(address)?
                }
            }
            Ok(_) | Err(ConnectionFileError::Missing { .. } | ConnectionFileError::Identity { .. }) => {
                let identity = self.authority.issue(role, role.as_str(), CERTIFICATE_DAYS)?;
                ConnectionFile::new(path, address, identity)?
            }
            Err(error) => return Err(error.into()),
        };
        record(&mut ledger, file.identity())?;
        file.save()?;
        Ok(file)
    }

    fn is_own(&self, identity: &Identity) -> bool {
        identity.authority == *self.authority.certificate()
    }
}

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityDirError {
    /// A file cannot be read or written, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// A connection file cannot be used.
    #[error(transparent)]
    ConnectionFile(#[from] ConnectionFileError),
    /// The lists of certificates cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A certificate cannot be read that is in use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The authority that is there cannot be used.
    #[error("cannot use the authority in {}: {source}; restore its files, or remove the directory to start a new cluster", directory.display())]
    BrokenAuthority {
        /// The directory.
        directory: PathBuf,
        /// What is wrong.
        source: AuthorityError,
    },
    /// The authority's certificate is there without its key.
    #[error("{} is missing but {} is there: restore the key, or remove the directory to start a new cluster", key.display(), certificate.display())]
    NoAuthorityKey {
        /// The file that is there.
        certificate: PathBuf,
        /// The file that is missing.
        key: PathBuf,
    },
    /// A certificate or key file is no PEM.
    #[error("{} is not in PEM form: remove it, and a new one is made", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// The controller's certificate is wrong in a way that time does not explain.
    #[error("cannot use {}: {source}; remove it, and a new one is made", path.display())]
    Controller {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
}

/// What the certificates say that stand in such a directory, of the controller and in the connection files: those of them
/// that can be used.
pub(crate) fn standing(directory: &Path) -> Vec<CertificateFacts> {
    let controller = private_file::read_public(CERTIFICATE_FILE, &directory.join("controller.pem"), FILE_BYTES_MAX);
    let controller = controller.ok().and_then(|bytes| pem::certificate(&bytes).ok());
    let files = [Role::Client, Role::Engine].map(|role| ConnectionFile::load(directory.join(format!("{role}.json"))).ok());
    let in_files = files.into_iter().flatten().map(|file| file.identity().certificate.clone());
    controller.into_iter().chain(in_files).filter_map(|certificate| CertificateFacts::read(&certificate).ok()).collect()
}

pub(crate) fn load_authority(directory: &Path) -> Result<Option<Authority>, SecurityDirError> {
    let (certificate_path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
    // The certificate is written last: without it no authority was ever in use here.
    let Some(certificate) = optional(private_file::read_public(CERTIFICATE_FILE, &certificate_path, FILE_BYTES_MAX))? else {
        return Ok(None);
    };
    let Some(key) = optional(private_file::read_secret(KEY_FILE, &key_path, FILE_BYTES_MAX))? else {
        return Err(SecurityDirError::NoAuthorityKey { certificate: certificate_path, key: key_path });
    };
    let authority = Authority::load(&String::from_utf8_lossy(&certificate), &String::from_utf8_lossy(&key));
    let broken = |source| SecurityDirError::BrokenAuthority { directory: directory.to_owned(), source };
    authority.map(Some).map_err(broken)
}

fn create_authority(directory: &Path, cluster: &str) -> Result<Authority, SecurityDirError> {
    let authority = Authority::create(cluster)?;
    let text = authority.to_pem();
    private_file::write(KEY_FILE, &directory.join("ca.key"), text.key.as_bytes())?;
    private_file::write(CERTIFICATE_FILE, &directory.join("ca.pem"), text.certificate.as_bytes())?;
    Ok(authority)
}

fn load_controller(directory: &Path, authority: &Authority) -> Result<Option<Identity>, SecurityDirError> {
    let (certificate_path, key_path) = (directory.join("controller.pem"), directory.join("controller.key"));
    let certificate = optional(private_file::read_public(CERTIFICATE_FILE, &certificate_path, FILE_BYTES_MAX))?;
    let key = optional(private_file::read_secret(KEY_FILE, &key_path, FILE_BYTES_MAX))?;
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Ok(None);
    };
    let not_pem = |path: &Path| SecurityDirError::NotPem { path: path.to_owned() };
    let certificate = pem::certificate(&certificate).map_err(|_| not_pem(&certificate_path))?;
    let key = pem::private_key(&key).map_err(|_| not_pem(&key_path))?;
    match Identity::new(certificate, key, authority.certificate().clone()) {
        Ok(identity) => {
            let usable = identity.name.role == Role::Controller;
            Ok(usable.then_some(identity))
        }
        // An old certificate, one of an authority that was replaced, or a pair of which only one half was written before a
        // crash. The authority is here, so a new one costs nothing.
        Err(IdentityError::Expired { .. } | IdentityError::WrongAuthority | IdentityError::KeyMismatch) => Ok(None),
        Err(source) => Err(SecurityDirError::Controller { path: certificate_path, source }),
    }
}

fn save_controller(directory: &Path, identity: Identity) -> Result<Identity, SecurityDirError> {
    private_file::write(KEY_FILE, &directory.join("controller.key"), pem::encode_key(&identity.key).as_bytes())?;
    let certificate = pem::encode("CERTIFICATE", &identity.certificate);
    private_file::write(CERTIFICATE_FILE, &directory.join("controller.pem"), certificate.as_bytes())?;
    Ok(identity)
}

fn facts(identity: &Identity) -> Result<CertificateFacts, SecurityDirError> {
    Ok(CertificateFacts::read(&identity.certificate)?)
}

fn record(ledger: &mut Ledger, identity: &Identity) -> Result<(), SecurityDirError> {
    Ok(ledger.record(&facts(identity)?, OffsetDateTime::now_utc())?)
}

fn is_due(identity: &Identity) -> bool {
    CertificateFacts::read(&identity.certificate).is_ok_and(|facts| facts.is_due(OffsetDateTime::now_utc()))
}

fn optional(read: Result<Vec<u8>, PrivateFileError>) -> Result<Option<Vec<u8>>, PrivateFileError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(PrivateFileError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
