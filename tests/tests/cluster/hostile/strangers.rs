//! Those who are not, or only half, let in.

use std::sync::Arc;

use engineroom_runtime::net::tls::{ALPN, ConnectFailure, transport_config};
use quinn::crypto::rustls::QuicClientConfig;

use super::peer::{Random, Target};

/// How many random datagrams are sent.
const DATAGRAMS: usize = 10_000;

/// How many connections without a certificate are tried.
const NAMELESS: usize = 100;

/// How many handshakes are held open at once: more than a controller has under way.
const HALF_OPEN: usize = 300;

/// A third is noise, a third looks like the start of a connection, a third like packets of one.
pub async fn datagrams(target: &Target, random: &mut Random) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for number in 0..DATAGRAMS {
        let length = random.below(1500);
        let mut datagram = random.bytes(length);
        let start: &[u8] = match number % 3 {
            0 => &[],
            1 => &[0xc0, 0, 0, 0, 1, 8],
            _ => &[0x40],
        };
        let known = start.len().min(datagram.len());
        datagram[..known].copy_from_slice(&start[..known]);
        // What the system drops is no loss.
        let _ = socket.send_to(&datagram, target.address);
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The right authority, the right protocol, and no certificate.
pub async fn without_certificate(target: &Target) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(target.file.identity().authority.clone()).expect("the cluster's authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).expect("a suite of QUIC")));
    config.transport_config(Arc::new(transport_config()));
    for _ in 0..NAMELESS {
        let endpoint = target.endpoint();
        let connecting = endpoint.connect_with(config.clone(), target.address, &target.server_name).expect("an address");
        let error = match connecting.await {
            // The controller judges after our side of the handshake.
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        };
        let failure = ConnectFailure::from_connection_error(&error);
        assert!(matches!(failure, ConnectFailure::CertificateRefused { .. }), "{failure:?}");
    }
}

/// Connections on which the greeting never comes, or never ends. The controller ends them, or had no room for them.
pub async fn half_open(target: &Target) {
    let endpoint = target.endpoint();
    let connecting: Vec<_> = (0..HALF_OPEN).map(|_| target.connect(&endpoint)).collect();
    let mut held = Vec::new();
    for connecting in connecting {
        let Ok(connection) = connecting.await else { continue };
        if held.len() % 2 == 0
            && let Ok((mut send, receive)) = connection.open_bi().await
        {
            let _ = send.write_all(&[200, 0, 0, 0, 1, 0, 0, 0, 0x87]).await;
            held.push((connection, Some((send, receive))));
        } else {
            held.push((connection, None));
        }
    }
    assert!(held.len() > HALF_OPEN / 2, "only {} of {HALF_OPEN} connections were taken", held.len());
    for (connection, streams) in held {
        connection.closed().await;
        drop(streams);
    }
}
