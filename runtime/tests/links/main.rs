//! Links between real nodes on the loopback interface, several nodes in one process.

mod asks;
mod bulk;
mod life;
mod monitors;
mod raw;
mod revocation;
mod support;
