//! A small lab: a design of experiments, an experiment, its summary, and a notebook. Pure but for the notebook's file.

mod design;
mod notebook;
mod queue;
mod summary;

pub use design::{Design, Point, points};
pub use notebook::{Entry, Notebook, State};
pub use queue::mean_wait;
pub use summary::Summary;
