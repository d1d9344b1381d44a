//! What the example programs of engineroom share.
//!
//! Each program in `src/bin` is complete and small, and reads like the program that a user would write: an ordinary
//! sequential function, a view, a `map`. What stands here is the rest: the options that say which cluster to use
//! ([`ClusterOptions`]), how a program prints ([`say!`]) and ends ([`run`]), and the pure parts of the longer examples, which are tested here
//! without any cluster ([`epidemic`], [`ids_file`], [`lab`]).

#![forbid(unsafe_code)]

pub mod epidemic;
mod failure;
pub mod ids_file;
pub mod lab;
mod memory;
mod session;

/// The guide, whose programs are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
pub mod guide {}

pub use failure::{Failure, print_line, run};
pub use memory::peak_resident_mib;
pub use session::{ClusterOptions, Session};
