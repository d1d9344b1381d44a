//! How jobs are made, filled with inputs and handed to the client's actor.

use std::sync::Arc;

use serde::Serialize;

use super::{
    Client,
    actor::AddJob,
    async_result::{AsyncResult, notify},
    job::{Job, WINDOW_BYTES},
    options::Options,
    value::SharedValue,
};
use crate::code::{Bundle, Function, FunctionError, encode, target};
use crate::engine::worker::was_initialised;
use crate::error::{Error, Result};
use crate::task::{EngineId, JobId, item_of};
use crate::wire::JobHeader;

/// A function that travels with this program.
pub(super) fn travelling(
    make: impl FnOnce(crate::task::BundleHash) -> std::result::Result<Function, FunctionError>,
) -> Result<Function> {
    if !was_initialised() {
        let text = "this program submits functions but has not called engineroom::init(): call it first of all in main, so that \
                    engines can start this program as their worker";
        return Err(Error::Submit(text.into()));
    }
    let bundle = Bundle::of_this_program()?;
    Ok(make(bundle.hash)?)
}

/// A job without tasks, of these options.
pub(super) fn new_job(client: &Client, options: &Options, function: Result<Function>, direct: Vec<(EngineId, u32)>) -> Job {
    let function = match function {
        Ok(_) if client.inner.shared.is_closed() => return Job::failed(Error::Closed),
        Ok(function) => function,
        Err(error) => return Job::failed(error),
    };
    let subscription = client.inner.shared.next_number();
    let target = if function.bundle().is_some() { target() } else { String::new() };
    let (chunk, label) = (options.chunk, options.label.clone());
    let header = JobHeader {
        function,
        target,
        direct,
        chunk,
        label,
        subscription,
        window_bytes: WINDOW_BYTES,
        shared: None,
        options: Box::new(options.tasks.clone()),
    };
    Job::new(JobId::fresh(), subscription, header)
}

/// A job whose tasks share a value.
pub(super) fn sharing<S: Serialize>(job: Job, value: &S) -> Job {
    if job.failure().is_some() {
        return job;
    }
    match SharedValue::of(value) {
        Ok(value) => job.share(value),
        Err(error) => return Job::failed(error),
    }
    job
}

/// Hands a job to the client's actor.
pub(super) fn add_job(client: &Client, job: &Arc<Job>) {
    client.inner.actor.do_send(AddJob(job.clone()));
    if !client.inner.actor.connected() {
        job.fail(Error::Closed);
    }
}

/// Encodes all inputs and hands the job to the client's actor.
pub(super) fn submit<A: Serialize, R>(client: &Client, job: Job, inputs: impl IntoIterator<Item = A>) -> AsyncResult<R> {
    let (job, count) = hand_over(client, job, inputs);
    AsyncResult::of_job(client.clone(), job, count)
}

/// As [`submit`]; the job, and how many inputs it has.
pub(super) fn hand_over<A: Serialize>(client: &Client, job: Job, inputs: impl IntoIterator<Item = A>) -> (Arc<Job>, u32) {
    let mut job = job;
    let mut argument = Vec::new();
    let fine = job.failure().is_none();
    for (index, input) in inputs.into_iter().enumerate().take_while(|_| fine) {
        argument.clear();
        let encoded = encode(&input, &mut argument);
        let encoded = encoded.map_err(|error| Error::Submit(format!("input {index} cannot be encoded: {error}")));
        if let Err(error) = encoded.and_then(|()| job.push(item_of(&mut argument))) {
            job = Job::failed(error);
            break;
        }
    }
    let (count, _) = job.length();
    let change = job.close();
    let job = Arc::new(job);
    if job.failure().is_none() {
        add_job(client, &job);
        notify(client, &job, change);
    }
    (job, count)
}
