//! Small things about runs.

use crate::task::{Cause, Outcomes};
use crate::wire::{Run, RunBody};

/// What says that the outcomes of `start..stop` have been dropped.
pub(super) fn evicted_run(start: u32, stop: u32) -> Run {
    let body = RunBody::Ended(Cause::Evicted);
    Run { first: start, count: stop.saturating_sub(start), engine: None, attempt: 0, submitted_us: 0, body }
}

/// The tasks `start..stop` of a sound run, within which they lie.
pub(crate) fn part(run: &Run, start: u32, stop: u32) -> Run {
    let (from, to) = (start - run.first, stop - run.first);
    let body = match &run.body {
        RunBody::Ended(cause) => RunBody::Ended(cause.clone()),
        RunBody::Ran(outcomes) => {
            let within = |at: u32| (from..to).contains(&at);
            RunBody::Ran(Outcomes {
                epoch_us: outcomes.epoch_us,
                values: outcomes.values.slice(from as usize, (to - from) as usize),
                timings: outcomes.timings[from as usize..to as usize].to_vec(),
                failures: outcomes
                    .failures
                    .iter()
                    .filter(|(at, _)| within(*at))
                    .map(|(at, cause)| (at - from, cause.clone()))
                    .collect(),
                output: outcomes
                    .output
                    .iter()
                    .filter(|(at, _)| within(*at))
                    .map(|(at, text)| (at - from, text.clone()))
                    .collect(),
            })
        }
    };
    let Run { engine, attempt, submitted_us, .. } = *run;
    Run { first: start, count: stop - start, engine, attempt, submitted_us, body }
}
