//! Peers with a valid certificate that do with a link what no node does.

use bytes::Bytes;
use engineroom_runtime::{
    net::{authority::server_name, identity::Role, tls},
    node::LinkEvent,
    proto::{
        frame::{BODY_BYTES_MAX, Decoder, Frame, frame_header},
        handshake::{Dial, Hello, Incarnation, Limits, PROTOCOL_VERSIONS},
        packet::{CloseCode, Packet, PacketHead, TerminatedCode, TerminatedReason},
    },
};

use crate::support::*;

/// A connection with a finished handshake and nothing behind it.
struct Raw {
    connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    decoder: Decoder,
    /// The index of `hold` at the other side.
    hold: u16,
    _endpoint: quinn::Endpoint,
}

impl Raw {
    async fn connect(controller: &TestNode) -> Self {
        let identity = identity(Role::Client, "raw");
        let endpoint = tls::endpoint(loopback(0), None).unwrap();
        let config = tls::client_config(&identity).unwrap();
        let connecting = endpoint.connect_with(config, controller.address, &server_name("lab")).unwrap();
        let connection = bounded(connecting).await.unwrap();
        let (mut send, receive) = connection.open_bi().await.unwrap();
        let (hello, dial) = Dial::start(hello()).unwrap();
        send.write_all(&hello).await.unwrap();
        let mut raw = Self { connection, send, receive, decoder: Decoder::new(BODY_BYTES_MAX), hold: 0, _endpoint: endpoint };
        let welcome = raw.frame().await;
        raw.hold = dial.on_frame(welcome).unwrap().messages.index("hold", 1).unwrap();
        raw
    }

    async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let chunk = bounded(self.receive.read_chunk(1 << 16, true)).await.unwrap().unwrap();
            self.decoder.push(&chunk.bytes);
        }
    }

    async fn packet(&mut self) -> Packet {
        Packet::parse(self.frame().await).unwrap()
    }

    /// Waits for the other side to close the connection, for that reason.
    async fn assert_closed(&self, expected: CloseCode, what: &str) {
        match bounded(self.connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => {
                assert_eq!(close.error_code.into_inner(), u64::from(expected.code()), "{what}");
            }
            // A close that had to wait for the congestion window is never sent: <https://github.com/quinn-rs/quinn/issues/2785>.
            quinn::ConnectionError::Reset => {}
            other => panic!("{what}: {other}"),
        }
    }
}

fn hello() -> Hello {
    Hello {
        protocol_min: PROTOCOL_VERSIONS.0,
        protocol_max: PROTOCOL_VERSIONS.1,
        features: 0,
        incarnation: Incarnation::from_u128(1),
        build_id: "raw".into(),
        accepts: vec![("note".into(), 1), ("echo".into(), 1)],
        limits: Limits { frame_bytes_max: 65_536, message_bytes_max: 1 << 30 },
    }
}

/// Otherwise the link would be up and take nothing, for as long as the peer likes.
#[test]
fn a_peer_that_stops_the_control_stream_loses_its_link() {
    run(async {
        let mut controller = TestNode::controller();
        let mut raw = Raw::connect(&controller).await;
        let link = controller.up().await;
        raw.receive.stop(quinn::VarInt::from_u32(0)).unwrap();
        while probe(&link).tell(&Note(1)).is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(controller.down().await.0, link);
        // It may not be told why: a close waits behind a full congestion window.
        bounded(raw.connection.closed()).await;
    });
}

