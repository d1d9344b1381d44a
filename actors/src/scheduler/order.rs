//! Which of the jobs that have queued tasks goes next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    client::Client,
    job::Job,
    slab::{Key, Slab},
};

/// A part of a job with queued tasks. Sorts by submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    /// The job's number in the order of submission.
    pub(crate) seq: u64,
    pub(crate) job: Key<Job>,
    pub(crate) part: usize,
}

/// Entries by priority, then by the engine time that their client has used, then by submission.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    levels: BTreeMap<Reverse<i32>, Level>,
    /// What the client that was served last had used. Who enters starts no lower.
    floor: u64,
}

/// One priority. Has at least one client.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Clients by what they had used when they were last looked at. It only grows, so an outdated turn comes too early, is
    /// noticed when it is first, and moves back.
    turns: BTreeSet<(u64, Key<Client>)>,
    stands: BTreeMap<Key<Client>, Stand>,
}

/// One client at one priority. Has at least one entry.
#[derive(Clone, Debug)]
struct Stand {
    /// Its value in `turns`.
    at: u64,
    entries: BTreeSet<Entry>,
}

impl Order {
    pub(crate) fn insert(&mut self, priority: i32, client: Key<Client>, vtime: u64, entry: Entry) {
        let level = self.levels.entry(Reverse(priority)).or_default();
        let stand = level.stands.entry(client).or_insert_with(|| {
            level.turns.insert((vtime, client));
            Stand { at: vtime, entries: BTreeSet::new() }
        });
        stand.entries.insert(entry);
    }

    pub(crate) fn remove(&mut self, priority: i32, client: Key<Client>, entry: Entry) {
        let Some(level) = self.levels.get_mut(&Reverse(priority)) else { return };
        let Some(stand) = level.stands.get_mut(&client) else { return };
        stand.entries.remove(&entry);
        if stand.entries.is_empty() {
            level.turns.remove(&(stand.at, client));
            level.stands.remove(&client);
        }
        if level.turns.is_empty() {
            self.levels.remove(&Reverse(priority));
        }
    }

    /// The entry whose turn it is.
    pub(crate) fn first(&mut self, clients: &Slab<Client>) -> Option<Entry> {
        let level = self.levels.values_mut().next()?;
        let client = level.first(clients)?;
        level.stands.get(&client)?.entries.first().copied()
    }

    /// Where a client starts that enters at `priority`: beside the one whose turn it is.
    pub(crate) fn floor(&mut self, priority: i32, clients: &Slab<Client>) -> u64 {
        let level = self.levels.get_mut(&Reverse(priority));
        level.and_then(|level| level.first(clients)).map_or(self.floor, |client| clients[client].vtime())
    }

    /// A client that has used `vtime` was served.
    pub(crate) fn served(&mut self, vtime: u64) {
        self.floor = self.floor.max(vtime);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// Everything in here, in no useful order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (i32, Key<Client>, Entry)> {
        self.levels.iter().flat_map(|(priority, level)| {
            level.stands.iter().flat_map(|(client, stand)| stand.entries.iter().map(|entry| (priority.0, *client, *entry)))
        })
    }

    #[cfg(test)]
    /// Panics when the parts do not fit together.
    pub(crate) fn check(&self, clients: &Slab<Client>) {
        for level in self.levels.values() {
            assert!(!level.turns.is_empty(), "a priority without clients is kept");
            assert_eq!(level.turns.len(), level.stands.len(), "turns and stands differ");
            for (client, stand) in &level.stands {
                assert!(level.turns.contains(&(stand.at, *client)), "a stand has no turn");
                assert!(!stand.entries.is_empty(), "a client without entries is kept");
                assert!(stand.at <= clients[*client].vtime(), "a client's time went back");
            }
        }
    }
}

impl Level {
    /// The client that has used least. Each outdated turn that is met is moved once for at least one charge of that client.
    fn first(&mut self, clients: &Slab<Client>) -> Option<Key<Client>> {
        loop {
            let &(at, client) = self.turns.first()?;
            let vtime = clients[client].vtime();
            if at == vtime {
                return Some(client);
            }
            self.turns.pop_first();
            self.turns.insert((vtime, client));
            self.stands.get_mut(&client)?.at = vtime;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::ClientKey;

    #[test]
    fn priority_then_share_then_submission() {
        let mut clients = Slab::default();
        let a = clients.insert(Client::new(ClientKey(1)));
        let b = clients.insert(Client::new(ClientKey(2)));
        let job = Slab::default().insert(crate::scheduler::job::tests::job());
        let mut order = Order::default();
        let entry = |seq| Entry { seq, job, part: 0 };
        for (priority, client, seq) in [(0, a, 1), (0, b, 2), (0, a, 3), (9, b, 4)] {
            order.insert(priority, client, clients[client].vtime(), entry(seq));
        }
        let mut served = Vec::new();
        while let Some(next) = order.first(&clients) {
            let (priority, client, _) = order.entries().find(|(_, _, e)| *e == next).unwrap();
            order.remove(priority, client, next);
            clients[client].charge(10);
            served.push(next.seq);
        }
        // b's urgent one first; then a, which has used less; then both have used the same, and a goes by its key.
        assert_eq!(served, [4, 1, 3, 2]);
        assert_eq!(order.entries().count(), 0);
        order.check(&clients);
    }

    #[test]
    fn a_newcomer_starts_beside_the_one_whose_turn_it_is() {
        let mut clients = Slab::default();
        let a = clients.insert(Client::new(ClientKey(1)));
        let job = Slab::default().insert(crate::scheduler::job::tests::job());
        let mut order = Order::default();
        order.insert(0, a, 0, Entry { seq: 1, job, part: 0 });
        clients[a].charge(500);
        assert_eq!(order.floor(0, &clients), 500, "at a's priority");
        order.served(400);
        assert_eq!(order.floor(1, &clients), 400, "where nobody waits");
    }
}
