//! Results put together, taken apart, and sorted by engine.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;

use super::{
    Client,
    async_result::{AsyncResult, Part},
    shape::{All, One},
};
use crate::error::{Error, Result};
use crate::task::{EngineId, TaskError};

impl Client {
    /// One result of all the tasks of several, in their order: to wait for many `apply` calls at once, say.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.load_balanced_view();
    /// let squares = (0..10).map(|number: u64| view.apply(|x: u64| x * x, number));
    /// println!("{:?}", client.join(squares)?.get()?);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// When one of them is of another client; its tasks go on.
    pub fn join<R, S>(&self, results: impl IntoIterator<Item = AsyncResult<R, S>>) -> Result<AsyncResult<R>> {
        let (mut parts, mut submitted): (Vec<Part>, _) = (Vec::new(), None);
        for mut result in results {
            if !Arc::ptr_eq(&result.client.inner, &self.inner) {
                return Err(Error::Submit(
                    "results of different clients cannot be joined: ask one client for all by get_result".into(),
                ));
            }
            submitted = Some(submitted.map_or(result.submitted, |earliest| result.submitted.min(earliest)));
            for part in result.take_parts() {
                match parts.last_mut() {
                    Some(last) if last.goes_on_with(&part) => last.end = part.end,
                    _ => parts.push(part),
                }
            }
        }
        Ok(AsyncResult::new(self.clone(), parts, submitted.unwrap_or(std::time::UNIX_EPOCH)))
    }
}

impl Part {
    fn goes_on_with(&self, next: &Part) -> bool {
        Arc::ptr_eq(&self.job, &next.job) && self.end == next.first && self.read == next.read && self.first < self.end
    }
}

impl<R, S> AsyncResult<R, S> {
    /// A result for each task, in the order of the inputs.
    ///
    /// # Errors
    /// When the tasks could not be submitted.
    pub fn split(mut self) -> Result<Vec<AsyncResult<R, One>>> {
        self.check_begun()?;
        let (client, submitted, at_failure) = (self.client.clone(), self.submitted, self.at_failure);
        let tasks = self.take_parts().into_iter().flat_map(|part| {
            let Part { job, first, end, read } = part;
            (first..end).map(move |index| Part { job: job.clone(), first: index, end: index + 1, read })
        });
        let one = |part| AsyncResult::new(client.clone(), vec![part], submitted).at_failure(at_failure);
        Ok(tasks.map(one).collect())
    }

    /// The first `tasks` of them, and the others.
    ///
    /// # Errors
    /// When the tasks could not be submitted.
    pub fn split_at(mut self, tasks: usize) -> Result<(AsyncResult<R>, AsyncResult<R>)> {
        self.check_begun()?;
        let (mut front, mut back, mut left) = (Vec::new(), Vec::new(), tasks);
        for part in self.take_parts() {
            let count = (part.end - part.first) as usize;
            let cut = part.first + left.min(count) as u32;
            left -= left.min(count);
            let Part { job, first, end, read } = part;
            if cut > first {
                front.push(Part { job: job.clone(), first, end: cut, read });
            }
            if end > cut {
                back.push(Part { job, first: cut, end, read });
            }
        }
        let (client, submitted, at_failure) = (&self.client, self.submitted, self.at_failure);
        let made = |parts| AsyncResult::new(client.clone(), parts, submitted).at_failure(at_failure);
        Ok((made(front), made(back)))
    }

    /// A job without tasks may have failed all the same, which its parts could not tell.
    fn check_begun(&self) -> Result<()> {
        let mut empty = self.parts.iter().filter(|part| part.first == part.end);
        empty.find_map(|part| part.job.failure()).map_or(Ok(()), Err)
    }
}

impl<R: DeserializeOwned + 'static> AsyncResult<R, All> {
    /// Blocks until all tasks have ended; gives what came of each engine's, in their order. For a direct view: the engines are
    /// its targets, whatever became of them. Tasks of other views stand with the engine that ran them last.
    ///
    /// # Errors
    /// [`Error::Task`] with a task that no engine had. Otherwise as [`results`](AsyncResult::results).
    pub fn by_engine(mut self) -> Result<BTreeMap<EngineId, Vec<Result<R, TaskError>>>> {
        self.wait(None)?;
        let engines = self.engines();
        let mut sorted: BTreeMap<EngineId, Vec<_>> = BTreeMap::new();
        for (engine, result) in engines.into_iter().zip(self.results()?) {
            match (engine, result) {
                (Some(engine), result) => sorted.entry(engine).or_default().push(result),
                (None, Err(error)) => return Err(error.into()),
                // What has a value has run on an engine.
                (None, Ok(_)) => {}
            }
        }
        Ok(sorted)
    }
}

impl<R, S> AsyncResult<R, S> {
    /// The engine of each task: the one that it was for, or that ran it last.
    fn engines(&self) -> Vec<Option<EngineId>> {
        let mut engines = Vec::with_capacity(self.len());
        for part in &self.parts {
            let placed = part.job.placement.iter().flat_map(|(engine, count)| (0..*count).map(|_| *engine));
            let mut placed = placed.skip(part.first as usize);
            for index in part.first..part.end {
                let ran = || part.job.inspect(|received| received.find(index).and_then(|(run, _)| run.engine));
                engines.push(placed.next().or_else(ran));
            }
        }
        engines
    }
}