#[test]
fn a_peer_that_reads_nothing_fills_its_queue_and_no_more() {
    run(async {
        let mut controller = TestNode::controller();
        let raw = Raw::connect(&controller).await;
        let link = controller.up().await;
        for bytes in [30 << 10, 1 << 20] {
            let (payload, mut sent) = (pattern(bytes), 0);
            while probe(&link).tell(&Echo(payload.clone())).is_ok() {
                sent += bytes;
                assert!(sent < 700 << 20, "a queue that nobody reads from took {sent} bytes");
                if sent % (8 << 20) == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        assert!(link.is_up());
        link.close(CloseCode::Done, "enough");
        controller.down().await;
        raw.assert_closed(CloseCode::Done, "a link that was closed").await;
    });
}

#[test]
fn monitors_of_one_link_are_bounded() {
    run(async {
        let controller = TestNode::controller();
        let mut raw = Raw::connect(&controller).await;
        let mut frames = bytes::BytesMut::new();
        // Well beyond any bound, in portions that do not overrun the answers' queue.
        for monitor in 0..100_000 {
            Packet::Monitor { monitor, actor: PROBE.0 }.encode_into(&mut frames).unwrap();
        }
        let written = raw.send.write_all(&frames).await;
        let first = raw.packet().await;
        let Packet::Terminated { monitor, reason } = first else { panic!("{first:?}") };
        written.unwrap();
        assert!(monitor <= 16_384, "{monitor} monitors of one link are kept");
        assert_eq!(reason.code, TerminatedCode::Refused);
        // The actor can still be monitored by others.
        let mut client = TestNode::dialling(Role::Client, controller.address);
        let link = client.up().await;
        let ended = probe(&link).monitor();
        probe(&link).tell(&Misbehave::Stop).unwrap();
        assert_eq!(bounded(ended).await.code, TerminatedCode::Stopped);
    });
}

#[test]
fn answers_to_nothing_are_swallowed() {
    run(async {
        let mut controller = TestNode::controller();
        let mut raw = Raw::connect(&controller).await;
        let link = controller.up().await;
        let mut frames = bytes::BytesMut::new();
        for number in [0, 1, u64::MAX] {
            let reason = TerminatedReason::new(TerminatedCode::Stopped, "never asked");
            Packet::Reply { ask: number, payload: Bytes::from_static(b"never asked") }.encode_into(&mut frames).unwrap();
            Packet::Terminated { monitor: number, reason }.encode_into(&mut frames).unwrap();
        }
        Packet::Ask { actor: NOBODY.0, message: 0, ask: 5, deadline_ms: 0, payload: Bytes::new() }
            .encode_into(&mut frames)
            .unwrap();
        raw.send.write_all(&frames).await.unwrap();
        assert!(matches!(raw.packet().await, Packet::Failure { ask: 5, .. }));
        assert!(link.is_up());
    });
}

#[test]
fn frames_that_are_none_end_the_link() {
    run(async {
        let mut controller = TestNode::controller();
        let reserved = [0, 0, 0, 0, 4, 0, 1, 0];
        for frame in [
            frame_header(4, 0, u32::MAX as usize).to_vec(),
            frame_header(4, 0, 0).to_vec(),
            frame_header(0, 0, 0).to_vec(),
            frame_header(11, 0, 0).to_vec(),
            frame_header(4, 1, 0).to_vec(),
            frame_header(1, 0, 0).to_vec(),
            reserved.to_vec(),
        ] {
            let mut raw = Raw::connect(&controller).await;
            let link = controller.up().await;
            raw.send.write_all(&frame).await.unwrap();
            raw.assert_closed(CloseCode::ProtocolViolation, &format!("{frame:?}")).await;
            let (ended, reason) = controller.down().await;
            assert_eq!(ended, link);
            assert!(reason.contains("it broke the protocol"), "{reason}");
        }
    });
}

/// What a bulk stream says of itself, and what it then brings.
struct Lie {
    what: &'static str,
    bytes: u64,
    hash: blake3::Hash,
    head: Vec<u8>,
    payload: Vec<u8>,
}

#[test]
fn bulk_that_lies_ends_the_link() {
    run(async {
        let mut controller = TestNode::controller();
        let hold = Raw::connect(&controller).await.hold;
        controller.down().await;
        let payload = rmp_serde::to_vec(&Hold(pattern(50_000))).unwrap();
        let (bytes, hash) = (payload.len() as u64, blake3::hash(&payload));
        let mut head = bytes::BytesMut::new();
        PacketHead::Tell { actor: PROBE.0, message: hold }.encode_into(&mut head);
        let head = head.to_vec();
        let lie = |what| Lie { what, bytes, hash, head: head.clone(), payload: payload.clone() };
        for lie in [
            Lie { bytes: u64::MAX, ..lie("endless") },
            Lie { bytes: (1 << 30) + 1, ..lie("longer than a message may be") },
            Lie { bytes: bytes + 1, ..lie("shorter than it says") },
            Lie { bytes: bytes - 1, ..lie("longer than it says") },
            Lie { hash: blake3::hash(b"else"), ..lie("of another hash") },
            Lie { head: Vec::new(), ..lie("without a head") },
            Lie { head: vec![9; 5], ..lie("with the head of something else") },
            Lie { head: vec![4; 60_000], ..lie("with an endless head") },
        ] {
            let raw = Raw::connect(&controller).await;
            let link = controller.up().await;
            let mut stream = raw.connection.open_uni().await.unwrap();
            let mut sent = lie.bytes.to_le_bytes().to_vec();
            sent.extend_from_slice(&(lie.head.len() as u16).to_le_bytes());
            sent.extend_from_slice(&lie.head);
            sent.extend_from_slice(&lie.payload);
            sent.extend_from_slice(lie.hash.as_bytes());
            // The other side may close before it has it all.
            let _ = stream.write_all(&sent).await;
            let _ = stream.finish();
            raw.assert_closed(CloseCode::ProtocolViolation, lie.what).await;
            assert_eq!(controller.down().await.0, link);
        }
        assert!(!matches!(controller.seen.try_recv(), Ok(Seen::Held { .. })));
    });
}

/// More than a node has under way at once; an honest one takes the place of the oldest.
#[test]
fn handshakes_that_are_held_open_keep_nobody_out() {
    run(async {
        let mut controller = TestNode::controller();
        let config = tls::client_config(&identity(Role::Client, "raw")).unwrap();
        let endpoint = tls::endpoint(loopback(0), None).unwrap();
        let mut held = Vec::new();
        for _ in 0..300 {
            let connecting = endpoint.connect_with(config.clone(), controller.address, &server_name("lab")).unwrap();
            held.extend(bounded(connecting).await);
        }
        let mut client = TestNode::dialling(Role::Client, controller.address);
        match bounded(client.events.recv()).await.unwrap() {
            LinkEvent::Up(link) => bounded(probe(&link).ask(&Note(1), LONG)).await.unwrap(),
            other => panic!("{other:?}"),
        }
        controller.up().await;
        // Each is given up, or takes too long.
        for connection in held {
            bounded(connection.closed()).await;
        }
    });
}
