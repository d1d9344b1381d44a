//! Jobs that single submissions share, so that each costs no job of its own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{Client, async_result::notify, job::Job, options::Options};
use crate::code::Function;

/// How many jobs of single submissions a view and those derived from it keep open; each function that is applied has one for each
/// choice of options. The oldest is closed; the next task like its own opens another.
const OPEN_JOBS_MAX: usize = 256;

/// The most choices of options whose open jobs are looked for. The oldest is forgotten, with the same effect.
const CHOICES_MAX: usize = 64;

/// A job that single submissions of one function and with the same options share.
#[derive(Debug)]
pub(super) struct OpenJob {
    client: Client,
    pub job: Arc<Job>,
}

impl Drop for OpenJob {
    fn drop(&mut self) {
        notify(&self.client, &self.job, self.job.close());
    }
}

/// The open jobs of a view, and of those that were derived from it.
#[derive(Debug, Default)]
pub(super) struct OpenJobs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    choices: VecDeque<(Options, Arc<Choice>)>,
    recent: VecDeque<Arc<OpenJob>>,
}

/// The open jobs with the same options.
#[derive(Debug, Default)]
pub(super) struct Choice {
    jobs: Mutex<HashMap<Function, Weak<OpenJob>>>,
}

impl OpenJobs {
    /// Those with these options.
    pub fn with(&self, options: &Options) -> Arc<Choice> {
        let mut state = lock(&self.state);
        if let Some((_, choice)) = state.choices.iter().find(|(known, _)| known == options) {
            return choice.clone();
        }
        if state.choices.len() == CHOICES_MAX {
            state.choices.pop_front();
        }
        let choice = Arc::new(Choice::default());
        state.choices.push_back((options.clone(), choice.clone()));
        choice
    }

    /// The open job of a function, or a new one.
    pub fn find(&self, client: &Client, choice: &Choice, function: &Function, open: impl FnOnce() -> Arc<Job>) -> Arc<OpenJob> {
        let mut jobs = lock(&choice.jobs);
        let usable = |open: &Arc<OpenJob>| open.job.failure().is_none() && open.job.length().0 < u32::MAX;
        if let Some(job) = jobs.get(function).and_then(Weak::upgrade).filter(usable) {
            return job;
        }
        let fresh = Arc::new(OpenJob { client: client.clone(), job: open() });
        jobs.retain(|_, job| job.strong_count() > 0);
        jobs.insert(function.clone(), Arc::downgrade(&fresh));
        let mut state = lock(&self.state);
        let oldest = if state.recent.len() == OPEN_JOBS_MAX { state.recent.pop_front() } else { None };
        state.recent.push_back(fresh.clone());
        // It is closed when the locks are free.
        drop((state, jobs, oldest));
        fresh
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_options_have_the_same_open_jobs_and_others_have_others() {
        let jobs = OpenJobs::default();
        let labelled = |label: usize| Options { label: Some(label.to_string()), ..Options::default() };
        let first = jobs.with(&labelled(0));
        assert!(Arc::ptr_eq(&first, &jobs.with(&labelled(0))));
        assert!(!Arc::ptr_eq(&first, &jobs.with(&labelled(1))));
        (2..CHOICES_MAX + 1).for_each(|label| drop(jobs.with(&labelled(label))));
        assert!(!Arc::ptr_eq(&first, &jobs.with(&labelled(0))), "the oldest is forgotten");
        assert_eq!(lock(&jobs.state).choices.len(), CHOICES_MAX);
    }
}
