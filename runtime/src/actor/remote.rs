//! The address of an actor on another node.

use std::{fmt, marker::PhantomData, time::Duration};

use actix::{Actor, Handler};

use super::{
    message::{Remote, RemoteMessage},
    registry::ActorId,
};
use crate::net::link::{AskError, Link, SendError, Urgency};
use crate::proto::{packet::TerminatedReason, payload};

/// Where to send messages for one actor of type `A` on the other side of a link.
///
/// The type states what may be sent: whatever `A` handles as a [`Remote`] message. An address is as short-lived as its
/// link; when the link is back, it is another one.
pub struct RemoteAddr<A> {
    link: Link,
    actor: ActorId,
    _actor: PhantomData<fn(A)>,
}

impl<A: Actor> RemoteAddr<A> {
    /// The actor of that number at the other end of a link.
    pub fn new(link: Link, actor: ActorId) -> Self {
        Self { link, actor, _actor: PhantomData }
    }

    /// The link that leads there.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Sends a message and expects nothing. Messages of one sender arrive in the order sent, but for those above
    /// [`INLINE_BYTES_MAX`](crate::net::link::INLINE_BYTES_MAX), which overtake and are overtaken.
    ///
    /// # Errors
    /// When the link is down or full, or the message is too long. It was certainly not executed then.
    pub fn tell<M: RemoteMessage>(&self, message: &M) -> Result<(), SendError>
    where
        A: Handler<Remote<M>>,
    {
        self.link.tell(self.actor.0, M::NAME, M::VERSION, message, Urgency::Now)
    }

    /// As [`tell`](Self::tell), for what nobody is in a hurry for: it leaves with the next message to that node, or when it has waited
    /// for `delay`, at most [`WITHIN_MAX`](crate::net::link::WITHIN_MAX). [`SOON`](crate::net::link::SOON) is as long as nobody notices.
    ///
    /// # Errors
    /// As [`tell`](Self::tell) has.
    pub fn tell_within<M: RemoteMessage>(&self, delay: Duration, message: &M) -> Result<(), SendError>
    where
        A: Handler<Remote<M>>,
    {
        self.link.tell(self.actor.0, M::NAME, M::VERSION, message, Urgency::Within(delay))
    }

    /// Sends a message; the future is its answer. It is sent by this call, not by the first poll, so that messages keep
    /// the order of the calls.
    ///
    /// # Errors
    /// The future ends with an error when the message could not be sent, was refused, or has no answer within the
    /// deadline; [`AskError::certainly_not_executed`] tells whether it is safe to send it again.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answer; the request may be executed all the same.
    pub fn ask<M: RemoteMessage>(
        &self,
        message: &M,
        deadline: Duration,
    ) -> impl Future<Output = Result<M::Reply, AskError>> + use<A, M>
    where
        A: Handler<Remote<M>>,
    {
        let pending = self.link.ask(self.actor.0, M::NAME, M::VERSION, message, deadline);
        async move {
            let answer = pending?.answer().await?;
            payload::decode(&answer).map_err(|error| AskError::BadAnswer(error.to_string()))
        }
    }

    /// A future that ends exactly once: when that actor ends for good, or the link does.
    pub fn monitor(&self) -> impl Future<Output = TerminatedReason> + use<A> {
        self.link.monitor(self.actor.0)
    }
}

impl<A> Clone for RemoteAddr<A> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone(), actor: self.actor, _actor: PhantomData }
    }
}

impl<A> fmt::Debug for RemoteAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteAddr(actor {} by {:?})", self.actor.0, self.link)
    }
}
