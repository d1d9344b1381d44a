//! The private certificate authority of a cluster.

use std::{fmt, net::IpAddr};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::net::{
    certificate::admin_mark,
    identity::{Identity, IdentityError, NodeName, NodeNameError, Role, check_part, uri},
    pem,
};

/// How long a node's certificate is valid unless said otherwise, in days: a bit over two years.
pub const CERTIFICATE_DAYS: u32 = 825;

/// How long an authority is valid, in days: about twenty years. A cluster does not outlive it; a new one needs new
/// connection files everywhere.
pub const AUTHORITY_DAYS: u32 = 7_305;

/// How long before its making a certificate becomes valid, so that a machine whose clock is slow accepts it.
pub(crate) const CLOCK_SKEW: Duration = Duration::days(1);

/// The length of a serial number, in bytes: random, so that no two are equal.
const SERIAL_BYTES: usize = 16;

/// The organisation in every certificate, for people who look at one.
const ORGANISATION: &str = "engineroom";

/// The TLS name of the controllers of a cluster: what a node that dials expects to find in the certificate, whatever the
/// address is.
pub fn server_name(cluster: &str) -> String {
    dns_name(cluster, Role::Controller)
}

/// The authority of one cluster: whoever holds it decides who belongs to the cluster.
///
/// ```
/// use engineroom_runtime::net::{authority::{Authority, CERTIFICATE_DAYS}, identity::Role};
///
/// let authority = Authority::create("lab")?;
/// let identity = authority.issue(Role::Engine, "rack-4", CERTIFICATE_DAYS)?;
/// assert_eq!(identity.name.to_string(), "spiffe://lab/engine/rack-4");
/// # Ok::<(), engineroom_runtime::net::authority::AuthorityError>(())
/// ```
pub struct Authority {
    cluster: String,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

/// An authority as text, to be kept. The key is the cluster's greatest secret.
pub struct AuthorityPem {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    ///
    /// When the name is not spelt as a cluster's name must be, or no key can be made.
    pub fn create(cluster: &str) -> Result<Self, AuthorityError> {
        check_part(cluster)?;
        let mut params = params(cluster, None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(authority_uri(cluster).try_into()?)];
        params.not_after = params.not_before + CLOCK_SKEW + Duration::days(AUTHORITY_DAYS.into());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.der().clone();
        let not_after = params.not_after;
        Ok(Self { cluster: cluster.to_owned(), certificate, not_after, issuer: Issuer::new(params, key) })
    }

