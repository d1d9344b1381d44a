//! What became of tasks, by their ids and in the order of these.

use std::time::{Duration, Instant};

use engineroom::{AsyncResult, Client, Error, MessageId, TaskError};

use super::{lines::Stop, value::Shown};
use crate::failure::Failure;

/// How many results are asked for at first, and no more than which: the more the faster, if they are small.
const FIRST_TASKS: usize = 16;
const TASKS_MAX: usize = 1024;

/// So many bytes of results at once are enough, and more than so many too much: the next question is for half as many tasks.
const BYTES_ENOUGH: usize = 1 << 20;
const BYTES_MUCH: usize = 16 << 20;

/// How long results that are there may keep one waiting. The largest takes seconds on a slow link.
const STALL_LIMIT: Duration = Duration::from_secs(120);

/// What is known of a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Its value.
    Value(Shown),
    /// It has ended without a value; why.
    NoValue(String),
    /// It has not ended.
    Pending,
    /// The controller does not know it.
    Unknown,
}

/// Has `each` see what became of each task, in the order of the ids; it answers how many bytes that was. Tasks that have not ended
/// are waited for until `deadline`, if there is one.
pub(super) fn answers(
    client: &Client,
    ids: &[MessageId],
    deadline: Option<Instant>,
    mut each: impl FnMut(usize, Answer) -> Result<usize, Stop>,
) -> Result<(), Stop> {
    let (mut place, mut size) = (0, FIRST_TASKS);
    while place < ids.len() {
        let end = ids.len().min(place + size);
        let mut bytes = 0;
        for answer in some_answers(client, &ids[place..end], deadline)? {
            bytes += each(place, answer)?;
            place += 1;
        }
        size = next_size(size, bytes);
    }
    Ok(())
}

fn next_size(size: usize, bytes: usize) -> usize {
    match bytes {
        0..BYTES_ENOUGH => (2 * size).min(TASKS_MAX),
        BYTES_ENOUGH..BYTES_MUCH => size,
        _ => (size / 2).max(1),
    }
}

/// One answer for each of these tasks. Where they differ in what they are, each half is asked about by itself.
fn some_answers(client: &Client, ids: &[MessageId], deadline: Option<Instant>) -> Result<Vec<Answer>, Failure> {
    let total = ids.len() as u64;
    let counts = client.result_status(ids)?;
    let left = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()));
    if counts.unknown == total {
        return Ok(vec![Answer::Unknown; ids.len()]);
    }
    if counts.unknown == 0 && (counts.pending == 0 || !left.is_zero()) {
        let result = client.get_result::<Shown>(ids.iter().copied())?;
        let arrived = if counts.pending == 0 { arrive(result) } else { arrive_within(result, left) };
        match arrived {
            Ok(Some(answers)) if answers.len() == ids.len() => return Ok(answers),
            Ok(None) if counts.pending == 0 => {
                return Err(Failure::connection(format!("no result came within {} s", STALL_LIMIT.as_secs())));
            }
            // The time is over; what there is by now comes without waiting.
            Ok(None) => return some_answers(client, ids, None),
            Err(Error::WrongType { text, .. }) if ids.len() == 1 => {
                return Ok(vec![Answer::NoValue(format!("its value is not MessagePack that can be shown: {text}"))]);
            }
            Err(Error::UnknownJob(_)) if ids.len() == 1 => return Ok(vec![Answer::Unknown]),
            Ok(Some(_)) | Err(Error::WrongType { .. } | Error::UnknownJob(_)) if ids.len() > 1 => {}
            Ok(Some(_)) => return Ok(vec![Answer::Unknown]),
            Err(error) => return Err(error.into()),
        }
    } else if counts.pending == total {
        return Ok(vec![Answer::Pending; ids.len()]);
    }
    let (before, after) = ids.split_at(ids.len() / 2);
    let mut answers = some_answers(client, before, deadline)?;
    answers.extend(some_answers(client, after, deadline)?);
    Ok(answers)
}

/// The results of tasks that have ended; `None` when none comes for a long time.
fn arrive(mut result: AsyncResult<Shown>) -> Result<Option<Vec<Answer>>, Error> {
    let mut done = result.progress().done;
    while !result.wait(Some(STALL_LIMIT))? {
        let before = std::mem::replace(&mut done, result.progress().done);
        if done == before {
            return Ok(None);
        }
    }
    collect(result).map(Some)
}

/// The results of tasks that may not have ended; `None` when not all of them have within that time.
fn arrive_within(mut result: AsyncResult<Shown>, limit: Duration) -> Result<Option<Vec<Answer>>, Error> {
    if result.wait(Some(limit))? { collect(result).map(Some) } else { Ok(None) }
}

fn collect(result: AsyncResult<Shown>) -> Result<Vec<Answer>, Error> {
    let answer = |result: Result<Shown, TaskError>| match result {
        Ok(value) => Answer::Value(value),
        Err(error) => Answer::NoValue(error.to_string()),
    };
    Ok(result.results()?.into_iter().map(answer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_results_are_asked_for_in_large_numbers_and_large_ones_in_small() {
        let mut size = FIRST_TASKS;
        for _ in 0..10 {
            size = next_size(size, 16 * size);
        }
        assert_eq!(size, TASKS_MAX);
        assert_eq!(next_size(size, BYTES_ENOUGH), TASKS_MAX);
        for _ in 0..20 {
            size = next_size(size, size << 30);
        }
        assert_eq!(size, 1);
    }
}
