//! A controller: the scheduler, the result stores and the keeper of blobs, on one node.

mod blobs;
mod renewal;
mod uploads;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::{Addr, MailboxError};
use engineroom_runtime::{
    actor::{ActorHandle, Registry, Restart, spawn_actor},
    net::{
        connection_file::ConnectionFile,
        identity::Role,
        ledger::LedgerError,
        revocation::Revocations,
        security_dir::{SecurityDir, SecurityDirError},
    },
    node::{DrainReport, LinkEvent, Node, NodeThread, StartError},
};
use futures_util::FutureExt;

pub(crate) use self::blobs::BlobKeeper;
use crate::code::{BlobCache, CacheError};
use crate::profile::{Profile, ProfileError};
use crate::results::{MemoryLimits, Restored, ResultStore, Retention, Settle, Store, StoreError};
use crate::scheduler::{Leaving, LinkDown, LinkUp, SchedulerActor, Scheme, Settings, UseStores};
use crate::wire::{
    Abort, AwaitEnd, BLOBS, BlobPart, ControlEngines, Draining, FetchBlob, FetchTasks, OfferBlob, Purge, PurgeOlder,
    QueryCluster, QueryStatus, QueryTasks, Register, Report, Retracted, SCHEDULER, SHARDS, Submit, Subscribe, Taken, TaskNews,
    WatchEngines, store_actor,
};

/// How many bytes of programs and shared values a controller keeps on disk; the least recently used go first.
const BLOBS_BYTES_MAX: u64 = 8 << 30;

/// The name of the database in the profile's `state/`.
const STORE_FILE: &str = "store.sqlite";

/// The most result stores that a controller may have.
const STORES_MAX: usize = SHARDS;

const CLIENT: &[Role] = &[Role::Client];
const ENGINE: &[Role] = &[Role::Engine];

/// How a controller is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerConfig {
    /// Where it takes links. Port 0 takes a free port the first time, and the same one whenever the profile starts again,
    /// as long as it is free.
    pub listen: SocketAddr,
    /// What the connection files name: `host` or `host:port`, for nodes that see this machine under another address than
    /// `listen`.
    pub advertise: Option<String>,
    /// How many result stores share the jobs, 1 to 64. With more than one, jobs that are submitted together may start in another
    /// order.
    pub stores: usize,
    /// Where they keep them.
    pub store: StoreConfig,
    /// Which engine gets a batch, of those that have room.
    pub scheme: Scheme,
}

/// Where a controller keeps jobs and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In the profile's `state/store.sqlite`: what is acknowledged is on disk, and outlives the controller.
    Sqlite(Retention),
    /// In memory: faster, and gone with the controller.
    Memory,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7123)),
            advertise: None,
            stores: 1,
            store: StoreConfig::Sqlite(Retention::default()),
            scheme: Scheme::default(),
        }
    }
}

