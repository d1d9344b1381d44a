use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use quinn::{ClientConfig, Connection, ServerConfig};
use rustls::pki_types::CertificateDer;
use time::{Duration as Days, OffsetDateTime};

use super::*;
use crate::net::{
    authority::{Authority, CERTIFICATE_DAYS, server_name},
    identity::{Role, peer_name},
};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn endpoint(server: Option<ServerConfig>) -> Endpoint {
    super::endpoint(LOOPBACK, server).unwrap()
}

/// Connects through the loopback interface; both ends, with their endpoints.
async fn connect(server: &Identity, client: &Identity) -> (Connection, Connection, [Endpoint; 2]) {
    let (acceptor, dialler) = (endpoint(Some(server_config(server).unwrap())), endpoint(None));
    let address = acceptor.local_addr().unwrap();
    let dialled = dialler.connect_with(client_config(client).unwrap(), address, &server_name("lab")).unwrap();
    let accepted = async { acceptor.accept().await.unwrap().await };
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    (dialled.unwrap(), accepted.unwrap(), [acceptor, dialler])
}

/// How a connection ends that one side refuses, as the dialler sees it.
async fn failure_with(server: ServerConfig, client: ClientConfig) -> ConnectFailure {
    let (acceptor, dialler) = (endpoint(Some(server)), endpoint(None));
    let address = acceptor.local_addr().unwrap();
    let accept = tokio::spawn(async move {
        let accepted = acceptor.accept().await.unwrap().await;
        // Kept until the dialler has seen how it ends.
        (accepted, acceptor)
    });
    let dialled = dialler.connect_with(client, address, &server_name("lab")).unwrap().await;
    let error = match dialled {
        // The server judges the client's certificate when the client has finished already.
        Ok(connection) => connection.closed().await,
        Err(error) => error,
    };
    let (accepted, _acceptor) = accept.await.unwrap();
    assert!(accepted.is_err(), "the server accepted");
    ConnectFailure::from_connection_error(&error)
}

async fn failure(server: &Identity, client: &Identity) -> ConnectFailure {
    failure_with(server_config(server).unwrap(), client_config(client).unwrap()).await
}

fn authority() -> Authority {
    Authority::create("lab").unwrap()
}

fn issue(authority: &Authority, role: Role) -> Identity {
    authority.issue(role, "me", CERTIFICATE_DAYS).unwrap()
}

fn expired(authority: &Authority, role: Role) -> Identity {
    let now = OffsetDateTime::now_utc();
    authority.issue_between(role, "me", now - Days::days(9), now - Days::days(1)).unwrap()
}

fn peer_of(connection: &Connection) -> String {
    let certificates = connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap();
    peer_name(&certificates[0]).unwrap().to_string()
}

#[tokio::test]
async fn nodes_of_one_cluster_connect_and_know_each_other() {
    let authority = authority();
    for role in Role::ALL {
        let (dialled, accepted, _endpoints) = connect(&issue(&authority, Role::Controller), &issue(&authority, role)).await;
        assert_eq!(peer_of(&dialled), "spiffe://lab/controller/me");
        assert_eq!(peer_of(&accepted), format!("spiffe://lab/{role}/me"));
        let data = dialled.handshake_data().unwrap().downcast::<quinn::crypto::rustls::HandshakeData>().unwrap();
        assert_eq!(data.protocol.as_deref(), Some(ALPN));
        assert_eq!(dialled.max_datagram_size(), None);
        assert_eq!(accepted.max_datagram_size(), None);

        let (mut send, _receive) = dialled.open_bi().await.unwrap();
        send.write_all(b"hello").await.unwrap();
        let (_send, mut receive) = accepted.accept_bi().await.unwrap();
        let mut bytes = [0; 5];
        receive.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello");
    }
}

