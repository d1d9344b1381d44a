//! A node: an identity, an endpoint, links and actors, all on one thread.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Actor, Context};
use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;

use crate::actor::{ActorHandle, ActorId, DuplicateMessage, Exports, Local, Registry};
use crate::net::{
    certificate::Serial,
    endpoint,
    identity::Identity,
    ledger::Revoked,
    link::Link,
    revocation::Revocations,
    tls::{self, ConnectFailure, TlsError},
};
use crate::proto::{handshake::Incarnation, packet::CloseCode};

/// For how long, once all actors are done, an orderly end waits for peers that are silent, to have what they were sent. Those
/// that go on reading are waited for until the deadline.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// How long it waits after that for the connections' own end. What had to arrive has been acknowledged by then, so that only
/// the reason of the end is at stake; a program shall not seem to hang on its way out.
const CLOSE_MAX: Duration = Duration::from_millis(50);

/// For how long actors are given time to finish, at most: as good as for ever.
const DRAIN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often an orderly end looks whether the peers have what they were sent.
const FAREWELL_CHECK: Duration = Duration::from_millis(1);

/// How often a node looks whether certificates were revoked. Links of a revoked one end within it and a round trip.
const REVOCATION_LOOK: Duration = Duration::from_secs(1);

/// What happens to a node's links.
#[derive(Debug)]
pub enum LinkEvent {
    /// A link is up: both sides know each other.
    Up(Link),
    /// A link has ended, for the reason given. Exactly once for each that was up.
    Down(Link, String),
    /// A dialled peer could not be reached. The node goes on trying.
    DialFailed {
        /// The address as it was given.
        address: String,
        /// Why.
        failure: ConnectFailure,
    },
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node thread could not be started.
    #[error("cannot start the node thread: {0}")]
    Thread(#[source] io::Error),
    /// Another process has that address, or it is none of this machine's.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The registry has two messages of one name.
    #[error(transparent)]
    Registry(#[from] DuplicateMessage),
    /// The node thread ended while it was starting.
    #[error("the node thread ended while it was starting")]
    Ended,
}

/// How an orderly end went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Whether everything was finished within the deadline.
    pub finished: bool,
    /// What was not, a line each.
    pub unfinished: Vec<String>,
}

impl fmt::Display for DrainReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.finished {
            return f.write_str("everything was finished");
        }
        write!(f, "not finished in time: {}", self.unfinished.join("; "))
    }
}

/// What an actor does to end in order, given the time that is left.
type DrainStep = Box<dyn FnOnce(Duration) -> LocalBoxFuture<'static, Result<(), String>>>;

/// Who hears of links.
type OnLink = Box<dyn Fn(LinkEvent)>;

/// A node, as its actors see it. Lives on the node thread; clones are the same node.
#[derive(Clone)]
pub struct Node(Rc<Shared>);

struct Shared {
    identity: Identity,
    incarnation: Incarnation,
    exports: Exports,
    local: OnceCell<(Rc<Local>, OnLink)>,
    endpoints: RefCell<Vec<quinn::Endpoint>>,
    links: RefCell<HashMap<u64, Link>>,
    next_link: Cell<u64>,
    revocations: RefCell<Option<Revocations>>,
    draining: Cell<bool>,
    drain_steps: RefCell<Vec<(String, DrainStep)>>,
}

