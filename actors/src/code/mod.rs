//! Code that travels: programs as bundles, and how a task names the function that it calls.

mod bundle;
mod cache;
mod call;
mod function;
mod named;
mod shared;
#[allow(unsafe_code)]
mod trampoline;
mod typed_error;

pub use bundle::BundleError;
pub(crate) use bundle::{Bundle, target};
pub use cache::CacheError;
pub(crate) use cache::{BLOB_BYTES_MAX, BlobCache, BlobHold, BlobPin, Incoming};
pub(crate) use call::{Callable, DecodeError, EncodeError, decode, decode_sharing, encode, encode_bounded, encoded_bytes};
pub(crate) use function::{Function, FunctionError, FunctionRef};
pub use named::{TaskName, Tasks};
pub(crate) use shared::{Shared, SharedFile, SharedValues};
pub use typed_error::TypedError;
