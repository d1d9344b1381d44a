//! The TLS and QUIC settings of every connection, and what it means when one cannot be made.
//!
//! TLS 1.3 only, both sides with certificates of the cluster's authority. What would let bytes through before both are
//! checked (0-RTT, session tickets) or what is not used (datagrams, migration) is off. The crypto provider is passed
//! explicitly everywhere: a process-wide default belongs to the program, not to a library.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use quinn::{
    ConnectionError, Endpoint, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::CubicConfig,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
    udp::UdpSocketState,
};
use rustls::{
    AlertDescription, RootCertStore,
    client::Resumption,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use time::OffsetDateTime;

use crate::{
    net::{
        identity::{Identity, date},
        reset,
    },
    proto::codes::CloseCode,
};

/// The protocol's name in the TLS handshake. Nodes of another one don't connect at all.
pub const ALPN: &[u8] = b"engineroom/1";

/// A quiet link sends something this often, so that a peer that is gone is noticed. After a cut it is this long until the next
/// attempt, which must come before [`IDLE_TIMEOUT`].
pub const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A link from which nothing was heard for so long is lost. QUIC counts anew when, after something was heard, something is sent for
/// the first time: so it takes [`KEEP_ALIVE`] more. Together they bound how long the tasks of a silent engine are stuck, which is to
/// be less than 15 s; and a cut of 10 s ends no link.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(12_500);

/// How many streams of both directions the peer may have open: the control stream, which the dialler opens.
pub const CONTROL_STREAMS_MAX: u32 = 1;

/// How many bulk streams the peer may have open. More wait at the sender, until one has been read to its end. Times
/// [`STREAM_RECEIVE_WINDOW`] it is what a link may hold of messages that wait for room in a mailbox.
pub const BULK_STREAMS_MAX: u32 = 8;

/// How many bytes of one stream may be under way or unread, in bytes: the bandwidth-delay product of 10 Gbit/s at 3 ms.
pub const STREAM_RECEIVE_WINDOW: u32 = 4 * 1024 * 1024;

/// How many bytes of all streams of a link may be under way or unread, in bytes: what all streams together may. With less,
/// bulk that waits for room in a mailbox would use it up, and the control stream with the messages that make room would
/// wait behind it.
pub const RECEIVE_WINDOW: u32 = (BULK_STREAMS_MAX + CONTROL_STREAMS_MAX) * STREAM_RECEIVE_WINDOW;

/// How many bytes of a link are kept until they are acknowledged, in bytes. What is written beyond it waits. Bulk payloads
/// must stay below, or control frames would wait behind them.
pub const SEND_WINDOW: u64 = 32 * 1024 * 1024;

/// The largest UDP payload that is sent or taken, in bytes. Links start at 1,200 bytes and find out how much more the path
/// carries: some 1,452 on plain Ethernet, up to this where frames may be longer. On the loopback interface bulk was measured
/// to be about twice as fast as with 1,452.
///
/// quinn hands the system up to ten packets at once, as one send, and UDP takes at most 65,507 bytes in one. Beyond a tenth
/// of that, full sends are lost on every path: the same measurement fell to a hundredth.
pub const UDP_PAYLOAD_BYTES_MAX: u16 = 6_400;

/// How many packets quinn sends at once, at most (its `MAX_TRANSMIT_SEGMENTS`).
const SEGMENTS_MAX: usize = 10;

/// The largest send over UDP and IPv4, in bytes.
const UDP_SEND_BYTES_MAX: usize = 65_507;

const _: () = assert!(UDP_PAYLOAD_BYTES_MAX as usize * SEGMENTS_MAX <= UDP_SEND_BYTES_MAX);

/// How many bytes may be under way before the first acknowledgement, in bytes: ten packets, as RFC 9002 has it, of the size
/// that this protocol's have. With less the probes for that size alone fill the window, and what then waits behind them
/// includes a close, which quinn 0.11 never sends once it has had to wait (<https://github.com/quinn-rs/quinn/issues/2785>).
const INITIAL_WINDOW: u64 = 10 * UDP_PAYLOAD_BYTES_MAX as u64;

/// What the system is asked to buffer for each direction of a socket, in bytes. Its usual 208 KiB overflow in every burst of
/// bulk; what is lost then has to be sent again. The system may grant less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// How many connections may wait to be accepted; more are refused. A node accepts at once, so a longer queue is an attack
/// or a stampede that its diallers' backoff resolves.
pub const INCOMING_MAX: usize = 1_024;

/// How many bytes are kept for one connection that waits to be accepted, in bytes: two flights of a greeting.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

/// How many bytes are kept for all connections that wait to be accepted, in bytes.
const INCOMING_BUFFER_BYTES_TOTAL: u64 = 4 * 1024 * 1024;

/// The settings of the side that accepts.
///
/// # Errors
///
/// When the identity's certificate, key or authority is unusable.
pub fn server_config(identity: &Identity) -> Result<quinn::ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider()).build()?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.max_early_data_size = 0;
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport_config()));
    config.migration(false);
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BUFFER_BYTES);
    config.incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    Ok(config)
}

