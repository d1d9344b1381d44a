//! The view that sends tasks wherever there is room.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Client,
    async_result::{AsyncResult, notify},
    dependency::Dependency,
    job::Job,
    lazy::{LazyMap, OUTSTANDING_MAX},
    new_job::{add_job, hand_over, new_job, sharing, submit, travelling},
    open_jobs::{Choice, OpenJobs},
    options::{Options, RETRIES_MAX},
    shape::One,
};
use crate::code::{Function, encode};
use crate::error::{Error, Result};

/// Sends each task to an engine that is free.
///
/// Options are set by methods that give a view like this one with another option, so that they may be chosen for single calls too;
/// it costs little:
///
/// ```no_run
/// # use engineroom::prelude::*;
/// # let client = Client::connect(Profile::default())?;
/// let view = client.load_balanced_view().label("evening");
/// let urgent = view.priority(5).apply(|x: u64| x + 1, 1); // labelled too
/// # Ok::<(), engineroom::Error>(())
/// ```
///
/// Functions are `fn` items or closures that capture nothing. They need no registration: this very program travels to the
/// engines, once, and is found again there. Whatever else a task needs is its argument, or, if all tasks need the same, a value
/// that they share: see [`map_with`](Self::map_with).
#[derive(Clone)]
pub struct LoadBalancedView {
    client: Client,
    options: Options,
    outstanding_max: u64,
    open_jobs: Arc<OpenJobs>,
    /// Those of them with these options, once there are any.
    choice: OnceLock<Arc<Choice>>,
}

