//! Who a node is: its name, and the certificate that proves it.

use std::{fmt, str::FromStr};

use rustls::{
    CertificateError, InconsistentKeys, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::net::{certificate::CertificateFacts, tls};

/// The longest cluster name and node name, in bytes: that of a DNS label, which a cluster's name becomes.
pub const NAME_PART_BYTES_MAX: usize = 63;

/// What a node is for, as its certificate states. Decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes in jobs and hands tasks to engines.
    Controller,
    /// Runs tasks.
    Engine,
    /// Submits jobs.
    Client,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Controller, Self::Engine, Self::Client];

    /// The role in lower case, as in certificates and files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Engine => "engine",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| NodeNameError::new(text, "a role is controller, engine or client"))
    }
}

/// The name of a node, unique in its cluster. Written as `spiffe://<cluster>/<role>/<name>`.
///
/// The cluster and the name have 1 to 63 letters, digits, `.`, `_` and `-` each, and every part between dots starts and
/// ends with something else than `-`.
///
/// ```
/// use engineroom_runtime::net::identity::{NodeName, Role};
///
/// let name: NodeName = "spiffe://lab/engine/rack-4.node_17".parse()?;
/// assert_eq!((name.cluster(), name.role, name.name()), ("lab", Role::Engine, "rack-4.node_17"));
/// # Ok::<(), engineroom_runtime::net::identity::NodeNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeName {
    pub(crate) cluster: String,
    /// What the node is for.
    pub role: Role,
    pub(crate) name: String,
}

impl NodeName {
    /// The name of a node.
    ///
    /// # Errors
    ///
    /// When the cluster or the name is not spelt as it must be.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Self, NodeNameError> {
        check_part(cluster)?;
        check_part(name)?;
        Ok(Self { cluster: cluster.to_owned(), role, name: name.to_owned() })
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node's name within its cluster and role.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        let parts = text.strip_prefix("spiffe://").map(|rest| rest.split('/').collect::<Vec<_>>());
        match parts.as_deref() {
            Some([cluster, role, name]) => Self::new(cluster, role.parse()?, name),
            _ => Err(NodeNameError::new(text, "expected spiffe://<cluster>/<role>/<name>")),
        }
    }
}

/// A text that names no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} does not name a node: {reason}")]
pub struct NodeNameError {
    text: String,
    reason: &'static str,
}

impl NodeNameError {
    fn new(text: &str, reason: &'static str) -> Self {
        // A name that is wrong may be wrong by being huge.
        const SHOWN_CHARS_MAX: usize = 100;
        Self { text: text.chars().take(SHOWN_CHARS_MAX).collect(), reason }
    }
}

/// Checks a cluster's or node's name, which becomes a part of a URI, a DNS name and file names.
pub(crate) fn check_part(part: &str) -> Result<(), NodeNameError> {
    let wrong = |reason| Err(NodeNameError::new(part, reason));
    if part.is_empty() || part.len() > NAME_PART_BYTES_MAX {
        return wrong("a name has 1 to 63 characters");
    }
    if !part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return wrong("a name consists of letters, digits, '.', '_' and '-'");
    }
    if part.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
        return wrong("what stands between dots in a name is not empty, and does not start or end with '-'");
    }
    Ok(())
}

/// A node's certificate and what belongs to it. The private key never shows in `Debug`.
#[derive(Debug)]
pub struct Identity {
    /// The name in the certificate.
    pub name: NodeName,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// The certificate of the cluster's authority, which signed it.
    pub authority: CertificateDer<'static>,
}

impl Identity {
    /// The identity that a certificate and its key prove, having checked that they do.
    ///
    /// # Errors
    ///
    /// When the certificate names no node, is not the authority's, is not valid today, or the key is not its own.
    pub fn new(
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, IdentityError> {
        let identity = Self { name: peer_name(&certificate)?, certificate, key, authority };
        identity.check_key()?;
        identity.check_certificate()?;
        Ok(identity)
    }

    /// Whether the certificate makes this client an admin.
    pub fn is_admin(&self) -> bool {
        CertificateFacts::read(&self.certificate).is_ok_and(|facts| facts.admin)
    }

    fn check_key(&self) -> Result<(), IdentityError> {
        let chain = vec![self.certificate.clone()];
        match CertifiedKey::from_der(chain, self.key.clone_key(), &tls::provider()) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(IdentityError::KeyMismatch),
            Err(error) => Err(IdentityError::Key(error.to_string())),
        }
    }

