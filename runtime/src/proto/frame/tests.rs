use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};

use super::*;

fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    [&frame_header(kind, flags, body.len()), body].concat()
}

fn all(decoder: &mut Decoder) -> Result<Vec<Frame>, FrameError> {
    std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
}

#[test]
fn kinds_are_numbered_from_one_without_gaps() {
    for (number, &kind) in (1..).zip(FrameKind::ALL) {
        assert_eq!(kind.code(), number);
        assert_eq!(FrameKind::from_code(number), Some(kind));
    }
    assert_eq!(FrameKind::from_code(0), None);
    assert_eq!(FrameKind::from_code(11), None);
    assert_eq!(FrameKind::from_code(255), None);
}

#[test]
fn a_header_has_its_golden_bytes() {
    assert_eq!(frame_header(FrameKind::Ask.code(), 0, 0x0000_fff8), [0xf8, 0xff, 0, 0, 5, 0, 0, 0]);
    assert_eq!(frame_header(10, 0x81, 0), [0, 0, 0, 0, 10, 0x81, 0, 0]);
}

#[test]
fn frames_survive_a_stream_that_is_split_at_every_byte() {
    let bodies: [&[u8]; 4] = [b"", b"a", b"some more bytes", &[0xff; 300]];
    let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(FrameKind::Tell.code(), 0, body)).collect();
    for split in 0..=stream.len() {
        let mut decoder = Decoder::new(BODY_BYTES_MAX);
        let mut frames = Vec::new();
        for part in [&stream[..split], &stream[split..]] {
            decoder.push(part);
            frames.extend(all(&mut decoder).unwrap());
        }
        let decoded: Vec<&[u8]> = frames.iter().map(|frame| &frame.body[..]).collect();
        assert_eq!(decoded, bodies, "split at {split}");
        assert_eq!(decoder.buffered(), 0);
    }
}

#[test]
fn frames_survive_a_stream_that_comes_byte_by_byte() {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    let mut frames = Vec::new();
    for byte in frame(FrameKind::Reply.code(), 0, b"hello") {
        assert!(frames.is_empty());
        decoder.push(&[byte]);
        frames.extend(all(&mut decoder).unwrap());
    }
    assert_eq!(frames, [Frame { kind: FrameKind::Reply, flags: 0, body: Bytes::from_static(b"hello") }]);
}

#[test]
fn bodies_are_not_copied() {
    let mut decoder = RawDecoder::new(1024);
    decoder.push(&[frame(1, 0, b"one"), frame(2, 0, b"two")].concat());
    let first = decoder.next_frame().unwrap().unwrap();
    let second = decoder.next_frame().unwrap().unwrap();
    // The same allocation: one header apart.
    assert_eq!(first.body.as_ptr() as usize + first.body.len() + HEADER_BYTES, second.body.as_ptr() as usize);
}

#[test]
fn wrong_headers_are_refused_at_once_and_for_ever() {
    let too_long = BODY_BYTES_MAX as u32 + 1;
    let [a, b, c, d] = too_long.to_le_bytes();
    let cases: [([u8; HEADER_BYTES], FrameError); 7] = [
        ([a, b, c, d, 4, 0, 0, 0], FrameError::TooLong { body_bytes: too_long as usize, body_bytes_max: BODY_BYTES_MAX }),
        ([0xff; 8], FrameError::TooLong { body_bytes: u32::MAX as usize, body_bytes_max: BODY_BYTES_MAX }),
        ([9, 0, 0, 0, 0, 0, 0, 0], FrameError::UnknownKind(0)),
        ([9, 0, 0, 0, 11, 0, 0, 0], FrameError::UnknownKind(11)),
        ([9, 0, 0, 0, 4, 0x80, 0, 0], FrameError::UnknownFlags(0x80)),
        ([9, 0, 0, 0, 4, 0, 1, 0], FrameError::Reserved(1)),
        ([9, 0, 0, 0, 4, 0, 0, 0x80], FrameError::Reserved(0x8000)),
    ];
    for (header, error) in cases {
        let mut decoder = Decoder::new(BODY_BYTES_MAX);
        decoder.push(&header);
        assert_eq!(decoder.next_frame(), Err(error.clone()));
        decoder.push(&[0; 100]);
        assert_eq!(decoder.next_frame(), Err(error));
    }
}

#[test]
fn the_longest_body_is_accepted_and_one_more_is_not() {
    for body_bytes_max in [0, 1, 100] {
        let mut decoder = RawDecoder::new(body_bytes_max);
        decoder.push(&frame(9, 3, &vec![7; body_bytes_max]));
        let frame_ = decoder.next_frame().unwrap().unwrap();
        assert_eq!((frame_.kind, frame_.flags, frame_.body.len()), (9, 3, body_bytes_max));
        decoder.push(&frame_header(9, 3, body_bytes_max + 1));
        let too_long = FrameError::TooLong { body_bytes: body_bytes_max + 1, body_bytes_max };
        assert_eq!(decoder.next_frame(), Err(too_long));
    }
}

#[test]
fn a_lying_length_allocates_nothing() {
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    decoder.push(&frame_header(FrameKind::Tell.code(), 0, BODY_BYTES_MAX));
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.raw.buffer.capacity() < 1024, "{}", decoder.raw.buffer.capacity());
}

#[test]
fn garbage_never_panics_and_never_grows_the_buffer() {
    let mut rng = StdRng::seed_from_u64(1);
    for round in 0..100_000 {
        let mut decoder = Decoder::new(512);
        for _ in 0..rng.random_range(1..4) {
            let mut bytes = vec![0; rng.random_range(0..64)];
            rng.fill_bytes(&mut bytes);
            // Every other input looks like a frame at first, so that the parts behind the header are reached too.
            if round % 2 == 0 && bytes.len() >= HEADER_BYTES {
                let body_bytes = rng.random_range(0..600);
                bytes[..HEADER_BYTES].copy_from_slice(&frame_header(rng.random_range(0..12), 0, body_bytes));
            }
            decoder.push(&bytes);
            if all(&mut decoder).is_err() {
                break;
            }
            assert!(decoder.buffered() <= 512 + HEADER_BYTES);
            assert!(decoder.raw.buffer.capacity() <= 4096);
        }
    }
}

/// Long bodies are gathered elsewhere, whether they are pushed or read in place; their neighbours are not disturbed.
#[test]
fn long_bodies_survive_whatever_pieces_they_come_in() {
    let bodies: Vec<Vec<u8>> = [3, LONG_BODY_BYTES, LONG_BODY_BYTES + 1, 300_000, 5 << 20, 0]
        .map(|bytes| (0..bytes).map(|at| (at % 253) as u8).collect())
        .into();
    let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(9, 0, body)).collect();
    let mut random = StdRng::seed_from_u64(5);
    for in_place in [false, true] {
        let (mut decoder, mut rest, mut seen) = (RawDecoder::new(8 << 20), &stream[..], 0);
        while !rest.is_empty() {
            let piece = random.random_range(1..200_000).min(rest.len());
            let taken = match decoder.room().filter(|_| in_place) {
                Some(room) => {
                    let taken = piece.min(room.len());
                    room[..taken].copy_from_slice(&rest[..taken]);
                    decoder.filled(taken);
                    taken
                }
                None => {
                    decoder.push(&rest[..piece]);
                    piece
                }
            };
            rest = &rest[taken..];
            while let Some(found) = decoder.next_frame().unwrap() {
                assert!(found.body == bodies[seen], "frame {seen}");
                seen += 1;
            }
        }
        assert_eq!((seen, decoder.buffered()), (bodies.len(), 0));
    }
}
