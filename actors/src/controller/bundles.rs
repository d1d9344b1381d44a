//! The keeper of bundles: takes programs from clients, once each, and gives them to engine nodes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use engineroom_runtime::{actor::Remote, net::link::Link};

use crate::code::{BUNDLE_BYTES_MAX, Bundle, BundleCache, Incoming};
use crate::engine::blocking;
use crate::task::BundleHash;
use crate::wire::{BundlePart, BundleState, FetchBundle, FetchedPart, OfferBundle};

/// How many bundles may be on their way here at once.
const UPLOADS_MAX: usize = 64;

/// The most that one answer holds, in bytes.
const PART_BYTES_MAX: u32 = 4 << 20;

/// An actor that keeps bundles. Its files are worked on by other threads than the node's.
pub(crate) struct BundleKeeper {
    bundles: Arc<BundleCache>,
    uploads: Arc<Mutex<HashMap<BundleHash, Upload>>>,
}

struct Upload {
    from: Link,
    file: Incoming,
}

impl BundleKeeper {
    pub fn new(bundles: Arc<BundleCache>) -> Self {
        Self { bundles, uploads: Arc::default() }
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, HashMap<BundleHash, Upload>> {
        self.uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Actor for BundleKeeper {
    type Context = Context<Self>;
}

impl Handler<Remote<OfferBundle>> for BundleKeeper {
    type Result = ();

    fn handle(&mut self, remote: Remote<OfferBundle>, _: &mut Context<Self>) {
        let OfferBundle { hash, bytes } = remote.message;
        let bundles = self.bundles.clone();
        if bytes == 0 || bytes > BUNDLE_BYTES_MAX {
            let text = format!("a program of {bytes} bytes: at most {BUNDLE_BYTES_MAX} are taken; strip its debug information");
            return remote.reply.send(&Err(text));
        }
        let mut uploads = self.uploads();
        uploads.retain(|_, upload| upload.from.is_up());
        // A client that offers again starts again; two clients with one program take turns, and the second finds it present.
        if uploads.get(&hash).is_some_and(|upload| upload.from != remote.from) || uploads.len() >= UPLOADS_MAX {
            return remote.reply.send(&Err("another client is sending programs right now".into()));
        }
        uploads.remove(&hash);
        drop(uploads);
        let (uploads, from, reply) = (self.uploads.clone(), remote.from, remote.reply);
        actix_rt::spawn(async move {
            let begun = blocking(move || {
                if bundles.contains(hash) || own_program(hash) {
                    return Ok(None);
                }
                bundles.begin(hash, bytes).map(Some).map_err(|error| error.to_string())
            });
            let state = begun.await.map(|file| match file {
                None => BundleState::Present,
                Some(file) => {
                    let mut uploads = uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    uploads.insert(hash, Upload { from, file });
                    BundleState::Wanted
                }
            });
            reply.send(&state);
        });
    }
}

/// Whether that bundle is the very program that this controller lives in: an embedded cluster needs no upload.
fn own_program(hash: BundleHash) -> bool {
    Bundle::of_this_program().is_ok_and(|own| own.hash == hash)
}

impl Handler<Remote<BundlePart>> for BundleKeeper {
    type Result = ();

    fn handle(&mut self, remote: Remote<BundlePart>, _: &mut Context<Self>) {
        let BundlePart { hash, offset, data, last } = remote.message;
        let upload = self.uploads().remove(&hash).filter(|upload| upload.from == remote.from);
        let Some(Upload { from, mut file }) = upload else {
            return remote.reply.send(&Err("a part of a program that was not offered".into()));
        };
        let (uploads, reply) = (self.uploads.clone(), remote.reply);
        actix_rt::spawn(async move {
            let written = blocking(move || {
                file.write(offset, &data).map_err(|error| error.to_string())?;
                if !last {
                    return Ok(Some(file));
                }
                file.commit().map(|_| None).map_err(|error| error.to_string())
            });
            let answer = written.await.map(|rest| {
                if let Some(file) = rest {
                    let mut uploads = uploads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    uploads.insert(hash, Upload { from, file });
                }
            });
            reply.send(&answer);
        });
    }
}

impl Handler<Remote<FetchBundle>> for BundleKeeper {
    type Result = ();

    fn handle(&mut self, remote: Remote<FetchBundle>, _: &mut Context<Self>) {
        let FetchBundle { hash, offset, bytes_max } = remote.message;
        let bundles = self.bundles.clone();
        let reply = remote.reply;
        actix_rt::spawn(async move {
            let part = blocking(move || {
                let (bundle_bytes, data) = read_part(&bundles, hash, offset, bytes_max.min(PART_BYTES_MAX) as usize)?;
                Ok(FetchedPart { bundle_bytes, data })
            });
            reply.send(&part.await);
        });
    }
}

fn read_part(bundles: &Arc<BundleCache>, hash: BundleHash, offset: u64, bytes: usize) -> Result<(u64, Bytes), String> {
    use std::os::unix::fs::FileExt;
    if let Some(pin) = bundles.pin(hash) {
        let path = &pin.path;
        let unreadable = |error: std::io::Error| format!("the program cannot be read from {}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let whole = file.metadata().map_err(unreadable)?.len();
        let length = usize::try_from(whole.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes);
        let mut data = vec![0; length];
        file.read_exact_at(&mut data, offset).map_err(unreadable)?;
        return Ok((whole, data.into()));
    }
    match Bundle::of_this_program() {
        Ok(own) if own.hash == hash => {
            let data = own.read_chunk(offset, bytes).map_err(|error| error.to_string())?;
            Ok((own.bytes, data.into()))
        }
        _ => Err("the controller no longer has the program: submit the job again".into()),
    }
}
