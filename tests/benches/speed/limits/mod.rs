//! What the machine allows: the same bytes over the same QUIC and TLS, without engineroom.

pub mod ask;
pub mod bulk;
pub mod codec;
pub mod hop;
pub mod relay;
