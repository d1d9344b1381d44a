//! Certificates that are revoked while their nodes are linked, or away; and those that have expired.

use std::{fs, path::PathBuf};

use engineroom_runtime::{
    net::{
        certificates::{self, Request},
        identity::{Identity, Role},
        revocation::Revocations,
        security_dir::SecurityDir,
        tls::ConnectFailure,
    },
    node::LinkEvent,
};

use crate::support::*;

/// A cluster's security directory, removed when the test ends.
struct Place(PathBuf);

impl Place {
    fn new() -> (Self, TestNode) {
        let place = Self(std::env::temp_dir().join(format!("engineroom-links-{:016x}", rand::random::<u64>())));
        let security = SecurityDir::open_or_create(&place.0, "lab").unwrap();
        let revocations = Revocations::load(&place.0).unwrap();
        let more: More = Box::new(|node| node.refuse_revoked(revocations));
        let setup = Setup { listen: Some(loopback(0)), more: Some(more), ..Setup::default() };
        let controller = TestNode::start(security.controller().clone(), setup);
        for role in [Role::Client, Role::Engine] {
            security.connection_file(role, &controller.address.to_string()).unwrap();
        }
        (place, controller)
    }

    fn issue(&self, role: Role, name: &str) -> Identity {
        let admin = role == Role::Client;
        let request = Request { role, name: name.into(), days: 1, admin, replace: false, output: None };
        certificates::issue(&self.0, &request).unwrap().identity().clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn dialling(identity: &Identity, controller: &TestNode) -> TestNode {
    let dial = Some(controller.address.to_string());
    TestNode::start(identity.clone(), Setup { dial, ..Setup::default() })
}

/// The next failure to dial; no link may come up before it.
async fn refused(node: &mut TestNode) -> ConnectFailure {
    loop {
        match bounded(node.events.recv()).await.expect("the node lives") {
            LinkEvent::DialFailed { failure, .. } => return failure,
            LinkEvent::Down(..) => {}
            LinkEvent::Up(link) => panic!("{link:?} came up"),
        }
    }
}

#[test]
fn a_revoked_node_is_cut_off_and_told_and_does_not_return() {
    run(async {
        let (place, mut controller) = Place::new();
        let (bad, good) = (place.issue(Role::Engine, "bad"), place.issue(Role::Client, "good"));
        let mut engine = dialling(&bad, &controller);
        let to_engine = controller.up().await;
        engine.up().await;
        let mut client = dialling(&good, &controller);
        let (to_client, _) = (controller.up().await, client.up().await);
        assert!(to_client.peer().admin && !to_engine.peer().admin);

        certificates::revoke(&place.0, Some(Role::Engine), "bad").unwrap();
        assert_eq!(controller.down().await.0, to_engine);
        let (_, reason) = engine.down().await;
        assert!(reason.contains("certificate was revoked on 2"), "{reason}");
        let failure = refused(&mut engine).await;
        let ConnectFailure::Revoked { detail } = &failure else { panic!("{failure:?}") };
        assert!(detail.contains("engineroom cert new engine --name bad"), "{detail}");

        // Another life of it is refused at once, whatever the running controller has read by then.
        let mut again = dialling(&bad, &controller);
        assert_eq!(refused(&mut again).await, failure);
        // Neither goes on dialling: their events are over when they are stopped.
        for node in [engine, again] {
            let mut events = node.events;
            assert!(node.thread.shutdown(LIMIT).finished);
            assert!(events.recv().await.is_none());
        }
        // Nobody else is touched.
        assert!(to_client.is_up());
        probe(&to_client).ask(&Note(1), LONG).await.unwrap();

        let next = place.issue(Role::Engine, "bad");
        let mut engine = dialling(&next, &controller);
        engine.up().await;
    });
}

#[test]
fn one_that_is_revoked_while_the_controller_is_away_is_refused_when_it_is_back() {
    run(async {
        let (place, controller) = Place::new();
        let bad = place.issue(Role::Client, "bad");
        controller.stop();
        certificates::revoke(&place.0, None, "bad").unwrap();
        let security = SecurityDir::open_or_create(&place.0, "lab").unwrap();
        let revocations = Revocations::load(&place.0).unwrap();
        let more: More = Box::new(|node| node.refuse_revoked(revocations));
        let setup = Setup { listen: Some(loopback(0)), more: Some(more), ..Setup::default() };
        let controller = TestNode::start(security.controller().clone(), setup);
        let mut client = dialling(&bad, &controller);
        assert!(matches!(refused(&mut client).await, ConnectFailure::Revoked { .. }));
    });
}

#[test]
fn a_controller_shows_its_renewed_certificate_without_a_restart() {
    run(async {
        let old = identity(Role::Controller, "main");
        let (go, wait) = tokio::sync::oneshot::channel::<Identity>();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let more: More = Box::new(|node| {
            let node = node.clone();
            tokio::task::spawn_local(async move {
                node.present(&wait.await.unwrap()).unwrap();
                done.send(()).unwrap();
            });
        });
        let setup = Setup { listen: Some(loopback(0)), more: Some(more), ..Setup::default() };
        let controller = TestNode::start(old.clone(), setup);
        let mut before = TestNode::dialling(Role::Client, controller.address);
        let first = before.up().await;
        go.send(authority().renew(&old, 10).unwrap()).unwrap();
        is_done.await.unwrap();
        let mut after = TestNode::dialling(Role::Client, controller.address);
        let second = after.up().await;
        assert_ne!(first.peer().serial, second.peer().serial);
        assert!(first.is_up());
    });
}

#[test]
fn a_node_whose_own_certificate_has_expired_says_when() {
    run(async {
        let controller = TestNode::controller();
        // From yesterday until now.
        let expired = authority().issue(Role::Engine, "late", 0).unwrap();
        let mut engine = dialling(&expired, &controller);
        let failure = refused(&mut engine).await;
        let ConnectFailure::OwnExpired { date } = &failure else { panic!("{failure:?}") };
        let text = failure.describe("host:1", Some("engine-late.json".as_ref()));
        let said = format!("the certificate in connection file engine-late.json expired on {date}: get a new one");
        assert!(text.starts_with(&said), "{text}");
    });
}
