//! Values that the tasks of a job share: encoded by the program's thread, and sent by the client actor before the job is.

use std::any::type_name;

use actix::{AsyncContext, Context, Handler, Message};
use bytes::Bytes;
use engineroom_runtime::net::link::Link;
use serde::Serialize;

use super::{
    actor::ClientActor,
    upload::{self, Blob},
};
use crate::code::{BLOB_BYTES_MAX, EncodeError, encode_bounded};
use crate::error::{Error, Result};
use crate::task::BlobHash;

/// How often a value is sent again that the controller has dropped before it had the job. It drops the least recently used.
const REFUSALS_MAX: u32 = 3;

/// A value that tasks share, as it travels.
#[derive(Clone, Debug)]
pub(crate) struct SharedValue {
    pub hash: BlobHash,
    pub bytes: Bytes,
}

/// The value of a job that the controller has not acknowledged.
#[derive(Debug)]
pub(super) struct OwnValue {
    value: SharedValue,
    /// It is at the controller, as far as this link's controller has said.
    sent: bool,
    /// How often the controller has said since that it is not.
    refusals: u32,
}

/// A value was sent, or could not be.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct ValueSent {
    hash: BlobHash,
    link: u64,
    sent: std::result::Result<(), String>,
}

impl SharedValue {
    /// # Errors
    /// When the value cannot be encoded, or is too long to travel.
    pub fn of<S: Serialize>(value: &S) -> Result<Self> {
        let bytes_max = usize::try_from(BLOB_BYTES_MAX).unwrap_or(usize::MAX);
        let bytes = encode_bounded(value, bytes_max).map_err(|error| {
            let what = format!("the value that the tasks share ({})", type_name::<S>());
            Error::Submit(match error {
                EncodeError::TooLong { bytes_max } => {
                    format!("{what} has more than {bytes_max} bytes, which is the limit: share less, or leave the data in a file")
                }
                EncodeError::Failed(error) => format!("{what} cannot be encoded: {error}"),
            })
        })?;
        Ok(Self { hash: BlobHash(blake3::hash(&bytes).into()), bytes: bytes.into() })
    }
}

impl OwnValue {
    pub fn new(value: SharedValue) -> Self {
        Self { value, sent: false, refusals: 0 }
    }

    /// Whether the job must wait for it.
    pub fn is_due(&self) -> bool {
        !self.sent
    }

    /// Another link, or what answers there, may not have it.
    pub fn link_lost(&mut self) {
        self.sent = false;
    }

    /// The controller says that it does not have it. Whether it is to be sent again.
    pub fn refused(&mut self) -> bool {
        self.sent = false;
        self.refusals += 1;
        self.refusals <= REFUSALS_MAX
    }
}

impl ClientActor {
    /// Sends the value that this job waits for: one at a time, and the same one once.
    pub(super) fn send_value(&mut self, number: u64, link: &Link, context: &Context<Self>) {
        self.held_for_value.insert(number);
        let value = self.jobs.get(&number).and_then(|entry| entry.value.as_ref());
        let Some(OwnValue { value, .. }) = value.filter(|_| self.sending_value.is_none()) else { return };
        self.sending_value = Some(value.hash);
        let (own, link, value) = (context.address(), link.clone(), value.clone());
        actix_rt::spawn(async move {
            let hash = value.hash;
            let sent = upload::send(&link, Blob::Value(value)).await;
            own.do_send(ValueSent { hash, link: link.id(), sent });
        });
    }
}

impl Handler<ValueSent> for ClientActor {
    type Result = ();

    fn handle(&mut self, ValueSent { hash, link, sent }: ValueSent, context: &mut Context<Self>) {
        self.sending_value = None;
        let held = std::mem::take(&mut self.held_for_value);
        if self.link.as_ref().is_some_and(|current| current.id() == link) {
            for number in &held {
                let value = self.jobs.get_mut(number).and_then(|entry| entry.value.as_mut());
                let Some(own) = value.filter(|own| own.value.hash == hash) else { continue };
                match &sent {
                    Ok(()) => own.sent = true,
                    Err(text) => {
                        let text = format!("the value that the tasks share could not be sent to the controller: {text}");
                        self.fail(*number, Error::Submit(text));
                    }
                }
            }
        }
        // Others have another value, and send the next; by another link they all ask anew.
        held.into_iter().for_each(|number| self.pump(number, context));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_travel_says_so() {
        struct Never;
        impl Serialize for Never {
            fn serialize<S: serde::Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not this one"))
            }
        }
        let text = SharedValue::of(&Never).unwrap_err().to_string();
        assert!(text.contains("Never") && text.contains("not this one"), "{text}");
        let value = SharedValue::of(&(1_u8, "x")).unwrap();
        assert_eq!((value.bytes.as_ref(), value.hash), (&[0x92, 1, 0xa1, b'x'][..], SharedValue::of(&(1, "x")).unwrap().hash));
    }

    #[test]
    fn a_value_that_is_dropped_time_and_again_is_given_up() {
        let mut own = OwnValue::new(SharedValue::of(&1).unwrap());
        own.sent = true;
        assert_eq!((0..=REFUSALS_MAX).map(|_| own.refused()).collect::<Vec<_>>(), [true, true, true, false]);
        assert!(own.is_due());
    }
}