impl LoadBalancedView {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            options: Options::default(),
            outstanding_max: OUTSTANDING_MAX,
            open_jobs: Arc::default(),
            choice: OnceLock::new(),
        }
    }

    /// A text that stands with the jobs of this view, for people.
    pub fn label(&self, label: impl Into<String>) -> Self {
        self.with(|options| options.label = Some(label.into()))
    }

    /// How many tasks go to an engine at once, at most 65,536 and at most 256 MiB of arguments. By default the scheduler
    /// measures how long they take and aims at a few milliseconds; 0 restores that.
    pub fn chunk_size(&self, tasks: u32) -> Self {
        self.with(|options| options.chunk = tasks)
    }

    /// How many tasks of a lazy map may be outstanding, from when the input is drawn until the program has the result. At
    /// least 1, and no more than a job has, which is less than 2^32; 262,144 by default.
    pub fn max_outstanding(&self, tasks: u64) -> Self {
        Self { outstanding_max: tasks.clamp(1, u32::MAX.into()), ..self.clone() }
    }

    /// Tasks with a higher priority go first, whoever submitted them; those that run already are not interrupted. 0 by default.
    pub fn priority(&self, priority: i32) -> Self {
        self.with(|options| options.tasks.priority = priority)
    }

    /// How long each task may run, from when its worker begins with it. One that takes longer ends with the cause
    /// [`TimeLimit`](crate::Cause::TimeLimit), and its engine goes on with the next: a worker process is stopped, with what tasks
    /// have left in its [`namespace`](crate::TaskContext::namespace). A thread cannot be stopped; there the task is told by
    /// [`is_cancelled`](crate::TaskContext::is_cancelled), and has no value when it ends. Zero, the default, sets no limit.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.load_balanced_view().time_limit(std::time::Duration::from_secs(60));
    /// let results = view.map(|x: u64| x, 0..10).results()?; // some may be errors
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn time_limit(&self, limit: Duration) -> Self {
        self.with(|options| options.set_time_limit(limit))
    }

    /// How long a task may wait until it is sent to an engine for the first time, by the controller's clock; tasks that wait for
    /// longer fail with [`Cause::QueueTimeout`](crate::Cause::QueueTimeout). Time in which it waits for other tasks counts, and so
    /// does time in which the controller is down. One that is up may be noticed up to a hundredth part later.
    pub fn queue_timeout(&self, limit: Duration) -> Self {
        self.with(|options| options.set_queue_timeout(limit))
    }

    /// How often a task is tried again that fails: panics, returns an error, takes its worker along, or takes too long. Only the last
    /// attempt has an outcome, and says which one it was. What would fail again in any case is not tried again: arguments and results that cannot be
    /// encoded, functions that an engine does not have. None by default, 1,000 at most.
    ///
    /// A task runs again when the batch that it was sent in has ended; see also [`retry_pause`](Self::retry_pause).
    pub fn retries(&self, failures: u32) -> Self {
        self.with(|options| options.set_retries(failures))
    }

    /// How long is waited after a failure until the next attempt; twice as long after each further one of the same task, up to an
    /// hour. By default they follow each other at once.
    pub fn retry_pause(&self, first: Duration) -> Self {
        self.with(|options| options.set_retry_pause(first))
    }

    /// How many engines may be lost while they run a task, in a row, and it is still run again elsewhere: 2 by default. One more, and it
    /// is held to be the reason, and fails with [`Cause::Poisoned`](crate::Cause::Poisoned).
    pub fn retries_on_loss(&self, losses: u32) -> Self {
        self.with(|options| options.tasks.losses_max = Some(losses.min(RETRIES_MAX)))
    }

    /// Tasks run only after others: by default when all of these have succeeded. They may be of any job of the same owner, running
    /// or ended. What is said here again is waited for as well.
    ///
    /// To wait for a whole map or job costs nothing for each task, however many there are on both sides. Other tasks count as one
    /// for each run of consecutive ones; a view waits for 1,024 of them at most.
    ///
    /// A task that will never run, since the others have ended otherwise, fails at once with
    /// [`Cause::UnmetDependency`](crate::Cause::UnmetDependency); with
    /// [`Cause::ImpossibleDependency`](crate::Cause::ImpossibleDependency) if the others are not known.
    ///
    /// The order is all: no values go from these tasks to those. One that is [submitted again](crate::Client::resubmit) waits for the same
    /// tasks as before, and not for what was submitted again in their place.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// # let view = client.load_balanced_view();
    /// let built = view.map(|n: u64| n * n, 0..1_000);
    /// let after = view.after(&built).map(|n: u64| n + 1, 0..1_000);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn after(&self, tasks: impl Into<Dependency>) -> Self {
        self.with(|options| options.add_dependency(tasks.into()))
    }

    /// Calls `function` with each of the inputs, on whichever engines are free. Returns as soon as all inputs are drawn and
    /// encoded; the results come in the order of the inputs.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let lengths = client.load_balanced_view().map(|text: String| text.len(), ["a", "bc"].map(String::from));
    /// assert_eq!(lengths.get()?, [1, 2]);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// Several inputs are zipped, and the function takes a tuple: `map(|(a, b): (f64, u32)| a.powi(b as i32), xs.zip(ns))`.
    pub fn map<F, A, R, I>(&self, function: F, inputs: I) -> AsyncResult<R>
    where
        F: Fn(A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_function(travelling(|bundle| Function::of_program(function, bundle)), inputs)
    }

    /// As [`map`](Self::map), for a function that can fail: an `Err` is a task that has no value, and the others have theirs.
    pub fn try_map<F, A, R, E, I>(&self, function: F, inputs: I) -> AsyncResult<R>
    where
        F: Fn(A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_function(travelling(|bundle| Function::of_program_fallible(function, bundle)), inputs)
    }

    /// Calls `function` with `shared` and each of the inputs. For what all tasks need and is large: a graph, a model, a table.
    ///
    /// The value travels once to the controller and once to each engine node, however many tasks and engines there are, and each
    /// worker decodes it once. Its encoded form may have up to 1 GiB. The controller keeps it on disk as long as the job has not
    /// ended; after that the least recently used values make room for others, and tasks of jobs whose value has gone cannot be
    /// submitted again by their ids.
    ///
    /// A worker hands the same value to one task after the other: with interior mutability, one would see what another left.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let words: Vec<String> = std::fs::read_to_string("words").unwrap().lines().map(String::from).collect();
    /// let found = client
    ///     .load_balanced_view()
    ///     .map_with(&words, |words, text: String| words.contains(&text), ["engine", "room"].map(String::from));
    /// println!("{:?}", found.get()?);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn map_with<S, F, A, R, I>(&self, shared: &S, function: F, inputs: I) -> AsyncResult<R>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_sharing(shared, travelling(|bundle| Function::of_program_sharing(function, bundle)), inputs)
    }

    /// As [`map_with`](Self::map_with), for a function that can fail: an `Err` is a task that has no value, and the others have
    /// theirs.
    pub fn try_map_with<S, F, A, R, E, I>(&self, shared: &S, function: F, inputs: I) -> AsyncResult<R>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_sharing(shared, travelling(|bundle| Function::of_program_sharing_fallible(function, bundle)), inputs)
    }

    /// Calls `function` with inputs of any number, drawn only as fast as their results are taken: see [`LazyMap`].
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let mut sum = 0;
    /// for square in client.load_balanced_view().map_lazy(|x: u64| x * x, 0..10_000_000) {
    ///     sum += square?;
    /// }
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn map_lazy<F, A, R, I>(&self, function: F, inputs: I) -> LazyMap<R>
    where
        F: Fn(A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let job = self.job(travelling(|bundle| Function::of_program(function, bundle)));
        self.map_lazily(job, inputs.into_iter())
    }

    /// As [`map_lazy`](Self::map_lazy), for a function that can fail.
    pub fn try_map_lazy<F, A, R, E, I>(&self, function: F, inputs: I) -> LazyMap<R>
    where
        F: Fn(A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let job = self.job(travelling(|bundle| Function::of_program_fallible(function, bundle)));
        self.map_lazily(job, inputs.into_iter())
    }

    /// As [`map_lazy`](Self::map_lazy), with a value that the tasks share: see [`map_with`](Self::map_with).
    pub fn map_lazy_with<S, F, A, R, I>(&self, shared: &S, function: F, inputs: I) -> LazyMap<R>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let job = self.job(travelling(|bundle| Function::of_program_sharing(function, bundle)));
        self.map_lazily(sharing(job, shared), inputs.into_iter())
    }

    /// As [`map_lazy_with`](Self::map_lazy_with), for a function that can fail.
    pub fn try_map_lazy_with<S, F, A, R, E, I>(&self, shared: &S, function: F, inputs: I) -> LazyMap<R>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send + 'static,
    {
        let job = self.job(travelling(|bundle| Function::of_program_sharing_fallible(function, bundle)));
        self.map_lazily(sharing(job, shared), inputs.into_iter())
    }

    /// Calls `function` once, on whichever engine is free. Blocks only while much more is waiting to be sent than the network
    /// takes.
    pub fn apply<F, A, R>(&self, function: F, argument: A) -> AsyncResult<R, One>
    where
        F: Fn(A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.apply_function(travelling(|bundle| Function::of_program(function, bundle)), &argument)
    }

    /// As [`apply`](Self::apply), for a function that can fail.
    pub fn try_apply<F, A, R, E>(&self, function: F, argument: A) -> AsyncResult<R, One>
    where
        F: Fn(A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
    {
        self.apply_function(travelling(|bundle| Function::of_program_fallible(function, bundle)), &argument)
    }

    /// As [`apply`](Self::apply), with a value that stays on the engine nodes and that later calls may share: see
    /// [`map_with`](Self::map_with). Each call is a job of its own.
    pub fn apply_with<S, F, A, R>(&self, shared: &S, function: F, argument: A) -> AsyncResult<R, One>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> R + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.apply_sharing(shared, travelling(|bundle| Function::of_program_sharing(function, bundle)), argument)
    }

    /// As [`apply_with`](Self::apply_with), for a function that can fail.
    pub fn try_apply_with<S, F, A, R, E>(&self, shared: &S, function: F, argument: A) -> AsyncResult<R, One>
    where
        S: Serialize + DeserializeOwned + Send + Sync + 'static,
        F: Fn(&S, A) -> std::result::Result<R, E> + Copy + Send + Sync + 'static,
        A: Serialize + DeserializeOwned + 'static,
        R: Serialize + DeserializeOwned + 'static,
        E: fmt::Display + 'static,
    {
        self.apply_sharing(shared, travelling(|bundle| Function::of_program_sharing_fallible(function, bundle)), argument)
    }

    pub(super) fn map_function<A: Serialize, R>(
        &self,
        function: Result<Function>,
        inputs: impl IntoIterator<Item = A>,
    ) -> AsyncResult<R> {
        submit(&self.client, self.job(function), inputs)
    }

    pub(super) fn map_sharing<S: Serialize, A: Serialize, R>(
        &self,
        shared: &S,
        function: Result<Function>,
        inputs: impl IntoIterator<Item = A>,
    ) -> AsyncResult<R> {
        submit(&self.client, sharing(self.job(function), shared), inputs)
    }

    fn apply_sharing<S: Serialize, A: Serialize, R>(
        &self,
        shared: &S,
        function: Result<Function>,
        argument: A,
    ) -> AsyncResult<R, One> {
        let (job, _) = hand_over(&self.client, sharing(self.job(function), shared), [argument]);
        AsyncResult::of_task(self.client.clone(), job, 0, SystemTime::now())
    }

    fn map_lazily<A: Serialize, R>(&self, job: Job, inputs: impl Iterator<Item = A> + Send + 'static) -> LazyMap<R> {
        LazyMap::start(self.client.clone(), job, inputs, self.outstanding_max)
    }

    fn job(&self, function: Result<Function>) -> Job {
        self.job_with(&self.options, function)
    }

    fn job_with(&self, options: &Options, function: Result<Function>) -> Job {
        match options.resolved(&self.client) {
            Ok(options) => new_job(&self.client, &options, function, Vec::new()),
            Err(error) => Job::failed(error),
        }
    }

    pub(super) fn apply_function<A: Serialize, R>(&self, function: Result<Function>, argument: &A) -> AsyncResult<R, One> {
        let shared = &self.client.inner.shared;
        let pushed = function.and_then(|function| {
            // What is looked up is looked up once, so that the job is of the engines that it is found by.
            let (options, choice) = match self.options.are_fixed() {
                true => {
                    let choice = self.choice.get_or_init(|| self.open_jobs.with(&self.options));
                    (Cow::Borrowed(&self.options), choice.clone())
                }
                false => {
                    let options = self.options.resolved(&self.client)?;
                    let choice = self.open_jobs.with(&options);
                    (options, choice)
                }
            };
            let open = self.open_jobs.find(&self.client, &choice, &function, || {
                let job = Arc::new(self.job_with(&options, Ok(function.clone())));
                if job.failure().is_none() {
                    add_job(&self.client, &job);
                }
                job
            });
            shared.wait_for_budget(|| open.job.waiting_bytes());
            let mut encoded = Vec::new();
            encode(argument, &mut encoded).map_err(|error| Error::Submit(format!("the argument cannot be encoded: {error}")))?;
            let pushed = open.job.push(encoded)?;
            notify(&self.client, &open.job, pushed.notify);
            Ok((open.job.clone(), pushed))
        });
        match pushed {
            Ok((job, pushed)) => AsyncResult::of_task(self.client.clone(), job, pushed.index, pushed.at),
            Err(error) => AsyncResult::of_task(self.client.clone(), Arc::new(Job::failed(error)), 0, SystemTime::now()),
        }
    }

    /// This view with other options.
    pub(super) fn with(&self, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = self.options.clone();
        change(&mut options);
        Self { options, choice: OnceLock::new(), ..self.clone() }
    }
}

impl fmt::Debug for LoadBalancedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadBalancedView({:?})", self.client)
    }
}
