//! What may happen next.

use super::*;
use crate::task::{Condition, End, Quorum, TaskOptions};

impl World {
    pub(super) fn deliver_to_controller(&mut self) {
        let full: Vec<_> = self.links.iter().filter(|(_, link)| link.inbound.len() > 0).map(|(id, _)| *id).collect();
        if let Some(id) = self.rng.pick(&full) {
            self.deliver_from(id);
        }
    }

    /// The next message of a link comes to the controller, unless it knows that the link has ended.
    pub(super) fn deliver_from(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(message) = link.inbound.take(&mut self.rng) else { return };
        let (knows, peer) = (link.controller_knows, link.peer);
        if knows || self.controller.is_none() {
            return;
        }
        let caller = Caller { link: id, owner: self.owner(peer) };
        self.say(|| format!("from link {id}: {message:?}"));
        let Some(link) = self.links.get_mut(&id) else { return };
        let subscribes = match &message {
            ToController::Subscribe(job) => Some(*job),
            ToController::Submit { submit, .. } if submit.open.is_some() => Some(submit.job),
            _ => None,
        };
        if let ToController::Subscribe(job) = message {
            let known = self.store.disk.jobs.contains_key(&job);
            link.send_to_peer(ToPeer::Known { job, known }, Way::Control);
        }
        if let Some(controller) = &mut self.controller {
            controller.handle(&caller, message);
        }
        if let Some(job) = subscribes {
            self.send_ended(id, job);
        }
    }

    /// The store sends what has ended of a job.
    fn send_ended(&mut self, id: u64, job: JobId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let stored = self.store.disk.jobs.get(&job);
        for (&first, (attempt, body, _)) in stored.iter().flat_map(|stored| &stored.outcomes) {
            let run = Run { first, count: 1, engine: None, attempt: *attempt, submitted_us: 0, body: body.clone() };
            link.send_to_peer(ToPeer::Results { job, run }, Way::Control);
        }
    }

    pub(super) fn deliver_to_peer(&mut self) {
        let full: Vec<_> = self.links.iter().filter(|(_, link)| link.outbound.len() > 0).map(|(id, _)| *id).collect();
        if let Some(id) = self.rng.pick(&full) {
            self.deliver_over(id);
        }
    }

    /// The next message of a link comes to the peer, unless it knows that the link has ended.
    pub(super) fn deliver_over(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(message) = link.outbound.take(&mut self.rng) else { return };
        let peer = link.peer;
        if link.peer_knows {
            return;
        }
        self.say(|| format!("to {peer:?} by link {id}: {message:?}"));
        match peer {
            Peer::Node(at) => self.nodes[at].handle(message),
            Peer::Client(at) => {
                if let Some((job, end, closed)) = self.clients[at].handle(message) {
                    self.truth.acknowledged(job, end, closed, &self.store.disk);
                }
            }
        }
    }

    pub(super) fn break_link(&mut self) {
        let up: Vec<_> = self.links.iter().filter(|(_, link)| !link.broken).map(|(id, _)| *id).collect();
        if let Some(link) = self.rng.pick(&up).and_then(|id| self.links.get_mut(&id)) {
            link.break_off(&mut self.rng);
        }
    }

    /// One side of a link that has ended finds out.
    pub(super) fn notice(&mut self) {
        let broken: Vec<_> = self.links.iter().filter(|(_, link)| link.broken).map(|(id, _)| *id).collect();
        if let Some(id) = self.rng.pick(&broken) {
            let controller = self.rng.one_in(2);
            self.notice_this(id, controller);
        }
    }