    /// The authority that [`to_pem`](Self::to_pem) wrote.
    ///
    /// # Errors
    ///
    /// When the certificate is not an authority's, or the key is not its own.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let certificate = pem::certificate(certificate_pem.as_bytes()).map_err(|_| AuthorityError::CertificatePem)?;
        // The library's reason is dropped: it adds nothing, and must not quote the key.
        let key = KeyPair::from_pem(key_pem).map_err(|_| AuthorityError::KeyPem)?;
        let not_after = check_authority(&certificate, &key)?;
        let uri = uri(&certificate)?;
        let cluster = uri.strip_prefix("spiffe://").ok_or(AuthorityError::NotAnAuthority)?.to_owned();
        check_part(&cluster)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { cluster, certificate, not_after, issuer })
    }

    /// The authority as text, to be kept.
    pub fn to_pem(&self) -> AuthorityPem {
        AuthorityPem { certificate: pem::encode("CERTIFICATE", &self.certificate), key: self.issuer.key().serialize_pem() }
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The authority's own certificate, which every node of the cluster trusts.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Makes a certificate and its key for a node, valid from yesterday on and for `days` days; see [`CERTIFICATE_DAYS`].
    /// It ends with the authority's own at the latest.
    ///
    /// # Errors
    ///
    /// When the name is not spelt as a node's name must be, or no key can be made.
    pub fn issue(&self, role: Role, name: &str, days: u32) -> Result<Identity, AuthorityError> {
        let (not_before, not_after) = validity(days);
        self.issue_between(role, name, not_before, not_after)
    }

    /// As [`issue`](Self::issue), for a client that is an admin.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    pub fn issue_admin(&self, name: &str, days: u32) -> Result<Identity, AuthorityError> {
        let name = NodeName::new(&self.cluster, Role::Client, name)?;
        self.sign(name, Rank::Admin, validity(days), KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// Makes a certificate for the same node and the same key as another of this authority, which may have expired.
    ///
    /// # Errors
    ///
    /// When the key is of a kind that is not in use here.
    pub fn renew(&self, identity: &Identity, days: u32) -> Result<Identity, AuthorityError> {
        let rank = if identity.is_admin() { Rank::Admin } else { Rank::Ordinary };
        self.sign(identity.name.clone(), rank, validity(days), KeyPair::try_from(&identity.key)?)
    }

    pub(crate) fn issue_between(
        &self,
        role: Role,
        name: &str,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Identity, AuthorityError> {
        let name = NodeName::new(&self.cluster, role, name)?;
        self.sign(name, Rank::Ordinary, (not_before, not_after), KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    fn sign(
        &self,
        name: NodeName,
        rank: Rank,
        (not_before, not_after): (OffsetDateTime, OffsetDateTime),
        key: KeyPair,
    ) -> Result<Identity, AuthorityError> {
        let role = name.role;
        let mut params = params(name.name(), Some(role))?;
        (params.not_before, params.not_after) = (not_before, not_after.min(self.not_after));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match role {
            Role::Controller => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Engine | Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.subject_alt_names =
            vec![SanType::URI(name.to_string().try_into()?), SanType::DnsName(dns_name(&self.cluster, role).try_into()?)];
        if rank == Rank::Admin {
            params.subject_alt_names.push(SanType::DnsName(admin_mark(&self.cluster).try_into()?));
        }
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Identity { name, certificate, key, authority: self.certificate.clone() })
    }
}

/// What a certificate makes of its node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rank {
    Ordinary,
    Admin,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityPem").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Why there is no authority, or no certificate from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The cluster's or node's name is wrong.
    #[error(transparent)]
    Name(#[from] NodeNameError),
    /// The authority's certificate is no PEM.
    #[error("the authority's certificate is not in PEM form")]
    CertificatePem,
    /// The authority's key is no PEM, or of a kind that is not in use here.
    #[error("the authority's private key is not a PKCS#8 key in PEM form")]
    KeyPem,
    /// The certificate is not an authority's.
    #[error("the certificate is not that of a cluster's authority")]
    NotAnAuthority,
    /// The key belongs to another certificate.
    #[error("the authority's private key does not belong to its certificate")]
    KeyMismatch,
    /// The authority's certificate cannot be used.
    #[error("the authority cannot be used: {0}")]
    Certificate(#[from] IdentityError),
    /// Making a key or a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Rcgen(#[from] rcgen::Error),
}

/// From when and until when a certificate is valid that is made now.
fn validity(days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    // Beyond the authority's own end anyway, and the calendar has one, too.
    (now - CLOCK_SKEW, now + Duration::days(days.min(AUTHORITY_DAYS).into()))
}

/// What a cluster's authority is called. Unlike a node's name it has no role: it is the cluster.
fn authority_uri(cluster: &str) -> String {
    format!("spiffe://{cluster}")
}

fn dns_name(cluster: &str, role: Role) -> String {
    let name = format!("{role}.{cluster}.engineroom.internal");
    debug_assert!(name.parse::<IpAddr>().is_err());
    name
}

fn params(common_name: &str, role: Option<Role>) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANISATION);
    params.distinguished_name.push(DnType::OrganizationalUnitName, role.map_or("authority", Role::as_str));
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::now_utc() - CLOCK_SKEW;
    let mut serial: [u8; SERIAL_BYTES] = rand::random();
    // Positive, and of full length, as RFC 5280 wants serial numbers.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Checks that a certificate is an authority's and the key its own; says when it ends.
fn check_authority(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<OffsetDateTime, AuthorityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| AuthorityError::NotAnAuthority)?;
    if !parsed.is_ca() {
        return Err(AuthorityError::NotAnAuthority);
    }
    match parsed.public_key().raw == key.subject_public_key_info() {
        true => Ok(parsed.validity().not_after.to_datetime()),
        false => Err(AuthorityError::KeyMismatch),
    }
}

#[cfg(test)]
mod tests;
