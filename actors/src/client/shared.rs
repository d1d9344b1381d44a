//! What a client's threads and its actor both see: engines, the link, the submission budget.

use std::{
    collections::BTreeMap,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use engineroom_runtime::net::{link::Link, tls::ConnectFailure};

use crate::error::Error;
use crate::status::EngineInfo;
use crate::task::EngineId;

/// How many bytes of arguments of single submissions may wait to be acknowledged. Beyond it `apply` blocks: the program is
/// faster than the network or the controller.
const UNACKNOWLEDGED_BYTES_MAX: usize = 64 << 20;

/// Of how many engines a client remembers the node; the oldest are forgotten. A controller has as many engines at most.
const NODES_KNOWN_MAX: usize = 65_536;

/// State of a client that its threads share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    next_number: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    /// The controller has told the engines at least once.
    engines: Option<Vec<EngineInfo>>,
    /// The nodes of all engines that were ever told, those that have left included.
    nodes: BTreeMap<EngineId, String>,
    /// By which link, and in which version there, they were told.
    told: (u64, u64),
    failure: Option<ConnectFailure>,
    /// The controller will never take this client again.
    cut_off: Option<Error>,
    closed: bool,
    /// Bytes of arguments that were taken from jobs and not acknowledged.
    unacknowledged: usize,
}

impl Shared {
    /// A number that no other job of this client has.
    pub fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn link_up(&self, link: Link) {
        self.change(|state| state.link = Some(link));
    }

    pub fn link_down(&self) {
        self.change(|state| state.link = None);
    }

    pub fn dial_failed(&self, failure: ConnectFailure) {
        self.change(|state| state.failure = Some(failure));
    }

    /// The controller has decided against this client: what is waited for will not come.
    pub fn set_cut_off(&self, error: Error) {
        self.change(|state| state.cut_off = Some(error));
    }

    /// Why the controller will never take this client again, if so.
    pub fn cut_off(&self) -> Option<Error> {
        self.lock().cut_off.clone()
    }

    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The controller has told its engines. A long list may be overtaken by a newer one.
    pub fn engines_changed(&self, link: &Link, version: u64, engines: Vec<EngineInfo>) {
        self.change(|state| {
            if state.told.0 != link.id() || state.told.1 <= version {
                state.told = (link.id(), version);
                state.remember(&engines);
                state.engines = Some(engines);
            }
        });
    }

    pub fn engines(&self) -> Vec<EngineInfo> {
        self.lock().engines.clone().unwrap_or_default()
    }

    /// The node of an engine, if it has been there since this client is.
    pub fn node_of(&self, engine: EngineId) -> Option<String> {
        self.lock().nodes.get(&engine).cloned()
    }

    pub fn link(&self) -> Option<Link> {
        self.lock().link.clone()
    }

    /// Waits until the link is up, for so long.
    pub fn wait_link(&self, timeout: Duration) -> Option<Link> {
        self.wait(timeout, |state| state.closed || state.link.is_some()).link.clone()
    }

    pub fn submitted(&self, bytes: usize) {
        self.lock().unacknowledged += bytes;
    }

    pub fn acknowledged(&self, bytes: usize) {
        self.change(|state| state.unacknowledged = state.unacknowledged.saturating_sub(bytes));
    }

    /// Blocks while more than the budget waits to be acknowledged, `own` bytes of it not yet taken by the actor.
    pub fn wait_for_budget(&self, own: impl Fn() -> usize) {
        let full = |state: &mut State| {
            !state.closed && state.cut_off.is_none() && state.unacknowledged + own() > UNACKNOWLEDGED_BYTES_MAX
        };
        drop(self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until the controller has told its engines, or why it cannot be reached.
    pub fn wait_connected(&self, timeout: Duration) -> Result<(), ConnectFailure> {
        let hopeless = |state: &State| state.failure.as_ref().is_some_and(|failure| !failure.is_retryable());
        let state = self.wait(timeout, |state| state.engines.is_some() || hopeless(state));
        match (&state.engines, &state.failure) {
            (Some(_), _) => Ok(()),
            (None, failure) => Err(failure.clone().unwrap_or(ConnectFailure::NoAnswer)),
        }
    }

    /// Waits until there are `count` engines; how many there were at last.
    pub fn wait_engines(&self, count: usize, timeout: Duration) -> usize {
        let engines = |state: &State| state.engines.as_ref().map_or(0, Vec::len);
        engines(&self.wait(timeout, |state| state.closed || state.cut_off.is_some() || engines(state) >= count))
    }

    fn wait(&self, timeout: Duration, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_timeout_while(self.lock(), timeout, |state| !done(state)).unwrap_or_else(PoisonError::into_inner).0
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, engines: &[EngineInfo]) {
        for engine in engines {
            if self.nodes.get(&engine.id) != Some(&engine.node) {
                self.nodes.insert(engine.id, engine.node.clone());
            }
        }
        while self.nodes.len() > NODES_KNOWN_MAX {
            self.nodes.pop_first();
        }
    }
}
