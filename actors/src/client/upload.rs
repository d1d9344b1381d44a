//! Sends blobs to the controller: this program, so that engines can run its functions, and values that tasks share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use engineroom_runtime::{actor::RemoteAddr, net::link::Link};

use super::{actor::ANSWER_DEADLINE, value::SharedValue};
use crate::code::Bundle;
use crate::controller::BlobKeeper;
use crate::task::{BlobHash, BundleHash};
use crate::wire::{BLOBS, BlobPart, BlobState, OfferBlob};

/// How much of a blob is sent at once, in bytes.
const PART_BYTES: usize = 1 << 20;

/// How long the controller may take to answer the last part: it waits until the whole blob is on its disk.
const LAST_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How often a blob is offered while the controller does not take it.
const OFFERS_MAX: usize = 100;

/// The pause between two offers.
const OFFER_PAUSE: Duration = Duration::from_millis(200);

/// What is sent. Clones are cheap.
#[derive(Clone)]
pub(super) enum Blob {
    Program(Arc<Bundle>),
    Value(SharedValue),
}

/// Sends this program, unless the controller has it. Its hash, once the controller has it.
pub(super) async fn send_own_program(link: &Link) -> Result<BundleHash, String> {
    let bundle = blocking(Bundle::of_this_program).await?;
    let hash = bundle.hash;
    send(link, Blob::Program(bundle)).await.map(|()| hash)
}

/// Sends a blob, unless the controller has it. Returns when it does.
pub(super) async fn send(link: &Link, blob: Blob) -> Result<(), String> {
    let keeper = RemoteAddr::<BlobKeeper>::new(link.clone(), BLOBS);
    let (hash, bytes) = (blob.hash(), blob.bytes());
    let mut refused = String::new();
    for _ in 0..OFFERS_MAX {
        let answer = keeper.ask(&OfferBlob { hash, bytes }, ANSWER_DEADLINE).await;
        match answer.map_err(|error| error.to_string())? {
            Ok(BlobState::Present) => return Ok(()),
            Ok(BlobState::Wanted) => return send_parts(&keeper, blob).await,
            Err(text) => refused = text,
        }
        tokio::time::sleep(OFFER_PAUSE).await;
    }
    Err(refused)
}

async fn send_parts(keeper: &RemoteAddr<BlobKeeper>, blob: Blob) -> Result<(), String> {
    let (hash, bytes) = (blob.hash(), blob.bytes());
    let mut offset = 0;
    while offset < bytes {
        let data = blob.read(offset).await?;
        if data.is_empty() {
            return Err("its file has become shorter".into());
        }
        let next = offset + data.len() as u64;
        let last = next >= bytes;
        let deadline = if last { LAST_DEADLINE } else { ANSWER_DEADLINE };
        let part = BlobPart { hash, offset, data, last };
        keeper.ask(&part, deadline).await.map_err(|error| error.to_string())??;
        offset = next;
    }
    Ok(())
}

impl Blob {
    fn hash(&self) -> BlobHash {
        match self {
            Blob::Program(bundle) => bundle.hash.into(),
            Blob::Value(value) => value.hash,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Blob::Program(bundle) => bundle.bytes,
            Blob::Value(value) => value.bytes.len() as u64,
        }
    }

    /// The part that begins at `offset`, which is not beyond the end.
    async fn read(&self, offset: u64) -> Result<Bytes, String> {
        match self {
            Blob::Program(bundle) => {
                let reader = bundle.clone();
                blocking(move || reader.read_chunk(offset, PART_BYTES)).await.map(Bytes::from)
            }
            Blob::Value(SharedValue { bytes, .. }) => {
                // It is in memory, so that offsets in it fit.
                let start = offset as usize;
                Ok(bytes.slice(start..bytes.len().min(start + PART_BYTES)))
            }
        }
    }
}

/// Reading and hashing a program takes longer than the node thread has.
async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the node is ending".into()),
    }
}
