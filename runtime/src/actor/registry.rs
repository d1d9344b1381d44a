//! Which messages this node takes, from whom, and for which actors.

use std::{any::Any, cell::RefCell, collections::HashMap, fmt, rc::Rc};

use actix::{Actor, Addr, Context, Handler};
use futures_util::{FutureExt, future::LocalBoxFuture};

use super::{
    message::{Remote, RemoteMessage, Reply},
    supervise::ActorHandle,
};
use crate::net::{
    identity::Role,
    link::{Deliver, Inbound, Refusal},
};
use crate::proto::{
    packet::{AskCode, TerminatedCode, TerminatedReason},
    payload,
};

/// The number of an actor within its node, as remote peers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId(pub u32);

/// The messages that a node takes: for each its decoder, the type of its actor and the roles that may send it.
///
/// Built explicitly when a node starts; what is not in it cannot be sent to this node. The place of a message in it is
/// the index that the wire carries.
#[derive(Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    name: &'static str,
    version: u16,
    roles: &'static [Role],
    deliver: fn(&Exports, Inbound) -> Result<(), Refusal>,
}

/// Two messages of one name and version in a registry.
#[derive(Debug, thiserror::Error)]
#[error("the message {name} version {version} is registered twice: give one of them another name or version")]
pub struct DuplicateMessage {
    name: &'static str,
    version: u16,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `M` for actors of type `A`, from peers of these roles.
    ///
    /// # Errors
    /// When a message of this name and version is registered already.
    pub fn message<A, M>(&mut self, roles: &'static [Role]) -> Result<&mut Self, DuplicateMessage>
    where
        A: Actor<Context = Context<A>> + Handler<Remote<M>>,
        M: RemoteMessage,
    {
        let (name, version) = (M::NAME, M::VERSION);
        if self.entries.iter().any(|entry| (entry.name, entry.version) == (name, version)) {
            return Err(DuplicateMessage { name, version });
        }
        self.entries.push(Entry { name, version, roles, deliver: deliver::<A, M> });
        Ok(self)
    }

    /// The names and versions, in the order of their indices: what the handshake tells the peer.
    pub fn table(&self) -> Vec<(String, u16)> {
        self.entries.iter().map(|entry| (entry.name.to_owned(), entry.version)).collect()
    }

    fn check(&self, message: u16, role: Role) -> Result<(), Refusal> {
        let entry = self.entry(message)?;
        match entry.roles.contains(&role) {
            true => Ok(()),
            false => Err((AskCode::NotAllowed, format!("the role {role} may not send {}", entry.name))),
        }
    }

    fn dispatch(&self, exports: &Exports, message: u16, inbound: Inbound) -> Result<(), Refusal> {
        (self.entry(message)?.deliver)(exports, inbound)
    }

    fn entry(&self, message: u16) -> Result<&Entry, Refusal> {
        let entry = self.entries.get(usize::from(message));
        entry.ok_or_else(|| (AskCode::UnknownMessage, format!("this node has no message number {message}")))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| (entry.name, entry.version, entry.roles))).finish()
    }
}

/// The actors that peers can reach, by number. Lives on the node thread.
#[derive(Clone, Default)]
pub(crate) struct Exports {
    actors: Rc<RefCell<HashMap<ActorId, Export>>>,
}

struct Export {
    /// An `ActorHandle<A>`; only the decoder of a message knows `A`.
    handle: Box<dyn Any>,
    monitor: Box<dyn Fn() -> LocalBoxFuture<'static, TerminatedReason>>,
}

impl Exports {
    pub fn insert<A: Actor<Context = Context<A>>>(&self, id: ActorId, handle: ActorHandle<A>) {
        let monitored = handle.clone();
        let monitor = Box::new(move || monitored.monitor().boxed_local());
        self.actors.borrow_mut().insert(id, Export { handle: Box::new(handle), monitor });
    }

    pub fn remove(&self, id: ActorId) {
        self.actors.borrow_mut().remove(&id);
    }

    /// The end of an actor of whatever type; at once for one that is not there.
    pub fn monitor(&self, id: ActorId) -> LocalBoxFuture<'static, TerminatedReason> {
        match self.actors.borrow().get(&id) {
            Some(export) => (export.monitor)(),
            None => {
                std::future::ready(TerminatedReason::new(TerminatedCode::NoSuchActor, "there is no such actor")).boxed_local()
            }
        }
    }

    fn address<A: Actor<Context = Context<A>>>(&self, id: ActorId) -> Option<Addr<A>> {
        let actors = self.actors.borrow();
        Some(actors.get(&id)?.handle.downcast_ref::<ActorHandle<A>>()?.addr())
    }
}

/// What a node's links deliver to: its registry and its exported actors.
pub(crate) struct Local {
    pub registry: Registry,
    pub exports: Exports,
}

impl Deliver for Local {
    fn check(&self, message: u16, role: Role) -> Result<(), Refusal> {
        self.registry.check(message, role)
    }

    fn message(&self, message: u16, inbound: Inbound) -> Result<(), Refusal> {
        self.registry.dispatch(&self.exports, message, inbound)
    }

    fn monitor(&self, actor: u32) -> LocalBoxFuture<'static, TerminatedReason> {
        self.exports.monitor(ActorId(actor))
    }
}

fn deliver<A, M>(exports: &Exports, inbound: Inbound) -> Result<(), Refusal>
where
    A: Actor<Context = Context<A>> + Handler<Remote<M>>,
    M: RemoteMessage,
{
    let Inbound { actor, ask, payload, link, permit } = inbound;
    let Some(address) = exports.address::<A>(ActorId(actor)) else {
        return Err((AskCode::NoSuchActor, format!("no actor {actor} here takes {}", M::NAME)));
    };
    let message = payload::decode::<M>(&payload)
        .map_err(|error| (AskCode::BadPayload, format!("the payload is no {}: {error}", M::NAME)))?;
    let reply = Reply::new(ask.map(|ask| (link.clone(), ask)), permit);
    if !address.connected() {
        return Err((AskCode::ActorStopped, format!("the actor that takes {} has stopped", M::NAME)));
    }
    address.do_send(Remote { message, from: link, reply });
    Ok(())
}
