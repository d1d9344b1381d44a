//! Endpoints and connections: the TLS of engineroom, and quinn's own settings but for the windows.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use engineroom_runtime::net::{
    authority::{CERTIFICATE_DAYS, server_name},
    identity::Role,
    security_dir::SecurityDir,
    tls,
};
use quinn::{Connection, Endpoint, TransportConfig, VarInt};

use crate::Failure;

/// The name of the authority, which stands in certificates.
const CLUSTER: &str = "bare";

/// How many bytes of one stream may be under way or unread, in bytes. Wide: limits are not to be limited by windows.
const STREAM_WINDOW: u32 = 32 << 20;

/// How many bytes of all streams may be under way or unread, in bytes; likewise what is kept until it is acknowledged.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// When a process of a limit gives up a silent peer.
const IDLE: Duration = Duration::from_secs(60);

/// Makes the authority that all processes of one limit share.
pub fn prepare(directory: &Path) -> Result<(), Failure> {
    SecurityDir::open_or_create(directory, CLUSTER)?;
    Ok(())
}

/// Listens on a free port of the loopback interface.
pub fn listen(directory: &Path) -> Result<Endpoint, Failure> {
    let security = SecurityDir::open_or_create(directory, CLUSTER)?;
    let mut config = tls::server_config(security.controller())?;
    config.transport_config(transport()?);
    Ok(Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0)))?)
}

/// Takes the next connection.
pub async fn accept(endpoint: &Endpoint) -> Result<Connection, Failure> {
    Ok(endpoint.accept().await.ok_or("the endpoint is closed")?.await?)
}

/// Connects. The endpoint must live as long as the connection.
pub async fn dial(directory: &Path, to: SocketAddr) -> Result<(Endpoint, Connection), Failure> {
    let security = SecurityDir::open_or_create(directory, CLUSTER)?;
    let identity = security.authority().issue(Role::Client, "bench", CERTIFICATE_DAYS)?;
    let mut config = tls::client_config(&identity)?;
    config.transport_config(transport()?);
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let connection = endpoint.connect_with(config, to, &server_name(CLUSTER))?.await?;
    Ok((endpoint, connection))
}

fn transport() -> Result<Arc<TransportConfig>, Failure> {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .max_idle_timeout(Some(VarInt::try_from(IDLE.as_millis() as u64)?.into()));
    Ok(Arc::new(config))
}
