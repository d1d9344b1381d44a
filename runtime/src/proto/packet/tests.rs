use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use super::*;
use crate::proto::frame::{BODY_BYTES_MAX, Decoder};

fn payload() -> Bytes {
    Bytes::from_static(b"\x93\x01\x02\x03")
}

/// One packet of each kind, and its frame.
fn golden() -> Vec<(Packet, &'static [u8])> {
    let stopped = TerminatedReason { code: TerminatedCode::Panicked, text: "hé".into() };
    vec![
        (
            Packet::Tell { actor: 0x0403_0201, message: 0x0605, payload: payload() },
            b"\x0a\0\0\0\x04\0\0\0\x01\x02\x03\x04\x05\x06\x93\x01\x02\x03",
        ),
        (
            Packet::Ask { actor: 1, message: 2, ask: 0x0807_0605_0403_0201, deadline_ms: 30_000, payload: payload() },
            b"\x16\0\0\0\x05\0\0\0\x01\0\0\0\x02\0\x01\x02\x03\x04\x05\x06\x07\x08\x30\x75\0\0\x93\x01\x02\x03",
        ),
        (Packet::Reply { ask: 7, payload: payload() }, b"\x0c\0\0\0\x06\0\0\0\x07\0\0\0\0\0\0\0\x93\x01\x02\x03"),
        (
            Packet::Failure { ask: 7, code: AskCode::TooLarge, text: "no".into() },
            b"\x0c\0\0\0\x07\0\0\0\x07\0\0\0\0\0\0\0\x09\0no",
        ),
        (Packet::Monitor { monitor: 3, actor: 9 }, b"\x0c\0\0\0\x08\0\0\0\x03\0\0\0\0\0\0\0\x09\0\0\0"),
        (Packet::Terminated { monitor: 3, reason: stopped }, b"\x0d\0\0\0\x09\0\0\0\x03\0\0\0\0\0\0\0\x02\0h\xc3\xa9"),
        (Packet::Goodbye { code: CloseCode::Drain, text: String::new() }, b"\x04\0\0\0\x0a\0\0\0\x02\0\0\0"),
    ]
}

