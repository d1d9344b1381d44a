//! What travels between nodes, as pure code: frames, the packets in them, the handshake and the codes that peers
//! exchange. No sockets, clocks, threads or randomness.

pub mod codes;
pub mod frame;
pub mod handshake;
pub mod long;
pub mod packet;
pub mod payload;
