//! Sends this program to the controller, so that engines can run its functions.

use std::sync::Arc;

use engineroom_runtime::{actor::RemoteAddr, net::link::Link};

use super::actor::ANSWER_DEADLINE;
use crate::code::Bundle;
use crate::controller::BundleKeeper;
use crate::task::BundleHash;
use crate::wire::{BUNDLES, BundlePart, BundleState, OfferBundle};

/// How much of the program is sent at once, in bytes.
const PART_BYTES: usize = 1 << 20;

/// How often a program is offered while another client sends the same one.
const OFFERS_MAX: usize = 100;

/// The pause between two offers.
const OFFER_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Sends this program, unless the controller has it. Its hash, once the controller has it.
pub(super) async fn send_own_program(link: &Link) -> Result<BundleHash, String> {
    let bundle = blocking(Bundle::of_this_program).await?;
    let hash = bundle.hash;
    let keeper = RemoteAddr::<BundleKeeper>::new(link.clone(), BUNDLES);
    let mut refused = String::new();
    for _ in 0..OFFERS_MAX {
        let answer = keeper.ask(&OfferBundle { hash, bytes: bundle.bytes }, ANSWER_DEADLINE).await;
        match answer.map_err(|error| error.to_string())? {
            Ok(BundleState::Present) => return Ok(hash),
            Ok(BundleState::Wanted) => return send_parts(&keeper, bundle).await.map(|()| hash),
            Err(text) => refused = text,
        }
        tokio::time::sleep(OFFER_PAUSE).await;
    }
    Err(refused)
}

async fn send_parts(keeper: &RemoteAddr<BundleKeeper>, bundle: Arc<Bundle>) -> Result<(), String> {
    let mut offset = 0;
    while offset < bundle.bytes {
        let reader = bundle.clone();
        let data = blocking(move || reader.read_chunk(offset, PART_BYTES)).await?;
        if data.is_empty() {
            return Err("the program's file has become shorter".into());
        }
        let next = offset + data.len() as u64;
        let part = BundlePart { hash: bundle.hash, offset, data: data.into(), last: next >= bundle.bytes };
        keeper.ask(&part, ANSWER_DEADLINE).await.map_err(|error| error.to_string())??;
        offset = next;
    }
    Ok(())
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
