//! Nodes for tests, the actor that they export, and waits that end.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use actix::{Actor, ActorContext, Addr, Context, Handler};
use bytes::Bytes;
use engineroom_runtime::{
    actor::{ActorHandle, ActorId, Registry, Remote, RemoteAddr, RemoteMessage, Reply, Restart, spawn_actor},
    net::{
        authority::{Authority, CERTIFICATE_DAYS},
        identity::{Identity, Role},
        link::Link,
    },
    node::{LinkEvent, Node, NodeThread, StartError},
    proto::packet::AskCode,
};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// No wait of these tests takes longer. Reached only when something is broken.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A deadline that no test means to reach.
pub const LONG: Duration = Duration::from_secs(3600);

/// Where each test node exports its [`Probe`].
pub const PROBE: ActorId = ActorId(7);

/// A number that no node exports.
pub const NOBODY: ActorId = ActorId(99);

const ANYBODY: &[Role] = &Role::ALL;
const CLIENT: &[Role] = &[Role::Client];

macro_rules! message {
    ($message:ty, $name:literal, $version:literal, $reply:ty) => {
        impl RemoteMessage for $message {
            const NAME: &'static str = $name;
            const VERSION: u16 = $version;
            type Reply = $reply;
        }
    };
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Note(pub u64);
message!(Note, "note", 1, ());

/// The next version of [`Note`], which no node takes.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewNote(pub u64);
message!(NewNote, "note", 2, ());

/// Answered with what it holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Echo(pub Bytes);
message!(Echo, "echo", 1, Bytes);

/// Goes under the name of [`Echo`] and is none.
#[derive(Debug, Serialize, Deserialize)]
pub struct FalseEcho(pub Vec<String>);
message!(FalseEcho, "echo", 1, ());

/// Answered when [`Release`] comes; its place in the gate is taken until then.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hold(pub Bytes);
message!(Hold, "hold", 1, u64);

/// Answers what was held, each with its place in the order of their coming.
#[derive(Debug, Serialize, Deserialize)]
pub struct Release;
message!(Release, "release", 1, ());

/// What the actor is to do with an ask instead of answering it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Misbehave {
    Drop,
    Refuse,
    Panic,
    Stop,
}
message!(Misbehave, "misbehave", 1, ());

/// What only a client may send.
#[derive(Debug, Serialize, Deserialize)]
pub struct Privileged;
message!(Privileged, "privileged", 1, ());

/// What has an answer that cannot be encoded.
#[derive(Debug, Serialize, Deserialize)]
pub struct Unspeakable;
message!(Unspeakable, "unspeakable", 1, NoAnswer);

#[derive(Debug, Deserialize)]
pub struct NoAnswer;

impl Serialize for NoAnswer {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("not to be encoded"))
    }
}

/// What a [`Probe`] saw, in order.
#[derive(Debug, PartialEq)]
pub enum Seen {
    Note { link: u64, number: u64 },
    Held { link: u64, bytes: usize },
    Privileged,
    Down { link: u64 },
}

/// The actor that every test node exports.
pub struct Probe {
    seen: UnboundedSender<Seen>,
    held: Vec<(Bytes, Reply<u64>)>,
}

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<Remote<Note>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Note>, _: &mut Context<Self>) {
        let _ = self.seen.send(Seen::Note { link: remote.from.id(), number: remote.message.0 });
        remote.reply.send(&());
    }
}

impl Handler<Remote<NewNote>> for Probe {
    type Result = ();
    fn handle(&mut self, _: Remote<NewNote>, _: &mut Context<Self>) {}
}

impl Handler<Remote<Echo>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Echo>, _: &mut Context<Self>) {
        remote.reply.send(&remote.message.0);
    }
}

impl Handler<Remote<FalseEcho>> for Probe {
    type Result = ();
    fn handle(&mut self, _: Remote<FalseEcho>, _: &mut Context<Self>) {}
}

impl Handler<Remote<Hold>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Hold>, _: &mut Context<Self>) {
        let _ = self.seen.send(Seen::Held { link: remote.from.id(), bytes: remote.message.0.len() });
        self.held.push((remote.message.0, remote.reply));
    }
}

impl Handler<Remote<Release>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Release>, _: &mut Context<Self>) {
        for (place, (_, reply)) in (0..).zip(self.held.drain(..)) {
            reply.send(&place);
        }
        remote.reply.send(&());
    }
}

impl Handler<Remote<Misbehave>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Misbehave>, context: &mut Context<Self>) {
        match remote.message {
            Misbehave::Drop => {}
            Misbehave::Refuse => remote.reply.refuse(AskCode::Busy, "not now"),
            Misbehave::Panic => panic!("on purpose"),
            Misbehave::Stop => context.stop(),
        }
    }
}

impl Handler<Remote<Privileged>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Privileged>, _: &mut Context<Self>) {
        let _ = self.seen.send(Seen::Privileged);
        remote.reply.send(&());
    }
}

impl Handler<Remote<Unspeakable>> for Probe {
    type Result = ();
    fn handle(&mut self, remote: Remote<Unspeakable>, _: &mut Context<Self>) {
        remote.reply.send(&NoAnswer);
    }
}

#[derive(actix::Message)]
#[rtype(result = "()")]
struct Down(u64);

