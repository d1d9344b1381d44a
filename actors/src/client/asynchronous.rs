//! What asynchronous programs need beside `.await` and streams of results. Nothing here cares which executor it is awaited on.

use std::future::poll_fn;

use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{AsyncResult, Client};
use crate::error::{Error, Result};
use crate::task::TaskError;

/// How many calls of [`Client::blocking`] one client makes at once; further ones wait for their turn.
pub(super) const CALLS_MAX: usize = 64;

impl Client {
    /// Makes a call that blocks, on a thread of its own, to be awaited: on tokio, on actix, or on any other executor.
    ///
    /// Every method of a client, a view or a result may be called in asynchronous programs too; one that waits for the controller
    /// or for tasks then blocks the thread of its executor. Results need not: they are awaited, or taken as streams.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # async fn handler(client: Client, ids: Vec<MessageId>) -> engineroom::Result<()> {
    /// let status = client.blocking(|client| client.status()).await?;
    /// let aborted = client.blocking(move |client| client.abort(ids)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// At most 64 such calls of a client are made at once; others wait for their turn.
    ///
    /// # Errors
    /// Those of the call; [`Error::Start`] when there can be no thread for it.
    ///
    /// # Cancel safety
    /// When the future is dropped, a call that has begun goes on to its end, and what it gives is dropped.
    pub async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Client) -> Result<T> + Send + 'static) -> Result<T> {
        // The semaphore is never closed.
        let turn = self.inner.calls.clone().acquire_owned().await.map_err(|_| Error::Closed)?;
        let (sender, receiver) = oneshot::channel();
        let client = self.clone();
        let thread = std::thread::Builder::new().name("engineroom-call".into());
        let spawned = thread.spawn(move || {
            // A caller that has given up drops what it would have got.
            drop(sender.send(call(&client)));
            drop(turn);
        });
        spawned.map_err(|error| Error::Start(format!("no thread could be started: {error}")))?;
        receiver.await.unwrap_or_else(|_| Err(Error::Start("the call panicked".into())))
    }
}

impl<R, S> AsyncResult<R, S> {
    /// Waits until all tasks have ended, without blocking; afterwards nothing that this result tells blocks.
    ///
    /// # Errors
    /// As [`AsyncResult::wait`].
    ///
    /// # Cancel safety
    /// The future may be dropped at any time, as by a timeout; nothing is lost, and it can be awaited again.
    pub async fn wait_async(&mut self) -> Result<()> {
        self.begin_wait();
        poll_fn(|context| self.poll_ready(context.waker())).await
    }
}

impl<R: DeserializeOwned + 'static, S: super::Shape> AsyncResult<R, S> {
    /// As [`AsyncResult::results`], to be awaited.
    ///
    /// # Errors
    /// As [`AsyncResult::results`].
    ///
    /// # Cancel safety
    /// When the future is dropped, so is this result; the tasks go on, and [`Client::get_result`] gives their results.
    pub async fn results_async(mut self) -> Result<Vec<Result<R, TaskError>>> {
        self.wait_async().await?;
        self.results()
    }
}
