//! How a client asks its controller, from the program's threads.

use std::time::{Duration, Instant};

use actix::{Actor, Handler};
use engineroom_runtime::{
    actor::{ActorId, Remote, RemoteAddr, RemoteMessage},
    net::link::{AskError, Link, SendError},
};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{
    Client, Inner,
    actor::{ANSWER_DEADLINE, AwaitKnown, OnNode},
    records::Runs,
    runs_of,
    wait::{block_on, block_until},
};
use crate::error::{Error, Result};
use crate::task::{JobId, MessageId};

/// The pause before something is asked again of a link that has just been lost.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

impl Client {
    /// These tasks, which the controller knows by now if this client has submitted them.
    pub(super) fn known(&self, ids: impl IntoIterator<Item = MessageId>) -> Result<Runs> {
        let runs = runs_of(ids);
        if self.inner.hand_over(&runs, Instant::now() + ANSWER_DEADLINE)? {
            Ok(runs)
        } else {
            Err(Error::NoAnswer(format!("what was submitted was not acknowledged within {ANSWER_DEADLINE:?}")))
        }
    }
}

impl Inner {
    fn link(&self) -> Result<Link> {
        if self.shared.is_closed() {
            return Err(Error::Closed);
        }
        if let Some(error) = self.shared.cut_off() {
            return Err(error);
        }
        self.shared.link().ok_or_else(|| Error::NoAnswer("the link to it is down; it is being dialled again".into()))
    }

    /// Asks an actor of the controller and blocks until it answers.
    pub(super) fn ask<A, M>(&self, actor: ActorId, question: M) -> Result<M::Reply>
    where
        A: Actor + Handler<Remote<M>>,
        M: RemoteMessage,
    {
        let answer = self.ask_by::<A, M>(self.link()?, actor, question, ANSWER_DEADLINE);
        answer.map_err(|error| error.map_or(Error::Closed, |error| Error::NoAnswer(error.to_string())))
    }

    /// Waits until the controller has acknowledged what this client itself has submitted of these tasks; `false` when the time is
    /// over before.
    pub(super) fn hand_over(&self, runs: &[(JobId, u32, u32)], deadline: Instant) -> Result<bool> {
        let (answer, known) = oneshot::channel();
        self.actor.do_send(AwaitKnown { runs: runs.to_vec(), answer });
        match block_until(known, Some(deadline)) {
            Some(Ok(())) => Ok(true),
            Some(Err(_)) => Err(Error::Closed),
            None => Ok(false),
        }
    }

    /// Asks an actor of the controller and blocks until it answers; again when the link is lost meanwhile.
    pub(super) fn ask_soon<A, M>(&self, actor: ActorId, question: impl Fn() -> M) -> Result<M::Reply>
    where
        A: Actor + Handler<Remote<M>>,
        M: RemoteMessage,
    {
        let asked = self.ask_until::<A, M>(actor, Instant::now() + ANSWER_DEADLINE, question);
        asked.map_err(|error| match error {
            Error::Timeout(_) => Error::NoAnswer("the link to it is down; it is being dialled again".into()),
            error => error,
        })
    }

    /// As [`ask_soon`](Self::ask_soon), until a time of the caller's choice.
    pub(super) fn ask_until<A, M>(&self, actor: ActorId, deadline: Instant, question: impl Fn() -> M) -> Result<M::Reply>
    where
        A: Actor + Handler<Remote<M>>,
        M: RemoteMessage,
    {
        let began = Instant::now();
        loop {
            if self.shared.is_closed() {
                return Err(Error::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let link = self.shared.wait_link(left);
            let Some(link) = link.filter(|_| !left.is_zero()) else { return Err(Error::Timeout(deadline - began)) };
            match self.ask_by::<A, M>(link, actor, question(), left) {
                Ok(reply) => return Ok(reply),
                Err(Some(AskError::LinkLost(_) | AskError::NotSent(SendError::Down { .. } | SendError::Full { .. }))) => {
                    std::thread::sleep(RETRY_PAUSE);
                }
                Err(Some(AskError::Deadline(_))) => return Err(Error::Timeout(deadline - began)),
                Err(Some(error)) => return Err(Error::NoAnswer(error.to_string())),
                Err(None) => return Err(Error::Closed),
            }
        }
    }

    fn ask_by<A, M>(&self, link: Link, actor: ActorId, question: M, deadline: Duration) -> Result<M::Reply, Option<AskError>>
    where
        A: Actor + Handler<Remote<M>>,
        M: RemoteMessage,
    {
        let (sender, receiver) = oneshot::channel();
        let actor = RemoteAddr::<A>::new(link, actor);
        let ask = move || async move { drop(sender.send(actor.ask(&question, deadline).await)) }.boxed_local();
        self.actor.do_send(OnNode(Box::new(ask)));
        block_on(receiver).map_err(|_| None)?.map_err(Some)
    }
}
