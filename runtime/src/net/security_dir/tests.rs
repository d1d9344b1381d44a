use std::fs;

use time::Duration;

use super::*;
use crate::net::certificate::RENEW_BEFORE;
use crate::net::private_file::tests::{TestDir, mode, set_mode};

const ADDRESS: &str = "127.0.0.1:7123";

fn open(dir: &TestDir) -> Result<SecurityDir, SecurityDirError> {
    SecurityDir::open_or_create(dir.path("security"), "lab")
}

fn file(dir: &TestDir, name: &str) -> PathBuf {
    dir.path("security").join(name)
}

#[test]
fn everything_is_private_and_kept() {
    let dir = TestDir::new();
    let first = open(&dir).unwrap();
    assert_eq!(first.controller().name.to_string(), "spiffe://lab/controller/controller");
    let engine = first.connection_file(Role::Engine, ADDRESS).unwrap();
    let client = first.connection_file(Role::Client, ADDRESS).unwrap();
    assert_eq!(mode(&dir.path("security")), 0o700);
    let mut names: Vec<String> = fs::read_dir(dir.path("security"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o600);
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["ca.key", "ca.pem", "client.json", "controller.key", "controller.pem", "engine.json", "issued.json"]);

    let second = open(&dir).unwrap();
    assert_eq!(second.authority().certificate(), first.authority().certificate());
    assert_eq!(second.controller().certificate, first.controller().certificate);
    let kept = second.connection_file(Role::Engine, ADDRESS).unwrap();
    assert_eq!(kept.identity().certificate, engine.identity().certificate);
    assert_ne!(client.identity().certificate, engine.identity().certificate);
}

#[test]
fn a_new_address_keeps_the_identity() {
    let dir = TestDir::new();
    let security = open(&dir).unwrap();
    let before = security.connection_file(Role::Client, ADDRESS).unwrap();
    let after = security.connection_file(Role::Client, "example.org:1").unwrap();
    assert_eq!(after.identity().certificate, before.identity().certificate);
    let loaded = ConnectionFile::load(file(&dir, "client.json")).unwrap();
    assert_eq!(loaded.address(), "example.org:1");
}

#[test]
fn keys_that_others_can_read_are_refused() {
    for name in ["ca.key", "controller.key"] {
        let dir = TestDir::new();
        open(&dir).unwrap();
        let path = file(&dir, name);
        set_mode(&path, 0o644);
        let expected = format!("key file {path} is readable by others (mode 0644): run chmod 600 {path}", path = path.display());
        assert_eq!(open(&dir).unwrap_err().to_string(), expected);
        set_mode(&path, 0o600);
        // A certificate is no secret.
        set_mode(&path.with_extension("pem"), 0o644);
        assert!(open(&dir).is_ok());
    }
}

#[test]
fn an_authority_is_never_replaced_silently() {
    let dir = TestDir::new();
    let before = open(&dir).unwrap().authority().certificate().clone();
    let key = fs::read(file(&dir, "ca.key")).unwrap();

    fs::remove_file(file(&dir, "ca.key")).unwrap();
    assert!(matches!(open(&dir), Err(SecurityDirError::NoAuthorityKey { .. })));
    private_file::write(KEY_FILE, &file(&dir, "ca.key"), b"garbage").unwrap();
    assert!(matches!(open(&dir), Err(SecurityDirError::BrokenAuthority { .. })));
    private_file::write(KEY_FILE, &file(&dir, "ca.key"), &key).unwrap();
    assert_eq!(open(&dir).unwrap().authority().certificate(), &before);

    let moved = SecurityDir::open_or_create(dir.path("security"), "home").unwrap();
    assert_eq!(moved.authority().certificate(), &before, "a directory that was moved is still the same cluster");
}

#[test]
fn a_start_that_was_interrupted_is_made_up_for() {
    // At each point between two files that are written.
    for missing in
        [&["ca.pem", "controller.pem", "controller.key"][..], &["controller.pem", "controller.key"], &["controller.pem"]]
    {
        let dir = TestDir::new();
        open(&dir).unwrap();
        for name in missing {
            fs::remove_file(file(&dir, name)).unwrap();
        }
        let security = open(&dir).unwrap();
        assert_eq!(open(&dir).unwrap().controller().certificate, security.controller().certificate);
    }
}

