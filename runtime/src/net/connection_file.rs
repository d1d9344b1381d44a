//! Connection files: the one file that lets a node into a cluster.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::net::{
    identity::{Identity, IdentityError, NodeName, Role},
    pem,
    private_file::{self, PrivateFileError},
};

/// The longest connection file, in bytes. One has about 2 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The version of the format.
const VERSION: u32 = 1;

/// What errors call such a file.
const WHAT: &str = "connection file";

/// The address of a cluster's controller and an identity to be let in with. Made by a controller, one for clients and one
/// for engines; whoever has the file has the identity, so it is readable by its owner only.
#[derive(Clone)]
pub struct ConnectionFile {
    path: PathBuf,
    address: String,
    identity: Identity,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    cluster: String,
    role: Role,
    address: String,
    ca: String,
    certificate: String,
    key: String,
}

impl ConnectionFile {
    /// A connection file that is to stand at `path`. [`save`](Self::save) writes it.
    ///
    /// # Errors
    ///
    /// When the address is not `host:port`, or the identity is neither a client's nor an engine's.
    pub fn new(path: impl Into<PathBuf>, address: &str, identity: Identity) -> Result<Self, ConnectionFileError> {
        let path = path.into();
        check_role(&path, identity.name.role)?;
        check_address(&path, address)?;
        Ok(Self { path, address: address.to_owned(), identity })
    }

    /// Reads and checks a connection file.
    ///
    /// # Errors
    ///
    /// When the file is missing, readable by others, broken, or its certificate is of no use. The messages name the file
    /// and what to do.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, ConnectionFileError> {
        let path = path.into();
        let bytes = read(&path)?;
        parse(path, &bytes)
    }

    /// Writes the file where it belongs: complete or not at all, and readable by its owner only.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn save(&self) -> Result<(), ConnectionFileError> {
        let text = Text {
            version: VERSION,
            cluster: self.identity.name.cluster().to_owned(),
            role: self.identity.name.role,
            address: self.address.clone(),
            ca: pem::encode("CERTIFICATE", &self.identity.authority),
            certificate: pem::encode("CERTIFICATE", &self.identity.certificate),
            key: pem::encode_key(&self.identity.key),
        };
        let mut json = serde_json::to_vec_pretty(&text).map_err(|error| self.malformed(error.to_string()))?;
        json.push(b'\n');
        Ok(private_file::write(WHAT, &self.path, &json)?)
    }

    /// Makes sure that the file is for nodes of that role.
    ///
    /// # Errors
    ///
    /// When it is for others; the message says which file is needed.
    pub fn expect_role(&self, expected: Role) -> Result<(), ConnectionFileError> {
        match self.role() {
            role if role == expected => Ok(()),
            role => Err(ConnectionFileError::Role { path: self.path.clone(), role, expected }),
        }
    }

    /// Where the file came from or belongs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        self.identity.name.cluster()
    }

    /// What the identity is for: a client or an engine.
    pub fn role(&self) -> Role {
        self.identity.name.role
    }

    /// The controller's address, `host:port`. IPv6 addresses stand in brackets.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The identity to present.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The same file with another address.
    ///
    /// # Errors
    ///
    /// When it is not `host:port`.
    pub fn with_address(self, address: &str) -> Result<Self, ConnectionFileError> {
        Self::new(self.path, address, self.identity)
    }

    fn malformed(&self, reason: String) -> ConnectionFileError {
        ConnectionFileError::Malformed { path: self.path.clone(), reason }
    }
}

impl fmt::Debug for ConnectionFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFile")
            .field("path", &self.path)
            .field("address", &self.address)
            .field("name", &self.identity.name)
            .finish_non_exhaustive()
    }
}

