//! The host of an engine node: registers its engines whenever the controller is there, and fetches bundles for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use engineroom_runtime::{
    actor::{ActorHandle, RemoteAddr},
    net::{link::Link, tls::ConnectFailure},
    proto::packet::CloseCode,
};
use tokio::sync::oneshot;

use super::actor::{AwaitIdle, BundleReady, Connected, Disconnected, EngineActor, StopWorkers};
use crate::code::{BundleCache, BundlePin, Incoming, target};
use crate::controller::BundleKeeper;
use crate::scheduler::SchedulerActor;
use crate::task::{BundleHash, EngineId};
use crate::wire::{BUNDLES, Draining, FetchBundle, FetchedPart, Register, Registered, SCHEDULER};

/// How long the controller may take to answer a registration or send a part of a bundle.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How much of a bundle is asked for at once, in bytes.
const PART_BYTES: u32 = 1 << 20;

/// What an engine node offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub engines: u32,
    /// `None` for process workers; for thread workers their program's bundle.
    pub thread_bundle: Option<Option<BundleHash>>,
    pub tasks: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

/// An actor that speaks for all engines of a node.
pub(crate) struct EngineHost {
    offer: Offer,
    engines: Vec<ActorHandle<EngineActor>>,
    link: Option<Link>,
    ids: Vec<EngineId>,
    shared: Arc<Registration>,
    bundles: Arc<BundleCache>,
    fetching: HashMap<BundleHash, Vec<Addr<EngineActor>>>,
    /// The node is ending.
    draining: bool,
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

/// An engine needs a bundle; it is told by [`BundleReady`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NeedBundle {
    pub hash: BundleHash,
    pub engine: Addr<EngineActor>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fetched {
    hash: BundleHash,
    bundle: Result<BundlePin, String>,
}

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
    pub fn new(
        offer: Offer,
        engines: Vec<ActorHandle<EngineActor>>,
        shared: Arc<Registration>,
        bundles: Arc<BundleCache>,
    ) -> Self {
        Self { offer, engines, link: None, ids: Vec::new(), shared, bundles, fetching: HashMap::new(), draining: false }
    }

    fn fetch(&self, hash: BundleHash, context: &Context<Self>) {
        let (own, bundles) = (context.address(), self.bundles.clone());
        let keeper = self.link.clone().map(|link| RemoteAddr::<BundleKeeper>::new(link, BUNDLES));
        actix_rt::spawn(async move {
            let bundle = match keeper {
                Some(keeper) => fetch_bundle(&keeper, hash, bundles).await,
                None => Err("the link to the controller is down".into()),
            };
            own.do_send(Fetched { hash, bundle });
        });
    }
}

/// Tells nodes apart that share a certificate: the machine's name and the process.
fn place() -> String {
    let machine = rustix::system::uname();
    format!("{}:{}", machine.nodename().to_string_lossy(), std::process::id())
}

/// Gets a bundle from the cache, or from the controller into the cache.
async fn fetch_bundle(
    keeper: &RemoteAddr<BundleKeeper>,
    hash: BundleHash,
    bundles: Arc<BundleCache>,
) -> Result<BundlePin, String> {
    let cache = bundles.clone();
    if let Some(cached) = blocking(move || Ok(cache.pin(hash))).await? {
        return Ok(cached);
    }
    let mut incoming: Option<Incoming> = None;
    let mut offset = 0;
    loop {
        let part = keeper.ask(&FetchBundle { hash, offset, bytes_max: PART_BYTES }, ANSWER_DEADLINE).await;
        let FetchedPart { bundle_bytes, data } = part.map_err(|error| format!("the program could not be fetched: {error}"))??;
        let next = offset + data.len() as u64;
        if data.is_empty() {
            return Err("the controller sent an empty part of the program".into());
        }
        let (cache, begun) = (bundles.clone(), incoming.take());
        let write = move || {
            let begun = begun.map_or_else(|| cache.begin(hash, bundle_bytes), Ok);
            let mut file = begun.map_err(|error| error.to_string())?;
            file.write(offset, &data).map_err(|error| error.to_string())?;
            if next < bundle_bytes {
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
        // Before the registration: nothing can be dispatched to an engine that does not know where to report.
        self.engines.iter().for_each(|engine| engine.addr().do_send(Connected(link.clone())));
        let Offer { engines, thread_bundle, tasks, labels } = self.offer.clone();
        let scheduler = RemoteAddr::<SchedulerActor>::new(link.clone(), SCHEDULER);
        let register = Register { engines, place: place(), target: target(), thread_bundle, tasks, labels, before: None };
        let (answer, own) = (scheduler.ask(&register, ANSWER_DEADLINE), context.address());
        actix_rt::spawn(async move {
            let answer = answer.await.unwrap_or_else(|error| Err(error.to_string()));
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
            Ok(Registered { engines: ids, .. }) => {
                self.ids = ids.clone();
                self.shared.update(|state| *state = RegistrationState { ids, was_taken: true, ..RegistrationState::default() });
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

impl Handler<NeedBundle> for EngineHost {
    type Result = ();

    fn handle(&mut self, need: NeedBundle, context: &mut Context<Self>) {
        let waiters = self.fetching.entry(need.hash).or_default();
        waiters.push(need.engine);
        if waiters.len() == 1 {
            self.fetch(need.hash, context);
        }
    }
}

impl Handler<Fetched> for EngineHost {
    type Result = ();

    fn handle(&mut self, Fetched { hash, bundle }: Fetched, _: &mut Context<Self>) {
        for engine in self.fetching.remove(&hash).unwrap_or_default() {
            engine.do_send(BundleReady { hash, bundle: bundle.clone() });
        }
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
