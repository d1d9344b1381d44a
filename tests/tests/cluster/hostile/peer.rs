//! A peer with a client's certificate that can send anything.

use std::{net::SocketAddr, pin::Pin};

use bytes::BytesMut;
use engineroom_runtime::{
    net::{authority::server_name, connection_file::ConnectionFile, tls},
    proto::{
        frame::{BODY_BYTES_MAX, Decoder, Frame},
        handshake::{Dial, Hello, Incarnation, Limits, MessageTable, PROTOCOL_VERSIONS},
        packet::Packet,
    },
};
use engineroom_tests::Lab;

/// What an attack is, to those who start it.
pub type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// The controller under attack, and what lets clients in.
pub struct Target {
    pub file: ConnectionFile,
    pub address: SocketAddr,
    pub server_name: String,
}

impl Target {
    pub fn of(lab: &Lab) -> Self {
        let file = ConnectionFile::load(lab.client_file()).expect("the controller has made it");
        let address = file.address().parse().expect("it listens at an address");
        let server_name = server_name(file.cluster());
        Self { file, address, server_name }
    }

    /// A socket of one's own.
    pub fn endpoint(&self) -> quinn::Endpoint {
        tls::endpoint(SocketAddr::from(([127, 0, 0, 1], 0)), None).expect("a socket")
    }

    /// A connection with a client's certificate and nothing on it. An error is what a full controller says.
    pub async fn connect(&self, endpoint: &quinn::Endpoint) -> Result<quinn::Connection, quinn::ConnectionError> {
        let config = tls::client_config(self.file.identity()).expect("a sound file");
        endpoint.connect_with(config, self.address, &self.server_name).expect("a sound address").await
    }

    /// A link, up to the `Welcome`.
    pub async fn link(&self, random: &mut Random) -> Raw {
        let endpoint = self.endpoint();
        let connection = self.connect(&endpoint).await.expect("a controller that is not full");
        let (send, receive) = connection.open_bi().await.expect("a stream");
        let accepts = MessageTable::default();
        let mut raw = Raw { connection, send, receive, decoder: Decoder::new(BODY_BYTES_MAX), accepts, _endpoint: endpoint };
        let (hello, dial) = Dial::start(hello(random)).expect("a sound greeting");
        raw.send.write_all(&hello).await.expect("room for a greeting");
        let welcome = raw.frame().await.expect("a welcome");
        raw.accepts = dial.on_frame(welcome).expect("a welcome").messages;
        raw
    }
}

/// A link without a node.
pub struct Raw {
    pub connection: quinn::Connection,
    pub send: quinn::SendStream,
    pub receive: quinn::RecvStream,
    decoder: Decoder,
    /// The messages that the controller takes.
    pub accepts: MessageTable,
    _endpoint: quinn::Endpoint,
}

/// Versions of messages are looked for up to this one.
const VERSION_MAX: u16 = 100;

impl Raw {
    /// The index of a message at the controller, whatever its version is by now.
    pub fn index(&self, name: &str) -> u16 {
        (1..=VERSION_MAX)
            .find_map(|version| self.accepts.index(name, version))
            .unwrap_or_else(|| panic!("the controller takes no {name}"))
    }

    /// The next frame, or `None` when the link has ended.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("a controller sends sound frames") {
                return Some(frame);
            }
            let chunk = self.receive.read_chunk(1 << 16, true).await.ok()??;
            self.decoder.push(&chunk.bytes);
        }
    }

    /// The next packet, or `None` when the link has ended.
    pub async fn packet(&mut self) -> Option<Packet> {
        Some(Packet::parse(self.frame().await?).expect("a controller sends sound packets"))
    }

    /// Sends packets. What cannot be sent any more, since the controller has ended the link, is dropped.
    pub async fn send(&mut self, packets: impl IntoIterator<Item = Packet>) {
        let mut frames = BytesMut::new();
        for packet in packets {
            packet.encode_into(&mut frames).expect("short packets");
        }
        let _ = self.send.write_all(&frames).await;
    }
}

/// A sound greeting of some life of a node.
pub fn hello(random: &mut Random) -> Hello {
    Hello {
        protocol_min: PROTOCOL_VERSIONS.0,
        protocol_max: PROTOCOL_VERSIONS.1,
        features: 0,
        incarnation: Incarnation::from_u128(u128::from(random.next()) << 64 | u128::from(random.next())),
        build_id: "hostile".to_owned(),
        accepts: Vec::new(),
        limits: Limits { frame_bytes_max: 65_536, message_bytes_max: 1 << 30 },
    }
}

/// Numbers that one seed reproduces: SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// One of the given, or now and then any number at all.
    pub fn number(&mut self, usual: &[u64]) -> u64 {
        match self.below(usual.len() + 1) {
            place if place < usual.len() => usual[place],
            _ => self.next(),
        }
    }
}
