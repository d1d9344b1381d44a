//! The disk backend: one sqlite file for all result stores of a controller.
//!
//! One thread writes, one reads. What all stores want written while a commit is under way goes into the next one together.
//! [`group`], [`chores`], [`reader`] and [`restore`] are what is done to the file, without threads or clocks.

mod chores;
mod encode;
mod error;
mod group;
mod open;
mod reader;
mod records;
mod restore;
mod rows;
mod schema;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod threads;
mod writer;

pub(crate) use store::Store;
#[cfg(test)]
pub(super) use tests::Direct;
