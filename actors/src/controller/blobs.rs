//! The keeper of blobs: takes programs and shared values from clients, once each, and gives them to engine nodes.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler};
use bytes::Bytes;
use engineroom_runtime::{actor::Remote, net::link::Link};

use super::uploads::Uploads;
use crate::code::{BLOB_BYTES_MAX, BlobCache, Bundle, Incoming};
use crate::engine::blocking;
use crate::task::BlobHash;
use crate::wire::{BlobPart, BlobState, FetchBlob, FetchedPart, OfferBlob};

/// The most that one answer holds, in bytes.
const PART_BYTES_MAX: u32 = 4 << 20;

/// How often uploads are looked after whose link may have ended. What they left is a file each, bounded in number.
const SWEEP: Duration = Duration::from_secs(10);

/// An actor that keeps blobs. Its files are worked on by other threads than the node's.
pub(crate) struct BlobKeeper {
    blobs: Arc<BlobCache>,
    uploads: SharedUploads,
    /// Uploads are being looked after.
    sweeping: bool,
}

#[derive(Clone, Default)]
struct SharedUploads(Arc<Mutex<Uploads<Link, Incoming>>>);

impl SharedUploads {
    fn lock(&self) -> MutexGuard<'_, Uploads<Link, Incoming>> {
        // Each change under the lock is a single insertion or removal, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobKeeper {
    pub fn new(blobs: Arc<BlobCache>) -> Self {
        Self { blobs, uploads: SharedUploads::default(), sweeping: false }
    }

    /// Drops the uploads of links that have ended, as long as there are any uploads.
    fn look_after_uploads(&mut self, context: &mut Context<Self>) {
        if self.uploads.lock().is_empty() || std::mem::replace(&mut self.sweeping, true) {
            return;
        }
        context.run_later(SWEEP, |this, context| {
            this.sweeping = false;
            this.uploads.lock().retain(Link::is_up);
            this.look_after_uploads(context);
        });
    }
}

impl Actor for BlobKeeper {
    type Context = Context<Self>;
}

impl Handler<Remote<OfferBlob>> for BlobKeeper {
    type Result = ();

    fn handle(&mut self, remote: Remote<OfferBlob>, context: &mut Context<Self>) {
        let Remote { message: OfferBlob { hash, bytes }, from, reply } = remote;
        let blobs = self.blobs.clone();
        if bytes == 0 || bytes > BLOB_BYTES_MAX {
            let text = format!("it has {bytes} bytes, and 1 to {BLOB_BYTES_MAX} are taken");
            return reply.send(&Err(text));
        }
        let link = from.id();
        let reserved = {
            let mut uploads = self.uploads.lock();
            uploads.retain(Link::is_up);
            uploads.reserve(hash, link, from)
        };
        if let Err(text) = reserved {
            return reply.send(&Err(text));
        }
        self.look_after_uploads(context);
        let uploads = self.uploads.clone();
        actix_rt::spawn(async move {
            let begun = blocking(move || {
                if blobs.contains(hash) || own_program(hash) {
                    return Ok(None);
                }
                blobs.begin(hash, bytes).map(Some).map_err(|error| error.to_string())
            });
            let begun = begun.await;
            let state = begun.as_ref().map(|file| if file.is_some() { BlobState::Wanted } else { BlobState::Present });
            let state = state.map_err(String::clone);
            uploads.lock().put(hash, link, begun.unwrap_or_default());
            reply.send(&state);
        });
    }
}

/// Whether that blob is the very program that this controller lives in: an embedded cluster needs no upload.
fn own_program(hash: BlobHash) -> bool {
    Bundle::of_this_program().is_ok_and(|own| BlobHash::from(own.hash) == hash)
}

impl Handler<Remote<BlobPart>> for BlobKeeper {
    type Result = ();

    fn handle(&mut self, remote: Remote<BlobPart>, _: &mut Context<Self>) {
        let Remote { message: BlobPart { hash, offset, data, last }, from, reply } = remote;
        let link = from.id();
        let Some(mut file) = self.uploads.lock().take(hash, link) else {
            return reply.send(&Err("a part of what was not offered, or before the last one was answered".into()));
        };
        let uploads = self.uploads.clone();
        actix_rt::spawn(async move {
            let written = blocking(move || {
                file.write(offset, &data).map_err(|error| error.to_string())?;
                if !last {
                    return Ok(Some(file));
                }
                file.commit().map(|_| None).map_err(|error| error.to_string())
            });
            let written = written.await;
            let answer = written.as_ref().map(|_| ()).map_err(String::clone);
            uploads.lock().put(hash, link, written.unwrap_or_default());
            reply.send(&answer);
        });
    }
}

impl Handler<Remote<FetchBlob>> for BlobKeeper {
    type Result = ();

    fn handle(&mut self, remote: Remote<FetchBlob>, _: &mut Context<Self>) {
        let FetchBlob { hash, offset, bytes_max } = remote.message;
        let blobs = self.blobs.clone();
        let (reply, node) = (remote.reply, remote.from.peer().name.clone());
        actix_rt::spawn(async move {
            let part = blocking(move || {
                let (blob_bytes, data) = read_part(&blobs, hash, offset, bytes_max.min(PART_BYTES_MAX) as usize)?;
                if offset + data.len() as u64 == blob_bytes {
                    tracing::info!(%hash, bytes = blob_bytes, %node, "an engine node has fetched a program or a shared value");
                }
                Ok(FetchedPart { blob_bytes, data })
            });
            reply.send(&part.await);
        });
    }
}

fn read_part(blobs: &Arc<BlobCache>, hash: BlobHash, offset: u64, bytes: usize) -> Result<(u64, Bytes), String> {
    use std::os::unix::fs::FileExt;
    if let Some(pin) = blobs.pin(hash) {
        let path = &pin.path;
        let unreadable = |error: std::io::Error| format!("it cannot be read from {}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let whole = file.metadata().map_err(unreadable)?.len();
        let length = usize::try_from(whole.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes);
        let mut data = vec![0; length];
        file.read_exact_at(&mut data, offset).map_err(unreadable)?;
        return Ok((whole, data.into()));
    }
    match Bundle::of_this_program() {
        Ok(own) if BlobHash::from(own.hash) == hash => {
            let data = own.read_chunk(offset, bytes).map_err(|error| error.to_string())?;
            Ok((own.bytes, data.into()))
        }
        _ => Err("the controller no longer has it: submit the job again".into()),
    }
}
