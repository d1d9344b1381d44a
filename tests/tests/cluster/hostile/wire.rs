//! Bytes that are no frames, greetings or bulk messages.

use bytes::BytesMut;
use engineroom_runtime::{
    net::tls,
    proto::{
        frame::{BODY_BYTES_MAX, FrameKind, HEADER_BYTES, frame_header},
        handshake::{Dial, Reject, RejectCode},
        packet::{CloseCode, PacketHead},
    },
};
use serde::Serialize;

use super::peer::{Random, Target, hello};

/// When the bytes are sent.
#[derive(Clone, Copy)]
pub enum When {
    /// Instead of the greeting.
    First,
    /// On a link.
    Linked,
}

/// Frames that lie about their length, kind, flags or content, or end too early: each on a connection of its own, which the
/// controller has to end.
pub async fn frames(target: &Target, random: &mut Random, when: When, count: usize) {
    for _ in 0..count {
        let bytes = no_frame(random);
        match when {
            When::First => {
                let endpoint = target.endpoint();
                let connection = target.connect(&endpoint).await.expect("a controller that is not full");
                send_first(&connection, &bytes).await;
            }
            When::Linked => {
                let mut raw = target.link(random).await;
                let _ = raw.send.write_all(&bytes).await;
                let _ = raw.send.finish();
                raw.connection.closed().await;
            }
        }
    }
}

/// Sends the first bytes of a connection, and reads until the controller has had enough.
async fn send_first(connection: &quinn::Connection, bytes: &[u8]) {
    let Ok((mut send, mut receive)) = connection.open_bi().await else { return };
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    // It says why, or just ends the connection.
    let _ = receive.read_to_end(BODY_BYTES_MAX).await;
    connection.close(quinn::VarInt::from_u32(CloseCode::Done.code()), b"");
}

fn no_frame(random: &mut Random) -> Vec<u8> {
    let kind = 1 + random.below(10) as u8;
    let length = random.below(2000);
    let body = random.bytes(length);
    let header = |kind, flags, bytes| frame_header(kind, flags, bytes).to_vec();
    match random.below(8) {
        0 => [header(kind, 0, u32::MAX as usize), body].concat(),
        1 => [header(kind, 0, BODY_BYTES_MAX + 1), body].concat(),
        2 => header(kind, 0, 0),
        3 => [header(11 + random.below(245) as u8, 0, body.len()), body].concat(),
        4 => [header(kind, 1 << random.below(8), body.len()), body].concat(),
        5 => {
            let mut bytes = [header(kind, 0, body.len()), body].concat();
            bytes[HEADER_BYTES - 1] = 1 + random.below(255) as u8;
            bytes
        }
        6 => [header(kind, 0, body.len() + 1), body].concat(),
        _ => [vec![0xff; 4], random.bytes(64)].concat(),
    }
}

/// First frames that are no sound greeting.
pub async fn greetings(target: &Target, random: &mut Random) {
    let mut greetings = Vec::new();
    let (sound, _) = Dial::start(hello(random)).expect("a sound greeting");
    let body = &sound[HEADER_BYTES..];
    greetings.extend((0..body.len()).step_by(7).map(|end| framed(FrameKind::Hello, &body[..end])));
    for kind in [FrameKind::Welcome, FrameKind::Reject, FrameKind::Tell, FrameKind::Goodbye] {
        greetings.push(framed(kind, body));
    }
    greetings.push(Reject::new(RejectCode::Other, "no, you are").encode().to_vec());
    for _ in 0..100 {
        let mut broken = body.to_vec();
        let place = random.below(broken.len());
        broken[place] ^= 1 << random.below(8);
        greetings.push(framed(FrameKind::Hello, &broken));
    }
    greetings.push(framed(FrameKind::Hello, &[0x91; 60_000]));
    greetings.push(framed(FrameKind::Hello, &[0xdf, 0xff, 0xff, 0xff, 0xff]));
    for accepts in [
        vec![("twice", 1_u16), ("twice", 1)],
        vec![("", 1)],
        vec![("a name that is longer than any is".repeat(20).leak(), 1)],
        (0..10_000).map(|version| ("n", version)).collect(),
        vec![("n", 1); 16_000],
    ] {
        greetings.push(framed(FrameKind::Hello, &encoded_hello(1, 1, &accepts)));
    }
    for (lowest, highest) in [(0, 0), (2, 9), (9, 2), (u16::MAX, u16::MAX)] {
        greetings.push(framed(FrameKind::Hello, &encoded_hello(lowest, highest, &[])));
    }
    for greeting in greetings {
        let endpoint = target.endpoint();
        let connection = target.connect(&endpoint).await.expect("a controller that is not full");
        send_first(&connection, &greeting).await;
    }
}

/// An array that announces 60,000 names would not fit, so that most of it is promise.
fn encoded_hello(protocol_min: u16, protocol_max: u16, accepts: &[(&str, u16)]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Fields<'a> {
        protocol_min: u16,
        protocol_max: u16,
        features: u64,
        incarnation: u128,
        build_id: &'a str,
        accepts: &'a [(&'a str, u16)],
        limits: (u32, u64),
    }
    let limits = (65_536, 1 << 30);
    let fields = Fields { protocol_min, protocol_max, features: u64::MAX, incarnation: 7, build_id: "hostile", accepts, limits };
    rmp_serde::to_vec_named(&fields).expect("plain data")
}

fn framed(kind: FrameKind, body: &[u8]) -> Vec<u8> {
    [&frame_header(kind.code(), 0, body.len())[..], body].concat()
}

/// Bulk streams whose length, hash or head is not what follows; each ends the link, or is dropped with the stream.
pub async fn bulk(target: &Target, random: &mut Random) {
    for round in 0..60 {
        let raw = target.link(random).await;
        let payload = random.bytes(50_000);
        let mut head = BytesMut::new();
        let message = raw.index("blob-part");
        PacketHead::Tell { actor: 2, message }.encode_into(&mut head);
        let (mut bytes, mut hash, mut head) = (payload.len() as u64, *blake3::hash(&payload).as_bytes(), head.to_vec());
        match round % 8 {
            0 => bytes = random.next() | 1 << 40,
            1 => bytes -= 1,
            2 => bytes += 1,
            3 => hash[random.below(32)] ^= 1,
            4 => head.clear(),
            5 => head = random.bytes(60_000),
            6 => head[0] = 8,
            // Whole and true, but no such message: a tell of it is a violation, too.
            _ => {}
        }
        let mut stream = raw.connection.open_uni().await.expect("a stream");
        let sent = [&bytes.to_le_bytes()[..], &(head.len() as u16).to_le_bytes(), &head, &payload, &hash].concat();
        let _ = stream.write_all(&sent).await;
        let _ = stream.finish();
        raw.connection.closed().await;
    }
    // As many streams as there may be, each of which says a gigabyte and brings a byte; then the peer is gone.
    let raw = target.link(random).await;
    let mut streams = Vec::new();
    for _ in 0..tls::BULK_STREAMS_MAX {
        let mut head = BytesMut::new();
        PacketHead::Ask { actor: 2, message: raw.index("blob-part"), ask: 1, deadline_ms: 1 }.encode_into(&mut head);
        let mut stream = raw.connection.open_uni().await.expect("a stream");
        let length = (1_u64 << 30).to_le_bytes();
        let sent = [&length[..], &(head.len() as u16).to_le_bytes(), &head, &[0]].concat();
        stream.write_all(&sent).await.expect("room for a head");
        streams.push(stream);
    }
    raw.connection.close(quinn::VarInt::from_u32(CloseCode::Done.code()), b"");
}
