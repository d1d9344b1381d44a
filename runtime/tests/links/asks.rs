//! Telling and asking: order, answers, refusals, deadlines, and who may send what.

use std::time::Duration;

use bytes::Bytes;
use engineroom_runtime::{
    actor::RemoteAddr,
    net::{
        identity::Role,
        link::{AskError, SOON, SendError},
    },
    proto::packet::AskCode,
};

use crate::support::*;

#[test]
fn both_sides_hear_of_a_link_and_each_other() {
    run(async {
        let (_controller, _engine, to_engine, to_controller) = pair(Role::Engine).await;
        assert_eq!(to_engine.peer().name.to_string(), "spiffe://lab/engine/peer");
        assert_eq!(to_controller.peer().name.to_string(), "spiffe://lab/controller/main");
        assert_ne!(to_engine.peer().incarnation, to_controller.peer().incarnation);
        assert!(to_engine.is_up() && to_controller.is_up());
    });
}

#[test]
fn what_is_told_arrives_in_order_from_either_side() {
    const COUNT: u64 = 20_000;
    run(async {
        let (mut controller, mut client, to_client, to_controller) = pair(Role::Client).await;
        for number in 0..COUNT {
            probe(&to_controller).tell(&Note(number)).unwrap();
            probe(&to_client).tell(&Note(number)).unwrap();
        }
        for number in 0..COUNT {
            assert_eq!(controller.sees().await, Seen::Note { link: to_client.id(), number });
            assert_eq!(client.sees().await, Seen::Note { link: to_controller.id(), number });
        }
    });
}

#[test]
fn what_is_not_urgent_keeps_its_place_and_leaves_without_company_too() {
    const COUNT: u64 = 3_000;
    run(async {
        let (mut controller, _client, to_client, to_controller) = pair(Role::Client).await;
        for number in 0..COUNT {
            let to = probe(&to_controller);
            // Alone at the end, and by the hundred before.
            let told = if number % 100 == 99 && number + 1 < COUNT {
                to.tell(&Note(number))
            } else {
                to.tell_within(SOON, &Note(number))
            };
            told.unwrap();
        }
        for number in 0..COUNT {
            assert_eq!(controller.sees().await, Seen::Note { link: to_client.id(), number });
        }
    });
}

#[test]
fn what_is_not_urgent_costs_no_packet_of_its_own_beside_what_is() {
    const COUNT: u64 = 200;
    run(async {
        let (mut controller, _client, _, to_controller) = pair(Role::Client).await;
        let before = to_controller.datagrams_sent();
        for number in 0..COUNT {
            probe(&to_controller).tell_within(SOON, &Note(2 * number)).unwrap();
            tokio::task::yield_now().await;
            probe(&to_controller).tell(&Note(2 * number + 1)).unwrap();
            for _ in 0..2 {
                controller.sees().await;
            }
        }
        let sent = to_controller.datagrams_sent() - before;
        // One for each pair, and what the transport needs for itself.
        assert!(sent < 2 * COUNT, "{sent} packets for {COUNT} pairs");
    });
}

#[test]
fn asks_are_answered_each_with_its_own_answer() {
    run(async {
        let (_controller, _client, to_client, to_controller) = pair(Role::Client).await;
        for link in [&to_client, &to_controller] {
            let asked: Vec<_> = (0..100).map(|number| probe(link).ask(&Echo(pattern(number)), LONG)).collect();
            for (number, answer) in asked.into_iter().enumerate() {
                assert_eq!(answer.await.unwrap(), pattern(number));
            }
        }
    });
}

#[test]
fn an_answer_may_come_later_and_out_of_order_with_others() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let held = [probe(&link).ask(&Hold(Bytes::new()), LONG), probe(&link).ask(&Hold(Bytes::new()), LONG)];
        assert_eq!(probe(&link).ask(&Echo(pattern(3)), LONG).await.unwrap(), pattern(3));
        probe(&link).ask(&Release, LONG).await.unwrap();
        for (place, answer) in (0..).zip(held) {
            assert_eq!(answer.await, Ok(place));
        }
    });
}