impl Node {
    fn new(identity: Identity) -> Self {
        Self(Rc::new(Shared {
            identity,
            incarnation: Incarnation::from_u128(rand::random()),
            exports: Exports::default(),
            local: OnceCell::new(),
            endpoints: RefCell::default(),
            links: RefCell::default(),
            next_link: Cell::new(1),
            revocations: RefCell::default(),
            draining: Cell::new(false),
            drain_steps: RefCell::default(),
        }))
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Tells this life of the node from any other.
    pub fn incarnation(&self) -> Incarnation {
        self.0.incarnation
    }

    /// Lets peers reach an actor under a number; what they may send it, the registry says.
    pub fn export<A: Actor<Context = Context<A>>>(&self, id: ActorId, actor: &ActorHandle<A>) {
        self.0.exports.insert(id, actor.clone());
    }

    /// Takes the number back. The actor itself lives on.
    pub fn withdraw(&self, id: ActorId) {
        self.0.exports.remove(id);
    }

    /// States which messages this node takes and who hears of its links. To be called once, before `listen` and `dial`.
    ///
    /// # Panics
    /// When called twice.
    pub fn serve(&self, registry: Registry, events: impl Fn(LinkEvent) + 'static) {
        let local = Rc::new(Local { registry, exports: self.0.exports.clone() });
        let fresh = self.0.local.set((local, Box::new(events))).is_ok();
        assert!(fresh, "a node serves one registry");
    }

    /// Refuses peers whose certificates are on that list, and ends their links when they come onto it. To be called once,
    /// before `listen`.
    pub fn refuse_revoked(&self, revocations: Revocations) {
        *self.0.revocations.borrow_mut() = Some(revocations);
        let node = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(REVOCATION_LOOK).await;
                node.end_revoked();
            }
        });
    }

    /// Shows peers that dial from now on another certificate of this node, one that was renewed.
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn present(&self, renewed: &Identity) -> Result<(), StartError> {
        for endpoint in &*self.0.endpoints.borrow() {
            endpoint.set_server_config(Some(tls::server_config(renewed)?));
        }
        Ok(())
    }

    fn end_revoked(&self) {
        let links: Vec<Link> = self.0.links.borrow().values().cloned().collect();
        let mut revocations = self.0.revocations.borrow_mut();
        let Some(revocations) = revocations.as_mut() else { return };
        revocations.refresh();
        for link in links {
            if let Some(revoked) = revocations.find(&link.peer().serial) {
                tracing::warn!(peer = %link.peer().name, "a link was ended, since its certificate was revoked");
                link.close(CloseCode::Revoked, &revoked.text());
            }
        }
    }

    /// Why a certificate is refused, if it was revoked, as the list says now.
    pub(crate) fn revocation(&self, serial: &Serial) -> Option<String> {
        let mut revocations = self.0.revocations.borrow_mut();
        let revocations = revocations.as_mut()?;
        revocations.refresh();
        revocations.find(serial).map(Revoked::text)
    }

    /// Takes links at an address; the result is the address with the port that was really taken.
    ///
    /// # Errors
    /// When the address is not free or the identity cannot be used.
    pub fn listen(&self, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let endpoint = endpoint::listen(self, address)?;
        let address = endpoint.local_addr().map_err(|source| StartError::Listen { address, source })?;
        self.0.endpoints.borrow_mut().push(endpoint);
        Ok(address)
    }

    /// Keeps a link to `host:port` for ever: dials, and dials again with growing, jittered pauses whenever it is lost. Only a
    /// peer that cuts this node off for good is not dialled again; the last event tells so
    /// ([`ConnectFailure::is_final`]).
    ///
    /// # Errors
    /// When the identity cannot be used.
    pub fn dial(&self, address: &str) -> Result<(), StartError> {
        endpoint::dial(self, address)
    }

    /// Adds a step to the orderly end, which are taken in the order of their adding.
    pub fn on_drain(
        &self,
        name: impl Into<String>,
        step: impl FnOnce(Duration) -> LocalBoxFuture<'static, Result<(), String>> + 'static,
    ) {
        self.0.drain_steps.borrow_mut().push((name.into(), Box::new(step)));
    }

    pub(crate) fn accepts(&self) -> Vec<(String, u16)> {
        self.0.local.get().map(|(local, _)| local.registry.table()).unwrap_or_default()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.get()
    }

    pub(crate) fn keep_endpoint(&self, endpoint: quinn::Endpoint) {
        self.0.endpoints.borrow_mut().push(endpoint);
    }

    pub(crate) fn links_count(&self) -> usize {
        self.0.links.borrow().len()
    }

    pub(crate) fn next_link_id(&self) -> u64 {
        let id = self.0.next_link.get();
        self.0.next_link.set(id + 1);
        id
    }

    pub(crate) fn local(&self) -> Option<Rc<Local>> {
        self.0.local.get().map(|(local, _)| local.clone())
    }

    pub(crate) fn link_up(&self, link: &Link) {
        self.0.links.borrow_mut().insert(link.id(), link.clone());
        self.emit(LinkEvent::Up(link.clone()));
    }

    pub(crate) fn link_down(&self, link: &Link, reason: &str) {
        if self.0.links.borrow_mut().remove(&link.id()).is_some() {
            self.emit(LinkEvent::Down(link.clone(), reason.to_owned()));
        }
    }

    pub(crate) fn emit(&self, event: LinkEvent) {
        if let Some((_, events)) = self.0.local.get() {
            events(event);
        }
    }

    async fn drain(&self, deadline: Instant) -> DrainReport {
        self.0.draining.set(true);
        let steps = std::mem::take(&mut *self.0.drain_steps.borrow_mut());
        let mut unfinished = Vec::new();
        for (name, step) in steps {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, step(left)).await {
                Ok(Ok(())) => {}
                Ok(Err(text)) => unfinished.push(format!("{name}: {text}")),
                Err(_) => unfinished.push(format!("{name}: it was still busy")),
            }
        }
        self.farewell(deadline).await;
        DrainReport { finished: unfinished.is_empty(), unfinished }
    }

    /// Sends what the links hold, tells the peers, and closes.
    async fn farewell(&self, deadline: Instant) {
        let links: Vec<Link> = self.0.links.borrow().values().cloned().collect();
        // A goodbye would overtake them.
        settle(&links, deadline, || links.iter().all(Link::bulk_has_arrived)).await;
        links.iter().for_each(|link| link.say_goodbye(CloseCode::Drain, "it is shutting down"));
        // Whoever has read the goodbye has read all that was told before it, and closes the link. To close it here would
        // throw away what is still under way.
        settle(&links, deadline, || self.0.links.borrow().is_empty()).await;
        let endpoints = std::mem::take(&mut *self.0.endpoints.borrow_mut());
        for endpoint in &endpoints {
            endpoint.close(quinn::VarInt::from_u32(CloseCode::Drain.code()), b"it is shutting down");
        }
        let idle = async {
            for endpoint in &endpoints {
                endpoint.wait_idle().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_MAX, idle).await;
    }
}

