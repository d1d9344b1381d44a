//! Taking links and dialling them: what lies between a bare QUIC connection and a [`Link`].

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use quinn::{Connection, Endpoint, Incoming, RecvStream};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::task::AbortHandle;

use super::{
    authority::server_name,
    certificate::CertificateFacts,
    identity::{Role, date, not_after},
    link::{Link, Peer, Streams},
    tls::{self, ConnectFailure},
};
use crate::node::{LinkEvent, Node, StartError};
use crate::proto::{
    frame::{BODY_BYTES_MAX, Decoder, FRAME_BYTES_MAX, Frame},
    handshake::{self, Agreed, Dial, HandshakeError, Hello, Limits, PROTOCOL_VERSIONS, Reject, RejectCode},
    packet::CloseCode,
};

/// How long a handshake may take, from the first datagram to `Welcome`. Slow or hostile peers hold a place no longer.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How many handshakes may be under way at once. Beyond it the oldest is given up for the newest: an honest one takes
/// milliseconds, so that peers which hold theirs open keep nobody out.
const HANDSHAKES_MAX: usize = 256;

/// From how many handshakes on a peer must first prove that its address is its own, which costs it a round trip.
const HANDSHAKES_UNVALIDATED_MAX: usize = 32;

/// How many links a node holds. A quiet one costs some ten kilobytes; what a busy one may cost at worst is the sum of its
/// windows, gates and queues, so that this bounds the number of sockets' worth of state rather than memory.
pub const LINKS_MAX: usize = 4096;

/// The first pause before dialling again; it doubles from there.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause before dialling again: how long a controller that is back may be unnoticed.
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// How much of the stream the handshake reads at once.
const READ_BYTES: usize = FRAME_BYTES_MAX;

/// Takes links for `node` at `address`, on this thread's `LocalSet`.
pub(crate) fn listen(node: &Node, address: SocketAddr) -> Result<Endpoint, StartError> {
    let config = tls::server_config(node.identity())?;
    let endpoint = tls::listener(address, config, node.identity()).map_err(|source| StartError::Listen { address, source })?;
    tokio::task::spawn_local(accept_all(node.clone(), endpoint.clone()));
    Ok(endpoint)
}

async fn accept_all(node: Node, endpoint: Endpoint) {
    let mut under_way: VecDeque<AbortHandle> = VecDeque::new();
    while let Some(incoming) = endpoint.accept().await {
        under_way.retain(|handshake| !handshake.is_finished());
        if under_way.len() >= HANDSHAKES_UNVALIDATED_MAX && !incoming.remote_address_validated() {
            // Fails only for an address that is validated already, which was just ruled out.
            let _ = incoming.retry();
            continue;
        }
        if under_way.len() >= HANDSHAKES_MAX
            && let Some(oldest) = under_way.pop_front()
        {
            tracing::debug!("a handshake was given up for another");
            oldest.abort();
        }
        let handshake = tokio::task::spawn_local(take_in(node.clone(), incoming));
        under_way.push_back(handshake.abort_handle());
    }
}

/// Dropped, it drops its connection, which ends it.
async fn take_in(node: Node, incoming: Incoming) {
    let from = incoming.remote_address();
    match tokio::time::timeout(HANDSHAKE_MAX, accept_one(&node, incoming)).await {
        Ok(Ok((peer, agreed, streams))) => bring_up(&node, peer, agreed, streams, || {}),
        Ok(Err(text)) => tracing::warn!(%from, "a link was refused: {text}"),
        Err(_) => tracing::warn!(%from, "a handshake took longer than {HANDSHAKE_MAX:?}"),
    }
}

async fn accept_one(node: &Node, incoming: Incoming) -> Result<(Peer, Agreed, Streams), String> {
    let connection = incoming.await.map_err(|error| error.to_string())?;
    let facts = certified(&connection)?;
    let (mut send, mut receive) = connection.accept_bi().await.map_err(|error| error.to_string())?;
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    let frame = first_frame(&mut receive, &mut decoder).await?;
    let answer = handshake::accept(&hello(node), &frame, |_| admit(node, &facts));
    match answer {
        Ok((welcome, agreed)) => {
            send.write_all(&welcome).await.map_err(|error| error.to_string())?;
            let peer = peer(facts, &connection, &agreed);
            Ok((peer, agreed, Streams { connection, send, receive, decoder }))
        }
        Err(refusal) => {
            // Closing at once would overtake the reason, so that the peer is left to close when it has read it.
            let _ = send.write_all(&refusal.frame).await;
            let _ = send.finish();
            let _ = send.stopped().await;
            connection.close(quinn::VarInt::from_u32(CloseCode::Rejected.code()), b"rejected");
            Err(refusal.error.to_string())
        }
    }
}