    pub(super) fn notice_this(&mut self, id: u64, controller_side: bool) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.broken) else { return };
        let knew = std::mem::replace(if controller_side { &mut link.controller_knows } else { &mut link.peer_knows }, true);
        let (both, peer) = (link.controller_knows && link.peer_knows, link.peer);
        self.say(|| format!("the end of link {id} is noticed, by the controller: {controller_side}"));
        if !knew && controller_side {
            if let Some(controller) = &mut self.controller {
                controller.link_down(id);
            }
        } else if !knew {
            match peer {
                Peer::Node(at) => self.nodes[at].disconnected(),
                Peer::Client(at) => self.clients[at].disconnected(),
            }
        }
        if both {
            self.links.remove(&id);
        }
    }

    /// The controller hears what the store has committed.
    pub(super) fn tell(&mut self) {
        if let Some(controller) = &mut self.controller
            && let Some(told) = self.store.told.pop_front()
        {
            controller.told(told);
        }
    }

    pub(super) fn tick(&mut self) {
        if let Some(controller) = &mut self.controller {
            controller.tick(Time(self.now));
        }
    }

    pub(super) fn run(&mut self) {
        let busy = |at: &usize| self.nodes[*at].engines.iter().any(|engine| engine.piece().is_some());
        let busy: Vec<_> = (0..self.nodes.len()).filter(busy).collect();
        if let Some(node) = self.rng.pick(&busy) {
            let engine = self.rng.below(self.nodes[node].engines.len() as u64) as usize;
            self.run_at(node, engine);
        }
    }

    /// An engine runs some tasks, of which one may take the node along.
    pub(super) fn run_at(&mut self, at: usize, engine: usize) {
        let Some(engine) = self.nodes[at].engines.get_mut(engine) else { return };
        let Some((job, first, end)) = engine.piece() else { return };
        let count = 1 + self.rng.below(u64::from(end - first)) as u32;
        let deadly = |index: u32| (job.shard(64) as u32 ^ index.wrapping_mul(2_654_435_761) >> 7).is_multiple_of(211);
        if (first..first + count).any(deadly) {
            return self.kill_this(at);
        }
        engine.run(count, &mut self.rng);
    }

    /// A program gives tasks to its client.
    pub(super) fn feed(&mut self) {
        let alive: Vec<_> = (0..self.clients.len()).filter(|at| self.clients[*at].alive).collect();
        let Some(at) = self.rng.pick(&alive) else { return };
        let open: Vec<_> = self.clients[at].jobs.iter().filter(|(_, job)| !job.closed && !job.dead).map(|(id, _)| *id).collect();
        let id = match self.rng.pick(&open) {
            Some(id) if !self.rng.one_in(3) => id,
            _ => self.open(at),
        };
        let job = &self.clients[at].jobs[&id];
        let direct: u32 = job.header.direct.iter().map(|(_, count)| count).sum();
        let room = if job.header.direct.is_empty() { u32::MAX } else { direct - job.fed };
        let count = (self.rng.below(12) as u32).min(room);
        let (closed, long) = (self.rng.one_in(3), self.rng.one_in(6));
        self.clients[at].feed(id, count, closed, long);
    }

    fn open(&mut self, at: usize) -> JobId {
        // The number of the id decides which tasks are deadly.
        let id = JobId::from_u128(u128::from(self.fresh()) << 64 | u128::from(self.rng.below(64)));
        let engines: Vec<EngineId> =
            self.nodes.iter().filter(|node| node.alive).flat_map(|node| node.ids.iter().copied()).collect();
        let direct = match self.rng.pick(&engines) {
            Some(engine) if self.rng.one_in(4) => {
                let other = self.rng.pick(&engines).unwrap_or(engine);
                vec![(engine, 1 + self.rng.below(12) as u32), (other, self.rng.below(12) as u32)]
            }
            _ => Vec::new(),
        };
        let chunk = if self.rng.one_in(2) { 1 + self.rng.below(8) as u32 } else { 0 };
        let opened: Vec<_> = self.clients[at].jobs.iter().filter(|(_, job)| job.opened && !job.dead).map(|(id, _)| *id).collect();
        let after = match self.rng.pick(&opened) {
            Some(job) if self.rng.one_in(3) => {
                let end = [End::Succeeded, End::Either, End::Failed][self.rng.below(3) as usize];
                let quorum = if self.rng.one_in(3) { Quorum::Any } else { Quorum::All };
                let run = if self.rng.one_in(2) { (job, 0, u32::MAX) } else { (job, self.rng.below(6) as u32, 1) };
                vec![Condition { runs: vec![run], quorum, end }]
            }
            _ => Vec::new(),
        };
        let (mut after, mut follow) = (after, Vec::new());
        if direct.is_empty() && self.rng.one_in(2) {
            std::mem::swap(&mut after, &mut follow);
        }
        self.clients[at].open(id, direct, chunk, TaskOptions { after, follow, ..TaskOptions::default() });
        id
    }

    /// A client has some tasks aborted.
    pub(super) fn abort(&mut self) {
        let linked: Vec<_> = (0..self.clients.len()).filter(|at| self.clients[*at].link.is_some()).collect();
        let Some(at) = self.rng.pick(&linked) else { return };
        let handed: Vec<_> = self.clients[at].jobs.iter().filter(|(_, job)| job.is_handed_over()).map(|(id, _)| *id).collect();
        let Some(job) = self.rng.pick(&handed) else { return };
        let (first, count) = (self.rng.below(20) as u32, 1 + self.rng.below(6) as u32);
        self.truth.cancelled.entry(job).or_default().cover(first, first + count);
        self.clients[at].sends.push((ToController::Abort { ask: 0, job, first, count }, Way::Control));
    }

    /// Everybody does what follows from the last step, and everything is checked.
    pub(super) fn settle(&mut self) {
        self.settle_controller();
        for at in 0..self.nodes.len() {
            self.nodes[at].advance();
            let link = self.nodes[at].link;
            for act in std::mem::take(&mut self.nodes[at].acts) {
                match act {
                    Act::Send(message, way) => self.send(link, message, way),
                    Act::Forgot(job, first, count) => self.truth.forgot(job, first, count, &self.store.disk),
                    Act::Has(batch) => self.truth.held(batch, true),
                    Act::Over(batch) => self.truth.held(batch, false),
                }
            }
        }
        for at in 0..self.clients.len() {
            self.clients[at].pump();
            let link = self.clients[at].link;
            for (message, way) in std::mem::take(&mut self.clients[at].sends) {
                self.send(link, message, way);
            }
        }
    }

    fn settle_controller(&mut self) {
        let Some(controller) = &mut self.controller else { return };
        controller.core.check_invariants();
        for effect in std::mem::take(&mut controller.effects) {
            match &effect {
                Effect::Write(write) => self.say(|| format!("to the store: {write:?}")),
                Effect::Note(note) => self.say(|| format!("{note:?}")),
                Effect::Send(..) => {}
            }
            match effect {
                Effect::Send(link, message) => {
                    let way = message.way(self.rng.one_in(6));
                    if let Some(link) = self.links.get_mut(&link) {
                        link.send_to_peer(message, way);
                    }
                }
                Effect::Write(write) => {
                    self.truth.writes(&write, &self.store);
                    self.store.queue.push_back(write);
                }
                Effect::Note(note) => self.truth.note(note, &self.store),
            }
        }
    }

    fn send(&mut self, link: Option<u64>, message: ToController, way: Way) {
        if let Some(link) = link.and_then(|id| self.links.get_mut(&id)) {
            link.send_to_controller(message, way);
        }
    }
}
