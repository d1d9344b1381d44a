//! Who waits until tasks have ended. Pure, but for what is waited with.
//!
//! A waiter knows one task that has not ended, and looks for the next one when that has: a wait for a million tasks costs no more
//! memory than one for a single task, and looks at each run once.

use std::collections::{BTreeMap, HashMap};

use super::backend::{FirstPending, Question, Viewer};
use crate::task::JobId;

/// How many may wait at one store, all clients together, and how many runs of tasks one waits for.
pub(super) const WAITERS_MAX: usize = 65_536;
pub(super) const WAITER_RUNS_MAX: usize = 65_536;

/// All that wait, with whatever `W` is told the end.
pub(super) struct Awaiting<W> {
    waiters: BTreeMap<u64, Waiter<W>>,
    by_job: HashMap<JobId, Vec<u64>>,
    next: u64,
}

struct Waiter<W> {
    who: W,
    viewer: Viewer,
    /// What is left, the current one last: job, first index, end.
    runs: Vec<(JobId, u32, u32)>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    /// Until this task has ended.
    Until(u32),
    /// For an answer; tasks of the job may have ended since the question.
    Asked { since: bool },
}

/// What comes of an event.
pub(super) enum Next<W> {
    Nothing,
    /// This is to be asked, and the answer given to [`Awaiting::answered`].
    Ask(Question),
    /// All have ended.
    Ended(W),
    /// One of the tasks of that job is not known.
    Unknown(W, JobId),
}

impl<W> Default for Awaiting<W> {
    fn default() -> Self {
        Self { waiters: BTreeMap::new(), by_job: HashMap::new(), next: 0 }
    }
}

impl<W> Awaiting<W> {
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Somebody waits for these tasks, as first index and count. Returns its number, and what comes of it.
    pub fn add(&mut self, who: W, viewer: Viewer, runs: Vec<(JobId, u32, u32)>) -> (u64, Next<W>) {
        let runs = runs.into_iter().map(|(job, first, count)| (job, first, first.saturating_add(count)));
        let number = self.next;
        self.next += 1;
        let waiter = Waiter { who, viewer, runs: runs.collect(), state: State::Asked { since: false } };
        if let Some((job, _, _)) = waiter.runs.last() {
            self.by_job.entry(*job).or_default().push(number);
        }
        self.waiters.insert(number, waiter);
        (number, self.ask(number))
    }

    /// Tasks have ended. Returns the waiters that have something to ask because of that.
    pub fn ended(&mut self, job: JobId, first: u32, end: u32) -> Vec<(u64, Next<W>)> {
        let mut to_ask = Vec::new();
        for number in self.by_job.get(&job).into_iter().flatten() {
            let Some(waiter) = self.waiters.get_mut(number) else { continue };
            match &mut waiter.state {
                State::Until(task) if (first..end).contains(task) => to_ask.push(*number),
                State::Until(_) => {}
                State::Asked { since } => *since = true,
            }
        }
        to_ask.into_iter().map(|number| (number, self.ask(number))).collect()
    }

    /// The answer to a waiter's question.
    pub fn answered(&mut self, number: u64, answer: FirstPending) -> Next<W> {
        let Some(waiter) = self.waiters.get_mut(&number) else { return Next::Nothing };
        let State::Asked { since } = waiter.state else { return Next::Nothing };
        let Some((job, first, _)) = waiter.runs.last_mut() else { return Next::Nothing };
        match answer {
            FirstPending::At(task) | FirstPending::LookOn(task) => *first = (*first).max(task),
            FirstPending::None | FirstPending::Unknown => {}
        }
        match answer {
            // The task may have ended behind the answer's back.
            FirstPending::At(task) if !since => {
                waiter.state = State::Until(task);
                Next::Nothing
            }
            FirstPending::At(_) | FirstPending::LookOn(_) => self.ask(number),
            FirstPending::Unknown => {
                let job = *job;
                self.remove(number).map_or(Next::Nothing, |waiter| Next::Unknown(waiter.who, job))
            }
            FirstPending::None => {
                let job = *job;
                waiter.runs.pop();
                let next = waiter.runs.last().map(|(job, _, _)| *job);
                if next != Some(job) {
                    self.unlist(job, number);
                    next.into_iter().for_each(|job| self.by_job.entry(job).or_default().push(number));
                }
                self.ask(number)
            }
        }
    }

