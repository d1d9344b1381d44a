//! The gate between a link and the actors behind it.
//!
//! An actix mailbox does not bound those who send to it, so the bound is here: each link has a gate, and each message
//! that it delivers carries a permit until the actor is done with it. All mailboxes together then hold at most
//! twice [`GATE_BYTES`] a link: short messages and bulk have a gate each, since bulk may wait where short messages that
//! find no room are the end of the link.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of messages from one link may wait for actors, of short ones and of bulk each. A peer that goes beyond it ignores the windows that
/// every protocol here has, and loses its link. Smaller costs honest peers theirs in a burst; larger costs memory.
pub const GATE_BYTES: u32 = 64 << 20;

/// What a message counts for at least, in bytes: its envelope is not free.
const MESSAGE_BYTES_MIN: u32 = 256;

/// Bounds what one link has delivered and no actor has handled yet.
#[derive(Clone, Debug)]
pub struct Gate {
    short: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

/// A place in a mailbox; freed when dropped.
#[derive(Debug)]
pub struct Permit {
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Default for Gate {
    fn default() -> Self {
        let full = || Arc::new(Semaphore::new(GATE_BYTES as usize));
        Self { short: full(), bulk: full() }
    }
}

impl Gate {
    /// A permit for a short message of this many bytes, or `None` when the gate is full.
    pub fn try_enter(&self, message_bytes: usize) -> Option<Permit> {
        let cost = cost(message_bytes);
        let permit = self.short.clone().try_acquire_many_owned(cost).ok()?;
        Some(Permit { _bytes: Some(permit) })
    }

    /// A permit for bulk of this many bytes as soon as there is room. Its sender is held back by the stream's flow control.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue and nothing else.
    pub async fn enter(&self, message_bytes: usize) -> Permit {
        // The semaphore is never closed, so that an error is impossible; an absent permit would be harmless.
        let permit = self.bulk.clone().acquire_many_owned(cost(message_bytes)).await.ok();
        Permit { _bytes: permit }
    }
}

/// A message larger than the gate may pass alone.
fn cost(message_bytes: usize) -> u32 {
    u32::try_from(message_bytes).unwrap_or(u32::MAX).clamp(MESSAGE_BYTES_MIN, GATE_BYTES)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_full_gate_refuses_until_a_permit_is_dropped() {
        let gate = Gate::default();
        let all = gate.try_enter(usize::MAX).expect("an empty gate lets one message of any size pass");
        assert!(gate.try_enter(0).is_none());
        drop(all);
        assert!(gate.try_enter(0).is_some());
    }

    #[test]
    fn bulk_takes_no_room_from_short_messages() {
        let gate = Gate::default();
        let bulk = gate.enter(usize::MAX).now_or_never().expect("an empty gate lets bulk of any size pass");
        assert!(gate.enter(1).now_or_never().is_none());
        assert!(gate.try_enter(1 << 20).is_some());
        drop(bulk);
        assert!(gate.enter(1).now_or_never().is_some());
    }

    #[test]
    fn small_messages_are_bounded_in_number() {
        let gate = Gate::default();
        let permits: Vec<_> = std::iter::from_fn(|| gate.try_enter(0)).collect();
        assert_eq!(permits.len(), (GATE_BYTES / MESSAGE_BYTES_MIN) as usize);
    }
}
