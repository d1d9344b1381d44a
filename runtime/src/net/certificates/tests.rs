use std::fs;

use super::*;
use crate::net::{
    private_file::tests::{TestDir, mode},
    security_dir::SecurityDir,
};

const ADDRESS: &str = "head.lab:7123";

fn cluster() -> (TestDir, PathBuf) {
    let dir = TestDir::new();
    let directory = dir.path("security");
    let security = SecurityDir::open_or_create(&directory, "lab").unwrap();
    for role in [Role::Client, Role::Engine] {
        security.connection_file(role, ADDRESS).unwrap();
    }
    (dir, directory)
}

fn request(role: Role, name: &str) -> Request {
    Request { role, name: name.to_owned(), days: 30, admin: false, replace: false, output: None }
}

fn states(directory: &Path) -> Vec<(String, State)> {
    list(directory).unwrap().into_iter().map(|listed| (format!("{} {}", listed.role, listed.name), listed.state)).collect()
}

#[test]
fn a_new_certificate_is_written_listed_and_let_in() {
    let (_dir, directory) = cluster();
    let made = issue(&directory, &Request { admin: true, ..request(Role::Client, "root") }).unwrap();
    assert_eq!(made.path(), directory.join("client-root.json"));
    assert_eq!(mode(made.path()), 0o600);
    let loaded = ConnectionFile::load(made.path()).unwrap();
    assert_eq!((loaded.address(), loaded.role(), loaded.identity().is_admin()), (ADDRESS, Role::Client, true));
    let output = directory.join("elsewhere.json");
    let elsewhere = Request { output: Some(output.clone()), ..request(Role::Engine, "rack-4") };
    assert_eq!(issue(&directory, &elsewhere).unwrap().path(), output);
    assert!(!ConnectionFile::load(&output).unwrap().identity().is_admin());
    let listed = list(&directory).unwrap();
    let shown: Vec<String> = listed.iter().map(|listed| format!("{} {} {}", listed.role, listed.name, listed.admin)).collect();
    assert_eq!(
        shown,
        ["controller controller false", "client client false", "engine engine false", "client root true", "engine rack-4 false"]
    );
    assert!(listed.iter().all(|listed| listed.state == State::Valid), "{listed:?}");
}

#[test]
fn a_name_in_use_is_given_again_only_in_place_of_the_old_certificate() {
    let (_dir, directory) = cluster();
    let new = request(Role::Engine, "rack-4");
    issue(&directory, &new).unwrap();
    let refused = issue(&directory, &new).unwrap_err();
    assert!(matches!(refused, CertificatesError::InUse { .. }), "{refused}");
    issue(&directory, &request(Role::Client, "rack-4")).unwrap();
    issue(&directory, &Request { replace: true, ..new.clone() }).unwrap();
    revoke(&directory, Some(Role::Engine), "rack-4").unwrap();
    issue(&directory, &new).unwrap();
    let of_name: Vec<(String, State)> = states(&directory).into_iter().filter(|(name, _)| name.ends_with("rack-4")).collect();
    let expected = [
        ("engine rack-4", State::Revoked),
        ("client rack-4", State::Valid),
        ("engine rack-4", State::Revoked),
        ("engine rack-4", State::Valid),
    ];
    assert_eq!(of_name, expected.map(|(name, state)| (name.to_owned(), state)));
    // A file of somebody else's.
    let output = directory.join("notes.json");
    fs::write(&output, "mine").unwrap();
    let onto = Request { output: Some(output.clone()), ..request(Role::Engine, "other") };
    assert!(matches!(issue(&directory, &onto), Err(CertificatesError::Exists { .. })));
    assert_eq!(fs::read_to_string(&output).unwrap(), "mine");
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing_behind() {
    let (dir, directory) = cluster();
    let before = list(&directory).unwrap();
    let good = request(Role::Engine, "good");
    let nowhere = Some(dir.path("nowhere").join("file.json"));
    for (wrong, said) in [
        (request(Role::Controller, "second"), "controller"),
        (Request { admin: true, ..good.clone() }, "only a client"),
        (Request { days: 0, ..good.clone() }, "1 to 7305 days"),
        (Request { days: u32::MAX, ..good.clone() }, "1 to 7305 days"),
        (request(Role::Engine, "../up"), "../up"),
        (request(Role::Engine, ""), "1 to 63"),
        (Request { output: nowhere, ..good }, "nowhere"),
    ] {
        let error = issue(&directory, &wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{wrong:?}: {error}");
    }
    assert_eq!(list(&directory).unwrap(), before);
    let none = dir.path("none");
    let error = issue(&none, &request(Role::Engine, "e")).unwrap_err();
    assert!(matches!(error, CertificatesError::NoCluster { .. }), "{error}");
    assert!(!none.exists());
}

#[test]
fn what_is_revoked_must_be_there_and_be_meant() {
    let (_dir, directory) = cluster();
    let error = |role, name: &str| revoke(&directory, role, name).unwrap_err().to_string();
    for role in [Role::Client, Role::Engine] {
        issue(&directory, &request(role, "both")).unwrap();
    }
    assert!(error(None, "both").contains("--role"));
    assert_eq!(revoke(&directory, Some(Role::Client), "both").unwrap().len(), 1);
    assert_eq!(revoke(&directory, None, "both").unwrap()[0].role, Role::Engine);
    assert!(error(None, "both").contains("it was revoked on 2"));
    assert!(error(None, "nobody").contains("cert list"));
    assert!(error(None, "controller").contains("no valid certificate"));
    assert!(error(Some(Role::Controller), "controller").contains("its own certificate"));
}

#[test]
fn a_cluster_from_before_the_lists_has_its_certificates_listed() {
    let (_dir, directory) = cluster();
    fs::remove_file(directory.join("issued.json")).unwrap();
    let names: Vec<String> = states(&directory).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["controller controller", "client client", "engine engine"]);
    assert_eq!(revoke(&directory, None, "engine").unwrap().len(), 1);
}