#[test]
fn an_ask_ends_at_its_deadline_and_the_late_answer_hurts_nobody() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let deadline = Duration::from_millis(1);
        let error = probe(&link).ask(&Hold(Bytes::new()), deadline).await.unwrap_err();
        assert_eq!(error, AskError::Deadline(deadline));
        assert!(!error.certainly_not_executed());
        probe(&link).ask(&Release, LONG).await.unwrap();
        assert_eq!(probe(&link).ask(&Echo(pattern(1)), LONG).await.unwrap(), pattern(1));
    });
}

#[test]
fn what_an_actor_does_not_answer_is_told_to_the_asker() {
    run(async {
        for (order, expected, safe) in [
            (Misbehave::Drop, AskCode::ActorStopped, false),
            (Misbehave::Refuse, AskCode::Busy, true),
            (Misbehave::Panic, AskCode::ActorStopped, false),
            (Misbehave::Stop, AskCode::ActorStopped, false),
        ] {
            let (_controller, _client, _, link) = pair(Role::Client).await;
            let error = probe(&link).ask(&order, LONG).await.unwrap_err();
            assert!(matches!(&error, AskError::Refused { code, .. } if *code == expected), "{order:?}: {error:?}");
            assert_eq!(error.certainly_not_executed(), safe, "{order:?}");
        }
    });
}

#[test]
fn an_answer_that_cannot_be_sent_does_not_look_as_if_nothing_had_happened() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let error = probe(&link).ask(&Unspeakable, LONG).await.unwrap_err();
        assert!(matches!(error, AskError::Refused { code: AskCode::ReplyTooLarge, .. }), "{error:?}");
        assert!(!error.certainly_not_executed());
    });
}

#[test]
fn a_message_is_for_the_roles_that_may_send_it() {
    run(async {
        let (mut controller, mut engine, _, link) = pair(Role::Engine).await;
        let error = probe(&link).ask(&Privileged, LONG).await.unwrap_err();
        assert!(matches!(error, AskError::Refused { code: AskCode::NotAllowed, .. }), "{error:?}");
        assert!(error.certainly_not_executed() && link.is_up());
        probe(&link).tell(&Privileged).unwrap();
        let (ended, reason) = engine.down().await;
        assert_eq!(ended, link);
        assert!(reason.contains("engine may not send privileged"), "{reason}");
        assert!(matches!(controller.sees().await, Seen::Down { .. }), "it was delivered");

        let (mut controller, _client, _, link) = pair(Role::Client).await;
        probe(&link).ask(&Privileged, LONG).await.unwrap();
        assert_eq!(controller.sees().await, Seen::Privileged);
    });
}

#[test]
fn messages_of_another_version_are_not_sent() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let error = probe(&link).tell(&NewNote(1)).unwrap_err();
        assert!(matches!(error, SendError::NotAccepted { name: "note", version: 2, .. }), "{error:?}");
        let error = probe(&link).ask(&NewNote(1), LONG).await.unwrap_err();
        assert!(matches!(&error, AskError::NotSent(SendError::NotAccepted { .. })), "{error:?}");
        assert!(error.certainly_not_executed());
    });
}

#[test]
fn a_payload_that_is_no_such_message_is_refused_or_ends_the_link() {
    run(async {
        let (_controller, mut client, _, link) = pair(Role::Client).await;
        let error = probe(&link).ask(&FalseEcho(vec!["no".into()]), LONG).await.unwrap_err();
        assert!(matches!(error, AskError::Refused { code: AskCode::BadPayload, .. }), "{error:?}");
        probe(&link).tell(&FalseEcho(vec!["no".into()])).unwrap();
        let (_, reason) = client.down().await;
        assert!(reason.contains("the payload is no echo"), "{reason}");
    });
}

#[test]
fn an_actor_that_is_not_there_refuses_asks_and_swallows_what_is_told() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let nobody: RemoteAddr<Probe> = RemoteAddr::new(link.clone(), NOBODY);
        nobody.tell(&Note(1)).unwrap();
        let error = nobody.ask(&Note(1), LONG).await.unwrap_err();
        assert!(matches!(error, AskError::Refused { code: AskCode::NoSuchActor, .. }), "{error:?}");
        assert!(error.certainly_not_executed() && link.is_up());
    });
}
