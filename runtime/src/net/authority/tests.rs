use std::collections::HashSet;

use rustls::pki_types::ServerName;
use x509_parser::{extensions::GeneralName, prelude::ParsedExtension};

use super::*;
use crate::net::identity::{NAME_PART_BYTES_MAX, peer_name};

fn parsed<'a>(der: &'a CertificateDer<'static>) -> X509Certificate<'a> {
    X509Certificate::from_der(der).unwrap().1
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.iter();
    names.filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_string()) } else { None }).collect()
}

#[test]
fn an_authority_signs_nodes_and_nothing_else() {
    let authority = Authority::create("lab").unwrap();
    let certificate = parsed(authority.certificate());
    let constraints = certificate.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
    let seconds = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
    assert_eq!(seconds / 86_400, i64::from(AUTHORITY_DAYS) + 1);
}

#[test]
fn certificates_fit_their_roles() {
    let authority = Authority::create("lab").unwrap();
    for role in Role::ALL {
        let identity = authority.issue(role, "me", CERTIFICATE_DAYS).unwrap();
        assert_eq!(identity.authority, *authority.certificate());
        assert_eq!(peer_name(&identity.certificate).unwrap(), identity.name);
        let certificate = parsed(&identity.certificate);
        assert_eq!(dns_names(&certificate), [format!("{role}.lab.engineroom.internal")]);
        assert_eq!(dns_names(&certificate) == [server_name("lab")], role == Role::Controller);
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((usage.server_auth, usage.client_auth), (role == Role::Controller, true));
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_cert_sign());
        assert!(!certificate.is_ca());
        let extensions = certificate.extensions().iter().map(|extension| extension.parsed_extension());
        assert_eq!(extensions.filter(|e| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_))).count(), 1);
        let (start, end) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        assert_eq!((end - start) / 86_400, i64::from(CERTIFICATE_DAYS) + 1);
    }
}

#[test]
fn serial_numbers_are_unique_and_positive() {
    let authority = Authority::create("lab").unwrap();
    let mut serials = HashSet::new();
    for _ in 0..50 {
        let identity = authority.issue(Role::Engine, "same", CERTIFICATE_DAYS).unwrap();
        let serial = parsed(&identity.certificate).raw_serial().to_vec();
        assert_eq!(serial.len(), SERIAL_BYTES);
        assert_eq!(serial[0] & 0x80, 0);
        assert!(serials.insert(serial));
    }
}

#[test]
fn no_certificate_outlives_its_authority() {
    let authority = Authority::create("lab").unwrap();
    let identity = authority.issue(Role::Engine, "me", AUTHORITY_DAYS * 2).unwrap();
    let end = |der| parsed(der).validity().not_after.timestamp();
    assert_eq!(end(&identity.certificate), end(authority.certificate()));
}

#[test]
fn an_authority_comes_back_from_its_text() {
    let authority = Authority::create("lab.x_y-2").unwrap();
    let text = authority.to_pem();
    let loaded = Authority::load(&text.certificate, &text.key).unwrap();
    assert_eq!((loaded.cluster(), loaded.certificate()), (authority.cluster(), authority.certificate()));
    // What one issues is accepted where the other is trusted.
    let identity = loaded.issue(Role::Engine, "me", CERTIFICATE_DAYS).unwrap();
    assert!(Identity::new(identity.certificate, identity.key, authority.certificate().clone()).is_ok());
}

#[test]
fn halves_that_do_not_fit_are_refused() {
    let (one, two) = (Authority::create("lab").unwrap().to_pem(), Authority::create("lab").unwrap().to_pem());
    assert!(matches!(Authority::load(&one.certificate, &two.key), Err(AuthorityError::KeyMismatch)));
    assert!(matches!(Authority::load("", &one.key), Err(AuthorityError::CertificatePem)));
    assert!(matches!(Authority::load(&one.certificate, ""), Err(AuthorityError::KeyPem)));
    assert!(matches!(Authority::load(&one.certificate, &one.certificate), Err(AuthorityError::KeyPem)));
    let node = Authority::create("lab").unwrap().issue(Role::Controller, "me", CERTIFICATE_DAYS).unwrap();
    let (certificate, key) = (pem::encode("CERTIFICATE", &node.certificate), pem::encode_key(&node.key));
    assert!(matches!(Authority::load(&certificate, &key), Err(AuthorityError::NotAnAuthority)));
}

#[test]
fn every_cluster_name_makes_a_tls_name() {
    let longest = "x".repeat(NAME_PART_BYTES_MAX);
    for cluster in ["lab", "A", "7", "1.2.3.4", "a_b", "_", "_a.b_", "a-b.c", &longest] {
        let authority = Authority::create(cluster).unwrap();
        let identity = authority.issue(Role::Controller, "me", CERTIFICATE_DAYS).unwrap();
        assert_eq!(dns_names(&parsed(&identity.certificate)), [server_name(cluster)]);
        let name = ServerName::try_from(server_name(cluster)).unwrap();
        assert!(matches!(name, ServerName::DnsName(_)), "{cluster}");
    }
    for cluster in ["", "a b", "a/b", "-a", "a-", "a.", ".a", "a..b", "é"] {
        assert!(matches!(Authority::create(cluster), Err(AuthorityError::Name(_))), "{cluster:?}");
    }
}

#[test]
fn a_key_is_never_shown() {
    let authority = Authority::create("lab").unwrap();
    let text = authority.to_pem();
    assert_eq!(format!("{authority:?}"), r#"Authority { cluster: "lab", .. }"#);
    assert!(!format!("{text:?}").contains("PRIVATE"));
}
