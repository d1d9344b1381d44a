//! What is kept of a client, and its share of engine time.

use std::collections::BTreeMap;

use super::{ClientKey, matching::Class, slab::Key};

/// A client with open jobs. Forgotten with its last one: who comes back competes like somebody new.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) key: ClientKey,
    pub(crate) jobs: u32,
    /// Tasks that compete for engines.
    pub(crate) queued: u64,
    /// Queued tasks of jobs that wait for other tasks.
    pub(crate) held: u64,
    pub(crate) active: u64,
    /// How many balanced parts with queued tasks it has, by class. Says what it waits for.
    pub(crate) waits: BTreeMap<Key<Class>, u32>,
    /// How many direct parts with queued tasks it has.
    pub(crate) waits_pinned: u32,
    /// The engine time that it has used, in microseconds: who has used least goes first. Never goes back, so that an order may hold
    /// an old value and find out later.
    vtime: u64,
    /// What was charged too much, to be set off against the next charges.
    credit: u64,
}

impl Client {
    pub(crate) fn new(key: ClientKey) -> Self {
        Self { key, jobs: 0, queued: 0, held: 0, active: 0, waits: BTreeMap::new(), waits_pinned: 0, vtime: 0, credit: 0 }
    }

    pub(crate) fn vtime(&self) -> u64 {
        self.vtime
    }

    /// Whether it has queued tasks that found no engine at once.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits_pinned > 0 || !self.waits.is_empty()
    }

    /// It competes from now on: the time during which it wanted nothing is not saved up.
    pub(crate) fn enter(&mut self, floor: u64) {
        if self.vtime < floor {
            self.vtime = floor;
            self.credit = 0;
        }
    }

    /// Charges what a batch will probably use.
    pub(crate) fn charge(&mut self, us: u64) {
        let set_off = us.min(self.credit);
        self.credit -= set_off;
        self.vtime = self.vtime.saturating_add(us - set_off);
    }

    /// Replaces `charged` by what was used.
    pub(crate) fn correct(&mut self, charged: u64, used: u64) {
        if used >= charged {
            self.charge(used - charged);
        } else {
            self.credit = self.credit.saturating_add(charged - used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_charged_once_and_time_never_goes_back() {
        let mut client = Client::new(ClientKey(1));
        client.charge(1_000);
        client.correct(1_000, 100);
        assert_eq!(client.vtime(), 1_000);
        client.charge(950);
        assert_eq!(client.vtime(), 1_050, "100 used, 950 charged");
        client.correct(950, 2_000);
        assert_eq!(client.vtime(), 2_100);
        client.enter(5_000);
        client.enter(10);
        assert_eq!(client.vtime(), 5_000);
    }
}
