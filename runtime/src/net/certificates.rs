//! What an operator does with a cluster's certificates: make, list, revoke. On the files of a security directory, whether
//! a controller runs on them or not.

use std::path::{Path, PathBuf};

use serde::Serialize;
use time::OffsetDateTime;

use super::{
    authority::{AUTHORITY_DAYS, CLOCK_SKEW},
    certificate::{self, CertificateFacts, Serial},
    connection_file::{self, ConnectionFile, ConnectionFileError},
    identity::{IdentityError, NodeNameError, Role, check_part},
    ledger::{Issued, Ledger, LedgerError, day},
    security_dir::{self, SecurityDirError},
};

/// A certificate that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is for: a client or an engine.
    pub role: Role,
    /// The node's name.
    pub name: String,
    /// For how long, in days from now; at least 1.
    pub days: u32,
    /// Whether it makes a client an admin, who may see to what other clients own.
    pub admin: bool,
    /// Whether one of that name that is still valid is to be revoked, and a file that is there overwritten.
    pub replace: bool,
    /// Where the connection file is to stand; by default beside the others, see [`connection_path`].
    pub output: Option<PathBuf>,
}

/// A certificate, as [`list`] shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The node's name.
    pub name: String,
    /// What the node is for.
    pub role: Role,
    /// Whether it is an admin's.
    pub admin: bool,
    /// Its number.
    pub serial: Serial,
    /// The day on which it was made, in UTC.
    pub issued: String,
    /// The day on which it ends, in UTC.
    pub expires: String,
    /// What it is worth.
    pub state: State,
    /// The day on which it was revoked, in UTC.
    pub revoked: Option<String>,
}

/// What a certificate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It lets its node in.
    Valid,
    /// It does, and should be renewed.
    ExpiresSoon,
    /// It did.
    Expired,
    /// It was revoked.
    Revoked,
}

