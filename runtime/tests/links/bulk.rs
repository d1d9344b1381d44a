//! Long messages: whole, beside short ones, and within bounds.

use bytes::Bytes;
use engineroom_runtime::net::{gate::GATE_BYTES, identity::Role, link::INLINE_BYTES_MAX};
use futures_util::{FutureExt, future::join_all};

use crate::support::*;

const MIB: usize = 1 << 20;

#[test]
fn long_messages_are_whole_in_both_directions() {
    run(async {
        let (_controller, _client, to_client, to_controller) = pair(Role::Client).await;
        for bytes in [0, INLINE_BYTES_MAX - 8, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 40 << 10, MIB, 64 * MIB] {
            let sent = pattern(bytes);
            for link in [&to_client, &to_controller] {
                let received = bounded(probe(link).ask(&Echo(sent.clone()), LONG)).await.unwrap();
                assert!(received == sent, "{bytes} bytes came back changed");
            }
        }
    });
}

/// Those that are sent after a long message are answered before it, and it does not cost the link its window.
#[test]
fn short_asks_are_answered_while_long_ones_are_under_way() {
    run(async {
        let (_controller, _client, to_client, to_controller) = pair(Role::Client).await;
        let sent = pattern(64 * MIB);
        for link in [&to_client, &to_controller] {
            let mut long = Box::pin(join_all((0..4).map(|_| probe(link).ask(&Echo(sent.clone()), LONG))));
            for number in 0..100 {
                let short = bounded(probe(link).ask(&Echo(pattern(number)), LONG)).await.unwrap();
                assert_eq!(short, pattern(number));
                assert!((&mut long).now_or_never().is_none(), "256 MiB went both ways before {number} short asks");
            }
            for received in bounded(long).await {
                assert!(received.unwrap() == sent);
            }
        }
    });
}

#[test]
fn many_long_messages_wait_for_their_turn() {
    run(async {
        let (_controller, _client, _, link) = pair(Role::Client).await;
        let asked = join_all((0..300).map(|number| probe(&link).ask(&Echo(pattern(200_000 + number)), LONG)));
        for (number, received) in bounded(asked).await.into_iter().enumerate() {
            assert!(received.unwrap() == pattern(200_000 + number), "message {number} came back changed");
        }
    });
}

#[test]
fn a_flood_for_an_actor_that_is_stuck_ends_the_link_and_is_bounded() {
    run(async {
        let (mut controller, mut client, to_client, link) = pair(Role::Client).await;
        let held = Hold(pattern(16 << 10));
        let mut down = std::pin::pin!(client.down());
        let (_, reason) = loop {
            // When the link's queue is full, there is time for the other side.
            while probe(&link).tell(&held).is_ok() {}
            tokio::select! {
                biased;
                down = &mut down => break down,
                () = tokio::task::yield_now() => {}
            }
        };
        assert!(reason.contains("more messages than this node's actors have taken"), "{reason}");
        let mut held_bytes = 0;
        while let Seen::Held { bytes, .. } = controller.sees().await {
            held_bytes += bytes;
        }
        assert!(held_bytes > 0 && held_bytes <= GATE_BYTES as usize, "{held_bytes} bytes were let in");
        assert!(!to_client.is_up());
    });
}

/// Bulk waits for room instead: flow control holds the sender back.
#[test]
fn long_messages_for_an_actor_that_is_stuck_wait_and_do_not_disturb_short_ones() {
    run(async {
        let (mut controller, _client, _, link) = pair(Role::Client).await;
        let held = Hold(pattern(8 * MIB));
        let asked: Vec<_> = (0..24).map(|_| probe(&link).ask(&held, LONG)).collect();
        for _ in 0..4 {
            assert!(matches!(controller.sees().await, Seen::Held { .. }));
            assert_eq!(bounded(probe(&link).ask(&Echo(pattern(9)), LONG)).await.unwrap(), pattern(9));
        }
        let mut answers = Box::pin(join_all(asked));
        // Each release makes room for more, until all have passed.
        let answers = loop {
            bounded(probe(&link).ask(&Release, LONG)).await.unwrap();
            if let Some(answers) = (&mut answers).now_or_never() {
                break answers;
            }
        };
        assert_eq!(answers.len(), 24);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(bounded(probe(&link).ask(&Echo(Bytes::new()), LONG)).await.unwrap(), Bytes::new());
    });
}
