//! How links and nodes come and go.

use std::time::Duration;

use engineroom_runtime::{
    net::{
        authority::{Authority, CERTIFICATE_DAYS},
        identity::Role,
        link::AskError,
        tls::ConnectFailure,
    },
    node::{DrainReport, LinkEvent},
    proto::packet::{CloseCode, TerminatedCode},
};
use futures_util::FutureExt;

use crate::support::*;

#[test]
fn a_dialler_comes_back_to_a_controller_that_was_restarted() {
    run(async {
        let identity_of_controller = identity(Role::Controller, "main");
        let listen = |address| Setup { listen: Some(address), ..Setup::default() };
        let first = TestNode::start(identity_of_controller.clone(), listen(loopback(0)));
        let address = first.address;
        let mut engine = TestNode::dialling(Role::Engine, address);
        let old = engine.up().await;
        let asked = probe(&old).ask(&Hold(pattern(1)), LONG);
        let ended = probe(&old).monitor();
        // Answered, so that what came before it is there.
        probe(&old).ask(&Note(1), LONG).await.unwrap();
        first.stop();
        assert!(matches!(bounded(asked).await, Err(AskError::LinkLost(_))));
        assert_eq!(bounded(ended).await.code, TerminatedCode::LinkLost);
        assert_eq!(engine.down().await.0, old);

        let mut second = TestNode::start(identity_of_controller, listen(address));
        let new = engine.up().await;
        assert_ne!(new, old);
        assert_ne!(new.id(), old.id());
        assert_ne!(new.peer().incarnation, old.peer().incarnation);
        second.up().await;
        probe(&new).ask(&Note(2), LONG).await.unwrap();
        assert!(!old.is_up());
        // Each end was told once.
        let more = std::iter::from_fn(|| engine.events.try_recv().ok());
        assert_eq!(more.filter(|event| matches!(event, LinkEvent::Down(..))).count(), 0);
    });
}

/// The next life knew nothing of the links, and was silent about them: their end was noticed by the idle timeout.
#[test]
fn a_controller_that_was_killed_and_is_back_is_noticed_by_the_next_packet() {
    run(async {
        let identity_of_controller = identity(Role::Controller, "main");
        let listen = |address| Setup { listen: Some(address), ..Setup::default() };
        let first = TestNode::start(identity_of_controller.clone(), listen(loopback(0)));
        let address = first.address;
        let (mut silent, mut busy) = (TestNode::dialling(Role::Engine, address), TestNode::dialling(Role::Client, address));
        let (to_first, _) = (busy.up().await, silent.up().await);
        probe(&to_first).ask(&Note(1), LONG).await.unwrap();
        // With the links in its events, which keep the socket.
        drop(first);
        while std::net::UdpSocket::bind(address).is_err() {
            tokio::task::yield_now().await;
        }
        let mut second = TestNode::start(identity_of_controller, listen(address));
        // Short, so that it is as small as packets come.
        probe(&to_first).tell(&Note(2)).unwrap();
        // A keep-alive is all that the other one sends.
        for node in [&mut busy, &mut silent] {
            assert_eq!(node.down().await.1, "the other side was restarted");
            let again = node.up().await;
            probe(&again).ask(&Note(3), LONG).await.unwrap();
            second.up().await;
        }
    });
}

#[test]
fn a_link_that_one_side_closes_is_down_once_on_both_and_is_dialled_again() {
    run(async {
        let (mut controller, mut client, to_client, to_controller) = pair(Role::Client).await;
        to_client.close(CloseCode::Internal, "enough");
        let (ended, reason) = client.down().await;
        assert_eq!(ended, to_controller);
        assert!(reason.contains("enough"), "{reason}");
        assert_eq!(controller.down().await.0, to_client);
        let again = client.up().await;
        controller.up().await;
        probe(&again).ask(&Note(1), LONG).await.unwrap();
    });
}