/// Why a controller could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// The configuration makes no sense.
    #[error("a controller has 1 to {STORES_MAX} result stores, not {0}")]
    Stores(usize),
    /// The profile's directories cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The result store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The security material cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityDirError),
    /// The list of revoked certificates cannot be used.
    #[error(transparent)]
    Revocations(#[from] LedgerError),
    /// The directory for programs and shared values cannot be used.
    #[error(transparent)]
    Bundles(#[from] CacheError),
    /// The node could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running controller. Dropped without [`Controller::shutdown`], it ends without ceremony.
///
/// ```no_run
/// use engineroom::{Controller, ControllerConfig, Profile};
///
/// let controller = Controller::start(&Profile::default(), ControllerConfig::default())?;
/// println!("engines and clients find it at {}", controller.advertised());
/// # Ok::<(), engineroom::ControllerError>(())
/// ```
#[derive(Debug)]
pub struct Controller {
    node: NodeThread,
    listening: SocketAddr,
    client_file: ConnectionFile,
    engine_file: ConnectionFile,
}

impl Controller {
    /// Starts a controller on the files of a profile. An empty profile gets an authority, certificates and connection
    /// files; one that has them keeps them, so that files copied elsewhere stay valid.
    ///
    /// # Errors
    /// When the profile's files cannot be used or the address is taken.
    pub fn start(profile: &Profile, config: ControllerConfig) -> Result<Self, ControllerError> {
        if config.stores == 0 || config.stores > STORES_MAX {
            return Err(ControllerError::Stores(config.stores));
        }
        profile.create_dirs()?;
        let security = SecurityDir::open_or_create(profile.security_dir(), profile.name())?;
        let revocations = Revocations::load(&profile.security_dir())?;
        let blobs = BlobCache::open(&profile.state_dir().join("bundles"), BLOBS_BYTES_MAX)?;
        let candidates = listen_candidates(config.listen, &profile.client_connection_file());
        let backend = match config.store {
            StoreConfig::Memory => None,
            StoreConfig::Sqlite(retention) => Some(Store::open(&profile.state_dir().join(STORE_FILE), retention)?),
        };
        let (identity, stores, scheme) = (security.controller().clone(), config.stores, config.scheme);
        let certificates = profile.security_dir();
        let setup = move |node: &Node| {
            node.refuse_revoked(revocations);
            renewal::keep_renewed(node, certificates);
            set_up(node, stores, scheme, backend, blobs, &candidates)
        };
        let (node, listening) = NodeThread::start::<_, ControllerError>("engineroom-controller", identity, setup)?;
        let advertised = advertised(config.advertise.as_deref(), listening);
        let client_file = security.connection_file(Role::Client, &advertised)?;
        let engine_file = security.connection_file(Role::Engine, &advertised)?;
        Ok(Self { node, listening, client_file, engine_file })
    }

    /// Where it takes links.
    pub fn local_addr(&self) -> SocketAddr {
        self.listening
    }

    /// The address that the connection files name, as `host:port`.
    pub fn advertised(&self) -> &str {
        self.client_file.address()
    }

    /// What lets clients in.
    pub fn client_file(&self) -> &ConnectionFile {
        &self.client_file
    }

    /// What lets engine nodes in.
    pub fn engine_file(&self) -> &ConnectionFile {
        &self.engine_file
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        self.node.is_running()
    }

    /// Ends it in order: the peers are told, its thread is joined. Blocks until then, a little longer than `deadline` at
    /// most. With [`StoreConfig::Memory`] all jobs and results go with it.
    pub fn shutdown(self, deadline: Duration) -> DrainReport {
        self.node.shutdown(deadline)
    }
}

/// The addresses to listen at, the best first: port 0 prefers the port that the profile's connection files name.
fn listen_candidates(listen: SocketAddr, connection_file: &std::path::Path) -> Vec<SocketAddr> {
    let mut candidates = vec![listen];
    if listen.port() == 0
        && let Ok(file) = ConnectionFile::load(connection_file)
        && let Some(port) = file.address().rsplit(':').next().and_then(|port| port.parse().ok())
    {
        candidates.insert(0, SocketAddr::new(listen.ip(), port));
    }
    candidates
}

fn advertised(advertise: Option<&str>, listening: SocketAddr) -> String {
    let has_port = |text: &str| text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match advertise {
        Some(text) if has_port(text) && (!text.contains("::") || text.starts_with('[')) => text.to_owned(),
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{}", listening.port()),
        Some(host) => format!("{host}:{}", listening.port()),
        // Nodes on this machine reach an address that stands for all of them by loopback.
        None if listening.ip().is_unspecified() => {
            let loopback = if listening.is_ipv6() { "[::1]" } else { "127.0.0.1" };
            format!("{loopback}:{}", listening.port())
        }
        None => listening.to_string(),
    }
}

fn set_up(
    node: &Node,
    stores: usize,
    scheme: Scheme,
    backend: Option<(Store, Restored)>,
    blobs: Arc<BlobCache>,
    candidates: &[SocketAddr],
) -> Result<SocketAddr, ControllerError> {
    let cluster = node.identity().name.cluster().to_owned();
    let (on_disk, restored) = backend.unzip();
    let first_batch = restored.as_ref().map_or_else(first_batch, |found| found.first_batch);
    let settings = Settings { first_batch, scheme, ..Settings::default() };
    // Their state cannot be made anew, so that none of them is restarted: a controller without one of them ends.
    let needed = blobs.clone();
    let scheduler =
        spawn_actor("scheduler", Restart::Never, move |_| SchedulerActor::new(cluster.clone(), settings.clone(), needed.clone()));
    let keeper = scheduler.addr();
    let store = |_| {
        let (keeper, on_disk) = (keeper.clone(), on_disk.clone());
        spawn_actor("result store", Restart::Never, move |_| match on_disk.clone() {
            Some(store) => ResultStore::on_disk(store, keeper.clone().recipient()),
            None => ResultStore::memory(MemoryLimits::default(), keeper.clone().recipient()),
        })
    };
    let stores: Vec<ActorHandle<ResultStore>> = (0..stores).map(store).collect();
    for shard in 0..SHARDS {
        node.export(store_actor(shard), &stores[shard % stores.len()]);
    }
    // The first message that it gets: nothing comes by links before `serve`.
    let (leaving, settling) = (scheduler.addr(), stores.iter().map(ActorHandle::addr).collect::<Vec<_>>());
    node.on_drain("results", move |_| settle(leaving, settling).boxed_local());
    let restored = restored.unwrap_or_default();
    scheduler.addr().do_send(UseStores { stores: stores.iter().map(ActorHandle::addr).collect(), restored });
    node.export(SCHEDULER, &scheduler);
    let keeper = spawn_actor("keeper of blobs", Restart::Never, move |_| BlobKeeper::new(blobs.clone()));
    node.export(BLOBS, &keeper);
    for ended in stores.iter().map(ActorHandle::monitor) {
        end_with(ended);
    }
    end_with(scheduler.monitor());
    let address = scheduler.addr();
    node.serve(registry()?, move |event| match event {
        LinkEvent::Up(link) => address.do_send(LinkUp(link)),
        LinkEvent::Down(link, reason) => address.do_send(LinkDown(link, reason)),
        LinkEvent::DialFailed { .. } => {}
    });
    let mut listening = Err(StartError::Ended);
    for candidate in candidates {
        listening = node.listen(*candidate);
        if listening.is_ok() {
            break;
        }
    }
    Ok(listening?)
}

/// Before the links end: their end shall not look like the loss of engines, and what was taken in shall be kept.
async fn settle(scheduler: Addr<SchedulerActor>, stores: Vec<Addr<ResultStore>>) -> Result<(), String> {
    let ended = |error: MailboxError| error.to_string();
    scheduler.send(Leaving).await.map_err(ended)?;
    for store in stores {
        store.send(Settle).await.map_err(ended)?;
    }
    Ok(())
}

/// Where a controller without a memory of earlier lives starts to number batches: by the clock, far above what it gave out a
/// second ago.
fn first_batch() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs() << 32
}

/// A controller that has lost its scheduler or results must not go on as if nothing had happened.
fn end_with<R: std::fmt::Display>(ended: impl Future<Output = R> + 'static) {
    actix_rt::spawn(async move {
        let reason = ended.await;
        tracing::error!("the controller cannot go on: {reason}");
        std::process::abort();
    });
}

/// Which messages a controller takes, and from whom: the whole role matrix.
fn registry() -> Result<Registry, StartError> {
    let mut registry = Registry::new();
    registry
        .message::<SchedulerActor, Submit>(CLIENT)?
        .message::<SchedulerActor, Abort>(CLIENT)?
        .message::<SchedulerActor, QueryCluster>(CLIENT)?
        .message::<SchedulerActor, WatchEngines>(CLIENT)?
        // More than by the role it is judged by what is at stake: see `scheduler/actor/control.rs`.
        .message::<SchedulerActor, ControlEngines>(CLIENT)?
        .message::<ResultStore, Subscribe>(CLIENT)?
        .message::<ResultStore, Taken>(CLIENT)?
        .message::<ResultStore, QueryStatus>(CLIENT)?
        .message::<ResultStore, AwaitEnd>(CLIENT)?
        .message::<ResultStore, FetchTasks>(CLIENT)?
        .message::<ResultStore, Purge>(CLIENT)?
        .message::<ResultStore, PurgeOlder>(CLIENT)?
        .message::<ResultStore, QueryTasks>(CLIENT)?
        .message::<BlobKeeper, OfferBlob>(CLIENT)?
        .message::<BlobKeeper, BlobPart>(CLIENT)?
        .message::<BlobKeeper, FetchBlob>(ENGINE)?
        .message::<SchedulerActor, Register>(ENGINE)?
        .message::<SchedulerActor, Draining>(ENGINE)?
        .message::<SchedulerActor, Report>(ENGINE)?
        .message::<SchedulerActor, TaskNews>(ENGINE)?
        .message::<SchedulerActor, Retracted>(ENGINE)?;
    Ok(registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (advertise, listening, expected) in [
            (None, "127.0.0.1:7123", "127.0.0.1:7123"),
            (None, "0.0.0.0:7123", "127.0.0.1:7123"),
            (None, "[::]:7123", "[::1]:7123"),
            (Some("head"), "0.0.0.0:7123", "head:7123"),
            (Some("head:9"), "0.0.0.0:7123", "head:9"),
            (Some("fe80::1"), "[::]:7123", "[fe80::1]:7123"),
            (Some("[fe80::1]:9"), "[::]:7123", "[fe80::1]:9"),
        ] {
            assert_eq!(advertised(advertise, at(listening)), expected);
        }
    }

    #[test]
    fn every_message_is_registered_once() {
        assert_eq!(registry().unwrap().table().len(), 21);
    }
}
