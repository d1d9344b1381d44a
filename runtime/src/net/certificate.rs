//! What a node's certificate says.

use std::fmt;

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::GeneralName;

use super::identity::{IdentityError, NodeName, Role, parse, peer_name};

/// A certificate should be renewed when it has less than this left, or less than a third of its time: a cluster that is
/// restarted now and then never sees one expire.
pub const RENEW_BEFORE: Duration = Duration::days(30);

/// The serial number of a certificate, in hexadecimal digits: no two of one authority are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(pub(crate) String);

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a certificate says of its node, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whose it is.
    pub name: NodeName,
    /// Whether it makes a client an admin, who may see to what other clients own.
    pub admin: bool,
    /// Its number.
    pub serial: Serial,
    /// When it becomes valid.
    pub not_before: OffsetDateTime,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

impl CertificateFacts {
    /// Reads a certificate. Whether its authority is the right one, TLS has checked, or nobody has.
    ///
    /// # Errors
    ///
    /// When it cannot be parsed, or does not name a node.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let name = peer_name(certificate)?;
        let parsed = parse(certificate)?;
        let serial = parsed.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
        let names = parsed.subject_alternative_name().map_err(|error| IdentityError::Malformed(error.to_string()))?;
        let mark = admin_mark(name.cluster());
        let marked = names.is_some_and(|names| names.value.general_names.contains(&GeneralName::DNSName(&mark)));
        let validity = parsed.validity();
        Ok(Self {
            admin: marked && name.role == Role::Client,
            name,
            serial: Serial(serial),
            not_before: validity.not_before.to_datetime(),
            not_after: validity.not_after.to_datetime(),
        })
    }
}

impl CertificateFacts {
    /// Whether it has expired or should be renewed.
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        is_due(self.not_before.unix_timestamp(), self.not_after.unix_timestamp(), now.unix_timestamp())
    }

    /// For how many days it was made.
    pub fn days(&self) -> u32 {
        // Without the day by which it begins earlier.
        u32::try_from((self.not_after - self.not_before).whole_days() - 1).unwrap_or(0).max(1)
    }
}

/// Whether a certificate with these ends, in seconds since 1970, has expired or should be renewed.
pub(crate) fn is_due(not_before_s: i64, not_after_s: i64, now_s: i64) -> bool {
    let margin_s = (not_after_s.saturating_sub(not_before_s) / 3).min(RENEW_BEFORE.whole_seconds());
    not_after_s.saturating_sub(now_s) < margin_s
}

/// The DNS name that makes a client's certificate an admin's. Beside the name of the node's role, and of the same form, so
/// that the one URI goes on naming the node; there is no role of that name.
pub(crate) fn admin_mark(cluster: &str) -> String {
    format!("admin.{cluster}.engineroom.internal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::authority::{Authority, CERTIFICATE_DAYS};

    #[test]
    fn only_a_client_whose_certificate_says_so_is_an_admin() {
        let authority = Authority::create("lab").unwrap();
        for role in Role::ALL {
            // Neither its name nor that of its cluster makes it one.
            for (cluster, name) in [("lab", "me"), ("lab", "admin"), ("admin", "me"), ("admin.lab", "admin.lab")] {
                let identity = Authority::create(cluster).unwrap().issue(role, name, CERTIFICATE_DAYS).unwrap();
                assert!(!CertificateFacts::read(&identity.certificate).unwrap().admin, "{}", identity.name);
                assert!(!identity.is_admin());
            }
        }
        let admin = authority.issue_admin("root", CERTIFICATE_DAYS).unwrap();
        let facts = CertificateFacts::read(&admin.certificate).unwrap();
        assert!(facts.admin && admin.is_admin());
        assert_eq!(facts.name.to_string(), "spiffe://lab/client/root");
        let renewed = authority.renew(&admin, CERTIFICATE_DAYS).unwrap();
        assert!(renewed.is_admin(), "a renewed certificate says what the old one said");
        assert_eq!(renewed.key, admin.key);
        assert_ne!(CertificateFacts::read(&renewed.certificate).unwrap().serial, facts.serial);
    }

    #[test]
    fn long_certificates_are_due_in_their_last_month_and_short_ones_in_their_last_third() {
        let day = 86_400;
        for (lifetime_days, left_days, due) in
            [(826, 31, false), (826, 29, true), (826, -1, true), (9, 4, false), (9, 2, true), (90, 29, true), (60, 29, false)]
        {
            let (end, now) = (1_000 * day, (1_000 - left_days) * day);
            assert_eq!(is_due(end - lifetime_days * day, end, now), due, "{lifetime_days} {left_days}");
        }
        let authority = Authority::create("lab").unwrap();
        for days in [1, 2, 30, CERTIFICATE_DAYS] {
            let facts = CertificateFacts::read(&authority.issue(Role::Engine, "e", days).unwrap().certificate).unwrap();
            assert_eq!(facts.days(), days);
        }
    }

    #[test]
    fn serials_are_long_and_differ() {
        let authority = Authority::create("lab").unwrap();
        let serial = || {
            let identity = authority.issue(Role::Engine, "e", 1).unwrap();
            CertificateFacts::read(&identity.certificate).unwrap().serial
        };
        let (one, other) = (serial(), serial());
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 32);
    }
}
