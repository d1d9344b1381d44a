use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use super::*;
use crate::proto::{frame::Decoder, packet::TEXT_BYTES_MAX};

fn hello() -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: 0b11,
        incarnation: Incarnation::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        build_id: "engine 0.1".into(),
        accepts: vec![("engine.run".into(), 1), ("engine.cancel".into(), 2), ("engine.cancel".into(), 1)],
        limits: Limits { frame_bytes_max: 65_536, message_bytes_max: 1 << 30 },
    }
}

fn frame(bytes: &[u8]) -> Frame {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    decoder.push(bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(decoder.buffered(), 0);
    frame
}

fn admit(_: &Hello) -> Result<(), Reject> {
    Ok(())
}

fn shake(dialler: Hello, acceptor: &Hello) -> Result<(Agreed, Agreed), HandshakeError> {
    let (bytes, dial) = Dial::start(dialler)?;
    match accept(acceptor, &frame(&bytes), admit) {
        Ok((welcome, accepted)) => Ok((dial.on_frame(frame(&welcome))?, accepted)),
        Err(refusal) => Err(dial.on_frame(frame(&refusal.frame)).unwrap_err()),
    }
}

#[test]
fn both_sides_learn_of_each_other() {
    let controller = Hello {
        features: 0b110,
        incarnation: Incarnation::from_u128(7),
        build_id: "controller".into(),
        accepts: vec![("scheduler.join".into(), 1)],
        limits: Limits { frame_bytes_max: 8_192, message_bytes_max: 5 },
        ..hello()
    };
    let (dialled, accepted) = shake(hello(), &controller).unwrap();
    assert_eq!((dialled.protocol, dialled.features), (1, 0b10));
    assert_eq!((accepted.protocol, accepted.features), (1, 0b10));
    assert_eq!((dialled.incarnation, accepted.incarnation), (controller.incarnation, hello().incarnation));
    assert_eq!((dialled.build_id.as_str(), accepted.build_id.as_str()), ("controller", "engine 0.1"));
    assert_eq!((dialled.limits, accepted.limits), (controller.limits, hello().limits));
    assert_eq!(dialled.messages.index("scheduler.join", 1), Some(0));
    assert_eq!(accepted.messages.index("engine.run", 1), Some(0));
    assert_eq!(accepted.messages.index("engine.cancel", 2), Some(1));
    assert_eq!(accepted.messages.index("engine.cancel", 1), Some(2));
    assert_eq!(accepted.messages.index("engine.cancel", 3), None);
    assert_eq!(accepted.messages.index("engine", 1), None);
    assert_eq!(accepted.messages.len(), 3);
}

#[test]
fn handshake_frames_have_their_golden_bytes() {
    let short = Hello {
        build_id: "b".into(),
        accepts: vec![("m".into(), 3)],
        limits: Limits { frame_bytes_max: 65_536, message_bytes_max: 9 },
        ..hello()
    };
    let fields = b"\xa8features\x03\xabincarnation\xc4\x10\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\
        \xa8build_id\xa1b\xa7accepts\x91\x92\xa1m\x03\xa6limits\x82\xafframe_bytes_max\xce\0\x01\0\0\xb1message_bytes_max\x09";
    let hello_body = [&b"\x87\xacprotocol_min\x01\xacprotocol_max\x01"[..], fields].concat();
    let welcome_body = [&b"\x86\xa8protocol\x01"[..], fields].concat();

    let (bytes, _) = Dial::start(short.clone()).unwrap();
    assert_eq!(bytes, [&frame_header(1, 0, hello_body.len())[..], &hello_body].concat());
    let (bytes, _) = accept(&short, &frame(&bytes), admit).unwrap();
    assert_eq!(bytes, [&frame_header(2, 0, welcome_body.len())[..], &welcome_body].concat());
    let bytes = Reject::new(RejectCode::Draining, "bye").encode();
    assert_eq!(&bytes[..], b"\x10\0\0\0\x03\0\0\0\x82\xa4code\x04\xa4text\xa3bye");
}

#[test]
fn the_highest_common_version_is_spoken() {
    let speaks = |protocol_min, protocol_max| Hello { protocol_min, protocol_max, ..hello() };
    for (dialler, acceptor, spoken) in [((1, 1), (1, 1), 1), ((1, 5), (2, 3), 3), ((3, 9), (1, 3), 3), ((0, 9), (4, 9), 9)] {
        let (dialled, accepted) = shake(speaks(dialler.0, dialler.1), &speaks(acceptor.0, acceptor.1)).unwrap();
        assert_eq!((dialled.protocol, accepted.protocol), (spoken, spoken));
    }
    for (dialler, acceptor) in [((1, 1), (2, 2)), ((3, 4), (1, 2)), ((5, 1), (1, 5))] {
        let error = shake(speaks(dialler.0, dialler.1), &speaks(acceptor.0, acceptor.1)).unwrap_err();
        let HandshakeError::Rejected { code: RejectCode::Version, text } = &error else { panic!("{error:?}") };
        assert!(text.contains(&format!("you speak {}–{}", dialler.0, dialler.1)), "{text}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_greeting_of_the_future_is_told_about_its_version() {
    // Other fields, of other types: only the version range is understood.
    #[derive(Serialize)]
    struct FutureHello {
        protocol_min: u16,
        protocol_max: u16,
        accepts: &'static str,
        novelty: [u8; 3],
    }
    let future = FutureHello { protocol_min: 7, protocol_max: 8, accepts: "something else", novelty: [1, 2, 3] };
    let bytes = encode(FrameKind::Hello, &future).unwrap();
    let refusal = accept(&hello(), &frame(&bytes), admit).unwrap_err();
    assert_eq!(refusal.error, HandshakeError::NoCommonVersion { ours: (1, 1), theirs: (7, 8) });
}

#[test]
fn fields_of_a_later_version_are_skipped() {
    #[derive(Serialize)]
    struct LaterHello {
        novelty: [u8; 3],
        protocol_min: u16,
        protocol_max: u16,
        features: u64,
        incarnation: Incarnation,
        build_id: &'static str,
        accepts: Vec<(String, u16)>,
        limits: Limits,
    }
    let Hello { incarnation, accepts, limits, .. } = hello();
    let later = LaterHello {
        novelty: [1, 2, 3],
        protocol_min: 1,
        protocol_max: 2,
        features: 0,
        incarnation,
        build_id: "",
        accepts,
        limits,
    };
    let bytes = encode(FrameKind::Hello, &later).unwrap();
    let (_, agreed) = accept(&hello(), &frame(&bytes), admit).unwrap();
    assert_eq!((agreed.protocol, agreed.messages.len()), (1, 3));
}

#[test]
fn a_welcome_in_a_version_that_was_not_offered_is_refused() {
    let (_, dial) = Dial::start(hello()).unwrap();
    let (bytes, _) = Dial::start(Hello { protocol_max: 2, ..hello() }).unwrap();
    let (welcome, _) = accept(&Hello { protocol_max: 2, ..hello() }, &frame(&bytes), admit).unwrap();
    let error = dial.on_frame(frame(&welcome)).unwrap_err();
    assert_eq!(error, HandshakeError::NoCommonVersion { ours: (1, 1), theirs: (2, 2) });
}

#[test]
fn a_policy_can_refuse_and_the_dialler_hears_why() {
    let (bytes, dial) = Dial::start(hello()).unwrap();
    let refusal = accept(&hello(), &frame(&bytes), |hello| {
        assert_eq!(hello.build_id, "engine 0.1");
        Err(Reject::new(RejectCode::TooManyPeers, "x".repeat(5_000)))
    });
    let refusal = refusal.unwrap_err();
    assert!(matches!(refusal.error, HandshakeError::Refused { .. }));
    let error = dial.on_frame(frame(&refusal.frame)).unwrap_err();
    assert_eq!(error, HandshakeError::Rejected { code: RejectCode::TooManyPeers, text: "x".repeat(TEXT_BYTES_MAX) });
    assert!(error.is_retryable());
    assert!(error.to_string().starts_with("the peer refused the link: too many peers: xxx"), "{error}");
}

#[test]
fn a_rejection_of_an_unknown_kind_keeps_its_text() {
    let (_, dial) = Dial::start(hello()).unwrap();
    let bytes = encode(FrameKind::Reject, &RejectBody { code: 999, text: "new reason".into() }).unwrap();
    let error = dial.on_frame(frame(&bytes)).unwrap_err();
    assert_eq!(error, HandshakeError::Rejected { code: RejectCode::Other, text: "new reason".into() });
}

#[test]
fn frames_out_of_turn_are_refused() {
    let out_of_turn = |kind| Frame { kind, flags: 0, body: Bytes::new() };
    for &kind in FrameKind::ALL.iter().filter(|&&kind| kind != FrameKind::Hello) {
        let refusal = accept(&hello(), &out_of_turn(kind), admit).unwrap_err();
        assert_eq!(refusal.error, HandshakeError::UnexpectedFrame { expected: "Hello", got: kind });
        assert_eq!(frame(&refusal.frame).kind, FrameKind::Reject);
    }
    for &kind in FrameKind::ALL.iter().filter(|&&kind| !matches!(kind, FrameKind::Welcome | FrameKind::Reject)) {
        let (_, dial) = Dial::start(hello()).unwrap();
        let error = dial.on_frame(out_of_turn(kind)).unwrap_err();
        assert_eq!(error, HandshakeError::UnexpectedFrame { expected: "Welcome or Reject", got: kind });
    }
}

#[test]
fn greetings_that_break_a_bound_are_refused_on_both_sides() {
    let names = |count: usize, length: usize| (0..count).map(|i| (format!("{i:0length$}"), 1)).collect::<Vec<_>>();
    let fine = [
        Hello { accepts: names(MESSAGES_MAX, 4), ..hello() },
        Hello { accepts: names(1, NAME_BYTES_MAX), ..hello() },
        Hello { accepts: vec![], build_id: "b".repeat(NAME_BYTES_MAX), ..hello() },
    ];
    for hello in fine {
        assert!(shake(hello.clone(), &hello).is_ok());
    }
    let limits = Limits { frame_bytes_max: FRAME_BYTES_MIN as u32 - 1, message_bytes_max: 0 };
    let broken = [
        Hello { accepts: names(MESSAGES_MAX + 1, 4), ..hello() },
        Hello { accepts: names(1, NAME_BYTES_MAX + 1), ..hello() },
        Hello { accepts: vec![(String::new(), 1)], ..hello() },
        Hello { accepts: vec![("twice".into(), 1), ("once".into(), 1), ("twice".into(), 1)], ..hello() },
        Hello { limits, ..hello() },
    ];
    for broken in broken {
        assert!(broken.check().is_err());
        assert!(Dial::start(broken.clone()).is_err());
        // A peer that does not check itself.
        let bytes = encode(FrameKind::Hello, &broken).unwrap();
        let refusal = accept(&hello(), &frame(&bytes), admit).unwrap_err();
        let (_, dial) = Dial::start(hello()).unwrap();
        let error = dial.on_frame(frame(&refusal.frame)).unwrap_err();
        assert!(matches!(error, HandshakeError::Rejected { code: RejectCode::BadHello, .. }), "{error:?}");
    }
    let long_build = Hello { build_id: "b".repeat(NAME_BYTES_MAX + 1), ..hello() };
    let bytes = encode(FrameKind::Hello, &long_build).unwrap();
    assert!(accept(&hello(), &frame(&bytes), admit).is_err());
    let too_long = Hello { accepts: names(MESSAGES_MAX, NAME_BYTES_MAX), ..hello() };
    assert!(matches!(Dial::start(too_long), Err(HandshakeError::TooLong { .. })));
}

#[test]
fn a_peer_cannot_raise_the_frame_limit() {
    let generous = Hello { limits: Limits { frame_bytes_max: u32::MAX, message_bytes_max: u64::MAX }, ..hello() };
    let (dialled, accepted) = shake(generous.clone(), &generous).unwrap();
    assert_eq!(dialled.limits.frame_bytes_max, FRAME_BYTES_MAX as u32);
    assert_eq!(accepted.limits.frame_bytes_max, FRAME_BYTES_MAX as u32);
}

#[test]
fn lying_lengths_and_deep_nesting_are_refused() {
    let prefix = b"\x83\xacprotocol_min\x01\xacprotocol_max\x01\xa7accepts";
    let lies: [&[u8]; 5] = [
        b"\xdd\xff\xff\xff\xff",              // an array of 2^32 - 1
        b"\xdd\xff\xff\xff\xff\x92\xa1a\x01", // the same, and one element
        b"\x91\x92\xdb\xff\xff\xff\xff",      // a string of 2^32 - 1 bytes
        b"\xc6\xff\xff\xff\xff",              // as many bytes
        b"\xdf\xff\xff\xff\xff",              // a map
    ];
    for lie in lies {
        let body = [&prefix[..], lie].concat().into();
        let refusal = accept(&hello(), &Frame { kind: FrameKind::Hello, flags: 0, body }, admit).unwrap_err();
        assert!(matches!(refusal.error, HandshakeError::Malformed { .. }), "{:?}", refusal.error);
    }
    let deep = [&b"\x81\xa7novelty"[..], &[0x91; 60_000]].concat().into();
    assert!(accept(&hello(), &Frame { kind: FrameKind::Hello, flags: 0, body: deep }, admit).is_err());
}

#[test]
fn every_truncation_is_refused() {
    let (bytes, _) = Dial::start(hello()).unwrap();
    let whole = frame(&bytes);
    for length in 0..whole.body.len() {
        let cut = Frame { body: whole.body.slice(..length), ..whole.clone() };
        assert!(accept(&hello(), &cut, admit).is_err(), "{length} bytes");
    }
}

#[test]
fn garbage_never_panics() {
    let mut rng = StdRng::seed_from_u64(4);
    let (bytes, dial) = Dial::start(hello()).unwrap();
    let good = bytes.slice(HEADER_BYTES..);
    for round in 0..100_000 {
        let body = if round % 2 == 0 {
            let mut body = vec![0; rng.random_range(0..64)];
            rng.fill_bytes(&mut body);
            body
        } else {
            // A good greeting with a few wrong bytes reaches deeper.
            let mut body = good.to_vec();
            for _ in 0..rng.random_range(1..4) {
                let place = rng.random_range(0..body.len());
                body[place] = rng.random();
            }
            body
        };
        let kind = [FrameKind::Hello, FrameKind::Welcome, FrameKind::Reject][round % 3];
        let garbage = Frame { kind, flags: 0, body: body.into() };
        if let Ok((_, agreed)) = accept(&hello(), &garbage, admit) {
            assert!(agreed.messages.len() <= 3);
        }
        let _ = dial.clone().on_frame(garbage);
    }
}
