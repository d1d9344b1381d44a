//! QUIC and TLS: who a node is, whom it trusts, and how bytes reach a peer.

pub mod authority;
pub mod bulk;
pub mod certificate;
pub mod certificates;
pub mod connection_file;
pub mod endpoint;
pub mod gate;
pub mod identity;
pub mod ledger;
pub mod link;
pub mod revocation;
pub mod security_dir;
pub mod tls;

mod pem;
mod private_file;
mod reset;

pub use private_file::PrivateFileError;