impl Handler<Down> for Probe {
    type Result = ();
    fn handle(&mut self, Down(link): Down, _: &mut Context<Self>) {
        let _ = self.seen.send(Seen::Down { link });
    }
}

/// The authority of the cluster that most tests are in.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::create("lab").unwrap())
}

pub fn identity(role: Role, name: &str) -> Identity {
    authority().issue(role, name, CERTIFICATE_DAYS).unwrap()
}

/// A node on a thread of its own, what happens to its links, and what its probe sees.
pub struct TestNode {
    pub thread: NodeThread,
    pub address: SocketAddr,
    pub events: UnboundedReceiver<LinkEvent>,
    pub seen: UnboundedReceiver<Seen>,
}

pub type More = Box<dyn FnOnce(&Node) + Send>;
pub type OnEvent = Box<dyn Fn(&LinkEvent) + Send>;

/// What a test node does besides exporting a [`Probe`].
#[derive(Default)]
pub struct Setup {
    pub listen: Option<SocketAddr>,
    pub dial: Option<String>,
    pub restart: Option<Restart>,
    pub more: Option<More>,
    pub on_event: Option<OnEvent>,
}

impl TestNode {
    pub fn start(identity: Identity, setup: Setup) -> Self {
        let (on_event, events) = unbounded_channel();
        let (on_seen, seen) = unbounded_channel();
        let name = identity.name.to_string();
        let (thread, address) = NodeThread::start(&name, identity, move |node| set_up(node, setup, on_event, on_seen)).unwrap();
        Self { thread, address, events, seen }
    }

    /// A controller that listens on a free port of the loopback interface.
    pub fn controller() -> Self {
        Self::start(identity(Role::Controller, "main"), Setup { listen: Some(loopback(0)), ..Setup::default() })
    }

    /// A node that dials that one.
    pub fn dialling(role: Role, to: SocketAddr) -> Self {
        Self::start(identity(role, "peer"), Setup { dial: Some(to.to_string()), ..Setup::default() })
    }

    /// Waits for a link to come up, past whatever else happens.
    pub async fn up(&mut self) -> Link {
        loop {
            if let LinkEvent::Up(link) = next(&mut self.events).await {
                return link;
            }
        }
    }

    /// Waits for a link to end, past whatever else happens; the reason comes with it.
    pub async fn down(&mut self) -> (Link, String) {
        loop {
            if let LinkEvent::Down(link, reason) = next(&mut self.events).await {
                return (link, reason);
            }
        }
    }

    /// Waits for what the probe sees next.
    pub async fn sees(&mut self) -> Seen {
        next(&mut self.seen).await
    }

    pub fn stop(self) {
        let report = self.thread.shutdown(Duration::MAX);
        assert!(report.finished, "{report}");
    }
}

/// A controller and a node of that role that dials it, linked: the two nodes and the link as each sees it.
pub async fn pair(role: Role) -> (TestNode, TestNode, Link, Link) {
    let mut controller = TestNode::controller();
    let mut peer = TestNode::dialling(role, controller.address);
    let (to_peer, to_controller) = (controller.up().await, peer.up().await);
    (controller, peer, to_peer, to_controller)
}

/// The probe at the other end of a link.
pub fn probe(link: &Link) -> RemoteAddr<Probe> {
    RemoteAddr::new(link.clone(), PROBE)
}

/// Runs a test, which must not take longer than [`LIMIT`].
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(bounded(test))
}

pub async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("a test waited for too long")
}

async fn next<T>(receiver: &mut UnboundedReceiver<T>) -> T {
    bounded(receiver.recv()).await.expect("the node has ended")
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Bytes that are not all alike.
pub fn pattern(bytes: usize) -> Bytes {
    (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn set_up(
    node: &Node,
    setup: Setup,
    on_event: UnboundedSender<LinkEvent>,
    on_seen: UnboundedSender<Seen>,
) -> Result<SocketAddr, StartError> {
    let restart = setup.restart.unwrap_or(Restart::Never);
    let probe: ActorHandle<Probe> = spawn_actor("probe", restart, move |_| Probe { seen: on_seen.clone(), held: Vec::new() });
    node.export(PROBE, &probe);
    let (address, also) = (probe.addr(), setup.on_event);
    node.serve(registry()?, move |event| {
        if let Some(also) = &also {
            also(&event);
        }
        tell_down(&address, &event);
        let _ = on_event.send(event);
    });
    if let Some(more) = setup.more {
        more(node);
    }
    if let Some(address) = setup.dial {
        node.dial(&address)?;
    }
    setup.listen.map_or(Ok(loopback(0)), |address| node.listen(address))
}

fn tell_down(probe: &Addr<Probe>, event: &LinkEvent) {
    if let LinkEvent::Down(link, _) = event {
        probe.do_send(Down(link.id()));
    }
}

fn registry() -> Result<Registry, StartError> {
    let mut registry = Registry::new();
    registry
        .message::<Probe, Note>(ANYBODY)?
        .message::<Probe, Echo>(ANYBODY)?
        .message::<Probe, Hold>(ANYBODY)?
        .message::<Probe, Release>(ANYBODY)?
        .message::<Probe, Misbehave>(ANYBODY)?
        .message::<Probe, Privileged>(CLIENT)?
        .message::<Probe, Unspeakable>(ANYBODY)?;
    Ok(registry)
}
