//! The host of an engine node: registers its engines whenever the controller is there, and fetches blobs for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::{ActorHandle, RemoteAddr},
    net::{
        link::{AskError, Link, SendError},
        tls::ConnectFailure,
    },
    proto::packet::CloseCode,
};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    actor::{AwaitIdle, BlobReady, Connected, Disconnected, EngineActor, REPORT_DEADLINE, Resume, StopWorkers},
    holdings::Held,
};
use crate::code::{BlobCache, BlobPin, Incoming, target};
use crate::controller::BlobKeeper;
use crate::scheduler::SchedulerActor;
use crate::task::{BatchId, BlobHash, BundleHash, EngineId};
use crate::wire::{BLOBS, Before, Draining, FetchBlob, FetchedPart, HeldBatch, Register, Registered, SCHEDULER};

/// How long the controller may take to answer a registration or send a part of a blob.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How much of a blob is asked for at once, in bytes.
const PART_BYTES: u32 = 1 << 20;

/// What an engine node offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub engines: u32,
    /// `None` for process workers; for thread workers their program's bundle.
    pub thread_bundle: Option<Option<BundleHash>>,
    pub tasks: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub resources: BTreeMap<String, u64>,
    pub rank: Option<u32>,
}

/// An actor that speaks for all engines of a node.
pub(crate) struct EngineHost {
    offer: Offer,
    engines: Vec<ActorHandle<EngineActor>>,
    link: Option<Link>,
    ids: Vec<EngineId>,
    /// The ids that they had at the last controller, or have.
    former: Vec<EngineId>,
    shared: Arc<Registration>,
    blobs: Arc<BlobCache>,
    fetching: HashMap<BlobHash, Vec<Addr<EngineActor>>>,
    /// Those of them that wait for the link.
    parked: Vec<BlobHash>,
    /// The node is ending.
    draining: bool,
    /// How many engines have ended, as clients wanted.
    over: usize,
}

/// Where a node stands with its controller, for the program that started it.
#[derive(Debug, Default)]
pub(crate) struct Registration {
    state: Mutex<RegistrationState>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct RegistrationState {
    /// The ids that the controller gave; empty while it is not there.
    pub ids: Vec<EngineId>,
    /// The controller has taken this node before.
    pub was_taken: bool,
    /// Why the last attempt failed.
    pub failure: Option<ConnectFailure>,
    /// The controller refuses this node's engines.
    pub refused: Option<String>,
    /// All engines have ended, as clients wanted.
    pub is_over: bool,
}

impl Registration {
    pub fn read(&self) -> RegistrationState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `decided` is content with the state, or the time is over; gives the last state.
    pub fn wait(&self, timeout: Duration, decided: impl Fn(&RegistrationState) -> bool) -> RegistrationState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, timeout, |state| !decided(state));
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut RegistrationState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// The link to the controller is up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ControllerUp(pub Link);

/// It has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ControllerDown(pub Link, pub String);

#[derive(Message)]
#[rtype(result = "()")]
struct Answered(Link, Result<Registered, String>);

/// An engine needs a blob; it is told by [`BlobReady`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NeedBlob {
    pub hash: BlobHash,
    pub engine: Addr<EngineActor>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fetched {
    hash: BlobHash,
    blob: Result<BlobPin, FetchError>,
}

/// Why a blob is not here.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    /// The link to the controller is down: it is asked for again when it is back.
    #[error("the link to the controller is down")]
    LinkDown,
    #[error("{0}")]
    Failed(String),
}

impl From<String> for FetchError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// An engine has ended, as a client wanted.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EngineOver;

/// Takes nothing new; `idle` hears when all engines have finished and everything is acknowledged.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain {
    pub idle: oneshot::Sender<()>,
}

/// Ends all workers, now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct EndWorkers;

impl EngineHost {
    pub fn new(offer: Offer, engines: Vec<ActorHandle<EngineActor>>, shared: Arc<Registration>, blobs: Arc<BlobCache>) -> Self {
        Self {
            offer,
            engines,
            link: None,
            ids: Vec::new(),
            former: Vec::new(),
            shared,
            blobs,
            fetching: HashMap::new(),
            parked: Vec::new(),
            draining: false,
            over: 0,
        }
    }

