//! Clients: how a program submits work to a cluster and gets its results.

mod actor;
mod ask;
mod async_result;
mod asynchronous;
mod compose;
mod dependency;
mod direct_view;
mod engine_set;
mod engines;
mod failures;
mod feed;
mod job;
mod lazy;
mod metadata;
mod named;
mod namespace;
mod new_job;
mod news;
mod open_jobs;
mod options;
mod output;
mod placement;
mod progress_bar;
mod received;
mod records;
mod shape;
mod shared;
mod stream;
mod submission;
mod task_value;
mod upload;
mod value;
mod view;
mod wait;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix::Addr;
use engineroom_runtime::{
    actor::{Registry, Restart, spawn_actor},
    net::{connection_file::ConnectionFile, identity::Role, tls::ConnectFailure},
    node::{LinkEvent, Node, NodeThread, StartError},
};
use futures_util::FutureExt;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use self::actor::ClientActor;
use self::{
    actor::{AwaitAcknowledged, AwaitFlushed, ControllerDown, ControllerUp, CutOff, Fetch},
    job::Job,
    records::by_shard,
    shared::Shared,
    wait::block_until,
};
pub use self::{
    async_result::{AsyncResult, Progress},
    dependency::Dependency,
    direct_view::DirectView,
    engine_set::Engines,
    lazy::{LazyAsCompleted, LazyMap},
    metadata::TaskMetadata,
    namespace::{Distribution, Gathered},
    records::History,
    shape::{All, One, Shape},
    stream::{AsCompleted, InOrder},
    view::LoadBalancedView,
};
use crate::engine::worker::abort_if_worker;
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::results::ResultStore;
use crate::scheduler::SchedulerActor;
use crate::status::{ClusterStatus, EngineInfo, StatusCounts};
use crate::task::{EngineId, JobId, MessageId, Ranges};
use crate::wire::{CLIENT, EnginesChanged, PassedNews, QueryCluster, QueryStatus, Results, SCHEDULER, store_actor};

/// How long [`Client::connect`] waits for the controller.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How long [`Client::close`], and dropping the last handle, wait until everything submitted is acknowledged.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many message ids one question holds: what fits a message well.
const IDS_PER_QUESTION: usize = 4096;

const CONTROLLER: &[Role] = &[Role::Controller];

/// Which cluster to connect to.
#[derive(Clone, Debug)]
pub enum Target {
    /// The cluster of a profile on this machine, by the connection file in it.
    Profile(Profile),
    /// The cluster that a connection file names.
    File(PathBuf),
    /// The cluster that a connection file names, which has been read already.
    Connection(ConnectionFile),
}

impl From<Profile> for Target {
    fn from(profile: Profile) -> Self {
        Target::Profile(profile)
    }
}

impl From<&Profile> for Target {
    fn from(profile: &Profile) -> Self {
        Target::Profile(profile.clone())
    }
}

impl From<ConnectionFile> for Target {
    fn from(connection: ConnectionFile) -> Self {
        Target::Connection(connection)
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Target::File(path)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Target::File(path.to_owned())
    }
}