/// The settings of the side that dials. The name to expect is [`server_name`](super::authority::server_name).
///
/// # Errors
///
/// When the identity's certificate, key or authority is unusable.
pub fn client_config(identity: &Identity) -> Result<quinn::ClientConfig, TlsError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport_config()));
    Ok(config)
}

/// Opens a QUIC endpoint at an address of this machine. With a server's settings it accepts connections, without it only
/// dials. Port 0 is any free port.
///
/// # Errors
///
/// When the system refuses the address.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn endpoint(address: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    open(address, server, endpoint_config())
}

/// As [`endpoint`], for a node that is dialled: one of the same identity that opens the address later tells the peers of
/// this one that it was restarted, as soon as they send anything.
pub(crate) fn listener(address: SocketAddr, server: quinn::ServerConfig, identity: &Identity) -> io::Result<Endpoint> {
    let mut config = endpoint_config();
    reset::make_stable(&mut config, identity);
    open(address, Some(server), config)
}

fn open(address: SocketAddr, server: Option<quinn::ServerConfig>, config: EndpointConfig) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    let state = UdpSocketState::new((&socket).into())?;
    // A smaller buffer costs speed only.
    let _ = state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
    let _ = state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER_BYTES);
    Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))
}

/// The settings of a QUIC endpoint, whichever side it is.
fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // Fails below 1,200 only; a test says that it does not.
    let _ = config.max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX);
    config
}

/// The settings of a connection, whichever side it is.
pub fn transport_config() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW);
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(Arc::new(congestion))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into()))
        .max_concurrent_bidi_streams(CONTROL_STREAMS_MAX.into())
        .max_concurrent_uni_streams(BULK_STREAMS_MAX.into())
        .stream_receive_window(STREAM_RECEIVE_WINDOW.into())
        .receive_window(RECEIVE_WINDOW.into())
        .send_window(SEND_WINDOW)
        .mtu_discovery_config(Some(mtu))
        .datagram_receive_buffer_size(None);
    config
}

/// The one crypto provider in use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.authority.clone())?;
    Ok(Arc::new(roots))
}

