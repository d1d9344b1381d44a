//! What is measured of engineroom, a module a row.

pub mod bulk;
pub mod durable;
pub mod engines;
pub mod idle;
pub mod latency;
pub mod map;
pub mod queued;
pub mod scheduler;
pub mod single;
pub mod start;
pub mod work;