/// A connection to a cluster. Clones are the same connection; when the last of them, and of the views and results made by
/// it, is dropped, what was submitted is handed over first.
///
/// Its methods block the calling thread unless they are `async`; the client's own work goes on on a thread of its own, so
/// that they may be called from asynchronous programs too, where `.await` on results does not block at all, and
/// [`Client::blocking`] takes the rest elsewhere.
///
/// ```no_run
/// use engineroom::prelude::*;
///
/// fn main() -> engineroom::Result<()> {
///     engineroom::init();
///     let client = Client::connect(Profile::default())?;
///     let squares = client.load_balanced_view().map(|x: u64| x * x, 0..10).get()?;
///     println!("{squares:?}");
///     client.close()
/// }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) actor: Addr<ClientActor>,
    node: Mutex<Option<NodeThread>>,
    /// Turns of calls that are made on threads of their own.
    calls: Arc<Semaphore>,
    /// What an embedded cluster needs to stay alive for its clients.
    _keep: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Client {
    /// Connects to a cluster, within [`CONNECT_TIMEOUT`]: that of a [`Profile`], or the one that a connection file leads to, named by its
    /// path (`Path::new("client.json")`) or read already.
    ///
    /// # Errors
    /// When the connection file cannot be used, nobody answers, or one side refuses the other; each says which.
    pub fn connect(target: impl Into<Target>) -> Result<Self> {
        Self::connect_within(target, CONNECT_TIMEOUT)
    }

    /// Connects to a cluster within a time of the caller's choice.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_within(target: impl Into<Target>, timeout: Duration) -> Result<Self> {
        Self::start(target.into(), timeout, None)
    }

    /// As [`Client::connect`], without blocking the task that awaits it.
    ///
    /// # Errors
    /// As [`Client::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up the connection, which ends by itself.
    pub async fn connect_async(target: impl Into<Target>) -> Result<Self> {
        let target = target.into();
        let (sender, receiver) = oneshot::channel();
        let connecting = std::thread::Builder::new().name("engineroom-connect".into());
        let spawned = connecting.spawn(move || {
            // A caller that has given up drops what it would have got.
            drop(sender.send(Self::connect(target)));
        });
        spawned.map_err(|error| Error::Start(format!("no thread could be started: {error}")))?;
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    pub(crate) fn start(target: Target, timeout: Duration, keep: Option<Arc<dyn std::any::Any + Send + Sync>>) -> Result<Self> {
        abort_if_worker();
        let connection = match target {
            Target::Profile(profile) => ConnectionFile::load(profile.client_connection_file())?,
            Target::File(path) => ConnectionFile::load(path)?,
            Target::Connection(connection) => connection,
        };
        connection.expect_role(Role::Client)?;
        let shared = Arc::new(Shared::default());
        let (of_node, to) = (shared.clone(), connection.clone());
        let setup = move |node: &Node| set_up(node, &of_node, &to);
        let identity = connection.identity().clone();
        let (node, actor) = NodeThread::start::<_, StartError>("engineroom-client", identity, setup)?;
        let calls = Arc::new(Semaphore::new(asynchronous::CALLS_MAX));
        let inner = Inner { shared, actor, node: Mutex::new(Some(node)), calls, _keep: keep };
        if let Err(failure) = inner.shared.wait_connected(timeout) {
            // Nothing was submitted, so that there is nothing to be lost.
            drop(inner);
            return Err(connect_error(&failure, &connection));
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A view of all engines, of which each task goes to one that is free.
    pub fn load_balanced_view(&self) -> LoadBalancedView {
        LoadBalancedView::new(self.clone())
    }

    /// A view of exactly the engines that there are now, in the order of their ids. One that takes in those that join later is
    /// `direct_view_on(Engines::all())`.
    ///
    /// # Errors
    /// When there are none.
    pub fn direct_view(&self) -> Result<DirectView> {
        self.direct_view_on(self.engine_ids())
    }

    /// A view of certain engines: one id, a list or a range of ids, or any other [`Engines`].
    ///
    /// # Errors
    /// When there are none of these now. An engine of a list that is not there fails its own tasks only.
    pub fn direct_view_on(&self, engines: impl Into<Engines>) -> Result<DirectView> {
        let view = DirectView::new(self.clone(), engines.into());
        if view.targets().is_empty() { Err(Error::NoEngines) } else { Ok(view) }
    }

    /// The ids of the engines that are there now, ascending. Kept current by the controller; costs nothing.
    pub fn engine_ids(&self) -> Vec<EngineId> {
        self.inner.shared.engines().iter().map(|engine| engine.id).collect()
    }

    /// The engines that are there now, with their nodes, labels and resources.
    pub fn engines(&self) -> Vec<EngineInfo> {
        self.inner.shared.engines()
    }

    /// Blocks until there are at least `count` engines.
    ///
    /// # Errors
    /// [`Error::Timeout`] when there are fewer after that time.
    pub fn wait_for_engines(&self, count: usize, timeout: Duration) -> Result<()> {
        match self.inner.shared.wait_engines(count, timeout) {
            there if there >= count => Ok(()),
            _ if self.inner.shared.is_closed() => Err(Error::Closed),
            _ => Err(self.inner.shared.cut_off().unwrap_or(Error::Timeout(timeout))),
        }
    }

    /// The results of tasks that this or another client of the same owner submitted, in the order of the ids. Returns at
    /// once; the results wait for tasks that have not ended. A job that the controller does not know is an error when the
    /// results are asked for.
    ///
    /// # Errors
    /// When the client is closed.
    pub fn get_result<R>(&self, ids: impl IntoIterator<Item = MessageId>) -> Result<AsyncResult<R>> {
        if self.inner.shared.is_closed() {
            return Err(Error::Closed);
        }
        let runs = runs_of(ids);
        let mut asked: HashMap<JobId, (Ranges, u64)> = HashMap::new();
        for (id, first, count) in &runs {
            let (ranges, tasks) = asked.entry(*id).or_default();
            ranges.cover(*first, first.saturating_add(*count));
            *tasks += u64::from(*count);
        }
        let mut jobs = HashMap::new();
        for (id, (ranges, tasks)) in asked {
            // An id that was given twice is asked for once.
            let ranges = ranges.within(0, u32::MAX).map(|(first, end)| (first, end - first)).collect();
            let job = Arc::new(Job::foreign(id, self.inner.shared.next_number(), tasks));
            self.inner.actor.do_send(Fetch { job: job.clone(), ranges });
            jobs.insert(id, job);
        }
        let parts = runs.into_iter().filter_map(|(id, first, count)| Some((jobs.get(&id)?.clone(), first, count))).collect();
        Ok(AsyncResult::of_parts(self.clone(), parts))
    }

    /// How many of these tasks are in which state. Never waits for tasks.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub fn result_status(&self, ids: &[MessageId]) -> Result<StatusCounts> {
        let mut counts = StatusCounts::default();
        for (shard, runs) in by_shard(self.known(ids.iter().copied())?) {
            for runs in runs.chunks(IDS_PER_QUESTION) {
                counts += self.inner.ask::<ResultStore, _>(store_actor(shard), QueryStatus { runs: runs.to_vec() })?;
            }
        }
        Ok(counts)
    }

    /// The cluster as its controller sees it now.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub fn status(&self) -> Result<ClusterStatus> {
        self.inner.ask::<SchedulerActor, _>(SCHEDULER, QueryCluster)
    }

    /// Blocks until the controller has acknowledged everything that was submitted so far: with a store on disk it is safe there,
    /// whatever becomes of this program. What is submitted meanwhile may count or not.
    ///
    /// # Errors
    /// [`Error::Timeout`] when that takes longer.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        let (waiter, is_flushed) = oneshot::channel();
        self.inner.actor.do_send(AwaitAcknowledged(waiter));
        match block_until(is_flushed, until(Some(timeout))) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) => Err(Error::Closed),
            None => Err(Error::Timeout(timeout)),
        }
    }

    /// Hands over everything that was submitted and ends the connection. Tasks go on; their results can be had by another
    /// client. What other handles of this client submit afterwards fails.
    ///
    /// # Errors
    /// [`Error::NotFlushed`] when the controller did not acknowledge everything within [`CLOSE_TIMEOUT`].
    pub fn close(&self) -> Result<()> {
        self.inner.shared.close();
        self.inner.shut_down(CLOSE_TIMEOUT)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.shared.link() {
            Some(link) => write!(f, "Client({})", link.peer().address),
            None => f.write_str("Client(not connected)"),
        }
    }
}

