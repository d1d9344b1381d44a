//! The view that addresses certain engines.

use std::{fmt, iter::repeat_n, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Client,
    async_result::AsyncResult,
    dependency::Dependency,
    engine_set::Engines,
    job::Job,
    new_job::{new_job, sharing, submit, travelling},
    options::Options,
};
use crate::code::Function;
use crate::error::{Error, Result};
use crate::task::EngineId;

/// Sends tasks to certain engines, in a certain order. One that is lost meanwhile, or not there, fails its own tasks only.
#[derive(Clone)]
pub struct DirectView {
    client: Client,
    engines: Engines,
    options: Options,
}

impl DirectView {
    pub(super) fn new(client: Client, engines: Engines) -> Self {
        Self { client, engines, options: Options::default() }
    }

    /// The engines that a call would go to now, in the order of the results.
    pub fn targets(&self) -> Vec<EngineId> {
        self.engines.among(&self.client.inner.shared.engines())
    }

    /// A text that stands with the jobs of this view, for people.
    pub fn label(&self, label: impl Into<String>) -> Self {
        self.with(|options| options.label = Some(label.into()))
    }

    /// Tasks with a higher priority go first at each engine; one that runs already is not interrupted. 0 by default.
    pub fn priority(&self, priority: i32) -> Self {
        self.with(|options| options.tasks.priority = priority)
    }

    /// How long each task may run: see [`LoadBalancedView::time_limit`](crate::LoadBalancedView::time_limit).
    pub fn time_limit(&self, limit: Duration) -> Self {
        self.with(|options| options.set_time_limit(limit))
    }

    /// How long a task may wait until it is sent to its engine for the first time: see
    /// [`LoadBalancedView::queue_timeout`](crate::LoadBalancedView::queue_timeout).
    pub fn queue_timeout(&self, limit: Duration) -> Self {
        self.with(|options| options.set_queue_timeout(limit))
    }

    /// How often a task that fails is tried again, on the same engine: see
    /// [`LoadBalancedView::retries`](crate::LoadBalancedView::retries). One whose engine is lost fails in any case.
    pub fn retries(&self, failures: u32) -> Self {
        self.with(|options| options.set_retries(failures))
    }

    /// How long is waited after a failure until the next attempt: see
    /// [`LoadBalancedView::retry_pause`](crate::LoadBalancedView::retry_pause).
    pub fn retry_pause(&self, first: Duration) -> Self {
        self.with(|options| options.set_retry_pause(first))
    }

    /// Tasks run only after others: see [`LoadBalancedView::after`](crate::LoadBalancedView::after).
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.direct_view()?;
    /// let pushed = view.push("limit", &10_u64);
    /// let limit = |()| TaskContext::current().unwrap().namespace().get::<u64>("limit").map(|limit| *limit);
    /// let limits = view.after(&pushed).try_apply(limit, ());
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn after(&self, tasks: impl Into<Dependency>) -> Self {
        self.with(|options| options.add_dependency(tasks.into()))
    }

    /// Calls `function` with the same argument once on each engine; one result an engine, in the order of the targets.
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> AsyncResult<R>
    where
        F: Fn(A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let function = travelling(|bundle| Function::of_program(function, bundle));
        self.on_each(function, |engines| repeat_n(&argument, engines))
    }

    /// As [`apply`](Self::apply), for a function that can fail.
    pub fn try_apply<F, A, R, E>(&self, function: F, argument: A) -> AsyncResult<R>
    where
        F: Fn(A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
    {
        let function = travelling(|bundle| Function::of_program_fallible(function, bundle));
        self.on_each(function, |engines| repeat_n(&argument, engines))
    }

    /// Calls `function` with each of the inputs, of which each engine gets one contiguous part, as equal as possible, the
    /// longer ones first; the results come in the order of the inputs.
    pub fn map<F, A, R, I>(&self, function: F, inputs: I) -> AsyncResult<R>
    where
        F: Fn(A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let inputs: Vec<A> = inputs.into_iter().collect();
        let job = self.job(&self.targets(), travelling(|bundle| Function::of_program(function, bundle)), inputs.len());
        submit(&self.client, job, inputs)
    }

    /// As [`map`](Self::map), with a value that the tasks share: see [`LoadBalancedView::map_with`](crate::LoadBalancedView::map_with).
    pub fn map_with<S, F, A, R, I>(&self, shared: &S, function: F, inputs: I) -> AsyncResult<R>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        let inputs: Vec<A> = inputs.into_iter().collect();
        let job = self.job(&self.targets(), travelling(|bundle| Function::of_program_sharing(function, bundle)), inputs.len());
        submit(&self.client, sharing(job, shared), inputs)
    }

    /// This view with other options.
    fn with(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut view = self.clone();
        change(&mut view.options);
        view
    }

    /// One task an engine, each with its argument; `arguments` is told how many there are.
    pub(super) fn on_each<A: Serialize, R, I: IntoIterator<Item = A>>(
        &self,
        function: Result<Function>,
        arguments: impl FnOnce(usize) -> I,
    ) -> AsyncResult<R> {
        let engines = self.targets();
        submit(&self.client, self.job(&engines, function, engines.len()), arguments(engines.len()))
    }

    /// As [`on_each`](Self::on_each), with a value that the tasks share.
    pub(super) fn on_each_sharing<S: Serialize, A: Serialize, R, I: IntoIterator<Item = A>>(
        &self,
        shared: &S,
        function: Result<Function>,
        arguments: impl FnOnce(usize) -> I,
    ) -> AsyncResult<R> {
        let engines = self.targets();
        let job = sharing(self.job(&engines, function, engines.len()), shared);
        submit(&self.client, job, arguments(engines.len()))
    }

    /// A job of so many tasks, of which each of these engines gets one part.
    fn job(&self, engines: &[EngineId], function: Result<Function>, tasks: usize) -> Job {
        if engines.is_empty() {
            return Job::failed(Error::NoEngines);
        }
        let parts = u32::try_from(tasks).map(|count| parts(engines, count));
        let parts = parts.map_err(|_| Error::Submit(format!("{tasks} inputs are more than a job may have")));
        let (function, parts) = match parts {
            Ok(parts) => (function, parts),
            Err(error) => (Err(error), Vec::new()),
        };
        new_job(&self.client, &self.options, function, parts)
    }
}

impl fmt::Debug for DirectView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectView({:?}, {:?})", self.engines, self.client)
    }
}

/// How many of `count` inputs each engine gets.
fn parts(engines: &[EngineId], count: u32) -> Vec<(EngineId, u32)> {
    // A share is not more than the whole, which is a u32.
    let share = |place| share(count as usize, engines.len(), place) as u32;
    let parts = engines.iter().enumerate().map(|(place, engine)| (*engine, share(place)));
    parts.filter(|(_, share)| *share > 0).collect()
}

/// How many of `count` inputs the engine in that place gets, when they are shared among so many.
pub(super) fn share(count: usize, over: usize, place: usize) -> usize {
    count / over + usize::from(place < count % over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_inputs() {
        let engines: Vec<EngineId> = (0..4).map(EngineId).collect();
        for (count, expected) in [(0, vec![]), (3, vec![1, 1, 1]), (4, vec![1; 4]), (10, vec![3, 3, 2, 2])] {
            let shares: Vec<u32> = parts(&engines, count).iter().map(|(_, share)| *share).collect();
            assert_eq!(shares, expected);
        }
    }
}
