//! SIR epidemics on networks, as sums that can be made anywhere and put together in any order.
//!
//! An infected node passes the infection along each of its edges once, with probability T, and then recovers. What one
//! random first case infects in the end is its cluster of bond percolation on the network (Newman 2002, *Spread of epidemic
//! disease on networks*, Phys. Rev. E 66, 016128), which is what [`theory`] predicts the size of.
//!
//! [`Sweep`] divides a range of T into [`Group`]s of repetitions. [`simulate`] does one group, on whatever engine: it builds
//! the networks, runs the outbreaks and returns their [`Tally`], a few exact integers. [`Sweep::curve`] adds those up to
//! [`Point`]s. Each repetition has a random stream of its own and sums of integers do not depend on their order, so one seed
//! gives one curve, whatever the engines.

mod edge_list;
mod network;
mod outbreak;
mod packed;
mod plot;
mod report;
mod sweep;
mod tally;
pub mod theory;

pub use edge_list::{EdgeListError, Problem, read_edge_list};
pub use network::{EDGES_MAX, NODES_MAX, Network, erdos_renyi};
pub use outbreak::{outbreak_size, took_off_from};
pub use packed::{PackedNetwork, PackedNetworkError};
pub use plot::{PlotError, write_plot};
pub use report::{Point, csv, table};
pub use sweep::{Group, Source, Sweep, simulate};
pub use tally::Tally;
