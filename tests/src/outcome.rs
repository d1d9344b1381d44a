//! What became of a task, as the program `probe` tells a test.

use std::collections::BTreeMap;

use engineroom::{AsyncResult, Shape, TaskError, TaskMetadata};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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
pub fn outcomes<R: DeserializeOwned, S: Shape>(mut result: AsyncResult<R, S>) -> engineroom::Result<Vec<Outcome<R>>> {
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

    /// How many tasks each engine has ended.
    pub fn by_engine(outcomes: &[Self]) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for engine in outcomes.iter().filter_map(|outcome| outcome.engine) {
            *counts.entry(engine).or_default() += 1;
        }
        counts
    }
}
