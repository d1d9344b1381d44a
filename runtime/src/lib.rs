//! Nodes and remote actors over QUIC with mutual TLS. Knows nothing of tasks.
//!
//! A [`node::Node`] is a process's identity, its QUIC endpoint and its actors, all on one thread. [`actor`] has what makes an
//! actix actor reachable from other nodes: messages with names and versions, a registry that says who may send which, and
//! supervision under which no end is silent. [`net`] has identity, TLS and links; [`proto`] has what goes over a link, as pure
//! code without sockets, clocks or threads.
//!
//! ```text
//! actor   RemoteAddr ── tell, ask, monitor ──▶ Registry ─▶ Addr<A>
//! net     Link: control stream, bulk streams      (Identity, TLS)
//! proto   frames, packets, handshake
//! ```

pub mod actor;
pub mod net;
pub mod node;
pub mod proto;

mod memory;
