//! Code that travels: programs as bundles, and how a task names the function that it calls.

mod bundle;
mod cache;
mod call;
mod function;
mod named;
#[allow(unsafe_code)]
mod trampoline;

pub use bundle::BundleError;
pub(crate) use bundle::{BUNDLE_BYTES_MAX, Bundle, target};
pub use cache::CacheError;
pub(crate) use cache::{BundleCache, BundlePin, Incoming};
pub(crate) use call::{Callable, DecodeError, decode, encode};
pub(crate) use function::{Function, FunctionError, FunctionRef};
pub use named::{TaskName, Tasks};