    fn fetch(&self, hash: BlobHash, context: &Context<Self>) {
        let (own, blobs) = (context.address(), self.blobs.clone());
        let keeper = self.link.clone().map(|link| RemoteAddr::<BlobKeeper>::new(link, BLOBS));
        actix_rt::spawn(async move {
            let blob = match keeper {
                Some(keeper) => fetch_blob(&keeper, hash, blobs).await,
                None => Err(FetchError::LinkDown),
            };
            own.do_send(Fetched { hash, blob });
        });
    }
}

/// Tells nodes apart that share a certificate: the machine's name and the process.
fn place() -> String {
    let machine = rustix::system::uname();
    format!("{}:{}", machine.nodename().to_string_lossy(), std::process::id())
}

/// Gets a blob from the cache, or from the controller into the cache.
async fn fetch_blob(keeper: &RemoteAddr<BlobKeeper>, hash: BlobHash, blobs: Arc<BlobCache>) -> Result<BlobPin, FetchError> {
    let cache = blobs.clone();
    if let Some(cached) = blocking(move || Ok(cache.pin(hash))).await? {
        return Ok(cached);
    }
    let mut incoming: Option<Incoming> = None;
    let mut offset = 0;
    loop {
        let part = keeper.ask(&FetchBlob { hash, offset, bytes_max: PART_BYTES }, ANSWER_DEADLINE).await;
        let FetchedPart { blob_bytes, data } = part.map_err(|error| match error {
            AskError::LinkLost(_) | AskError::NotSent(SendError::Down { .. }) => FetchError::LinkDown,
            error => FetchError::Failed(format!("it could not be fetched: {error}")),
        })??;
        let next = offset + data.len() as u64;
        if data.is_empty() {
            return Err("the controller sent an empty part of it".to_owned().into());
        }
        let (cache, begun) = (blobs.clone(), incoming.take());
        let write = move || {
            let begun = begun.map_or_else(|| cache.begin(hash, blob_bytes), Ok);
            let mut file = begun.map_err(|error| error.to_string())?;
            file.write(offset, &data).map_err(|error| error.to_string())?;
            if next < blob_bytes {
                return Ok((Some(file), None));
            }
            Ok((None, Some(file.commit().map_err(|error| error.to_string())?)))
        };
        let (file, whole) = blocking(write).await?;
        if let Some(whole) = whole {
            return Ok(whole);
        }
        incoming = file;
        offset = next;
    }
}

/// Works on files on another thread than the node's.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err("the node is ending".into()))
}

impl Actor for EngineHost {
    type Context = Context<Self>;
}

impl Handler<ControllerUp> for EngineHost {
    type Result = ();

    fn handle(&mut self, ControllerUp(link): ControllerUp, context: &mut Context<Self>) {
        self.link = Some(link.clone());
        for hash in std::mem::take(&mut self.parked) {
            self.fetch(hash, context);
        }
        let Offer { engines, thread_bundle, tasks, labels, resources, rank } = self.offer.clone();
        let former = self.former.clone();
        // Before the registration: nothing can be dispatched to an engine that does not know where to report.
        let connected = |engine: &ActorHandle<EngineActor>| engine.addr().send(Connected(link.clone()));
        let held = join_all(self.engines.iter().map(connected));
        let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
        let own = context.address();
        actix_rt::spawn(async move {
            let batches = (0..).zip(held.await).flat_map(|(place, held)| {
                // An engine that has ended has nothing.
                let held = held.unwrap_or_default();
                held.into_iter().map(move |(held, started)| {
                    let Held { batch, job, first, end, attempt, .. } = held;
                    HeldBatch { place, batch, job, first, end, attempt, started }
                })
            });
            let before = Before { ids: former, batches: batches.collect() };
            let before = (!before.ids.is_empty()).then_some(before);
            let (place, target) = (place(), target());
            let register = Register { engines, place, target, thread_bundle, tasks, labels, resources, rank, before };
            let answer = scheduler.ask(&register, REPORT_DEADLINE).await.unwrap_or_else(|error| Err(error.to_string()));
            own.do_send(Answered(link, answer));
        });
    }
}