/// An identity that TLS cannot use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate or key is unusable.
    #[error("the node's certificate or key cannot be used: {0}")]
    Identity(#[from] rustls::Error),
    /// The authority is unusable.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(#[from] VerifierBuilderError),
    /// The crypto provider lacks what QUIC needs.
    #[error("the crypto provider lacks QUIC's initial cipher suite: {0}")]
    Suite(#[from] NoInitialCipherSuite),
}

/// Why a connection could not be made or came to an end, as the side sees it that dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// Nothing came back.
    NoAnswer,
    /// The other side's certificate is of another authority: it belongs to another cluster.
    WrongAuthority,
    /// The other side's certificate is wrong in another way: it has expired, or is no controller's.
    ServerCertificate {
        /// What is wrong.
        detail: String,
    },
    /// The other side's certificate has expired, by this machine's clock.
    ServerExpired {
        /// When, as year-month-day in UTC.
        date: String,
    },
    /// The other side refused this node's certificate.
    CertificateRefused {
        /// Why.
        reason: CertificateRefusal,
    },
    /// This node's certificate has expired, by this machine's clock. Nothing was dialled.
    OwnExpired {
        /// When, as year-month-day in UTC.
        date: String,
    },
    /// The other side refused this node, or cut it off, since its certificate was revoked.
    Revoked {
        /// When, and what to do, in the other side's words.
        detail: String,
    },
    /// The other side speaks something else.
    OtherProtocol,
    /// The other side has no room for another connection.
    Busy,
    /// The other side's answer to the greeting was no.
    Rejected {
        /// Whether dialling again later can succeed without anybody changing a file or a program.
        retryable: bool,
        /// Why.
        detail: String,
    },
    /// The other side, having been connected, said goodbye.
    Closed {
        /// Why, if it is a code of this protocol.
        code: Option<CloseCode>,
        /// The other side's words, possibly none.
        text: String,
    },
    /// The other side has forgotten the connection: it was restarted.
    Reset,
    /// This side closed the connection itself.
    ClosedHere,
    /// Something else.
    Other(String),
}

/// Why the other side refused this node's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateRefusal {
    /// It is of another authority.
    WrongAuthority,
    /// It has expired, or is not valid yet.
    Expired,
    /// It was revoked.
    Revoked,
    /// There was none.
    Missing,
    /// It is not made for this use, or malformed.
    Unsuitable,
}

impl fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongAuthority => "it is of another cluster",
            Self::Expired => "it has expired, or one of the two clocks is wrong",
            Self::Revoked => "it was revoked",
            Self::Missing => "there was none",
            Self::Unsuitable => "it is not made for this use",
        })
    }
}

