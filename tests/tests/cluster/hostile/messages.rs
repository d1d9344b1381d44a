//! Packets and messages that are sound in form.

use bytes::Bytes;
use engineroom_runtime::proto::packet::{AskCode, CloseCode, Packet, TerminatedCode, TerminatedReason};
use serde::Serialize;

use super::peer::{Random, Raw, Target};

const SCHEDULER: u32 = 1;
const BLOBS: u32 = 2;
/// The first of the result stores.
const STORES: u32 = 16;

/// What clients may send, and to whom.
const OF_CLIENTS: &[(u32, &str)] = &[
    (SCHEDULER, "submit"),
    (SCHEDULER, "abort"),
    (SCHEDULER, "query-cluster"),
    (SCHEDULER, "watch-engines"),
    (SCHEDULER, "control-engines"),
    (STORES, "subscribe"),
    (STORES, "taken"),
    (STORES, "query-status"),
    (BLOBS, "offer-blob"),
    (BLOBS, "blob-part"),
];

/// What only engine nodes may send.
const OF_ENGINES: &[(u32, &str)] = &[
    (BLOBS, "fetch-blob"),
    (SCHEDULER, "register"),
    (SCHEDULER, "draining"),
    (SCHEDULER, "report"),
    (SCHEDULER, "retracted"),
    (SCHEDULER, "task-news"),
];

/// Numbers at which something could break.
const NUMBERS: &[u64] = &[0, 1, 2, 255, 65_535, 0x7fff_ffff, 0xffff_fffe, 0xffff_ffff];

fn ask(actor: u32, message: u16, ask: u64, payload: impl Into<Bytes>) -> Packet {
    Packet::Ask { actor, message, ask, deadline_ms: 1000, payload: payload.into() }
}

/// Waits for the answer to an ask, a refusal included.
async fn is_answered(raw: &mut Raw, number: u64) -> Result<Bytes, AskCode> {
    loop {
        match raw.packet().await.expect("the link is up") {
            Packet::Reply { ask, payload } if ask == number => return Ok(payload),
            Packet::Failure { ask, code, .. } if ask == number => return Err(code),
            _ => {}
        }
    }
}

/// Whether a link still works: an honest question on it is answered.
async fn assert_works(raw: &mut Raw) {
    let question = ask(SCHEDULER, raw.index("query-cluster"), u64::MAX - 1, [0xc0_u8].to_vec());
    raw.send([question]).await;
    is_answered(raw, u64::MAX - 1).await.expect("a question");
}

/// Replies, failures and ends that nobody waits for.
pub async fn unasked(target: &Target) {
    let mut raw = target.link(&mut Random::new(1)).await;
    for number in [0, 1, 2, u64::MAX] {
        raw.send([
            Packet::Reply { ask: number, payload: Bytes::from(vec![7; 1000]) },
            Packet::Failure { ask: number, code: AskCode::Busy, text: "no".to_owned() },
            Packet::Terminated { monitor: number, reason: TerminatedReason::new(TerminatedCode::Panicked, "no") },
        ])
        .await;
    }
    assert_works(&mut raw).await;
}

/// Messages that are not the sender's to send, are for nobody, have no such number, or are none.
pub async fn garbage(target: &Target, random: &mut Random) {
    let mut raw = target.link(random).await;
    for (number, (actor, name)) in (0..).zip(OF_ENGINES) {
        let message = raw.index(name);
        let length = random.below(100);
        raw.send([ask(*actor, message, number, random.bytes(length))]).await;
        assert_eq!(is_answered(&mut raw, number).await, Err(AskCode::NotAllowed), "{name}");
    }
    for number in 100..200 {
        raw.send([ask(random.next() as u32 | 1 << 20, raw.index("submit"), number, Bytes::new())]).await;
        assert_eq!(is_answered(&mut raw, number).await, Err(AskCode::NoSuchActor));
        raw.send([ask(SCHEDULER, 14 + random.below(60_000) as u16, number, Bytes::new())]).await;
        assert_eq!(is_answered(&mut raw, number).await, Err(AskCode::UnknownMessage));
        raw.send([Packet::Tell { actor: random.next() as u32 | 1 << 20, message: raw.index("taken"), payload: Bytes::new() }])
            .await;
    }
    for number in 1000..3000 {
        let (actor, name) = OF_CLIENTS[random.below(OF_CLIENTS.len())];
        let length = random.below(300);
        raw.send([ask(actor, raw.index(name), number, random.bytes(length))]).await;
        // Now and then the noise is a message: the last does no harm, the others have sense to be checked.
        let _ = is_answered(&mut raw, number).await;
    }
    assert_works(&mut raw).await;
    for (actor, name) in OF_ENGINES.iter().chain(OF_CLIENTS) {
        let mut raw = target.link(random).await;
        let message = raw.index(name);
        // An array that promises four thousand million elements.
        raw.send([Packet::Tell { actor: *actor, message, payload: Bytes::from_static(&[0xdd, 0xff, 0xff, 0xff, 0xff]) }]).await;
        raw.connection.closed().await;
    }
}

#[derive(Clone, Serialize)]
enum Reference {
    Offset { bundle: [u8; 32], offset: i64 },
    Named { name: String },
}

/// The fields of a submission, in the order of the wire: job, header, first index, arguments, and whether it is the last.
type Submission = (Bytes, Option<Header>, u32, (Bytes, Bytes), bool);