    fn check_certificate(&self) -> Result<(), IdentityError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(|error| IdentityError::Authority(error.to_string()))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider())
            .build()
            .map_err(|error| IdentityError::Authority(error.to_string()))?;
        match verifier.verify_client_cert(&self.certificate, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(error)) => Err(self.certificate_error(&error)),
            Err(error) => Err(IdentityError::Certificate(error.to_string())),
        }
    }

    fn certificate_error(&self, error: &CertificateError) -> IdentityError {
        match (error, validity(&self.certificate)) {
            (CertificateError::Expired | CertificateError::ExpiredContext { .. }, Ok((_, not_after))) => {
                IdentityError::Expired { date: date(not_after) }
            }
            (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, Ok((not_before, _))) => {
                IdentityError::NotValidYet { date: date(not_before) }
            }
            (CertificateError::UnknownIssuer | CertificateError::BadSignature, _) => IdentityError::WrongAuthority,
            _ => IdentityError::Certificate(error.to_string()),
        }
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
            authority: self.authority.clone(),
        }
    }
}

/// A certificate that does not make an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// It is no X.509 certificate.
    #[error("the certificate cannot be parsed: {0}")]
    Malformed(String),
    /// It has no name, or more than one.
    #[error("the certificate has {found} names (SAN URIs); it needs exactly one, spiffe://<cluster>/<role>/<name>")]
    Names {
        /// How many it has.
        found: usize,
    },
    /// Its name is not a node's.
    #[error("the certificate's name is wrong")]
    Name(#[from] NodeNameError),
    /// It was signed by another authority than the one given.
    #[error("the certificate was not issued by this cluster's authority")]
    WrongAuthority,
    /// It was valid once.
    #[error("the certificate expired on {date}")]
    Expired {
        /// The day, as year-month-day in UTC.
        date: String,
    },
    /// It will be valid later; or a clock is wrong.
    #[error("the certificate is valid from {date} only; check this machine's clock")]
    NotValidYet {
        /// The day, as year-month-day in UTC.
        date: String,
    },
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The key cannot be used.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(String),
    /// The certificate is wrong in another way.
    #[error("the certificate is not acceptable: {0}")]
    Certificate(String),
}

/// The name in a node's certificate.
///
/// # Errors
///
/// When the certificate cannot be parsed, or its subject alternative names don't hold exactly one URI that names a node.
pub fn peer_name(certificate: &CertificateDer<'_>) -> Result<NodeName, IdentityError> {
    Ok(uri(certificate)?.parse()?)
}

/// When a certificate ends.
///
/// # Errors
///
/// When the certificate cannot be parsed.
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<OffsetDateTime, IdentityError> {
    Ok(validity(certificate)?.1)
}

/// The one URI among a certificate's subject alternative names.
pub(crate) fn uri(certificate: &CertificateDer<'_>) -> Result<String, IdentityError> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name().map_err(|error| IdentityError::Malformed(error.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(uri.to_owned()),
        _ => Err(IdentityError::Names { found: uris.len() }),
    }
}

/// A day in UTC, as year-month-day.
pub(crate) fn date(time: OffsetDateTime) -> String {
    let day = time.to_offset(time::UtcOffset::UTC).date();
    format!("{:04}-{:02}-{:02}", day.year(), u8::from(day.month()), day.day())
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(OffsetDateTime, OffsetDateTime), IdentityError> {
    let validity = parse(certificate)?.tbs_certificate.validity;
    Ok((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok((rest, _)) => Err(IdentityError::Malformed(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(IdentityError::Malformed(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