impl ConnectFailure {
    /// Understands what quinn reports.
    pub fn from_connection_error(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::TimedOut => Self::NoAnswer,
            ConnectionError::VersionMismatch => Self::OtherProtocol,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::LocallyClosed => Self::ClosedHere,
            ConnectionError::TransportError(local) => match alert(local.code) {
                Some(alert) => Self::from_own_alert(alert, &local.reason),
                None => Self::Other(local.to_string()),
            },
            ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
                Some(alert) => Self::from_peer_alert(alert),
                None if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED => Self::Busy,
                None => Self::Other(close.to_string()),
            },
            ConnectionError::ApplicationClosed(close) => {
                let code = u32::try_from(close.error_code.into_inner()).ok().and_then(CloseCode::from_code);
                let text = String::from_utf8_lossy(&close.reason).into_owned();
                if code == Some(CloseCode::Revoked) {
                    return Self::Revoked { detail: text };
                }
                Self::Closed { code, text }
            }
            ConnectionError::CidsExhausted => Self::Other(error.to_string()),
        }
    }

    /// Whether dialling again later can succeed without anybody changing a file or a program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::WrongAuthority
            | Self::ServerExpired { .. }
            | Self::ServerCertificate { .. }
            | Self::CertificateRefused { .. }
            | Self::OwnExpired { .. }
            | Self::Revoked { .. }
            | Self::OtherProtocol => false,
            Self::Rejected { retryable, .. } => *retryable,
            Self::NoAnswer | Self::Busy | Self::Closed { .. } | Self::Reset | Self::ClosedHere | Self::Other(_) => true,
        }
    }

    /// Whether the other side has decided against this very node, so that a dialler gives up. What is merely not
    /// retryable may be healed at the other side while this node waits.
    pub fn is_final(&self) -> bool {
        let revoked = Self::CertificateRefused { reason: CertificateRefusal::Revoked };
        matches!(self, Self::Revoked { .. }) || *self == revoked
    }

    /// What to tell the user: what happened, to what, and what to do.
    pub fn describe(&self, address: &str, connection_file: Option<&Path>) -> String {
        let file = match connection_file {
            Some(path) => format!("connection file {}", path.display()),
            None => "this node's certificate".to_owned(),
        };
        match self {
            Self::NoAnswer => format!("nothing answers at {address}: is the controller running, and may UDP pass to it?"),
            Self::WrongAuthority => {
                format!("the controller at {address} belongs to another cluster than {file}: get the file from that controller")
            }
            Self::ServerExpired { date } => format!(
                "the certificate of the controller at {address} expired on {date}: start the controller again, which renews it"
            ),
            Self::ServerCertificate { detail } => format!("the certificate of the controller at {address} is wrong: {detail}"),
            Self::CertificateRefused { reason } => {
                format!("the controller at {address} refused {file}: {reason}; get a new one from it")
            }
            Self::OwnExpired { date } => {
                let of = connection_file.map_or_else(|| file.clone(), |_| format!("the certificate in {file}"));
                format!("{of} expired on {date}: get a new one from the controller at {address}")
            }
            Self::Revoked { detail } => format!("the controller at {address} refused {file}: {detail}"),
            Self::OtherProtocol => {
                format!("what answers at {address} does not speak engineroom's protocol: check the address and both versions")
            }
            Self::Busy => format!("the controller at {address} has no room for another connection; try again later"),
            Self::Rejected { detail, .. } => format!("the controller at {address} does not take this node: {detail}"),
            Self::Closed { code, text } => {
                let reason = code.map_or_else(|| "for an unknown reason".to_owned(), |code| code.to_string());
                let separator = if text.is_empty() { "" } else { ": " };
                format!("the controller at {address} closed the connection: {reason}{separator}{text}")
            }
            Self::Reset => format!("the controller at {address} was restarted"),
            Self::ClosedHere => format!("the connection to {address} was closed by this node"),
            Self::Other(reason) => format!("the connection to {address} failed: {reason}"),
        }
    }

    /// What this side's TLS found wrong with the other side.
    fn from_own_alert(alert: AlertDescription, reason: &str) -> Self {
        match alert {
            // Two authorities of one name differ in their keys only: then it is the signature that does not fit.
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Self::WrongAuthority,
            AlertDescription::CertificateExpired if let Some(date) = end_in(reason) => Self::ServerExpired { date },
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown => Self::ServerCertificate { detail: reason.to_owned() },
            AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion => Self::OtherProtocol,
            _ => Self::Other(reason.to_owned()),
        }
    }

    /// What the other side's TLS found wrong with this side.
    fn from_peer_alert(alert: AlertDescription) -> Self {
        let reason = match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => CertificateRefusal::WrongAuthority,
            AlertDescription::CertificateExpired => CertificateRefusal::Expired,
            AlertDescription::CertificateRevoked => CertificateRefusal::Revoked,
            AlertDescription::CertificateRequired => CertificateRefusal::Missing,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => CertificateRefusal::Unsuitable,
            AlertDescription::NoApplicationProtocol | AlertDescription::ProtocolVersion => return Self::OtherProtocol,
            _ => return Self::Other(format!("the other side's TLS reports {alert:?}")),
        };
        Self::CertificateRefused { reason }
    }
}

/// What to tell the user about a connection that failed; see [`ConnectFailure::describe`].
pub fn describe_connection_error(error: &ConnectionError, address: &str, connection_file: Option<&Path>) -> String {
    ConnectFailure::from_connection_error(error).describe(address, connection_file)
}

/// The day on which a certificate ended, out of what rustls says of an expired one; quinn passes nothing on but its words. A
/// test holds on to them, and without them the message is theirs.
fn end_in(reason: &str) -> Option<String> {
    let (_, rest) = reason.split_once("not valid after ")?;
    let seconds: String = rest.chars().take_while(char::is_ascii_digit).collect();
    OffsetDateTime::from_unix_timestamp(seconds.parse().ok()?).ok().map(date)
}

/// The TLS alert in a QUIC error code: they are 0x100 and the alert's number.
fn alert(code: quinn::TransportErrorCode) -> Option<AlertDescription> {
    let number = u64::from(code).checked_sub(0x100)?;
    u8::try_from(number).ok().map(AlertDescription::from)
}

#[cfg(test)]
mod tests;