/// Why certificates cannot be made, listed or revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// There is no authority.
    #[error("there is no cluster in {}: start a controller on the profile first, which makes its authority", directory.display())]
    NoCluster {
        /// The directory.
        directory: PathBuf,
    },
    /// The lists of certificates cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The authority cannot be used, or no certificate be made.
    #[error(transparent)]
    Security(#[from] SecurityDirError),
    /// The connection file cannot be used.
    #[error(transparent)]
    ConnectionFile(#[from] ConnectionFileError),
    /// A new certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// Controllers make their certificates themselves.
    #[error("the controller makes and renews its own certificate: only those of clients and engines are made and revoked")]
    Controller,
    /// Only clients can be admins.
    #[error("only a client can be an admin: leave --admin out, or make the certificate for a client")]
    AdminRole,
    /// The name is not spelt as a node's name must be.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// The time makes no sense.
    #[error("a certificate is valid for 1 to {AUTHORITY_DAYS} days, not {0}")]
    Days(u32),
    /// There is a valid one of that name.
    #[error("there is a valid certificate of {role} {name}: choose another name, or revoke that one by --replace")]
    InUse {
        /// The role.
        role: Role,
        /// The name.
        name: String,
    },
    /// The file that was to be written is there.
    #[error("{} exists: choose another file, or overwrite it by --replace", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no valid one of that name.
    #[error("there is no valid certificate of {what} {name}{more}: `engineroom cert list` shows what there is")]
    Unknown {
        /// The role, or that none was given.
        what: String,
        /// The name.
        name: String,
        /// When it was revoked or expired, if there was one.
        more: String,
    },
    /// There are a client and an engine of that name.
    #[error("both a client and an engine are called {name}: say which by --role")]
    Ambiguous {
        /// The name.
        name: String,
    },
}

/// Makes a certificate and writes its connection file, readable by its owner only. The address is that of the files that
/// are there.
///
/// # Errors
///
/// When the name is in use or not spelt as a name must be, or files cannot be read or written.
pub fn issue(directory: &Path, request: &Request) -> Result<ConnectionFile, CertificatesError> {
    check(request)?;
    let (role, name, now) = (request.role, request.name.as_str(), OffsetDateTime::now_utc());
    let mut ledger = open(directory)?;
    let authority = security_dir::load_authority(directory)?.ok_or_else(|| no_cluster(directory))?;
    let address = connection_file::address(directory.join("client.json"))?;
    let path = request.output.clone().unwrap_or_else(|| connection_path(directory, role, name));
    if request.output.is_some() && !request.replace && path.exists() {
        return Err(CertificatesError::Exists { path });
    }
    if !request.replace && ledger.is_in_use(role, name, now) {
        return Err(CertificatesError::InUse { role, name: name.to_owned() });
    }
    let identity = match request.admin {
        true => authority.issue_admin(name, request.days),
        false => authority.issue(role, name, request.days),
    };
    let file = ConnectionFile::new(path, &address, identity.map_err(SecurityDirError::from)?)?;
    ledger.revoke(role, name, now)?;
    // First in the books, then in the world: what is not in them cannot be revoked.
    let facts = CertificateFacts::read(&file.identity().certificate)?;
    ledger.record(&facts, now)?;
    if let Err(error) = file.save() {
        // Nobody has it. The first failure is the one to report.
        let _ = ledger.forget(&facts.serial);
        return Err(error.into());
    }
    Ok(file)
}

/// Every certificate of the cluster, those of the controller included, oldest first.
///
/// # Errors
///
/// When there is no cluster, or its files cannot be read.
pub fn list(directory: &Path) -> Result<Vec<Listed>, CertificatesError> {
    let (ledger, now) = (open(directory)?, OffsetDateTime::now_utc());
    Ok(ledger.issued().iter().map(|issued| listed(issued, &ledger, now)).collect())
}

/// Revokes the valid certificates of a name; gives them. A controller that runs ends their links within two seconds.
///
/// # Errors
///
/// When there is none, or a client and an engine of that name and no role was given, or files cannot be read or written.
pub fn revoke(directory: &Path, role: Option<Role>, name: &str) -> Result<Vec<Issued>, CertificatesError> {
    if role == Some(Role::Controller) {
        return Err(CertificatesError::Controller);
    }
    let (mut ledger, now) = (open(directory)?, OffsetDateTime::now_utc());
    let candidates = role.map_or(vec![Role::Client, Role::Engine], |role| vec![role]);
    let used: Vec<Role> = candidates.iter().copied().filter(|role| ledger.is_in_use(*role, name, now)).collect();
    match used[..] {
        [role] => Ok(ledger.revoke(role, name, now)?),
        [] => Err(unknown(&ledger, &candidates, name, now)),
        _ => Err(CertificatesError::Ambiguous { name: name.to_owned() }),
    }
}

/// Where a connection file stands: `client-NAME.json` or `engine-NAME.json`. `client.json` and `engine.json`, which a
/// controller makes, are those of the nodes named like their role.
pub fn connection_path(directory: &Path, role: Role, name: &str) -> PathBuf {
    match name == role.as_str() {
        true => directory.join(format!("{role}.json")),
        false => directory.join(format!("{role}-{name}.json")),
    }
}

fn check(request: &Request) -> Result<(), CertificatesError> {
    match request.role {
        Role::Controller => Err(CertificatesError::Controller),
        Role::Engine if request.admin => Err(CertificatesError::AdminRole),
        _ if request.days == 0 || request.days > AUTHORITY_DAYS => Err(CertificatesError::Days(request.days)),
        _ => Ok(check_part(&request.name)?),
    }
}

/// The books, with what a controller wrote before there were any.
fn open(directory: &Path) -> Result<Ledger, CertificatesError> {
    if !directory.join("ca.pem").exists() {
        return Err(no_cluster(directory));
    }
    let mut ledger = Ledger::open(directory)?;
    let now = OffsetDateTime::now_utc();
    for facts in security_dir::standing(directory) {
        ledger.record(&facts, now)?;
    }
    Ok(ledger)
}

fn no_cluster(directory: &Path) -> CertificatesError {
    CertificatesError::NoCluster { directory: directory.to_owned() }
}

fn listed(issued: &Issued, ledger: &Ledger, now: OffsetDateTime) -> Listed {
    let revoked = ledger.revocation(&issued.serial).map(|revoked| day(revoked.revoked_s));
    let now_s = now.unix_timestamp();
    let state = match &revoked {
        Some(_) => State::Revoked,
        None if issued.not_after_s <= now_s => State::Expired,
        None if certificate::is_due(issued.not_before_s, issued.not_after_s, now_s) => State::ExpiresSoon,
        None => State::Valid,
    };
    Listed {
        name: issued.name.clone(),
        role: issued.role,
        admin: issued.admin,
        serial: issued.serial.clone(),
        issued: day(issued.not_before_s.saturating_add(CLOCK_SKEW.whole_seconds())),
        expires: day(issued.not_after_s),
        state,
        revoked,
    }
}

fn unknown(ledger: &Ledger, roles: &[Role], name: &str, now: OffsetDateTime) -> CertificatesError {
    let last = ledger.issued().iter().rfind(|issued| roles.contains(&issued.role) && issued.name == name);
    let more = last.map(|last| listed(last, ledger, now)).map_or_else(String::new, |last| match last.revoked {
        Some(date) => format!(" (it was revoked on {date})"),
        None => format!(" (it expired on {})", last.expires),
    });
    let what = match roles {
        [role] => role.to_string(),
        _ => "a client or engine".to_owned(),
    };
    CertificatesError::Unknown { what, name: name.to_owned(), more }
}

#[cfg(test)]
mod tests;
