use std::fs;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::*;
use crate::net::{
    authority::{Authority, CERTIFICATE_DAYS},
    private_file::tests::{TestDir, mode, set_mode},
};

fn file(path: PathBuf, role: Role) -> ConnectionFile {
    let identity = Authority::create("lab").unwrap().issue(role, "me", CERTIFICATE_DAYS).unwrap();
    ConnectionFile::new(path, "127.0.0.1:7123", identity).unwrap()
}

/// The error of loading a good file with one field changed.
fn broken(change: impl FnOnce(&mut Value)) -> String {
    let dir = TestDir::new();
    let path = dir.path("client.json");
    file(path.clone(), Role::Client).save().unwrap();
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(&path, json.to_string()).unwrap();
    let message = ConnectionFile::load(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("connection file {}", path.display())), "{message}");
    message.replace(&path.display().to_string(), "X")
}

#[test]
fn a_file_is_private_and_comes_back() {
    let dir = TestDir::new();
    for role in [Role::Client, Role::Engine] {
        let path = dir.path(&format!("{role}.json"));
        let saved = file(path.clone(), role);
        saved.save().unwrap();
        assert_eq!(mode(&path), 0o600);
        let loaded = ConnectionFile::load(&path).unwrap();
        assert_eq!((loaded.path(), loaded.cluster(), loaded.role()), (path.as_path(), "lab", role));
        assert_eq!(loaded.address(), "127.0.0.1:7123");
        assert_eq!(loaded.identity().certificate, saved.identity().certificate);
        assert_eq!(loaded.identity().authority, saved.identity().authority);
        assert_eq!(loaded.identity().key, saved.identity().key);
        assert!(!format!("{loaded:?}").contains("key"));
    }
}

#[test]
fn a_missing_file_says_what_to_do() {
    let dir = TestDir::new();
    let path = dir.path("client.json");
    let error = ConnectionFile::load(&path).unwrap_err();
    let expected = format!(
        "there is no connection file {}: start a controller (`node --role controller`) or pass --connection FILE",
        path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let dir = TestDir::new();
    let path = dir.path("client.json");
    file(path.clone(), Role::Client).save().unwrap();
    set_mode(&path, 0o644);
    let shown = path.display();
    let expected = format!("connection file {shown} is readable by others (mode 0644): run chmod 600 {shown}");
    assert_eq!(ConnectionFile::load(&path).unwrap_err().to_string(), expected);
}

#[test]
fn a_huge_file_is_refused_unread() {
    let dir = TestDir::new();
    let path = dir.path("client.json");
    private_file::write(WHAT, &path, &vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
    assert!(ConnectionFile::load(&path).unwrap_err().to_string().contains("is longer than 65536 bytes"));
}

#[test]
fn what_is_no_connection_file_is_refused() {
    let dir = TestDir::new();
    let path = dir.path("client.json");
    for bytes in [&b""[..], b"null", b"[]", b"{}", b"{\"version\":1", b"\xff\xfe", b"not json at all"] {
        private_file::write(WHAT, &path, bytes).unwrap();
        let error = ConnectionFile::load(&path).unwrap_err();
        assert!(matches!(error, ConnectionFileError::Malformed { .. }), "{error}");
    }
}

#[test]
fn wrong_fields_are_named() {
    let version = broken(|json| json["version"] = json!(2));
    assert_eq!(version, "connection file X has version 2, this program reads version 1: use the program that made it");
    let cases: [(&str, Value, &str); 9] = [
        ("version", json!("1"), "is malformed"),
        ("role", json!("root"), "unknown variant `root`"),
        ("address", json!("nowhere"), "the address \"nowhere\" is not host:port"),
        ("surprise", json!(1), "unknown field `surprise`"),
        ("ca", json!("-----BEGIN"), "the field \"ca\" is not in PEM form"),
        ("certificate", json!(""), "the field \"certificate\" is not in PEM form"),
        ("key", json!("secret"), "the field \"key\" is not in PEM form"),
        ("role", json!("engine"), "says engine of cluster \"lab\", but its certificate is that of spiffe://lab/client/me"),
        ("cluster", json!("home"), "says client of cluster \"home\", but its certificate is that of spiffe://lab/client/me"),
    ];
    for (field, value, expected) in cases {
        let message = broken(|json| json[field] = value);
        assert!(message.contains(expected), "{field}: {message}");
    }
    for field in ["version", "cluster", "role", "address", "ca", "certificate", "key"] {
        let message = broken(|json| drop(json.as_object_mut().unwrap().remove(field)));
        assert!(message.contains(&format!("missing field `{field}`")), "{message}");
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let other = Authority::create("lab").unwrap();
    let message = broken(|json| json["ca"] = json!(other.to_pem().certificate));
    assert_eq!(
        message,
        "connection file X: the certificate was not issued by this cluster's authority; get a new one from the controller"
    );
    let message = broken(|json| json["key"] = json!(other.to_pem().key));
    assert!(message.contains("the private key does not belong to the certificate"), "{message}");
}

#[test]
fn an_expired_certificate_is_named_with_its_date() {
    let dir = TestDir::new();
    let path = dir.path("engine.json");
    let now = OffsetDateTime::now_utc();
    let end = now - Duration::days(3);
    let identity = Authority::create("lab").unwrap().issue_between(Role::Engine, "me", now - Duration::days(9), end).unwrap();
    ConnectionFile::new(&path, "[::1]:7123", identity).unwrap().save().unwrap();
    let expected = format!(
        "connection file {}: the certificate expired on {}; get a new one from the controller",
        path.display(),
        crate::net::identity::date(end)
    );
    assert_eq!(ConnectionFile::load(&path).unwrap_err().to_string(), expected);
}

#[test]
fn a_file_for_the_other_role_says_which_one_is_needed() {
    let engine = file("X".into(), Role::Engine);
    assert!(engine.expect_role(Role::Engine).is_ok());
    assert_eq!(
        engine.expect_role(Role::Client).unwrap_err().to_string(),
        "connection file X is for engines; a client needs the controller's client.json"
    );
    assert_eq!(
        file("X".into(), Role::Client).expect_role(Role::Engine).unwrap_err().to_string(),
        "connection file X is for clients; an engine needs the controller's engine.json"
    );
}

#[test]
fn addresses_are_checked() {
    let file = file("X".into(), Role::Client);
    for address in ["localhost:1", "10.0.0.1:65535", "[::1]:7123", "controller.example.org:7123"] {
        assert_eq!(file.clone().with_address(address).unwrap().address(), address);
    }
    let long = format!("{}:1", "x".repeat(300));
    for address in [
        "",
        ":",
        "localhost",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:+1",
        ":7123",
        "::1:7123",
        "local host:1",
        "localhost:1\n",
        &long,
    ] {
        assert!(file.clone().with_address(address).is_err(), "{address:?}");
    }
}

#[test]
fn a_controller_has_no_connection_file() {
    let identity = Authority::create("lab").unwrap().issue(Role::Controller, "me", CERTIFICATE_DAYS).unwrap();
    assert!(ConnectionFile::new("X", "localhost:1", identity).is_err());
}
