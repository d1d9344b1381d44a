//! What an actor remembers of what it told a store on disk.

use std::{collections::HashMap, sync::Arc};

use actix::Recipient;

use super::{Asker, Then};
use crate::results::{
    Store,
    backend::{Question, Write},
    port::{FromStore, Port},
};

/// A store on disk, and what is under way to and from it.
pub(super) struct Disk {
    store: Store,
    /// Where the store answers; there from the actor's start.
    port: Option<Arc<Port>>,
    next_ticket: u64,
    writes: HashMap<u64, Then>,
    questions: HashMap<u64, Asker>,
}

impl Disk {
    pub fn new(store: Store) -> Self {
        Self { store, port: None, next_ticket: 0, writes: HashMap::new(), questions: HashMap::new() }
    }

    pub fn attach(&mut self, actor: Recipient<FromStore>) {
        self.port = Some(self.store.attach(Box::new(move |told| actor.do_send(told))));
    }

    pub fn write(&mut self, write: Write, then: Then) {
        let ticket = self.ticket();
        if let Some(port) = &self.port {
            self.writes.insert(ticket, then);
            self.store.write(port, Some(ticket), write);
        }
    }

    pub fn write_only(&mut self, write: Write) {
        if let Some(port) = &self.port {
            self.store.write(port, None, write);
        }
    }

    pub fn ask(&mut self, question: Question, asker: Asker) {
        let ticket = self.ticket();
        if let Some(port) = &self.port {
            self.questions.insert(ticket, asker);
            self.store.ask(port, ticket, question);
        }
    }

    /// What is to be done now that a write is kept.
    pub fn written(&mut self, ticket: u64) -> Option<Then> {
        self.writes.remove(&ticket)
    }

    /// Who asked.
    pub fn answered(&mut self, ticket: u64) -> Option<Asker> {
        self.questions.remove(&ticket)
    }

    /// All bytes and jobs of the file are said by the first of those that share it.
    pub fn size(&self) -> (usize, usize) {
        if self.port.as_ref().is_some_and(|port| port.number == 0) { self.store.size() } else { (0, 0) }
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}
