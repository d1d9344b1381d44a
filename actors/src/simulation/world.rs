//! One history: who is there, and what happens next.

mod moves;

use std::collections::BTreeMap;

use engineroom_runtime::proto::handshake::Incarnation;

use super::{
    client::Client,
    controller::{Caller, Controller, Effect},
    engine::{Act, Node},
    network::{Link, Peer, ToController, ToPeer, Way},
    store::Store,
    truth::Truth,
};
use crate::results::Owner;
use crate::rng::Rng;
use crate::scheduler::{Scheme, Settings, Time};
use crate::task::{EngineId, JobId};
use crate::wire::Run;

/// How many steps a history has before it is brought to its end.
const STEPS: u64 = 500;

/// How many rounds the end may take.
const ROUNDS_MAX: usize = 2_000;

/// What happened in a history.
#[derive(Debug, Default)]
pub(super) struct Sum {
    tasks: u64,
    restarts: u64,
    adopted: u64,
    repeated: u64,
}

impl Sum {
    pub(super) fn add(&mut self, other: &Sum) {
        self.tasks += other.tasks;
        self.restarts += other.restarts;
        self.adopted += other.adopted;
        self.repeated += other.repeated;
    }

    /// Whether what is to be tried has happened at all.
    pub(super) fn is_rich(&self) -> bool {
        self.tasks > 0 && self.restarts > 0 && self.adopted > 0 && self.repeated > 0
    }
}

pub(super) struct World {
    pub(super) rng: Rng,
    now: u64,
    settings: Settings,
    store: Store,
    controller: Option<Controller>,
    links: BTreeMap<u64, Link>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    truth: Truth,
    ever: u64,
    restarts: u64,
    /// Everything is printed.
    told: bool,
}

impl World {
    pub(super) fn new(seed: u64, told: bool) -> Self {
        let mut rng = Rng(seed);
        let settings = Settings {
            poison_losses: 2 + rng.below(2) as u32,
            prefetch: rng.below(3) as usize,
            chunk_tasks_max: 1 + rng.below(12) as u32,
            scheme: rng.pick(&Scheme::ALL).unwrap_or_default(),
            ..Settings::default()
        };
        let (store, controller, links, nodes, clients, truth) = Default::default();
        let mut this =
            Self { rng, now: 0, settings, store, controller, links, nodes, clients, truth, ever: 0, restarts: 0, told };
        this.start_controller();
        (0..2).for_each(|_| this.new_node());
        (0..2).for_each(|_| this.new_client());
        this
    }