    /// Drops those that wait in vain.
    pub fn retain(&mut self, keep: impl Fn(&W) -> bool) {
        let gone: Vec<u64> = self.waiters.iter().filter(|(_, waiter)| !keep(&waiter.who)).map(|(number, _)| *number).collect();
        gone.into_iter().for_each(|number| drop(self.remove(number)));
    }

    pub fn count(&self, of: impl Fn(&W) -> bool) -> usize {
        self.waiters.values().filter(|waiter| of(&waiter.who)).count()
    }

    fn ask(&mut self, number: u64) -> Next<W> {
        let Some(waiter) = self.waiters.get_mut(&number) else { return Next::Nothing };
        waiter.state = State::Asked { since: false };
        match waiter.runs.last() {
            Some((job, first, end)) => {
                Next::Ask(Question::FirstPending { viewer: waiter.viewer.clone(), job: *job, first: *first, end: *end })
            }
            None => self.remove(number).map_or(Next::Nothing, |waiter| Next::Ended(waiter.who)),
        }
    }

    fn remove(&mut self, number: u64) -> Option<Waiter<W>> {
        let waiter = self.waiters.remove(&number)?;
        if let Some((job, _, _)) = waiter.runs.last() {
            self.unlist(*job, number);
        }
        Some(waiter)
    }

    fn unlist(&mut self, job: JobId, number: u64) {
        if let Some(listed) = self.by_job.get_mut(&job) {
            listed.retain(|other| *other != number);
            if listed.is_empty() {
                self.by_job.remove(&job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId::from_u128(1);
    const OTHER: JobId = JobId::from_u128(2);

    fn asked(next: &Next<char>) -> Option<(JobId, u32, u32)> {
        match next {
            Next::Ask(Question::FirstPending { job, first, end, .. }) => Some((*job, *first, *end)),
            _ => None,
        }
    }

    #[test]
    fn a_waiter_goes_from_one_task_that_has_not_ended_to_the_next() {
        let mut awaiting = Awaiting::default();
        let (number, next) = awaiting.add('a', "ada".into(), vec![(OTHER, 0, 1), (JOB, 5, 10)]);
        assert_eq!(asked(&next), Some((JOB, 5, 15)));
        assert!(matches!(awaiting.answered(number, FirstPending::At(7)), Next::Nothing));
        assert!(awaiting.ended(JOB, 8, 15).is_empty() && awaiting.ended(OTHER, 0, 9).is_empty());
        assert_eq!(asked(&awaiting.ended(JOB, 6, 8)[0].1), Some((JOB, 7, 15)));
        assert_eq!(asked(&awaiting.answered(number, FirstPending::LookOn(9))), Some((JOB, 9, 15)));
        assert_eq!(asked(&awaiting.answered(number, FirstPending::None)), Some((OTHER, 0, 1)));
        assert!(matches!(awaiting.answered(number, FirstPending::None), Next::Ended('a')));
        assert!(awaiting.by_job.is_empty() && awaiting.waiters.is_empty());
    }

    #[test]
    fn a_task_that_ends_between_question_and_answer_is_not_waited_for_forever() {
        let mut awaiting = Awaiting::default();
        let (number, _) = awaiting.add('a', "ada".into(), vec![(JOB, 0, 1)]);
        assert!(awaiting.ended(JOB, 0, 1).is_empty());
        assert_eq!(asked(&awaiting.answered(number, FirstPending::At(0))), Some((JOB, 0, 1)));
    }

    #[test]
    fn who_waits_for_nothing_or_for_what_is_not_there_is_told_at_once() {
        let mut awaiting = Awaiting::default();
        assert!(matches!(awaiting.add('a', "ada".into(), vec![]).1, Next::Ended('a')));
        let (number, _) = awaiting.add('b', "ada".into(), vec![(JOB, 0, 1)]);
        assert!(matches!(awaiting.answered(number, FirstPending::Unknown), Next::Unknown('b', JOB)));
        let (number, _) = awaiting.add('c', "ada".into(), vec![(JOB, 0, 1)]);
        awaiting.retain(|who| *who != 'c');
        assert!(matches!(awaiting.answered(number, FirstPending::None), Next::Nothing));
        assert!(awaiting.by_job.is_empty());
    }
}