/// Nothing of a link comes after the report of its end, so that whoever cleans up then has cleaned up.
#[test]
fn no_message_comes_after_the_end_of_its_link() {
    run(async {
        let (mut controller, mut client, _, first) = pair(Role::Client).await;
        let mut link = first;
        for round in 0..30 {
            // Some short, some long, the long ones in every stage of their journey.
            for number in 0..20 {
                let _ = probe(&link).tell(&Hold(pattern(if number % 2 == 0 { 100 } else { 40_000 * (1 + round % 5) })));
            }
            probe(&link).ask(&Note(round as u64), LONG).await.unwrap();
            link.close(CloseCode::Done, "next");
            link = client.up().await;
        }
        let mut ended = Vec::new();
        // An end that is not told is noticed later: a close waits behind a full congestion window.
        while ended.len() < 30 {
            match controller.sees().await {
                Seen::Down { link } => ended.push(link),
                Seen::Note { link, .. } | Seen::Held { link, .. } => {
                    assert!(!ended.contains(&link), "a message of link {link} came after its end");
                }
                Seen::Privileged => unreachable!(),
            }
        }
        ended.sort_unstable();
        ended.dedup();
        assert_eq!(ended.len(), 30);
    });
}

#[test]
fn what_was_told_before_an_orderly_end_arrives() {
    const COUNT: u64 = 50_000;
    run(async {
        let (mut controller, client, to_client, link) = pair(Role::Client).await;
        for number in 0..COUNT {
            probe(&link).tell(&Note(number)).unwrap();
        }
        client.stop();
        for number in 0..COUNT {
            assert_eq!(controller.sees().await, Seen::Note { link: to_client.id(), number });
        }
        assert_eq!(controller.sees().await, Seen::Down { link: to_client.id() });
    });
}

#[test]
fn a_step_of_the_end_that_does_not_finish_is_reported_and_the_others_are_taken() {
    run(async {
        let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let more = move |node: &engineroom_runtime::node::Node| {
            let (first, last) = (sender.clone(), sender);
            node.on_drain("first", move |_| async move { first.send("first").map_err(|_| "gone".into()) }.boxed_local());
            node.on_drain("fails", |_| async { Err("3 results are not kept".into()) }.boxed_local());
            node.on_drain("hangs", |_| std::future::pending().boxed_local());
            node.on_drain("last", move |_| async move { last.send("last").map_err(|_| "gone".into()) }.boxed_local());
        };
        let setup = Setup { listen: Some(loopback(0)), more: Some(Box::new(more)), ..Setup::default() };
        let node = TestNode::start(identity(Role::Controller, "main"), setup);
        let report = node.thread.shutdown(Duration::from_millis(20));
        let unfinished = vec!["fails: 3 results are not kept".into(), "hangs: it was still busy".into()];
        assert_eq!(report, DrainReport { finished: false, unfinished });
        assert_eq!((taken.recv().await, taken.recv().await), (Some("first"), Some("last")));
    });
}

#[test]
fn a_peer_that_is_shutting_down_takes_no_new_links() {
    run(async {
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let more = |node: &engineroom_runtime::node::Node| {
            node.on_drain("wait", |_| async { wait.await.map_err(|_| "nobody".into()) }.boxed_local());
        };
        let setup = Setup { listen: Some(loopback(0)), more: Some(Box::new(more)), ..Setup::default() };
        let controller = TestNode::start(identity(Role::Controller, "main"), setup);
        let address = controller.address;
        let stopping = std::thread::spawn(move || controller.stop());
        let mut client = TestNode::dialling(Role::Client, address);
        let failure = loop {
            match bounded(client.events.recv()).await.unwrap() {
                LinkEvent::DialFailed { failure, .. } => break failure,
                // It came just before the end began.
                LinkEvent::Up(link) => link.close(CloseCode::Done, "once more"),
                LinkEvent::Down(..) => {}
            }
        };
        assert!(matches!(failure, ConnectFailure::Rejected { retryable: true, .. }), "{failure:?}");
        go.send(()).unwrap();
        stopping.join().unwrap();
    });
}

