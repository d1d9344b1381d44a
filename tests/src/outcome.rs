//! What became of a task, as the program `probe` tells a test.

use std::collections::BTreeMap;

use engineroom::{AsyncResult, Client, JobId, MessageId, Shape, TaskError, TaskFilter, TaskMetadata, TaskState};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// How many records are asked for at once.
const PAGE: u32 = 1000;

/// What became of one task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome<R> {
    /// The task.
    pub id: String,
    /// Its value, or why it has none.
    pub result: Result<R, TaskError>,
    /// The error as a user sees it.
    pub text: Option<String>,
    /// The engine that ran it last.
    pub engine: Option<u32>,
    /// How often it had been sent to an engine.
    pub attempt: u32,
    /// Whether it is known when it ran.
    pub timed: bool,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Waits for tasks and tells what became of them, in the order of the inputs.
///
/// # Errors
/// When the results will never come.
pub fn outcomes<R: DeserializeOwned + 'static, S: Shape>(mut result: AsyncResult<R, S>) -> engineroom::Result<Vec<Outcome<R>>> {
    let metadata = result.metadata()?;
    let results = result.results()?;
    assert_eq!(metadata.len(), results.len());
    Ok(metadata.into_iter().zip(results).map(|(metadata, result)| Outcome::new(metadata, result)).collect())
}

impl<R> Outcome<R> {
    fn new(metadata: TaskMetadata, result: Result<R, TaskError>) -> Self {
        let in_order = |start| metadata.completed.is_some_and(|end| start <= end);
        Self {
            id: metadata.id.to_string(),
            text: result.as_ref().err().map(ToString::to_string),
            result,
            engine: metadata.engine.map(|engine| engine.0),
            attempt: metadata.attempt,
            timed: metadata.started.is_some_and(in_order),
            stdout: metadata.output.stdout,
            stderr: metadata.output.stderr,
        }
    }

    /// The job of these tasks, of which there is at least one.
    ///
    /// # Panics
    /// When there is none.
    pub fn job(outcomes: &[Self]) -> JobId {
        outcomes[0].id.parse::<MessageId>().expect("a message id").job
    }

    /// How many tasks each engine has ended.
    pub fn by_engine(outcomes: &[Self]) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for engine in outcomes.iter().filter_map(|outcome| outcome.engine) {
            *counts.entry(engine).or_default() += 1;
        }
        counts
    }
}

/// What the controller has recorded of a job: the index and state of each task that it knows.
///
/// # Errors
/// When the controller cannot be asked.
pub fn recorded(client: &Client, job: JobId) -> engineroom::Result<Vec<(u32, TaskState)>> {
    let filter = TaskFilter { job: Some(job), ..TaskFilter::default() };
    let (mut recorded, mut after) = (Vec::new(), None);
    loop {
        let (records, next) = client.query(&filter, after, PAGE)?;
        recorded.extend(records.into_iter().map(|record| (record.id.index, record.state)));
        after = next;
        if after.is_none() {
            return Ok(recorded);
        }
    }
}

/// All tasks of a map of squares are right, and each has one recorded outcome.
///
/// # Panics
/// When that is not so.
pub fn assert_squares(outcomes: &[Outcome<u64>], recorded: &[(u32, TaskState)], tasks: u32) {
    assert_eq!(outcomes.len(), tasks as usize);
    for (number, outcome) in (0..).zip(outcomes) {
        assert_eq!(outcome.result, Ok(number * number), "{}", outcome.id);
    }
    let expected: Vec<_> = (0..tasks).map(|index| (index, TaskState::Succeeded)).collect();
    assert_eq!(recorded, expected, "one recorded outcome a task");
}