/// With larger packets, a send of many at once exceeded what UDP takes: a third of all packets was lost, or the path was taken
/// for one that swallows large packets.
#[tokio::test]
async fn bulk_is_not_taken_for_a_broken_path() {
    const BYTES: usize = 16 * 1024 * 1024;
    let authority = authority();
    let (dialled, accepted, _endpoints) = connect(&issue(&authority, Role::Controller), &issue(&authority, Role::Client)).await;
    let send = async {
        let mut stream = dialled.open_uni().await.unwrap();
        stream.write_chunk(vec![7; BYTES].into()).await.unwrap();
        stream.finish().unwrap();
    };
    let receive = async { accepted.accept_uni().await.unwrap().read_to_end(BYTES).await.unwrap() };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received.len(), BYTES);
    let path = dialled.stats().path;
    assert_eq!(path.black_holes_detected, 0);
    assert!(path.lost_packets * 10 < path.sent_packets, "{} of {} packets were lost", path.lost_packets, path.sent_packets);
}

#[tokio::test]
async fn nothing_is_sent_before_the_handshake_is_done() {
    let authority = authority();
    let acceptor = endpoint(Some(server_config(&issue(&authority, Role::Controller)).unwrap()));
    let (dialler, config) = (endpoint(None), client_config(&issue(&authority, Role::Client)).unwrap());
    // A ticket of the first connection would let the second one send early.
    for _ in 0..2 {
        let connecting = dialler.connect_with(config.clone(), acceptor.local_addr().unwrap(), &server_name("lab")).unwrap();
        let Err(connecting) = connecting.into_0rtt() else { panic!("early data is on") };
        let (dialled, accepted) = tokio::join!(connecting, async { acceptor.accept().await.unwrap().await });
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        // A stream's round trip, so that what the server sends after the handshake has arrived too.
        let mut send = accepted.open_uni().await.unwrap();
        send.write_all(b"x").await.unwrap();
        dialled.accept_uni().await.unwrap().read_chunk(1, true).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_controller_of_another_cluster_is_told_apart() {
    let client = issue(&authority(), Role::Client);
    // The same name, so that only the signature does not fit; and another name.
    for other in [authority(), Authority::create("home").unwrap()] {
        let failure = failure(&issue(&other, Role::Controller), &client).await;
        assert_eq!(failure, ConnectFailure::WrongAuthority);
        assert!(!failure.is_retryable());
        assert_eq!(
            failure.describe("host:1", Some(Path::new("client.json"))),
            "the controller at host:1 belongs to another cluster than connection file client.json: \
             get the file from that controller"
        );
    }
}

#[tokio::test]
async fn only_a_controller_with_a_valid_certificate_is_one() {
    let authority = authority();
    let client = issue(&authority, Role::Client);
    let expired = failure(&expired(&authority, Role::Controller), &client).await;
    let yesterday = date(OffsetDateTime::now_utc() - Days::days(1));
    assert_eq!(expired, ConnectFailure::ServerExpired { date: yesterday.clone() });
    assert!(!expired.is_retryable() && !expired.is_final());
    assert!(expired.describe("host:1", None).contains(&format!("host:1 expired on {yesterday}: start the controller again")));
    for server in [issue(&authority, Role::Engine), issue(&authority, Role::Client)] {
        let failure = failure(&server, &client).await;
        let ConnectFailure::ServerCertificate { detail } = &failure else { panic!("{failure:?}") };
        assert!(!detail.is_empty());
        assert!(!failure.is_retryable());
    }
}

#[tokio::test]
async fn a_certificate_that_is_refused_says_why() {
    let (ours, other) = (authority(), authority());
    let server = issue(&ours, Role::Controller);
    let foreign = |authority: &Authority| Identity { authority: server.authority.clone(), ..issue(authority, Role::Client) };
    let cases = [
        (expired(&ours, Role::Client), CertificateRefusal::Expired),
        (foreign(&other), CertificateRefusal::WrongAuthority),
        (foreign(&Authority::create("home").unwrap()), CertificateRefusal::WrongAuthority),
    ];
    for (client, reason) in cases {
        let failure = failure(&server, &client).await;
        assert_eq!(failure, ConnectFailure::CertificateRefused { reason });
        assert!(!failure.is_retryable());
    }
}

/// What a client looks like that is not ours.
fn client_without(certificate: Option<&Identity>, authority: &Identity, alpn: &[u8]) -> ClientConfig {
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots(authority).unwrap());
    let mut tls = match certificate {
        Some(identity) => tls.with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key()).unwrap(),
        None => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let server = issue(&authority(), Role::Controller);
    let failure = failure_with(server_config(&server).unwrap(), client_without(None, &server, ALPN)).await;
    assert_eq!(failure, ConnectFailure::CertificateRefused { reason: CertificateRefusal::Missing });
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let authority = authority();
    let (server, client) = (issue(&authority, Role::Controller), issue(&authority, Role::Client));
    let stranger = client_without(Some(&client), &server, b"h3");
    assert_eq!(failure_with(server_config(&server).unwrap(), stranger).await, ConnectFailure::OtherProtocol);
}

#[tokio::test]
async fn a_full_controller_is_busy() {
    let authority = authority();
    let acceptor = endpoint(Some(server_config(&issue(&authority, Role::Controller)).unwrap()));
    let dialler = endpoint(None);
    let config = client_config(&issue(&authority, Role::Client)).unwrap();
    let dialled = dialler.connect_with(config, acceptor.local_addr().unwrap(), &server_name("lab")).unwrap();
    let (error, ()) = tokio::join!(dialled, async { acceptor.accept().await.unwrap().refuse() });
    let failure = ConnectFailure::from_connection_error(&error.unwrap_err());
    assert_eq!(failure, ConnectFailure::Busy);
    assert!(failure.is_retryable());
}

#[tokio::test]
async fn a_goodbye_keeps_its_code_and_text() {
    let authority = authority();
    let (dialled, accepted, _endpoints) = connect(&issue(&authority, Role::Controller), &issue(&authority, Role::Client)).await;
    accepted.close(CloseCode::Drain.code().into(), b"back soon");
    let failure = ConnectFailure::from_connection_error(&dialled.closed().await);
    assert_eq!(failure, ConnectFailure::Closed { code: Some(CloseCode::Drain), text: "back soon".into() });
    let closed = ConnectFailure::from_connection_error(&accepted.closed().await);
    assert_eq!(closed, ConnectFailure::ClosedHere);
    assert_eq!(failure.describe("host:1", None), "the controller at host:1 closed the connection: shutting down: back soon");
}

#[tokio::test]
async fn who_is_cut_off_as_revoked_is_told_and_gives_up() {
    let authority = authority();
    let (dialled, accepted, _endpoints) = connect(&issue(&authority, Role::Controller), &issue(&authority, Role::Client)).await;
    accepted.close(CloseCode::Revoked.code().into(), b"it was revoked on a Friday");
    let failure = ConnectFailure::from_connection_error(&dialled.closed().await);
    assert!(failure.is_final() && !failure.is_retryable());
    assert_eq!(
        failure.describe("host:1", Some(Path::new("a.json"))),
        "the controller at host:1 refused connection file a.json: it was revoked on a Friday"
    );
}

#[test]
fn what_cannot_be_staged_is_classified() {
    let classify = |error| ConnectFailure::from_connection_error(&error);
    assert_eq!(classify(ConnectionError::TimedOut), ConnectFailure::NoAnswer);
    assert_eq!(classify(ConnectionError::VersionMismatch), ConnectFailure::OtherProtocol);
    assert_eq!(classify(ConnectionError::Reset), ConnectFailure::Reset);
    assert!(matches!(classify(ConnectionError::CidsExhausted), ConnectFailure::Other(_)));
    let quiet = describe_connection_error(&ConnectionError::TimedOut, "host:1", None);
    assert_eq!(quiet, "nothing answers at host:1: is the controller running, and may UDP pass to it?");
}

#[test]
fn the_limits_fit_each_other() {
    assert!(IDLE_TIMEOUT + KEEP_ALIVE < Duration::from_secs(15), "silence is noticed within 15 s");
    assert!(Duration::from_secs(10) + KEEP_ALIVE < IDLE_TIMEOUT, "a cut of 10 s ends no link");
    assert_eq!(endpoint_config().get_max_udp_payload_size(), u64::from(UDP_PAYLOAD_BYTES_MAX));
    const {
        assert!(BULK_STREAMS_MAX * STREAM_RECEIVE_WINDOW < RECEIVE_WINDOW, "bulk must not stop the control stream");
        assert!(SEND_WINDOW >= STREAM_RECEIVE_WINDOW as u64, "a window that is granted can be used");
    }
}