    pub(super) fn live(mut self) -> Sum {
        for _ in 0..STEPS {
            self.now += self.rng.below(3_000);
            self.step();
            self.settle();
        }
        self.end();
        let tasks = self.clients.iter().flat_map(|client| client.jobs.values()).map(|job| u64::from(job.fed)).sum();
        Sum { tasks, restarts: self.restarts, adopted: self.truth.adopted, repeated: self.truth.repeated }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=19 => self.deliver_to_controller(),
            20..=39 => self.deliver_to_peer(),
            40..=49 => {
                let count = 1 + self.rng.below(8) as usize;
                self.store.commit(count);
            }
            50..=58 => self.tell(),
            59..=70 => self.run(),
            71..=76 => self.connect(),
            77..=81 => self.feed(),
            82..=84 => self.notice(),
            85 | 86 => self.break_link(),
            87..=89 => self.tick(),
            90 if self.controller.is_some() && self.rng.one_in(2) => self.crash_controller(),
            91..=93 if self.controller.is_none() => self.start_controller(),
            94 if self.rng.one_in(3) => self.kill_node(),
            95 if self.nodes.iter().filter(|node| node.alive).count() < 4 => self.new_node(),
            96 if self.rng.one_in(3) => self.kill_client(),
            96 => self.new_client(),
            97 => self.abort(),
            98 => self.store.full = self.rng.one_in(3),
            99 if self.rng.one_in(3) => self.now += 20_000_000,
            _ => self.run(),
        }
    }

    /// Everything comes to its end when nothing fails any more.
    fn end(&mut self) {
        self.store.full = false;
        if self.controller.is_none() {
            self.start_controller();
        }
        for client in self.clients.iter_mut().filter(|client| client.alive) {
            for id in client.jobs.keys().copied().collect::<Vec<_>>() {
                client.feed(id, 0, true, false);
            }
        }
        for round in 0..ROUNDS_MAX {
            self.now += 1_000_000;
            // The time after which clients are given up.
            self.now += if round == 20 { 400_000_000 } else { 0 };
            while self.nodes.iter().filter(|node| node.alive).count() < 2 {
                self.new_node();
            }
            self.round();
            if round > 25 && self.is_over() {
                return self.check_end();
            }
        }
        let open = self.controller.as_ref().map(|controller| (controller.open_jobs(), controller.core.status()));
        let unended: Vec<_> = self.store.disk.jobs.iter().filter(|(_, job)| !job.has_ended()).collect();
        let wanting = self.clients.iter().filter(|client| client.alive).flat_map(|client| &client.jobs);
        let wanting: Vec<_> = wanting.filter(|(_, job)| !job.dead && !job.is_complete()).collect();
        panic!("it does not come to its end: {open:?}\n{unended:?}\n{wanting:?}");
    }

    fn round(&mut self) {
        for peer in self.peers() {
            self.connect_this(peer);
        }
        for id in self.links.keys().copied().collect::<Vec<_>>() {
            self.notice_this(id, true);
            self.notice_this(id, false);
            while self.links.get(&id).is_some_and(|link| link.inbound.len() > 0) {
                self.deliver_from(id);
                self.settle();
            }
            while self.links.get(&id).is_some_and(|link| link.outbound.len() > 0) {
                self.deliver_over(id);
                self.settle();
            }
        }
        self.store.commit(usize::MAX);
        while !self.store.told.is_empty() {
            self.tell();
            self.settle();
        }
        for node in 0..self.nodes.len() {
            for engine in 0..self.nodes[node].engines.len() {
                self.run_at(node, engine);
                self.settle();
            }
        }
        self.tick();
        self.settle();
    }

    fn is_over(&self) -> bool {
        let wants = |client: &Client| client.jobs.values().any(|job| !job.dead && !job.is_complete());
        self.store.disk.jobs.values().all(|job| job.has_ended())
            && !self.clients.iter().filter(|client| client.alive).any(wants)
            && self.store.queue.is_empty()
            && self.controller.as_ref().is_some_and(|controller| controller.open_jobs() == 0)
    }

    fn check_end(&self) {
        for client in &self.clients {
            for (id, job) in &client.jobs {
                for index in 0..if job.dead {
                    job.acknowledged
                } else if client.alive {
                    job.fed
                } else {
                    job.acknowledged
                } {
                    assert!(self.store.disk.outcome(*id, index).is_some(), "task {index} of job {id} has no outcome");
                    let has = job.results.contains_key(&index);
                    assert!(has || !client.alive || job.dead, "the client has no result of task {index} of job {id}");
                }
            }
        }
    }

    // Who comes and goes.

    fn fresh(&mut self) -> u64 {
        self.ever += 1;
        self.ever
    }

    fn new_node(&mut self) {
        let number = self.fresh();
        let engines = 1 + self.rng.below(3) as usize;
        self.nodes.push(Node::new(owner("node", number), engines));
    }

    fn new_client(&mut self) {
        if self.clients.iter().filter(|client| client.alive).count() < 3 {
            let number = self.fresh();
            self.clients.push(Client::new(owner("client", number)));
        }
    }

    fn kill_node(&mut self) {
        let alive: Vec<_> = (0..self.nodes.len()).filter(|at| self.nodes[*at].alive).collect();
        if let Some(at) = self.rng.pick(&alive) {
            self.kill_this(at);
        }
    }

    fn kill_this(&mut self, at: usize) {
        self.say(|| format!("node {at} dies"));
        let node = &mut self.nodes[at];
        node.alive = false;
        node.acts.clear();
        let held = node.engines.iter().flat_map(|engine| engine.batches());
        held.for_each(|batch| self.truth.died(batch));
        node.engines.clear();
        let link = node.link.take();
        self.peer_left(link);
    }

    fn kill_client(&mut self) {
        let alive: Vec<_> = (0..self.clients.len()).filter(|at| self.clients[*at].alive).collect();
        if let Some(at) = self.rng.pick(&alive) {
            self.clients[at].alive = false;
            let link = self.clients[at].link.take();
            self.peer_left(link);
        }
    }

    fn peer_left(&mut self, link: Option<u64>) {
        if let Some(link) = link.and_then(|id| self.links.get_mut(&id)) {
            link.break_off(&mut self.rng);
            link.peer_knows = true;
        }
    }

    fn crash_controller(&mut self) {
        self.say(|| "the controller crashes".into());
        self.controller = None;
        self.store.crash();
        self.restarts += 1;
        for link in self.links.values_mut() {
            link.break_off(&mut self.rng);
            link.controller_knows = true;
        }
    }

    fn start_controller(&mut self) {
        self.say(|| "a controller starts".into());
        self.truth.started(&self.store.disk);
        let restored = self.store.open();
        self.controller = Some(Controller::start(self.settings.clone(), restored, Time(self.now)));
    }

    // The network.

    fn peers(&self) -> Vec<Peer> {
        let nodes = (0..self.nodes.len()).filter(|at| self.nodes[*at].alive && self.nodes[*at].link.is_none()).map(Peer::Node);
        let clients = (0..self.clients.len()).filter(|at| self.clients[*at].alive && self.clients[*at].link.is_none());
        nodes.chain(clients.map(Peer::Client)).collect()
    }

    fn connect(&mut self) {
        let peers = self.peers();
        if let Some(peer) = self.rng.pick(&peers) {
            self.connect_this(peer);
        }
    }

    fn connect_this(&mut self, peer: Peer) {
        if self.controller.is_none() {
            return;
        }
        let id = self.fresh();
        self.say(|| format!("{peer:?} has link {id}"));
        self.links.insert(id, Link::new(peer));
        match peer {
            Peer::Node(at) => self.nodes[at].connected(id),
            Peer::Client(at) => self.clients[at].connected(id),
        }
        let owner = self.owner(peer);
        if let (Some(controller), Peer::Client(_)) = (&mut self.controller, peer) {
            controller.client_came(&Caller { link: id, owner });
        }
    }

    /// Tells of what happens, if somebody listens.
    fn say(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{:>10} {}", self.now, what());
        }
    }

    fn owner(&self, peer: Peer) -> Owner {
        match peer {
            Peer::Node(at) => self.nodes[at].owner.clone(),
            Peer::Client(at) => self.clients[at].owner.clone(),
        }
    }
}

fn owner(name: &str, number: u64) -> Owner {
    Owner { name: format!("{name}{number}").into(), incarnation: Incarnation::from_u128(number.into()) }
}
