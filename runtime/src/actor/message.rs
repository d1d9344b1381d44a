//! Messages that cross nodes, and how they reach an actor.

use serde::{Serialize, de::DeserializeOwned};

use crate::net::gate::Permit;
use crate::net::link::{Link, SOON, Urgency};
use crate::proto::packet::AskCode;

/// A message that an actor on another node can be sent.
///
/// The wire names it by `NAME` and `VERSION` once, in the handshake, and by a small index after that. A change of the
/// fields that an older peer cannot read needs a new `VERSION`.
pub trait RemoteMessage: Serialize + DeserializeOwned + Send + 'static {
    /// The name that both sides know it by; a literal, unique within a registry.
    const NAME: &'static str;
    /// The version of its fields.
    const VERSION: u16 = 1;
    /// What the actor answers; `()` where nothing is to be said.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// A [`RemoteMessage`] as the actor receives it: with the link that it came by and the way to answer.
///
/// It holds a permit of the link's gate until its [`Reply`] is dropped or gives it back, which is what bounds a mailbox.
#[derive(Debug)]
pub struct Remote<M: RemoteMessage> {
    /// What was sent.
    pub message: M,
    /// The link that it came by; `from.peer()` says who is on the other side, as its certificate states.
    pub from: Link,
    /// Where the answer goes.
    pub reply: Reply<M::Reply>,
}

impl<M: RemoteMessage> actix::Message for Remote<M> {
    type Result = ();
}

/// The answer slot of an ask. Dropped without an answer, it tells the asker that the actor gave none.
#[derive(Debug)]
pub struct Reply<R: Serialize> {
    slot: Option<(Link, u64)>,
    permit: Option<Permit>,
    _answer: std::marker::PhantomData<fn(R)>,
}

impl<R: Serialize> Reply<R> {
    pub(crate) fn new(slot: Option<(Link, u64)>, permit: Permit) -> Self {
        Self { slot, permit: Some(permit), _answer: std::marker::PhantomData }
    }

    /// Answers. Does nothing when the message was told rather than asked, or when the link is gone: then the asker
    /// has been told so already.
    pub fn send(self, answer: &R) {
        self.answer(answer, Urgency::Now);
    }

    /// As [`send`](Self::send), for an answer that nobody is in a hurry for: it leaves with the next message to that node, or
    /// within [`SOON`](crate::net::link::SOON).
    pub fn send_soon(self, answer: &R) {
        self.answer(answer, Urgency::Within(SOON));
    }

    fn answer(mut self, answer: &R, urgency: Urgency) {
        if let Some((link, ask)) = self.slot.take() {
            link.reply(ask, answer, urgency);
        }
    }

    /// Gives the place in the gate back before the answer is sent. For an actor that is done with a message, holds its
    /// answer back, and bounds in its own way how many answers it holds.
    pub fn release_permit(&mut self) {
        self.permit = None;
    }

    /// Refuses, with a reason that the asker sees.
    pub fn refuse(mut self, code: AskCode, text: &str) {
        if let Some((link, ask)) = self.slot.take() {
            link.refuse(ask, code, text);
        }
    }
}

impl<R: Serialize> Drop for Reply<R> {
    fn drop(&mut self) {
        if let Some((link, ask)) = self.slot.take() {
            link.refuse(ask, AskCode::ActorStopped, "the actor gave no answer");
        }
    }
}