fn admit(node: &Node, facts: &CertificateFacts) -> Result<(), Reject> {
    let (own, name) = (&node.identity().name, &facts.name);
    if name.cluster != own.cluster {
        return Err(Reject::new(RejectCode::NotAllowed, format!("this is cluster {}, not {}", own.cluster, name.cluster)));
    }
    if name.role == Role::Controller {
        return Err(Reject::new(RejectCode::NotAllowed, "a controller takes links from engines and clients only"));
    }
    if let Some(text) = node.revocation(&facts.serial) {
        return Err(Reject::new(RejectCode::Revoked, text));
    }
    if node.is_draining() {
        return Err(Reject::new(RejectCode::Draining, ""));
    }
    if node.links_count() >= LINKS_MAX {
        return Err(Reject::new(RejectCode::TooManyPeers, format!("this node has {LINKS_MAX} links, as many as it takes")));
    }
    Ok(())
}

/// Keeps a link to `address` on this thread's `LocalSet`, for as long as the node lives and is not cut off for good.
pub(crate) fn dial(node: &Node, address: &str) -> Result<(), StartError> {
    let config = tls::client_config(node.identity())?;
    let (node, address) = (node.clone(), address.to_owned());
    tokio::task::spawn_local(async move {
        let mut dialler = Dialler { node: node.clone(), address, config, attempts: 0, endpoints: Vec::new() };
        let mut backoff = BACKOFF_MIN;
        while !node.is_draining() {
            let dialled = tokio::time::timeout(HANDSHAKE_MAX, dialler.dial_one()).await;
            match dialled.unwrap_or(Err(ConnectFailure::NoAnswer)) {
                Ok((peer, agreed, streams)) => {
                    backoff = BACKOFF_MIN;
                    let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
                    let connection = streams.connection.clone();
                    bring_up(&node, peer, agreed, streams, move || drop(ended));
                    let _ = has_ended.await;
                    // To be cut off for good is told like not being let in.
                    let failure = connection.close_reason().map(|reason| ConnectFailure::from_connection_error(&reason));
                    if let Some(failure) = failure.filter(ConnectFailure::is_final) {
                        return dialler.failed(failure);
                    }
                }
                Err(failure) if failure.is_final() => return dialler.failed(failure),
                Err(failure) => dialler.failed(failure),
            }
            tokio::time::sleep(jittered(backoff)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    });
    Ok(())
}

/// Between half and the whole of a pause, at random: a thousand engines shall not come back in the same millisecond.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

struct Dialler {
    node: Node,
    address: String,
    config: quinn::ClientConfig,
    /// How often it has dialled: a name's addresses take turns.
    attempts: usize,
    /// One for each family of addresses that was needed.
    endpoints: Vec<Endpoint>,
}

impl Dialler {
    fn failed(&self, failure: ConnectFailure) {
        self.node.emit(LinkEvent::DialFailed { address: self.address.clone(), failure });
    }

    async fn dial_one(&mut self) -> Result<(Peer, Agreed, Streams), ConnectFailure> {
        let other = ConnectFailure::Other;
        let end = not_after(&self.node.identity().certificate).map_err(|error| other(error.to_string()))?;
        if end < OffsetDateTime::now_utc() {
            return Err(ConnectFailure::OwnExpired { date: date(end) });
        }
        let resolved = tokio::net::lookup_host(&self.address).await;
        let resolved = resolved.map_err(|error| other(format!("the address cannot be resolved: {error}")))?.collect();
        let address = self.turn(resolved).ok_or_else(|| other("the name has no address".into()))?;
        let endpoint = self.endpoint_for(address).map_err(|error| other(format!("no UDP socket could be opened: {error}")))?;
        let server = server_name(&self.node.identity().name.cluster);
        let connecting =
            endpoint.connect_with(self.config.clone(), address, &server).map_err(|error| other(error.to_string()))?;
        let connection = connecting.await.map_err(|error| ConnectFailure::from_connection_error(&error))?;
        let link = greet(&self.node, &connection).await;
        link.map_err(|error| match (error, connection.close_reason()) {
            // The server judges our certificate only after our side of the TLS handshake is done.
            (GreetError::Lost(_), Some(reason)) => ConnectFailure::from_connection_error(&reason),
            (GreetError::Lost(text), None) => other(text),
            (GreetError::Handshake(HandshakeError::Rejected { code: RejectCode::Revoked, text }), _) => {
                ConnectFailure::Revoked { detail: text }
            }
            (GreetError::Handshake(error), _) => {
                ConnectFailure::Rejected { retryable: error.is_retryable(), detail: error.to_string() }
            }
        })
    }

    /// Which of a name's addresses is dialled this time. Often only one of them answers: "localhost" is both `::1` and
    /// `127.0.0.1`.
    fn turn(&mut self, addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
        let turn = self.attempts.checked_rem(addresses.len())?;
        self.attempts += 1;
        addresses.get(turn).copied()
    }

    fn endpoint_for(&mut self, address: SocketAddr) -> std::io::Result<Endpoint> {
        let of_family = |endpoint: &&Endpoint| endpoint.local_addr().is_ok_and(|own| own.is_ipv6() == address.is_ipv6());
        if let Some(endpoint) = self.endpoints.iter().find(of_family) {
            return Ok(endpoint.clone());
        }
        let any: SocketAddr = if address.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
        let endpoint = tls::endpoint(any, None)?;
        self.node.keep_endpoint(endpoint.clone());
        self.endpoints.push(endpoint.clone());
        Ok(endpoint)
    }
}

enum GreetError {
    Lost(String),
    Handshake(HandshakeError),
}

/// The dialler's half of the handshake. `connect` has succeeded before the server has judged our certificate: only its
/// `Welcome` says that the link is up.
async fn greet(node: &Node, connection: &Connection) -> Result<(Peer, Agreed, Streams), GreetError> {
    let lost = |error: &dyn std::fmt::Display| GreetError::Lost(error.to_string());
    let facts = certified(connection).map_err(GreetError::Lost)?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| lost(&error))?;
    let (hello, dial) = Dial::start(hello(node)).map_err(GreetError::Handshake)?;
    send.write_all(&hello).await.map_err(|error| lost(&error))?;
    let mut decoder = Decoder::new(BODY_BYTES_MAX);
    let frame = first_frame(&mut receive, &mut decoder).await.map_err(GreetError::Lost)?;
    let agreed = dial.on_frame(frame).map_err(GreetError::Handshake)?;
    let peer = peer(facts, connection, &agreed);
    Ok((peer, agreed, Streams { connection: connection.clone(), send, receive, decoder }))
}

fn bring_up(node: &Node, peer: Peer, agreed: Agreed, streams: Streams, on_end: impl FnOnce() + 'static) {
    let Some(local) = node.local() else { return };
    let owner = node.clone();
    let link = Link::start(node.next_link_id(), peer, agreed.messages, streams, local, move |link, reason| {
        owner.link_down(link, reason);
        on_end();
    });
    node.link_up(&link);
}

fn hello(node: &Node) -> Hello {
    Hello {
        protocol_min: PROTOCOL_VERSIONS.0,
        protocol_max: PROTOCOL_VERSIONS.1,
        features: 0,
        incarnation: node.incarnation(),
        build_id: concat!("engineroom ", env!("CARGO_PKG_VERSION")).to_owned(),
        accepts: node.accepts(),
        limits: Limits { frame_bytes_max: FRAME_BYTES_MAX as u32, message_bytes_max: super::bulk::MESSAGE_BYTES_MAX as u64 },
    }
}

fn peer(facts: CertificateFacts, connection: &Connection, agreed: &Agreed) -> Peer {
    Peer {
        name: facts.name,
        admin: facts.admin,
        serial: facts.serial,
        incarnation: agreed.incarnation,
        address: connection.remote_address(),
        build_id: agreed.build_id.clone(),
    }
}

/// Who the peer is, by the certificate that TLS has verified.
fn certified(connection: &Connection) -> Result<CertificateFacts, String> {
    let identity = connection.peer_identity().ok_or("the peer has no certificate")?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| "the peer's identity is no certificate")?;
    let certificate = chain.first().ok_or("the peer has no certificate")?;
    CertificateFacts::read(certificate).map_err(|error| error.to_string())
}

/// Reads until the first frame is whole. What came behind it stays in the decoder.
async fn first_frame(stream: &mut RecvStream, decoder: &mut Decoder) -> Result<Frame, String> {
    loop {
        if let Some(frame) = decoder.next_frame().map_err(|error| error.to_string())? {
            return Ok(frame);
        }
        let chunk = stream.read_chunk(READ_BYTES, true).await.map_err(|error| error.to_string())?;
        decoder.push(&chunk.ok_or("the peer closed the stream within the handshake")?.bytes);
    }
}
