//! Tasks on the command line, by id or by filter, and page by page: there may be millions of them.

use std::{str::FromStr, time::SystemTime};

use clap::Args;
use engineroom::{Client, JobId, MessageId, TaskFilter, TaskRecord, TaskState};

use super::{filter::FilterArgs, lines::Stop};
use crate::failure::Failure;

/// How many tasks are seen to at once: what a controller tells in one answer, and no memory to speak of.
pub(super) const PAGE_TASKS: usize = 1000;

/// Tasks by id, or by filter.
#[derive(Debug, Args)]
pub(super) struct SelectArgs {
    /// <job>/<index> for a task, <job>/<first>-<last> for several, <job> for all of a job
    #[arg(value_name = "ID")]
    ids: Vec<Tasks>,
    #[command(flatten)]
    filters: FilterArgs,
}

/// Tasks that one word on the command line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tasks {
    /// Those of a job with indices from the first to the last.
    Range {
        /// The job.
        job: JobId,
        /// The first index.
        first: u32,
        /// The last index: not less than the first.
        last: u32,
    },
    /// All of a job.
    Job(JobId),
}

/// Tasks that a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// These.
    Ids(Vec<Tasks>),
    /// Those that pass.
    Filter(TaskFilter),
}

impl SelectArgs {
    /// Whether nothing was given.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.filters.is_empty()
    }

    /// What was given.
    ///
    /// # Errors
    /// When nothing was, so that nobody means everything by accident; or ids and filters.
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        match (self.ids.is_empty(), self.filters.is_empty()) {
            (true, true) => Err(Failure::usage("which tasks? Give their ids, or a filter such as --job or --state (see --help)")),
            (false, false) => Err(Failure::usage("give either ids or filters: filters do not apply to ids")),
            (false, true) => Ok(Selection::Ids(self.ids.clone())),
            (true, false) => Ok(Selection::Filter(self.filters.filter(SystemTime::now())?)),
        }
    }
}

impl Selection {
    /// With a filter that asks for no state: those in one of these states.
    pub(super) fn or_states(self, states: &[TaskState]) -> Self {
        match self {
            Selection::Filter(filter) if filter.states.is_empty() => {
                Selection::Filter(TaskFilter { states: states.to_vec(), ..filter })
            }
            other => other,
        }
    }

    /// Has `each` see to all of the tasks, a page at a time.
    pub(super) fn pages(&self, client: &Client, mut each: impl FnMut(&[MessageId]) -> Result<(), Stop>) -> Result<(), Stop> {
        match self {
            Selection::Filter(filter) => records(client, filter, |page| each(&ids_of(page))),
            Selection::Ids(words) => {
                let of_job = |job, each: &mut Each<'_>| whole_job(client, job, each);
                pages_of(words, of_job, &mut each)
            }
        }
    }
}

/// What sees to a page.
type Each<'a> = dyn FnMut(&[MessageId]) -> Result<(), Stop> + 'a;