/// Waits until it is so; beyond [`FAREWELL_MAX`] only while the peers are heard, and until the deadline.
async fn settle(links: &[Link], deadline: Instant, is_so: impl Fn() -> bool) {
    let heard = || links.iter().map(Link::datagrams_heard).sum::<u64>();
    let (mut last, mut until) = (heard(), Instant::now() + FAREWELL_MAX);
    while !is_so() && Instant::now() < until {
        tokio::time::sleep(FAREWELL_CHECK).await;
        let now = heard();
        if now != last {
            (last, until) = (now, until.max((Instant::now() + FAREWELL_MAX).min(deadline)));
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.0.identity.name)
    }
}

/// The thread that a node lives on. Dropped without [`NodeThread::shutdown`], the node ends without ceremony.
#[derive(Debug)]
pub struct NodeThread {
    stop: Option<oneshot::Sender<Duration>>,
    thread: Option<std::thread::JoinHandle<DrainReport>>,
}

impl NodeThread {
    /// Starts a thread and sets a node up on it. `setup` starts the actors, calls [`Node::serve`], and listens or dials;
    /// what it returns comes back to the caller.
    ///
    /// # Errors
    /// When the thread cannot be started, or whatever `setup` returns.
    pub fn start<T, E>(
        name: &str,
        identity: Identity,
        setup: impl FnOnce(&Node) -> Result<T, E> + Send + 'static,
    ) -> Result<(Self, T), E>
    where
        T: Send + 'static,
        E: From<StartError> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(identity, setup, &ready, stopped))
            .map_err(|error| E::from(StartError::Thread(error)))?;
        let node = Self { stop: Some(stop), thread: Some(thread) };
        match is_ready.recv() {
            Ok(Ok(value)) => Ok((node, value)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Ended.into()),
        }
    }

    /// Whether the node has not ended yet.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Ends the node in order: every actor finishes or hands over what it holds, the peers are told, the thread is
    /// joined. Blocks until then, at most a little longer than `deadline`.
    pub fn shutdown(mut self, deadline: Duration) -> DrainReport {
        if let Some(stop) = self.stop.take() {
            // A node that has ended already has nothing to be told.
            let _ = stop.send(deadline);
        }
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        match ended {
            Some(Ok(report)) => report,
            _ => DrainReport { finished: false, unfinished: vec!["the node thread panicked".into()] },
        }
    }
}

fn run<T, E: From<StartError>>(
    identity: Identity,
    setup: impl FnOnce(&Node) -> Result<T, E>,
    ready: &std::sync::mpsc::SyncSender<Result<T, E>>,
    stopped: oneshot::Receiver<Duration>,
) -> DrainReport {
    let idle = DrainReport { finished: true, unfinished: Vec::new() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(StartError::Thread(error).into()));
            return idle;
        }
    };
    let report = tokio::task::LocalSet::new().block_on(&runtime, async {
        let node = Node::new(identity);
        let value = match setup(&node) {
            Ok(value) => value,
            Err(error) => {
                let _ = ready.send(Err(error));
                return idle;
            }
        };
        let _ = ready.send(Ok(value));
        match stopped.await {
            Ok(deadline) => node.drain(Instant::now() + deadline.min(DRAIN_MAX)).await,
            // The handle was dropped.
            Err(_) => idle,
        }
    });
    // Threads that hash or read for this node finish by themselves; the node does not wait for them.
    runtime.shutdown_background();
    report
}