#[test]
fn a_controllers_certificate_that_does_not_fit_any_more_is_made_anew() {
    let dir = TestDir::new();
    let security = open(&dir).unwrap();
    let now = OffsetDateTime::now_utc();
    let soon = security
        .authority()
        .issue_between(Role::Controller, "controller", now - Duration::days(700), now + RENEW_BEFORE - Duration::days(1))
        .unwrap();
    let old = security
        .authority()
        .issue_between(Role::Controller, "controller", now - Duration::days(9), now - Duration::days(1))
        .unwrap();
    let foreign = Authority::create("lab").unwrap().issue(Role::Controller, "controller", CERTIFICATE_DAYS).unwrap();
    let wrong_role = security.authority().issue(Role::Engine, "controller", CERTIFICATE_DAYS).unwrap();
    for identity in [soon, old, foreign, wrong_role] {
        let (certificate, key) = (pem::encode("CERTIFICATE", &identity.certificate), pem::encode_key(&identity.key));
        private_file::write(CERTIFICATE_FILE, &file(&dir, "controller.pem"), certificate.as_bytes()).unwrap();
        private_file::write(KEY_FILE, &file(&dir, "controller.key"), key.as_bytes()).unwrap();
        let renewed = open(&dir).unwrap();
        assert_ne!(renewed.controller().certificate, identity.certificate);
        assert!(!is_due(renewed.controller()));
        // A key without its certificate, as after a crash between the two.
        private_file::write(KEY_FILE, &file(&dir, "controller.key"), key.as_bytes()).unwrap();
        assert!(open(&dir).is_ok());
    }
}

#[test]
fn a_connection_file_of_another_authority_is_made_anew() {
    let dir = TestDir::new();
    let security = open(&dir).unwrap();
    let foreign = Authority::create("lab").unwrap().issue(Role::Client, "client", CERTIFICATE_DAYS).unwrap();
    ConnectionFile::new(file(&dir, "client.json"), ADDRESS, foreign).unwrap().save().unwrap();
    let made = security.connection_file(Role::Client, ADDRESS).unwrap();
    assert_eq!(&made.identity().authority, security.authority().certificate());
    private_file::write("connection file", &file(&dir, "client.json"), b"what the user wrote").unwrap();
    assert!(security.connection_file(Role::Client, ADDRESS).is_err(), "what is no connection file is not overwritten");
}

#[test]
fn a_connection_file_that_is_about_to_expire_is_renewed_and_a_revoked_one_is_not() {
    let dir = TestDir::new();
    let security = open(&dir).unwrap();
    let path = file(&dir, "client.json");
    let now = OffsetDateTime::now_utc();
    let soon = |role| {
        let (begin, end) = (now - Duration::days(8), now + Duration::days(2));
        security.authority().issue_between(role, "short", begin, end).unwrap()
    };
    ConnectionFile::new(&path, ADDRESS, soon(Role::Client)).unwrap().save().unwrap();
    let renewed = security.connection_file(Role::Client, ADDRESS).unwrap();
    let facts = CertificateFacts::read(&renewed.identity().certificate).unwrap();
    assert_eq!((facts.name.name(), facts.days()), ("short", 9), "the same node, for as long again");
    assert_eq!(ConnectionFile::load(&path).unwrap().identity().certificate, renewed.identity().certificate);

    let path = file(&dir, "engine.json");
    ConnectionFile::new(&path, ADDRESS, soon(Role::Engine)).unwrap().save().unwrap();
    let mut ledger = Ledger::open(&dir.path("security")).unwrap();
    let before = ConnectionFile::load(&path).unwrap();
    record(&mut ledger, before.identity()).unwrap();
    assert_eq!(ledger.revoke(Role::Engine, "short", now).unwrap().len(), 1);
    drop(ledger);
    let after = security.connection_file(Role::Engine, "head.lab:9").unwrap();
    assert_eq!(after.identity().certificate, before.identity().certificate);
    assert_eq!(after.address(), "head.lab:9");
}

#[test]
fn what_a_running_controller_renews_keeps_key_and_address() {
    let dir = TestDir::new();
    let security = open(&dir).unwrap();
    let now = OffsetDateTime::now_utc();
    let old = security
        .authority()
        .issue_between(Role::Controller, "controller", now - Duration::days(800), now + Duration::days(3))
        .unwrap();
    save_controller(&dir.path("security"), old.clone()).unwrap();
    let client =
        security.authority().issue_between(Role::Client, "client", now - Duration::days(800), now + Duration::days(3)).unwrap();
    ConnectionFile::new(file(&dir, "client.json"), ADDRESS, client.clone()).unwrap().save().unwrap();
    let renewed = SecurityDir::renew(dir.path("security"), "lab").unwrap();
    let file_now = ConnectionFile::load(file(&dir, "client.json")).unwrap();
    assert_ne!(file_now.identity().certificate, client.certificate);
    assert_eq!(file_now.address(), ADDRESS);
    assert!(!file(&dir, "engine.json").exists());
    assert_ne!(renewed.controller().certificate, old.certificate);
    assert_eq!(renewed.controller().key, old.key);
}
