//! Whole clusters for tests: real processes, real sockets, a directory of their own, and an end in any case.
//!
//! A [`Lab`] is a temporary directory with a profile. It starts programs as [`Process`]es, which are killed when they are
//! dropped; when a test fails, what they wrote is part of its output. Every wait has a bound, and none has a fixed length.

mod disk;
mod lab;
mod network;
mod outcome;
mod process;
mod relay;
mod system;

pub use disk::SmallDisk;
pub use lab::Lab;
pub use network::Network;
pub use outcome::{Outcome, assert_squares, outcomes, recorded};
pub use process::{Finished, Process};
pub use relay::Relay;
pub use system::{memory_now_bytes, memory_now_mib, memory_peak_mib, process_exists};

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that takes well under a second on an idle machine. Wide, since tests run side by side on few
/// cores; reached only when something hangs.
pub const SOON: Duration = Duration::from_secs(120);

/// How often a condition is looked at that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How many rounds a test of chance takes: `ENGINEROOM_ROUNDS`, or a few.
///
/// # Panics
/// When the variable is not a number.
pub fn rounds(usual: usize) -> usize {
    match std::env::var("ENGINEROOM_ROUNDS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("ENGINEROOM_ROUNDS={text:?} is not a number")),
        Err(_) => usual,
    }
}

/// Whether tests take their time: `ENGINEROOM_LONG` is set, and is not 0.
pub fn is_long() -> bool {
    std::env::var("ENGINEROOM_LONG").is_ok_and(|text| text != "0")
}

/// Waits until `look` finds something, for at most [`SOON`].
///
/// # Panics
/// When it does not; the message says `what` did not come.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come within {SOON:?}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Waits until there is a file, as tasks do that are told by one that they may go on.
///
/// # Panics
/// When it does not come [soon](SOON).
pub fn wait_for_file(file: &Path) {
    wait_for("a file", || file.exists().then_some(()));
}
