use rcgen::{CertificateParams, KeyPair, SanType};
use time::Duration;

use super::*;
use crate::net::authority::{Authority, CERTIFICATE_DAYS};

#[test]
fn names_round_trip() {
    for text in ["spiffe://lab/controller/main", "spiffe://a.b-c_d/engine/0", "spiffe://X/client/me_and.you-2"] {
        let name: NodeName = text.parse().unwrap();
        assert_eq!(name.to_string(), text);
    }
    let longest = "x".repeat(NAME_PART_BYTES_MAX);
    assert!(NodeName::new(&longest, Role::Engine, &longest).is_ok());
}

#[test]
fn texts_that_name_no_node_are_refused() {
    let long = format!("spiffe://{}/engine/a", "x".repeat(NAME_PART_BYTES_MAX + 1));
    let texts = [
        "",
        "spiffe://",
        "spiffe://lab",
        "spiffe://lab/engine",
        "spiffe://lab/engine/",
        "spiffe:///engine/a",
        "lab/engine/a",
        "spiffe://lab/engine/a/",
        "spiffe://lab/engine/a/b",
        "spiffe://lab/Engine/a",
        "spiffe://lab/root/a",
        "SPIFFE://lab/engine/a",
        "http://lab/engine/a",
        "spiffe://lab/engine/a b",
        "spiffe://lab/engine/a%20b",
        "spiffe://lab/engine/é",
        "spiffe://lab/engine/..",
        "spiffe://lab/engine/.",
        "spiffe://lab/engine/.a",
        "spiffe://-lab/engine/a",
        "spiffe://lab-/engine/a",
        "spiffe://a..b/engine/a",
        "spiffe://lab./engine/a",
        "spiffe://user@lab/engine/a",
        "spiffe://lab:1/engine/a",
        "spiffe://lab/engine/a?b",
        "spiffe://lab/engine/a\0",
        &long,
    ];
    for text in texts {
        assert!(text.parse::<NodeName>().is_err(), "{text:?}");
    }
    let huge = "spiffe://".to_owned() + &"é".repeat(100_000);
    assert!(huge.parse::<NodeName>().unwrap_err().to_string().len() < 1_000);
}

#[test]
fn roles_are_written_in_lower_case() {
    for role in Role::ALL {
        assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
        assert_eq!(role.as_str().parse(), Ok(role));
    }
}

#[test]
fn a_certificate_names_exactly_one_node() {
    let authority = Authority::create("lab").unwrap();
    let identity = authority.issue(Role::Engine, "rack-4", CERTIFICATE_DAYS).unwrap();
    assert_eq!(peer_name(&identity.certificate).unwrap(), NodeName::new("lab", Role::Engine, "rack-4").unwrap());

    let uris = |uris: &[&str]| {
        let mut params = CertificateParams::new(vec!["engine.lab.engineroom.internal".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        peer_name(params.self_signed(&key).unwrap().der())
    };
    let (a, b) = ("spiffe://lab/engine/a", "spiffe://lab/controller/b");
    assert_eq!(uris(&[a]).unwrap().to_string(), a);
    assert_eq!(uris(&[]), Err(IdentityError::Names { found: 0 }));
    assert_eq!(uris(&[a, b]), Err(IdentityError::Names { found: 2 }));
    assert_eq!(uris(&[a, a]), Err(IdentityError::Names { found: 2 }));
    assert_eq!(uris(&[a, "https://example.org"]), Err(IdentityError::Names { found: 2 }));
    assert!(matches!(uris(&["https://example.org"]), Err(IdentityError::Name(_))));
    assert!(matches!(peer_name(authority.certificate()), Err(IdentityError::Name(_))), "an authority is no node");
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let identity = Authority::create("lab").unwrap().issue(Role::Client, "me", CERTIFICATE_DAYS).unwrap();
    let der = identity.certificate.as_ref();
    for length in 0..der.len() {
        assert!(peer_name(&CertificateDer::from(&der[..length])).is_err(), "{length} bytes");
    }
    let longer = [der, b"!"].concat();
    assert!(matches!(peer_name(&CertificateDer::from(longer)), Err(IdentityError::Malformed(_))));
}

#[test]
fn an_identity_is_checked_against_its_authority_its_key_and_the_clock() {
    let (authority, other) = (Authority::create("lab").unwrap(), Authority::create("lab").unwrap());
    let root = authority.certificate().clone();
    let check = |identity: Identity| Identity::new(identity.certificate, identity.key, identity.authority).map(|i| i.name);

    for role in Role::ALL {
        let good = authority.issue(role, "me", CERTIFICATE_DAYS).unwrap();
        assert_eq!(check(good.clone()), Ok(good.name));
    }
    let issue = |days_from: i64, days_to: i64| {
        let now = OffsetDateTime::now_utc();
        authority.issue_between(Role::Engine, "me", now + Duration::days(days_from), now + Duration::days(days_to)).unwrap()
    };
    let (past, future) = (issue(-20, -10), issue(10, 20));
    let end = date(OffsetDateTime::now_utc() - Duration::days(10));
    assert_eq!(check(past), Err(IdentityError::Expired { date: end }));
    assert!(matches!(check(future), Err(IdentityError::NotValidYet { .. })));

    let stranger = other.issue(Role::Engine, "me", CERTIFICATE_DAYS).unwrap();
    assert_eq!(check(Identity { authority: root.clone(), ..stranger }), Err(IdentityError::WrongAuthority));
    let elsewhere = Authority::create("home").unwrap().issue(Role::Engine, "me", CERTIFICATE_DAYS).unwrap();
    assert_eq!(check(Identity { authority: root, ..elsewhere }), Err(IdentityError::WrongAuthority));
    let (mine, yours) = (issue(-1, 1), issue(-1, 1));
    assert_eq!(check(Identity { key: yours.key, ..mine }), Err(IdentityError::KeyMismatch));
}

#[test]
fn a_key_is_never_shown() {
    let identity = Authority::create("lab").unwrap().issue(Role::Client, "me", CERTIFICATE_DAYS).unwrap();
    let shown = format!("{identity:?} {identity:#?}");
    let secret = identity.key.secret_der();
    assert!(shown.contains("lab"));
    for form in [format!("{:?}", &secret[40..48]), format!("{:x?}", &secret[40..48])] {
        assert!(!shown.contains(form.trim_matches(['[', ']'])), "{shown}");
    }
    assert!(shown.len() < 20_000);
}

#[test]
fn days_are_written_as_year_month_day() {
    assert_eq!(date(OffsetDateTime::UNIX_EPOCH + Duration::days(31)), "1970-02-01");
    assert_eq!(date(OffsetDateTime::from_unix_timestamp(4_102_444_799).unwrap()), "2099-12-31");
}
