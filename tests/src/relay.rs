//! A bad network for systems that have no netem: a relay of datagrams that delays and loses them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// The longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

/// How often a relay looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// How many datagrams may be under way in one direction; what comes beyond is lost, as in any router.
const UNDER_WAY_MAX: usize = 4096;

/// Takes datagrams on an address of its own and passes them on, late and not all. Ends when dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    delay: Duration,
    loss_percent: u64,
    seed: u64,
    seen: AtomicU64,
    seen_bytes: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
}

impl Relay {
    /// A relay to `target`. In each direction a datagram arrives after `delay`, or, by chance that `seed` decides, never.
    ///
    /// # Panics
    /// When there is no port for it.
    pub fn new(target: SocketAddr, delay: Duration, loss_percent: u64, seed: u64) -> Self {
        let socket = socket();
        let address = socket.local_addr().expect("bound");
        let [seen, seen_bytes, lost] = [0, 0, 0].map(AtomicU64::new);
        let shared =
            Arc::new(Shared { target, delay, loss_percent, seed, seen, seen_bytes, lost, ended: AtomicBool::new(false) });
        let used = shared.clone();
        Self { address, shared, thread: Some(thread::spawn(move || forward(&socket, &used))) }
    }

    /// Where it takes datagrams.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many datagrams it has seen, and how many of them it has lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.seen.load(Relaxed), self.shared.lost.load(Relaxed))
    }

    /// How many bytes the datagrams had that it has seen.
    pub fn bytes(&self) -> u64 {
        self.shared.seen_bytes.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Shared {
    /// Whether the next datagram is lost.
    fn loses(&self) -> bool {
        let number = self.seen.fetch_add(1, Relaxed);
        // The first step of splitmix64, which spreads numbers that follow each other.
        let mut mixed = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let lost = (mixed ^ (mixed >> 31)) % 100 < self.loss_percent;
        self.lost.fetch_add(u64::from(lost), Relaxed);
        lost
    }
}

/// From everybody to the target; back, on a thread for each.
fn forward(socket: &UdpSocket, shared: &Arc<Shared>) {
    let mut peers: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    thread::scope(|scope| {
        let (later, due) = mpsc::sync_channel(UNDER_WAY_MAX);
        scope.spawn(move || deliver(&due));
        each_datagram(socket, shared, |from, datagram| {
            let own = peers.entry(from).or_insert_with(|| {
                let own = Arc::new(self::socket());
                let (back, socket) = (own.clone(), socket.try_clone().expect("a socket can be shared"));
                let (later, due) = mpsc::sync_channel(UNDER_WAY_MAX);
                scope.spawn(move || deliver(&due));
                let socket = Arc::new(socket);
                scope.spawn(move || {
                    each_datagram(&back, shared, |_, datagram| {
                        let _ = later.try_send((Instant::now() + shared.delay, socket.clone(), from, datagram));
                    });
                });
                own
            });
            let _ = later.try_send((Instant::now() + shared.delay, own.clone(), shared.target, datagram));
        });
        drop(later);
    });
}

fn each_datagram(socket: &UdpSocket, shared: &Shared, mut take: impl FnMut(SocketAddr, Vec<u8>)) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !shared.ended.load(Relaxed) {
        // A timeout, or the news that an earlier datagram has found nobody.
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        shared.seen_bytes.fetch_add(length as u64, Relaxed);
        if !shared.loses() {
            take(from, buffer[..length].to_vec());
        }
    }
}

/// Sends each at its time. All have the same delay, so that they are due in their order.
fn deliver(due: &mpsc::Receiver<(Instant, Arc<UdpSocket>, SocketAddr, Vec<u8>)>) {
    for (at, socket, to, datagram) in due {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let _ = socket.send_to(&datagram, to);
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.set_read_timeout(Some(LOOK)).expect("not zero");
    socket
}