/// Function, target, engines, chunk, label, subscription and window.
type Header = ((Reference, String), String, Vec<(u32, u32)>, u32, Option<String>, u64, u64);

/// Messages that decode, with numbers, lengths and ids that make no sense together.
pub async fn senseless(target: &Target, random: &mut Random) {
    let mut raw = target.link(random).await;
    let jobs: Vec<Bytes> = (0..8).map(|_| random.bytes(16).into()).collect();
    for number in 0..5_000 {
        let job = jobs[random.below(jobs.len())].clone();
        // The shard is a matter of the id's last eight bytes.
        let shard = (u64::from_be_bytes(job[8..].try_into().expect("eight bytes")) % 64) as u32;
        let mut int = || random.number(NUMBERS) as u32;
        let (actor, name, payload) = match int() % 8 {
            0 | 1 => (SCHEDULER, "submit", encoded(&submission(job, random))),
            2 => (SCHEDULER, "abort", encoded(&(job, int(), int()))),
            3 => {
                let ranges: Vec<(u32, u32)> = (0..int() % 20).map(|_| (int(), int())).collect();
                let window = random.number(&[0, 1, u64::MAX]);
                (STORES + shard, "subscribe", encoded(&(job, random.number(NUMBERS), ranges, window)))
            }
            4 => {
                let sequence: Vec<u64> = (0..int() % 20).map(|_| u64::from(int())).collect();
                (STORES + shard, "taken", encoded(&(job, u64::from(int()), sequence, random.number(&[0, 1, u64::MAX]))))
            }
            5 => {
                let runs: Vec<(Bytes, u32, u32)> = (0..int() % 20).map(|_| (job.clone(), int(), int())).collect();
                (STORES + shard, "query-status", encoded(&(runs,)))
            }
            6 => (BLOBS, "offer-blob", encoded(&([int() as u8; 32], random.number(NUMBERS)))),
            _ => {
                let (offset, data) = (u64::from(int()), Bytes::from(vec![0; 100]));
                (BLOBS, "blob-part", encoded(&([int() as u8; 32], offset, data, int() % 2 == 0)))
            }
        };
        raw.send([ask(actor, raw.index(name), number, payload)]).await;
        let answer = is_answered(&mut raw, number).await;
        assert_ne!(answer, Err(AskCode::BadPayload), "{name} has changed its fields");
        assert_ne!(answer, Err(AskCode::NoSuchActor), "{name}");
    }
    assert_works(&mut raw).await;
    for number in 0..jobs.len() as u64 {
        raw.send([ask(SCHEDULER, raw.index("abort"), number, encoded(&(jobs[number as usize].clone(), 0, u32::MAX)))]).await;
        is_answered(&mut raw, number).await.expect("an abort");
    }
}

fn submission(job: Bytes, random: &mut Random) -> Submission {
    let reference = match random.below(2) {
        0 => Reference::Named { name: "nobody has this".to_owned() },
        _ => Reference::Offset { bundle: [random.below(3) as u8; 32], offset: random.next() as i64 },
    };
    let direct = (0..random.below(4)).map(|_| (random.below(4) as u32, random.number(NUMBERS) as u32)).collect();
    let header = (
        (reference, "a function".to_owned()),
        "a target".to_owned(),
        direct,
        random.number(NUMBERS) as u32,
        None,
        random.number(NUMBERS),
        random.number(&[0, 1, u64::MAX]),
    );
    let open = (random.below(2) == 0).then_some(header);
    let data: Bytes = vec![0; random.below(50)].into();
    // The lengths of arguments: a byte each, since they are below 128.
    let lengths: Bytes = match random.below(4) {
        0 => (0..random.below(5)).map(|_| random.number(NUMBERS) as u8 & 0x7f).collect(),
        // Sound as a rule, so that jobs grow.
        _ => vec![1; data.len()].into(),
    };
    let first = random.number(&[0, 0, 0, 1, 50, 100, u64::from(u32::MAX)]) as u32;
    (job, open, first, (lengths, data), random.below(20) == 0)
}

fn encoded(message: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(message).expect("plain data")
}

/// More wishes to be told of the scheduler's end than anybody keeps.
pub async fn monitors(target: &Target) {
    let mut raw = target.link(&mut Random::new(2)).await;
    for round in 0..10_u64 {
        let portion = (0..10_000).map(|number| Packet::Monitor { monitor: round * 10_000 + number, actor: SCHEDULER });
        raw.send(portion).await;
    }
    match raw.packet().await {
        Some(Packet::Terminated { reason, .. }) => assert_eq!(reason.code, TerminatedCode::Refused),
        other => panic!("{other:?}"),
    }
    raw.connection.close(quinn::VarInt::from_u32(CloseCode::Done.code()), b"");
}

/// Asks without end, and reads nothing. The controller ends the link.
pub async fn unread(target: &Target) {
    let mut raw = target.link(&mut Random::new(3)).await;
    let query = raw.index("query-cluster");
    let mut number = 0;
    while raw.connection.close_reason().is_none() {
        let portion: Vec<_> = (number..number + 1000).map(|number| ask(SCHEDULER, query, number, [0xc0_u8].to_vec())).collect();
        number += 1000;
        raw.send(portion).await;
    }
}