#[test]
fn nodes_of_another_cluster_are_told_so() {
    run(async {
        let mut controller = TestNode::controller();
        for cluster in ["lab", "elsewhere"] {
            let stranger = Authority::create(cluster).unwrap().issue(Role::Client, "peer", CERTIFICATE_DAYS).unwrap();
            let dial = Some(controller.address.to_string());
            let mut client = TestNode::start(stranger, Setup { dial, ..Setup::default() });
            match bounded(client.events.recv()).await.unwrap() {
                LinkEvent::DialFailed { address, failure } => {
                    assert_eq!(address, controller.address.to_string());
                    assert_eq!(failure, ConnectFailure::WrongAuthority, "{cluster}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(controller.events.try_recv().is_err());
    });
}

#[test]
fn a_controller_lets_no_controller_in_and_only_controllers_are_dialled() {
    run(async {
        let mut controller = TestNode::controller();
        let dial = Some(controller.address.to_string());
        let setup = Setup { dial, ..Setup::default() };
        let mut second = TestNode::start(identity(Role::Controller, "second"), setup);
        match bounded(second.events.recv()).await.unwrap() {
            LinkEvent::DialFailed { failure: ConnectFailure::Rejected { retryable: false, .. }, .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(controller.events.try_recv().is_err());

        // An engine that plays the controller has a certificate that says that it is none.
        let listen = Some(loopback(0));
        let engine = TestNode::start(identity(Role::Engine, "impostor"), Setup { listen, ..Setup::default() });
        let mut client = TestNode::dialling(Role::Client, engine.address);
        match bounded(client.events.recv()).await.unwrap() {
            LinkEvent::DialFailed { failure: ConnectFailure::ServerCertificate { .. }, .. } => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn nothing_listens_and_the_dialler_goes_on_until_something_does() {
    run(async {
        let free = std::net::UdpSocket::bind(loopback(0)).unwrap();
        let address = free.local_addr().unwrap();
        let mut client = TestNode::dialling(Role::Client, address);
        match bounded(client.events.recv()).await.unwrap() {
            LinkEvent::DialFailed { failure: ConnectFailure::NoAnswer, .. } => {}
            other => panic!("{other:?}"),
        }
        drop(free);
        let setup = Setup { listen: Some(address), ..Setup::default() };
        let _controller = TestNode::start(identity(Role::Controller, "main"), setup);
        client.up().await;
    });
}

/// "localhost" may be `::1` first, where nothing answers.
#[test]
fn all_addresses_of_a_name_are_tried() {
    run(async {
        let controller = TestNode::controller();
        let dial = Some(format!("localhost:{}", controller.address.port()));
        let mut client = TestNode::start(identity(Role::Client, "peer"), Setup { dial, ..Setup::default() });
        let link = client.up().await;
        probe(&link).ask(&Note(1), LONG).await.unwrap();
    });
}

/// Sockets are what outlives a thread.
#[test]
fn nodes_leave_nothing_open_behind_them() {
    let sockets = |ports: &[u16]| {
        // Other tests of this process have sockets too; these ports were of nodes that are gone.
        ports.iter().filter(|port| std::net::UdpSocket::bind(loopback(**port)).is_err()).count()
    };
    run(async {
        let mut ports = Vec::new();
        for _ in 0..10 {
            let (controller, client, to_client, to_controller) = pair(Role::Client).await;
            probe(&to_controller).ask(&Note(1), LONG).await.unwrap();
            ports.extend([controller.address.port(), to_client.peer().address.port()]);
            client.stop();
            controller.stop();
            drop((to_client, to_controller));
        }
        assert_eq!(sockets(&ports), 0);
    });
}

#[test]
fn two_clusters_live_in_one_process() {
    run(async {
        let (mut one, _client_of_one, _, to_one) = pair(Role::Client).await;
        let (mut two, _engine_of_two, _, to_two) = pair(Role::Engine).await;
        probe(&to_one).ask(&Note(1), LONG).await.unwrap();
        probe(&to_two).ask(&Note(2), LONG).await.unwrap();
        assert!(matches!(one.sees().await, Seen::Note { number: 1, .. }));
        assert!(matches!(two.sees().await, Seen::Note { number: 2, .. }));
        one.stop();
        probe(&to_two).ask(&Note(3), LONG).await.unwrap();
    });
}
