//! The tasks of a lazy map of which the program has not had the result.

use std::{ops::Range, sync::Arc};

use serde::Serialize;

use super::feeder::Feeder;
use crate::client::{
    Client,
    actor::{AbortTasks, AddJob},
    async_result::notify,
    job::Job,
};
use crate::error::Error;
use crate::task::Ranges;

/// How many results are taken before their places are given back, at most.
const RELEASE_EVERY: u32 = 256;

/// A lazy map's job. Dropping it aborts what has not run.
pub(super) struct Outstanding {
    pub client: Client,
    pub job: Arc<Job>,
    /// Tasks whose results the program has had, and whose places were given back.
    released: Ranges,
    /// Tasks that follow each other, whose results the program has had: one lock serves the places of many.
    unreleased: Range<u32>,
    /// No more results are given: all were, or one could not be.
    pub ended: bool,
    /// The program waits for a result that has not come. Only then may later ones come beyond the window.
    waits: bool,
}

impl Outstanding {
    pub fn start<A, I>(client: Client, job: Job, inputs: I, outstanding_max: u64) -> Self
    where
        A: Serialize,
        I: Iterator<Item = A> + Send + 'static,
    {
        let job = Arc::new(job);
        if job.failure().is_none() {
            client.inner.actor.do_send(AddJob(job.clone()));
            let feeder = Feeder::new(job.clone(), client.inner.actor.clone());
            let thread = std::thread::Builder::new().name("engineroom-feed".into());
            let spawned = thread.spawn(move || feeder.feed(inputs, outstanding_max));
            if let Err(error) = spawned {
                job.fail(Error::Start(format!("no thread could be started: {error}")));
            }
        }
        Self { client, job, released: Ranges::default(), unreleased: 0..0, ended: false, waits: false }
    }

    pub fn set_waits(&mut self, waits: bool) {
        match (self.waits, waits) {
            (false, true) => notify(&self.client, &self.job, self.job.begin_wait()),
            (true, false) => self.job.end_wait(),
            _ => {}
        }
        self.waits = waits;
    }

    /// The program has the result of this task, and each once.
    pub fn took(&mut self, index: u32) {
        if self.unreleased.end != index {
            self.release();
            self.unreleased = index..index;
        }
        self.unreleased.end = index + 1;
        if self.unreleased.end - self.unreleased.start == RELEASE_EVERY {
            self.release();
        }
    }

    /// Gives back the places of all results that the program has had.
    pub fn release(&mut self) {
        let Range { start, end } = self.unreleased;
        if start < end {
            notify(&self.client, &self.job, self.job.read(start, end));
            notify(&self.client, &self.job, self.job.release(start, end));
            self.released.cover(start, end);
        }
        self.unreleased.start = end;
    }

    /// How many results the program has had.
    pub fn count(&self) -> u32 {
        self.released.covered(0, u32::MAX) + (self.unreleased.end - self.unreleased.start)
    }

    /// Whether there are no more inputs, and the program has had all results.
    pub fn is_complete(&self) -> bool {
        self.job.length() == (self.count(), true)
    }

    /// Those of a range that the program has not had, and that follow each other, first of all.
    pub fn first_open(&self, first: u32, end: u32) -> Option<(u32, u32)> {
        self.released.gaps(first, end).into_iter().next()
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.release();
        // One that could not be begun has nothing to be ended.
        if !self.is_complete() && self.job.failure().is_none() {
            // Ends the feeder, and the job at the controller, which otherwise expects more tasks.
            self.job.fail(Error::Closed);
            let (number, job) = (self.job.number, self.job.id);
            let (answer, _) = tokio::sync::oneshot::channel();
            self.client.inner.actor.do_send(AbortTasks { number, job, first: 0, count: u32::MAX, answer });
        }
        self.set_waits(false);
        let (length, _) = self.job.length();
        for (first, end) in self.released.gaps(0, length) {
            notify(&self.client, &self.job, self.job.release(first, end));
        }
        notify(&self.client, &self.job, self.job.close());
    }
}