impl Inner {
    fn shut_down(&self, deadline: Duration) -> Result<()> {
        let node = self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(node) = node else { return Ok(()) };
        let report = node.shutdown(deadline);
        if report.finished || deadline.is_zero() { Ok(()) } else { Err(Error::NotFlushed(report.to_string())) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.close();
        if let Err(error) = self.shut_down(CLOSE_TIMEOUT) {
            tracing::error!("{error}");
        }
    }
}

fn set_up(node: &Node, shared: &Arc<Shared>, to: &ConnectionFile) -> Result<Addr<ClientActor>, StartError> {
    let of_actor = shared.clone();
    let client = spawn_actor("client", Restart::Never, move |_| ClientActor::new(of_actor.clone()));
    node.export(CLIENT, &client);
    let mut registry = Registry::new();
    registry.message::<ClientActor, Results>(CONTROLLER)?.message::<ClientActor, EnginesChanged>(CONTROLLER)?;
    registry.message::<ClientActor, PassedNews>(CONTROLLER)?;
    let (actor, failures, connection) = (client.addr(), shared.clone(), to.clone());
    node.serve(registry, move |event| match event {
        LinkEvent::Up(link) => actor.do_send(ControllerUp(link)),
        LinkEvent::Down(link, _) => actor.do_send(ControllerDown(link)),
        LinkEvent::DialFailed { failure, .. } => {
            if failure.is_final() {
                actor.do_send(CutOff(connect_error(&failure, &connection)));
            }
            failures.dial_failed(failure);
        }
    });
    let actor = client.addr();
    node.on_drain("submissions", move |_| {
        async move {
            let (flushed, is_flushed) = oneshot::channel();
            actor.do_send(AwaitFlushed(flushed));
            is_flushed.await.map_err(|_| "the client actor has ended".to_owned())
        }
        .boxed_local()
    });
    node.dial(to.address())?;
    Ok(client.addr())
}

fn connect_error(failure: &ConnectFailure, connection: &ConnectionFile) -> Error {
    let text = failure.describe(connection.address(), Some(connection.path()));
    if failure.is_retryable() { Error::Connect { text } } else { Error::Refused { text } }
}

/// Message ids as runs of consecutive tasks, in their order.
fn runs_of(ids: impl IntoIterator<Item = MessageId>) -> Vec<(JobId, u32, u32)> {
    let mut runs: Vec<(JobId, u32, u32)> = Vec::new();
    for MessageId { job, index } in ids {
        match runs.last_mut() {
            Some((last, first, count)) if *last == job && first.checked_add(*count) == Some(index) => *count += 1,
            _ => runs.push((job, index, 1)),
        }
    }
    runs
}

/// The moment until which something may take.
pub(crate) fn until(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}