/// A connection file that is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionFileError {
    /// It is not there.
    #[error(
        "there is no connection file {}: start a controller (`node --role controller`) or pass --connection FILE",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written, or others can read it.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It is no JSON of the expected form.
    #[error("connection file {} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is of another version of the format.
    #[error("connection file {} has version {version}, this program reads version {VERSION}: use the program that made it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Its certificate or key does not make an identity.
    #[error("connection file {}: {source}; get a new one from the controller", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// Its certificate says something else than the file.
    #[error("connection file {} says {said}, but its certificate is that of {name}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// The cluster and role that the file states.
        said: String,
        /// The name in the certificate.
        name: NodeName,
    },
    /// It is for nodes of another role.
    #[error(
        "connection file {} is for {role}s; {article} {expected} needs the controller's {expected}.json",
        path.display(),
        article = if *expected == Role::Engine { "an" } else { "a" }
    )]
    Role {
        /// The file.
        path: PathBuf,
        /// The role that it is for.
        role: Role,
        /// The role that is needed.
        expected: Role,
    },
}

/// The address in a connection file, whatever its certificate is worth.
pub(crate) fn address(path: PathBuf) -> Result<String, ConnectionFileError> {
    let bytes = read(&path)?;
    let text = parse_text(&path, &bytes)?;
    check_address(&path, &text.address)?;
    Ok(text.address)
}

fn read(path: &Path) -> Result<Vec<u8>, ConnectionFileError> {
    private_file::read_secret(WHAT, path, FILE_BYTES_MAX).map_err(|error| match error {
        PrivateFileError::Missing { path, .. } => ConnectionFileError::Missing { path },
        error => ConnectionFileError::File(error),
    })
}

fn parse_text(path: &Path, bytes: &[u8]) -> Result<Text, ConnectionFileError> {
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let malformed = |reason: String| ConnectionFileError::Malformed { path: path.to_owned(), reason };
    // The version first: another one may have other fields.
    let Version { version } = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    if version != u64::from(VERSION) {
        return Err(ConnectionFileError::Version { path: path.to_owned(), version });
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))
}

fn parse(path: PathBuf, bytes: &[u8]) -> Result<ConnectionFile, ConnectionFileError> {
    let malformed = |reason: String| ConnectionFileError::Malformed { path: path.clone(), reason };
    let text = parse_text(&path, bytes)?;
    // Which field is broken is what the user needs; details of a key have no place in a message.
    let broken = |field: &str| malformed(format!("the field \"{field}\" is not in PEM form"));
    let authority = pem::certificate(text.ca.as_bytes()).map_err(|_| broken("ca"))?;
    let certificate = pem::certificate(text.certificate.as_bytes()).map_err(|_| broken("certificate"))?;
    let key = pem::private_key(text.key.as_bytes()).map_err(|_| broken("key"))?;
    let identity = Identity::new(certificate, key, authority)
        .map_err(|source| ConnectionFileError::Identity { path: path.clone(), source })?;
    if (identity.name.cluster(), identity.name.role) != (text.cluster.as_str(), text.role) {
        let said = format!("{} of cluster {:?}", text.role, text.cluster);
        return Err(ConnectionFileError::Contradiction { path, said, name: identity.name });
    }
    ConnectionFile::new(path, &text.address, identity)
}

fn check_role(path: &Path, role: Role) -> Result<(), ConnectionFileError> {
    match role {
        Role::Client | Role::Engine => Ok(()),
        Role::Controller => Err(ConnectionFileError::Malformed {
            path: path.to_owned(),
            reason: "the role is client or engine; a controller does not connect with such a file".to_owned(),
        }),
    }
}

fn check_address(path: &Path, address: &str) -> Result<(), ConnectionFileError> {
    // 253 for a host's name, brackets, a colon and five digits.
    const ADDRESS_BYTES_MAX: usize = 262;
    let host_and_port = address.rsplit_once(':').filter(|(host, port)| {
        let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        let port_is_set = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
        let plain = host.bytes().all(|byte| byte.is_ascii_graphic());
        !host.is_empty() && plain && !bare_ipv6 && port_is_set && address.len() <= ADDRESS_BYTES_MAX
    });
    match host_and_port {
        Some(_) => Ok(()),
        None => Err(ConnectionFileError::Malformed {
            path: path.to_owned(),
            reason: format!("the address {:?} is not host:port", address.chars().take(100).collect::<String>()),
        }),
    }
}

#[cfg(test)]
mod tests;