fn parse_stream(bytes: &[u8]) -> Packet {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    decoder.push(bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(decoder.buffered(), 0);
    Packet::parse(frame).unwrap()
}

#[test]
fn every_packet_has_its_golden_bytes_and_comes_back() {
    for (packet, bytes) in golden() {
        assert_eq!(packet.encode().unwrap().as_ref(), bytes, "{packet:?}");
        assert_eq!(parse_stream(bytes), packet);
    }
}

#[test]
fn begin_and_finish_write_what_encode_writes() {
    let mut buf = BytesMut::from(&b"left over"[..]);
    for (packet, bytes) in golden() {
        let head = match packet {
            Packet::Tell { actor, message, .. } => PacketHead::Tell { actor, message },
            Packet::Ask { actor, message, ask, deadline_ms, .. } => PacketHead::Ask { actor, message, ask, deadline_ms },
            Packet::Reply { ask, .. } => PacketHead::Reply { ask },
            _ => continue,
        };
        begin(&mut buf, &head);
        assert_eq!(buf.len(), head.payload_offset());
        buf.put_slice(&payload());
        finish(&mut buf).unwrap();
        assert_eq!(&buf[..], bytes);
    }
}

#[test]
fn packets_follow_one_another_in_a_buffer() {
    let mut buf = BytesMut::new();
    for (packet, _) in golden() {
        packet.encode_into(&mut buf).unwrap();
    }
    let expected: Vec<u8> = golden().into_iter().flat_map(|(_, bytes)| bytes).copied().collect();
    assert_eq!(buf, expected);
}

#[test]
fn heads_on_bulk_streams_have_their_golden_bytes_and_come_back() {
    let heads: [(PacketHead, &[u8]); 3] = [
        (PacketHead::Tell { actor: 1, message: 2 }, b"\x04\x01\0\0\0\x02\0"),
        (
            PacketHead::Ask { actor: 1, message: 2, ask: 3, deadline_ms: u32::MAX },
            b"\x05\x01\0\0\0\x02\0\x03\0\0\0\0\0\0\0\xff\xff\xff\xff",
        ),
        (PacketHead::Reply { ask: 3 }, b"\x06\x03\0\0\0\0\0\0\0"),
    ];
    for (head, bytes) in heads {
        let mut buf = BytesMut::new();
        head.encode_into(&mut buf);
        assert_eq!(&buf[..], bytes);
        assert_eq!(head.encoded_bytes(), bytes.len());
        assert!(bytes.len() <= HEAD_BYTES_MAX);
        buf.put_slice(b"payload");
        assert_eq!(PacketHead::parse(&buf), Ok((head, bytes.len())));
        assert_eq!(PacketHead::parse(&[]), Err(PacketError::NoHead));
        for end in 1..bytes.len() {
            assert_eq!(PacketHead::parse(&bytes[..end]), Err(PacketError::Truncated { kind: head.kind() }));
        }
    }
    assert_eq!(PacketHead::parse(&[7; HEAD_BYTES_MAX]), Err(PacketError::UnexpectedKind { kind: 7 }));
    assert_eq!(PacketHead::parse(&[99; HEAD_BYTES_MAX]), Err(PacketError::UnexpectedKind { kind: 99 }));
}

#[test]
fn bodies_that_mean_nothing_are_refused() {
    use FrameKind::*;
    let cases: Vec<(FrameKind, &[u8], PacketError)> = vec![
        (Failure, b"\x07\0\0\0\0\0\0\0\0\0", PacketError::UnknownCode { kind: Failure, code: 0 }),
        (Failure, b"\x07\0\0\0\0\0\0\0\xff\xff", PacketError::UnknownCode { kind: Failure, code: 0xffff }),
        // A lost link is no news that a link can carry.
        (Terminated, b"\x07\0\0\0\0\0\0\0\x06\0", PacketError::UnknownCode { kind: Terminated, code: 6 }),
        (Goodbye, b"\xff\xff\xff\xff", PacketError::UnknownCode { kind: Goodbye, code: u32::MAX }),
        (Monitor, b"\0\0\0\0\0\0\0\0\0\0\0\0!", PacketError::TrailingBytes { kind: Monitor, bytes: 1 }),
        (Hello, b"", PacketError::UnexpectedKind { kind: 1 }),
        (Welcome, b"", PacketError::UnexpectedKind { kind: 2 }),
        (Reject, b"", PacketError::UnexpectedKind { kind: 3 }),
    ];
    for (kind, body, error) in cases {
        let frame = Frame { kind, flags: 0, body: Bytes::from_static(body) };
        assert_eq!(Packet::parse(frame), Err(error));
    }
}

#[test]
fn fixed_fields_that_are_not_all_there_are_refused() {
    for (packet, _) in golden() {
        let kind = packet.kind();
        for length in 0..fields_bytes(kind) {
            let frame = Frame { kind, flags: 0, body: vec![1; length].into() };
            assert_eq!(Packet::parse(frame), Err(PacketError::Truncated { kind }));
        }
    }
}

#[test]
fn the_longest_frame_passes_and_one_more_byte_does_not() {
    let longest = FRAME_BYTES_MAX - HEADER_BYTES - 8;
    let reply = |bytes| Packet::Reply { ask: 1, payload: vec![7; bytes].into() };
    let frame = reply(longest).encode().unwrap();
    assert_eq!(frame.len(), FRAME_BYTES_MAX);
    assert_eq!(parse_stream(&frame), reply(longest));

    let mut buf = BytesMut::from(&b"before"[..]);
    let too_long = PacketError::TooLong { bytes: FRAME_BYTES_MAX + 1 };
    assert_eq!(reply(longest + 1).encode_into(&mut buf), Err(too_long.clone()));
    assert_eq!(&buf[..], b"before");

    let head = PacketHead::Reply { ask: 1 };
    begin(&mut buf, &head);
    buf.put_bytes(7, longest + 1);
    assert_eq!(finish(&mut buf), Err(too_long));
    assert_eq!(buf.len() - head.payload_offset(), longest + 1);
}

#[test]
fn texts_are_cut_at_a_character_when_sent() {
    // The limit falls within a character of two bytes.
    let text = format!("x{}", "é".repeat(TEXT_BYTES_MAX));
    let packet = Packet::Goodbye { code: CloseCode::Internal, text };
    let Packet::Goodbye { text, .. } = parse_stream(&packet.encode().unwrap()) else { panic!("another kind") };
    assert_eq!(text.len(), TEXT_BYTES_MAX - 1);
    assert_eq!(text, format!("x{}", "é".repeat(TEXT_BYTES_MAX / 2 - 1)));
    assert_eq!(TerminatedReason::new(TerminatedCode::Stopped, "y".repeat(5000)).text.len(), TEXT_BYTES_MAX);
}

#[test]
fn texts_are_cut_and_mended_when_received() {
    for (sent, text) in [(vec![b'x'; 40_000], "x".repeat(TEXT_BYTES_MAX)), (vec![0xff; 3], "\u{fffd}".repeat(3))] {
        let body = [&4_u32.to_le_bytes()[..], &sent].concat();
        let frame = Frame { kind: FrameKind::Goodbye, flags: 0, body: body.into() };
        assert_eq!(Packet::parse(frame), Ok(Packet::Goodbye { code: CloseCode::HandshakeTimeout, text }));
    }
    let body = [&4_u32.to_le_bytes()[..], &[0xff; 5000]].concat();
    let Ok(Packet::Goodbye { text, .. }) = Packet::parse(Frame { kind: FrameKind::Goodbye, flags: 0, body: body.into() }) else {
        panic!("another packet");
    };
    assert!(text.len() <= TEXT_BYTES_MAX);
}

#[test]
fn random_packets_come_back() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut buf = BytesMut::new();
    for _ in 0..10_000 {
        let mut bytes = vec![0; rng.random_range(0..200)];
        rng.fill_bytes(&mut bytes);
        let payload = Bytes::from(bytes);
        let text = "t".repeat(rng.random_range(0..TEXT_BYTES_MAX));
        let packet = match rng.random_range(0..4) {
            0 => Packet::Tell { actor: rng.random(), message: rng.random(), payload },
            1 => {
                Packet::Ask { actor: rng.random(), message: rng.random(), ask: rng.random(), deadline_ms: rng.random(), payload }
            }
            2 => Packet::Failure { ask: rng.random(), code: AskCode::ALL[rng.random_range(0..AskCode::ALL.len())], text },
            _ => Packet::Goodbye { code: CloseCode::ALL[rng.random_range(0..CloseCode::ALL.len())], text },
        };
        buf.clear();
        packet.encode_into(&mut buf).unwrap();
        assert_eq!(parse_stream(&buf), packet);
    }
}

#[test]
fn garbage_never_panics_and_what_parses_comes_back() {
    let mut rng = StdRng::seed_from_u64(3);
    let mut parsed = 0;
    for _ in 0..100_000 {
        let mut body = vec![0; rng.random_range(0..48)];
        rng.fill_bytes(&mut body);
        // Small codes, so that many bodies pass.
        if let Some(code) = body.get_mut(8..10) {
            code.copy_from_slice(&[rng.random_range(0..12), 0]);
        }
        let _ = PacketHead::parse(&body);
        let kind = FrameKind::ALL[rng.random_range(0..FrameKind::ALL.len())];
        let Ok(packet) = Packet::parse(Frame { kind, flags: 0, body: body.into() }) else { continue };
        parsed += 1;
        assert_eq!(parse_stream(&packet.encode().unwrap()), packet);
    }
    assert!(parsed > 10_000, "only {parsed} inputs were packets");
}
