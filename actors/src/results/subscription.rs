//! Who wants the results of which job.

use std::collections::HashMap;

use engineroom_runtime::{
    actor::RemoteAddr,
    net::link::{Link, SOON, SendError},
};

use super::{backend::Page, cursor::Cursor};
use crate::client::ClientActor;
use crate::task::{Cause, JobId, News};
use crate::wire::{CLIENT, PassedNews, Results, Run, RunBody};

/// One client that wants results of one job.
pub(super) struct Subscription {
    client: RemoteAddr<ClientActor>,
    /// The client's number for it.
    number: u64,
    pub cursor: Cursor,
    /// The link was full; it is tried again after a pause.
    is_blocked: bool,
}

/// Which subscription of a job: the link's id, and the client's number.
pub(super) type Key = (u64, u64);

/// The subscriptions to one job.
#[derive(Default)]
pub(super) struct OfJob {
    pub all: Vec<Subscription>,
    /// The job has ended: what has been sent everything there is goes.
    pub ended: bool,
}

/// All subscriptions of a store, by job.
pub(super) type Subscriptions = HashMap<JobId, OfJob>;

impl OfJob {
    /// Adds one, in place of an older one of its number. One without ranges only ends the older one.
    pub fn add(&mut self, subscription: Subscription) {
        self.all.retain(|other| other.key() != subscription.key());
        if !subscription.cursor.is_empty() {
            self.all.push(subscription);
        }
    }

    pub fn find(&mut self, key: Key) -> Option<&mut Subscription> {
        self.all.iter_mut().find(|subscription| subscription.key() == key)
    }

    /// Offers outcomes that were recorded to everybody. Returns whether a link was full.
    pub fn offer(&mut self, job: JobId, run: Run) -> bool {
        let mut takers: Vec<&mut Subscription> =
            self.all.iter_mut().filter_map(|one| one.cursor.offer(&run).then_some(one)).collect();
        let last = takers.pop();
        let mut blocked = false;
        for taker in takers {
            blocked |= !taker.send(job, run.clone());
        }
        // The one that most jobs have needs no copy.
        last.map_or(blocked, |taker| !taker.send(job, run) || blocked)
    }

    /// The links that were full may have room again.
    pub fn unblock(&mut self) {
        self.all.iter_mut().for_each(|subscription| subscription.is_blocked = false);
    }

    /// Drops those that have nothing to wait for. Returns whether none is left.
    pub fn sweep(&mut self) -> bool {
        if self.ended {
            self.all.retain(|subscription| !subscription.cursor.is_settled());
        }
        self.all.is_empty()
    }
}

impl Subscription {
    pub fn new(link: Link, number: u64, ranges: Vec<(u32, u32)>, window_bytes: u64) -> Self {
        Self { client: RemoteAddr::new(link, CLIENT), number, cursor: Cursor::new(ranges, window_bytes), is_blocked: false }
    }

    pub fn key(&self) -> Key {
        (self.client.link().id(), self.number)
    }

    pub fn link(&self) -> &Link {
        self.client.link()
    }

    /// What is to be read for it next.
    pub fn next_page(&mut self) -> Option<(Vec<(u32, u32)>, u64)> {
        if self.is_blocked { None } else { self.cursor.next_page() }
    }

    /// Sends a page that was read, as far as its window goes. Returns false if the link was full.
    pub fn deliver(&mut self, job: JobId, page: Page) -> bool {
        self.cursor.arrived(page.until);
        for run in page.runs {
            if self.is_blocked || !self.cursor.has_credit() {
                self.cursor.missed(run.first, run.end());
            } else {
                self.send(job, run);
            }
        }
        !self.is_blocked
    }

    /// Tells what a running task tells, unless the link has enough to do.
    pub fn pass_on(&self, job: JobId, index: u32, news: &News) {
        if !self.is_blocked {
            let news = PassedNews { job, subscription: self.number, index, news: news.clone() };
            // It is of no use later.
            let _ = self.client.tell_within(SOON, &news);
        }
    }

    /// Returns false if the link was full; then the run counts as missed.
    fn send(&mut self, job: JobId, run: Run) -> bool {
        if self.is_blocked {
            self.cursor.missed(run.first, run.end());
            return false;
        }
        let message = Results { job, subscription: self.number, run };
        match self.client.tell(&message) {
            Ok(()) => self.cursor.sent(&message.run),
            Err(SendError::Full { .. }) => {
                self.is_blocked = true;
                self.cursor.missed(message.run.first, message.run.end());
                return false;
            }
            Err(SendError::Encoding(text)) if matches!(message.run.body, RunBody::Ran(_)) => {
                let cause = Cause::WrongResult { type_name: "result".into(), message: text };
                return self.send(job, Run { body: RunBody::Ended(cause), ..message.run });
            }
            // The link is down; the client subscribes again when it is back.
            Err(SendError::Down { .. } | SendError::NotAccepted { .. } | SendError::Encoding(_)) => self.cursor.give_up(),
        }
        true
    }
}