/// Has `each` see to what passes the filter, a page at a time; nothing is held beyond a page. What changes its state meanwhile is
/// met once at most.
pub(super) fn records(
    client: &Client,
    filter: &TaskFilter,
    mut each: impl FnMut(&[TaskRecord]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut after = None;
    loop {
        let (page, next) = client.query(filter, after, PAGE_TASKS as u32)?;
        if !page.is_empty() {
            each(&page)?;
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

fn ids_of(page: &[TaskRecord]) -> Vec<MessageId> {
    page.iter().map(|record| record.id).collect()
}

/// All tasks of a job, a page at a time. A job without any is not there.
fn whole_job(client: &Client, job: JobId, each: &mut Each<'_>) -> Result<(), Stop> {
    let filter = TaskFilter { job: Some(job), ..TaskFilter::default() };
    let mut found = Found::Nothing;
    records(client, &filter, |page| {
        found = Found::Tasks;
        each(&ids_of(page))
    })?;
    match found {
        Found::Tasks => Ok(()),
        Found::Nothing => Err(engineroom::Error::UnknownJob(job).into()),
    }
}

enum Found {
    Nothing,
    Tasks,
}

/// The tasks of all words in pages: full ones, but before and after whole jobs.
fn pages_of(
    words: &[Tasks],
    mut of_job: impl FnMut(JobId, &mut Each<'_>) -> Result<(), Stop>,
    each: &mut Each<'_>,
) -> Result<(), Stop> {
    let mut page = Vec::new();
    for word in words {
        match *word {
            Tasks::Range { job, first, last } => {
                for index in first..=last {
                    page.push(MessageId { job, index });
                    if page.len() == PAGE_TASKS {
                        each(&page)?;
                        page.clear();
                    }
                }
            }
            Tasks::Job(job) => {
                if !page.is_empty() {
                    each(&page)?;
                    page.clear();
                }
                of_job(job, each)?;
            }
        }
    }
    if page.is_empty() { Ok(()) } else { each(&page) }
}

impl FromStr for Tasks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no task: expected <job>/<index>, <job>/<first>-<last>, or <job> for all of its tasks, as in \
                 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17"
            )
        };
        let (job, indices) = match text.split_once('/') {
            None => return text.parse().map(Tasks::Job).map_err(|_| wrong()),
            Some((job, indices)) => (job.parse().map_err(|_| wrong())?, indices),
        };
        let (first, last) = indices.split_once('-').unwrap_or((indices, indices));
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Tasks::Range { job, first, last }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    const JOB: JobId = JobId::from_u128(0x0192_f0c1_2b3d_7e4f_8a5b_6c7d_8e9f_0a1b);

    fn range(first: u32, last: u32) -> Tasks {
        Tasks::Range { job: JOB, first, last }
    }

    #[test]
    fn a_word_is_a_task_a_range_or_a_job() {
        for (word, tasks) in [
            (format!("{JOB}"), Tasks::Job(JOB)),
            (format!("{JOB}/0"), range(0, 0)),
            (format!("{JOB}/3-17"), range(3, 17)),
            (format!("{JOB}/4294967295-4294967295"), range(u32::MAX, u32::MAX)),
        ] {
            assert_eq!(word.parse(), Ok(tasks), "{word}");
        }
        for word in ["", "17", "x/1", &format!("{JOB}/"), &format!("{JOB}/5-3"), &format!("{JOB}/-3"), &format!("{JOB}/3-")]
            .into_iter()
            .chain(
                [format!("{JOB}/+1"), format!("{JOB}/1/2"), format!("{JOB}/4294967296"), format!("{JOB}/1-2-3")]
                    .iter()
                    .map(String::as_str),
            )
        {
            assert!(word.parse::<Tasks>().is_err_and(|error| error.contains("<first>-<last>")), "{word}");
        }
    }

    #[test]
    fn words_become_pages_in_their_order() {
        let other = JobId::from_u128(2);
        let words = [range(0, 0), range(5, 5), Tasks::Job(other), range(0, 2 * PAGE_TASKS as u32)];
        let mut pages = Vec::new();
        let of_job = |job, each: &mut Each<'_>| each(&[MessageId { job, index: 7 }]);
        pages_of(&words, of_job, &mut |page| {
            pages.push(page.to_vec());
            Ok(())
        })
        .map_err(|stop| format!("{stop:?}"))
        .unwrap();
        let id = |job, index| MessageId { job, index };
        assert_eq!(pages[..2], [vec![id(JOB, 0), id(JOB, 5)], vec![id(other, 7)]]);
        let rest: Vec<usize> = pages[2..].iter().map(Vec::len).collect();
        assert_eq!(rest, [PAGE_TASKS, PAGE_TASKS, 1]);
        assert_eq!(pages[4], [id(JOB, 2 * PAGE_TASKS as u32)]);
    }

    #[test]
    fn nobody_means_everything_by_accident() {
        let nothing = SelectArgs { ids: Vec::new(), filters: FilterArgs::default() };
        let failure = nothing.selection().expect_err("nothing was said");
        assert_eq!(failure.exit, Exit::Usage);
        let ids = SelectArgs { ids: vec![range(1, 1)], ..nothing };
        assert_eq!(ids.selection().unwrap(), Selection::Ids(vec![range(1, 1)]));
    }

    #[test]
    fn states_that_were_asked_for_stay() {
        let pending = TaskFilter { states: vec![TaskState::Pending], ..TaskFilter::default() };
        let failed = TaskFilter { states: vec![TaskState::Failed], ..TaskFilter::default() };
        for (given, becomes) in [(TaskFilter::default(), &pending), (failed.clone(), &failed)] {
            assert_eq!(Selection::Filter(given).or_states(&[TaskState::Pending]), Selection::Filter(becomes.clone()));
        }
    }
}
