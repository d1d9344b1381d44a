//! The end of an actor is told exactly once, whatever it is.

use std::time::Duration;

use engineroom_runtime::{
    actor::{RemoteAddr, Restart},
    net::{
        identity::Role,
        link::{AskError, Link, SendError},
    },
    node::LinkEvent,
    proto::packet::{AskCode, CloseCode, TerminatedCode, TerminatedReason},
};
use futures_util::FutureExt;
use tokio::sync::mpsc::unbounded_channel;

use crate::support::*;

#[test]
fn a_stop_a_panic_and_an_absence_are_told_apart() {
    run(async {
        for (order, expected) in [(Misbehave::Stop, TerminatedCode::Stopped), (Misbehave::Panic, TerminatedCode::Panicked)] {
            let (_controller, _client, _, link) = pair(Role::Client).await;
            let before = probe(&link).monitor();
            probe(&link).tell(&order).unwrap();
            assert_eq!(bounded(before).await.code, expected);
            // Whoever comes later hears the same.
            assert_eq!(bounded(probe(&link).monitor()).await.code, expected);
            let nobody: RemoteAddr<Probe> = RemoteAddr::new(link.clone(), NOBODY);
            assert_eq!(bounded(nobody.monitor()).await.code, TerminatedCode::NoSuchActor);
            assert!(link.is_up());
        }
    });
}

#[test]
fn a_lost_link_ends_every_monitor_and_ask() {
    run(async {
        let (controller, mut client, _, link) = pair(Role::Client).await;
        let (ended, asked) = (probe(&link).monitor(), probe(&link).ask(&Hold(pattern(1)), LONG));
        controller.stop();
        assert_eq!(bounded(ended).await.code, TerminatedCode::LinkLost);
        let error = bounded(asked).await.unwrap_err();
        assert!(matches!(error, AskError::LinkLost(_)), "{error:?}");
        assert!(!error.certainly_not_executed());
        assert_eq!(client.down().await.0, link);
        assert_later_wishes_end(&link).await;
    });
}

async fn assert_later_wishes_end(link: &Link) {
    assert!(!link.is_up());
    assert_eq!(bounded(probe(link).monitor()).await.code, TerminatedCode::LinkLost);
    let error = bounded(probe(link).ask(&Note(1), LONG)).await.unwrap_err();
    assert!(matches!(error, AskError::NotSent(SendError::Down { .. })), "{error:?}");
    assert!(matches!(probe(link).tell(&Note(1)), Err(SendError::Down { .. })));
}

/// At the moment when a link is reported to be down its tasks have not ended yet.
#[test]
fn a_wish_from_within_the_report_of_a_links_end_ends_too() {
    run(async {
        let mut controller = TestNode::controller();
        let (sender, mut outcomes) = unbounded_channel();
        let on_event = move |event: &LinkEvent| {
            if let LinkEvent::Down(link, _) = event {
                let (ended, asked) = (probe(link).monitor(), probe(link).ask(&Note(1), LONG));
                let sender = sender.clone();
                tokio::task::spawn_local(async move {
                    let _: Result<(), _> = sender.send((ended.await, asked.await));
                });
            }
        };
        let dial = Some(controller.address.to_string());
        let setup = Setup { dial, on_event: Some(Box::new(on_event)), ..Setup::default() };
        let mut client = TestNode::start(identity(Role::Client, "peer"), setup);
        client.up().await;
        controller.up().await.close(CloseCode::Done, "that was all");
        let (ended, asked) = bounded(outcomes.recv()).await.unwrap();
        assert_eq!(ended.code, TerminatedCode::LinkLost);
        assert!(matches!(asked, Err(AskError::NotSent(SendError::Down { .. }))), "{asked:?}");
    });
}

#[test]
fn monitors_that_nobody_waits_for_leave_nothing_behind() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let nobody: RemoteAddr<Probe> = RemoteAddr::new(link.clone(), NOBODY);
        for _ in 0..1_000 {
            drop(nobody.monitor());
        }
        assert_eq!(bounded(nobody.monitor()).await.code, TerminatedCode::NoSuchActor);
        assert!(link.is_up());
    });
}

#[test]
fn a_restarted_actor_keeps_its_number_until_it_has_panicked_too_often() {
    run(async {
        let restart = Some(Restart::UpTo { most: 2, within: Duration::from_secs(3600) });
        let listen = Some(loopback(0));
        let controller = TestNode::start(identity(Role::Controller, "main"), Setup { listen, restart, ..Setup::default() });
        let mut client = TestNode::dialling(Role::Client, controller.address);
        let link = client.up().await;
        let mut ended = std::pin::pin!(probe(&link).monitor());
        for _ in 0..2 {
            assert!(probe(&link).ask(&Misbehave::Panic, LONG).await.is_err());
            // The new actor has the same number; a moment passes before it is there.
            while probe(&link).ask(&Note(1), LONG).await.is_err() {}
            assert!(ended.as_mut().now_or_never().is_none());
        }
        assert!(probe(&link).ask(&Misbehave::Panic, LONG).await.is_err());
        let TerminatedReason { code, text } = bounded(ended).await;
        assert_eq!(code, TerminatedCode::Panicked);
        assert!(text.contains("on purpose"), "{text}");
        let error = probe(&link).ask(&Note(1), LONG).await.unwrap_err();
        assert!(matches!(error, AskError::Refused { code: AskCode::ActorStopped, .. }), "{error:?}");
    });
}