impl Handler<Answered> for EngineHost {
    type Result = ();

    fn handle(&mut self, Answered(link, answer): Answered, _: &mut Context<Self>) {
        if self.link.as_ref() != Some(&link) {
            return;
        }
        match answer {
            Ok(Registered { engines: ids, kept }) => {
                let kept: Arc<[(BatchId, u32)]> = kept.into();
                for (engine, id) in self.engines.iter().zip(&ids) {
                    engine.addr().do_send(Resume { link: link.id(), engine: *id, kept: kept.clone() });
                }
                (self.ids, self.former) = (ids.clone(), ids.clone());
                self.shared.update(|state| {
                    let is_over = state.is_over;
                    *state = RegistrationState { ids, was_taken: true, is_over, ..RegistrationState::default() };
                });
            }
            Err(refused) => {
                tracing::error!("the controller does not take this node's engines: {refused}");
                self.shared.update(|state| state.refused = Some(refused));
                link.close(CloseCode::Done, "refused");
            }
        }
    }
}

impl Handler<ControllerDown> for EngineHost {
    type Result = ();

    fn handle(&mut self, ControllerDown(link, reason): ControllerDown, _: &mut Context<Self>) {
        if self.link.as_ref() == Some(&link) {
            if !self.draining {
                tracing::warn!("the link to the controller is lost: {reason}; dialling again");
            }
            self.link = None;
            self.ids.clear();
            self.shared.update(|state| state.ids.clear());
            self.engines.iter().for_each(|engine| engine.addr().do_send(Disconnected));
        }
    }
}

impl Handler<NeedBlob> for EngineHost {
    type Result = ();

    fn handle(&mut self, need: NeedBlob, context: &mut Context<Self>) {
        let waiters = self.fetching.entry(need.hash).or_default();
        waiters.push(need.engine);
        if waiters.len() == 1 {
            self.fetch(need.hash, context);
        }
    }
}

impl Handler<Fetched> for EngineHost {
    type Result = ();

    fn handle(&mut self, Fetched { hash, blob }: Fetched, context: &mut Context<Self>) {
        if let Err(FetchError::LinkDown) = blob {
            // By another link at once, else when there is one.
            match self.link.as_ref().is_some_and(Link::is_up) {
                true => self.fetch(hash, context),
                false => self.parked.push(hash),
            }
            return;
        }
        let blob = blob.map_err(|error| error.to_string());
        for engine in self.fetching.remove(&hash).unwrap_or_default() {
            engine.do_send(BlobReady { hash, blob: blob.clone() });
        }
    }
}

impl Handler<EngineOver> for EngineHost {
    type Result = ();

    fn handle(&mut self, _: EngineOver, _: &mut Context<Self>) {
        self.over += 1;
        let is_over = self.over == self.engines.len();
        self.shared.update(|state| state.is_over = is_over);
    }
}

impl Handler<Drain> for EngineHost {
    type Result = ();

    fn handle(&mut self, Drain { idle }: Drain, _: &mut Context<Self>) {
        self.draining = true;
        let engines: Vec<_> = self.engines.iter().map(ActorHandle::addr).collect();
        let link = self.link.clone();
        let draining = Draining { engines: self.ids.clone() };
        actix_rt::spawn(async move {
            if let Some(link) = link {
                let scheduler = RemoteAddr::<SchedulerActor>::new(link, SCHEDULER);
                // Unanswered: the controller is gone, and there is nothing to be finished for it.
                let _ = scheduler.ask(&draining, ANSWER_DEADLINE).await;
            }
            for engine in engines {
                let (waiter, is_idle) = oneshot::channel();
                engine.do_send(AwaitIdle(waiter));
                let _ = is_idle.await;
            }
            let _ = idle.send(());
        });
    }
}

impl Handler<EndWorkers> for EngineHost {
    type Result = ();

    fn handle(&mut self, _: EndWorkers, _: &mut Context<Self>) {
        self.engines.iter().for_each(|engine| engine.addr().do_send(StopWorkers));
    }
}
