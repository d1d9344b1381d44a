//! Who waits for something from the peer of a link: each is told once, by the peer or by the link's end.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{ASKS_MAX, AskError, Link};
use crate::proto::packet::{TerminatedCode, TerminatedReason};

/// The asks and monitors of one link. None of either once the link has ended: what came later would wait for ever.
pub(super) struct Waiting(Mutex<Option<Waiters>>);

#[derive(Default)]
struct Waiters {
    asks: HashMap<u64, oneshot::Sender<Result<Bytes, AskError>>>,
    monitors: HashMap<u64, oneshot::Sender<TerminatedReason>>,
}

/// Why nobody can wait.
pub(super) enum NotTaken {
    /// The link has ended.
    Ended,
    /// [`ASKS_MAX`] wait already.
    Full,
}

impl Default for Waiting {
    fn default() -> Self {
        Self(Mutex::new(Some(Waiters::default())))
    }
}

impl Waiting {
    pub fn add_ask(&self, ask: u64) -> Result<oneshot::Receiver<Result<Bytes, AskError>>, NotTaken> {
        let mut waiters = self.lock();
        let asks = &mut waiters.as_mut().ok_or(NotTaken::Ended)?.asks;
        if asks.len() >= ASKS_MAX {
            return Err(NotTaken::Full);
        }
        let (sender, receiver) = oneshot::channel();
        asks.insert(ask, sender);
        Ok(receiver)
    }

    pub fn add_monitor(&self, monitor: u64) -> Result<oneshot::Receiver<TerminatedReason>, NotTaken> {
        let mut waiters = self.lock();
        let (sender, receiver) = oneshot::channel();
        waiters.as_mut().ok_or(NotTaken::Ended)?.monitors.insert(monitor, sender);
        Ok(receiver)
    }

    /// Whether anybody still waits for that answer.
    pub fn expects(&self, ask: u64) -> bool {
        self.lock().as_ref().is_some_and(|waiters| waiters.asks.contains_key(&ask))
    }

    /// An answer that nobody waits for came after its deadline, or was never asked for.
    pub fn answered(&self, ask: u64, answer: Result<Bytes, AskError>) {
        if let Some(waiter) = self.forget_ask(ask) {
            let _ = waiter.send(answer);
        }
    }

    pub fn terminated(&self, monitor: u64, reason: TerminatedReason) {
        if let Some(waiter) = self.forget_monitor(monitor) {
            let _ = waiter.send(reason);
        }
    }

    pub fn end(&self, reason: &str) {
        let waiters = self.lock().take().unwrap_or_default();
        for (_, waiter) in waiters.asks {
            let _ = waiter.send(Err(AskError::LinkLost(reason.to_owned())));
        }
        for (_, waiter) in waiters.monitors {
            let _ = waiter.send(link_lost(reason));
        }
    }

    fn forget_ask(&self, ask: u64) -> Option<oneshot::Sender<Result<Bytes, AskError>>> {
        self.lock().as_mut()?.asks.remove(&ask)
    }

    fn forget_monitor(&self, monitor: u64) -> Option<oneshot::Sender<TerminatedReason>> {
        self.lock().as_mut()?.monitors.remove(&monitor)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiters>> {
        // Nothing panics while it holds this lock; if something did, the maps are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ask that has been sent. Dropped, it no longer waits.
pub(crate) struct PendingAsk {
    pub(super) link: Link,
    pub(super) ask: u64,
    pub(super) receiver: oneshot::Receiver<Result<Bytes, AskError>>,
    pub(super) deadline: Duration,
}

impl PendingAsk {
    /// The answer's bytes.
    pub async fn answer(mut self) -> Result<Bytes, AskError> {
        match tokio::time::timeout(self.deadline, &mut self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(AskError::LinkLost("the node has ended".into())),
            Err(_) => Err(AskError::Deadline(self.deadline)),
        }
    }
}

impl Drop for PendingAsk {
    fn drop(&mut self) {
        self.link.0.waiting.forget_ask(self.ask);
    }
}

/// A monitor that has been asked for. Dropped, it no longer waits.
pub(super) struct PendingMonitor {
    pub link: Link,
    pub monitor: u64,
    pub receiver: oneshot::Receiver<TerminatedReason>,
}

impl PendingMonitor {
    pub async fn ended(mut self) -> TerminatedReason {
        (&mut self.receiver).await.unwrap_or_else(|_| link_lost("the link has ended"))
    }
}

impl Drop for PendingMonitor {
    fn drop(&mut self) {
        self.link.0.waiting.forget_monitor(self.monitor);
    }
}

pub(super) fn link_lost(text: &str) -> TerminatedReason {
    TerminatedReason::new(TerminatedCode::LinkLost, text)
}
