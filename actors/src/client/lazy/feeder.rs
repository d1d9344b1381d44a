//! Draws the inputs of a lazy map.

use std::sync::Arc;

use actix::Addr;
use serde::Serialize;

use crate::client::{
    ClientActor,
    actor::Flush,
    job::{Job, Notify},
};
use crate::code::encode;
use crate::error::Error;
use crate::task::item_of;

/// Draws the inputs, on a thread of its own.
pub(super) struct Feeder {
    job: Arc<Job>,
    actor: Addr<ClientActor>,
    done: bool,
}

impl Feeder {
    pub(super) fn new(job: Arc<Job>, actor: Addr<ClientActor>) -> Self {
        Self { job, actor, done: false }
    }

    pub(super) fn feed<A: Serialize>(mut self, inputs: impl Iterator<Item = A>, outstanding_max: u64) {
        let mut argument = Vec::new();
        for input in inputs {
            if !self.job.wait_for_room(outstanding_max) {
                break;
            }
            argument.clear();
            let index = self.job.length().0;
            let encoded = encode(&input, &mut argument);
            let encoded = encoded.map_err(|error| Error::Submit(format!("input {index} cannot be encoded: {error}")));
            match encoded.and_then(|()| self.job.push(item_of(&mut argument))) {
                Ok(pushed) => self.tell(pushed.notify),
                Err(error) => {
                    self.job.fail(error);
                    break;
                }
            }
        }
        self.done = true;
    }

    fn tell(&self, change: Notify) {
        if change == Notify::Actor {
            self.actor.do_send(Flush(self.job.number));
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if !self.done {
            self.job.fail(Error::Submit("the iterator of the inputs panicked".into()));
        }
        self.tell(self.job.close());
    }
}
