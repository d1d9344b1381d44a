use std::fs;

use super::*;
use crate::net::{
    authority::Authority,
    private_file::tests::{TestDir, mode, set_mode},
};

fn facts(authority: &Authority, role: Role, name: &str, days: u32) -> CertificateFacts {
    CertificateFacts::read(&authority.issue(role, name, days).unwrap().certificate).unwrap()
}

fn open(dir: &TestDir) -> Ledger {
    Ledger::open(&dir.path("")).unwrap()
}

#[test]
fn what_is_issued_and_revoked_is_found_again() {
    let (dir, authority, now) = (TestDir::new(), Authority::create("lab").unwrap(), OffsetDateTime::now_utc());
    let engine = facts(&authority, Role::Engine, "one", 10);
    let client = facts(&authority, Role::Client, "one", 10);
    {
        let mut ledger = open(&dir);
        for facts in [&engine, &client, &engine] {
            ledger.record(facts, now).unwrap();
        }
        assert!(ledger.is_in_use(Role::Engine, "one", now) && !ledger.is_in_use(Role::Engine, "two", now));
    }
    {
        let mut ledger = open(&dir);
        assert_eq!(ledger.issued().len(), 2, "a certificate is entered once");
        let revoked = ledger.revoke(Role::Engine, "one", now).unwrap();
        assert_eq!(revoked.iter().map(|issued| &issued.serial).collect::<Vec<_>>(), [&engine.serial]);
        assert!(ledger.revoke(Role::Engine, "one", now).unwrap().is_empty(), "once is enough");
    }
    let ledger = open(&dir);
    assert!(ledger.revocation(&engine.serial).is_some() && ledger.revocation(&client.serial).is_none());
    assert!(!ledger.is_in_use(Role::Engine, "one", now) && ledger.is_in_use(Role::Client, "one", now));
    for name in ["issued.json", "revoked.json"] {
        assert_eq!(mode(&dir.path(name)), 0o600);
    }
}

#[test]
fn what_has_expired_is_not_in_use_and_not_revoked() {
    let (dir, authority, now) = (TestDir::new(), Authority::create("lab").unwrap(), OffsetDateTime::now_utc());
    let mut ledger = open(&dir);
    ledger.record(&facts(&authority, Role::Engine, "one", 1), now).unwrap();
    let later = now + time::Duration::days(2);
    assert!(ledger.is_in_use(Role::Engine, "one", now) && !ledger.is_in_use(Role::Engine, "one", later));
    assert!(ledger.revoke(Role::Engine, "one", later).unwrap().is_empty());
}

#[test]
fn full_lists_forget_what_has_expired_and_nothing_else() {
    let (dir, authority, now) = (TestDir::new(), Authority::create("lab").unwrap(), OffsetDateTime::now_utc());
    let first = facts(&authority, Role::Engine, "first", 10);
    let mut ledger = open(&dir);
    ledger.record(&first, now).unwrap();
    let template = ledger.issued[0].clone();
    let filler = (1..ENTRIES_MAX).map(|number| Issued { serial: Serial(number.to_string()), ..template.clone() });
    ledger.issued.extend(filler);
    let more = facts(&authority, Role::Engine, "more", 10);
    assert!(matches!(ledger.record(&more, now), Err(LedgerError::Full { .. })));
    assert_eq!(ledger.issued.len(), ENTRIES_MAX);
    ledger.issued[7].not_after_s = now.unix_timestamp() - 1;
    ledger.record(&more, now).unwrap();
    assert_eq!((ledger.issued.len(), &ledger.issued[ENTRIES_MAX - 1].serial), (ENTRIES_MAX, &more.serial));
    drop(ledger);
    assert_eq!(open(&dir).issued().len(), ENTRIES_MAX, "a full list can be read again");
}

#[test]
fn a_broken_list_is_named_and_never_taken_for_an_empty_one() {
    let dir = TestDir::new();
    for name in ["issued.json", "revoked.json"] {
        let path = dir.path(name);
        for (text, said) in [
            ("", "malformed"),
            ("{}", "malformed"),
            (r#"{"version": 2, "certificates": []}"#, "version 2"),
            (r#"{"version": 1, "certificates": [{"serial": "00"}]}"#, "malformed"),
        ] {
            private_file::write("list", &path, text.as_bytes()).unwrap();
            let error = Ledger::open(&dir.path("")).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains(said), "{error}");
        }
        private_file::write("list", &path, br#"{"version": 1, "certificates": []}"#).unwrap();
        set_mode(&path, 0o644);
        assert!(Ledger::open(&dir.path("")).err().unwrap().to_string().contains("chmod 600"));
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn one_program_at_a_time_changes_the_lists() {
    let dir = TestDir::new();
    let held = open(&dir);
    let directory = dir.path("");
    let other = thread::spawn(move || Ledger::open(&directory).is_ok());
    drop(held);
    assert!(other.join().unwrap());
}
