//! Whole clusters over real processes and sockets.

mod access;

/// The client program of these tests.
const PROBE: &str = env!("CARGO_BIN_EXE_probe");
