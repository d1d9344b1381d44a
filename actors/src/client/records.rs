//! What a client asks about tasks that were submitted at any time, by itself or by other clients of its owner.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    AsyncResult, Client, IDS_PER_QUESTION,
    async_result::notify,
    job::{Job, WINDOW_BYTES},
    new_job, runs_of,
};
use crate::error::{Error, Result};
use crate::results::ResultStore;
use crate::scheduler::SchedulerActor;
use crate::task::{JobId, MessageId, TaskFilter, TaskRecord};
use crate::wire::{
    Abort, AbortCounts, AwaitEnd, FetchTasks, FetchedTasks, JobHeader, Purge, PurgeOlder, QueryTasks, SCHEDULER, SHARDS,
    StoreRefusal, TaskPage, store_actor,
};

/// How many records one question of [`Client::history`] asks for.
const HISTORY_PAGE: u32 = 1000;

/// The longest wait, so that its end is a time that clocks know: a year.
const WAIT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs of consecutive tasks of a job: first index and count.
pub(super) type Runs = Vec<(JobId, u32, u32)>;

impl Client {
    /// Blocks until all of these tasks have ended, whoever submitted them; the controller says when, nothing is polled. `false`
    /// when the time is over before. What this client has only just submitted itself is handed over first, as it is by every
    /// question about tasks by their ids.
    ///
    /// # Errors
    /// When the controller does not know all of them.
    pub fn wait(&self, ids: impl IntoIterator<Item = MessageId>, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout.min(WAIT_MAX);
        let runs = runs_of(ids);
        if !self.inner.hand_over(&runs, deadline)? {
            return Ok(false);
        }
        for (shard, runs) in by_shard(runs) {
            for runs in runs.chunks(IDS_PER_QUESTION) {
                let question = || AwaitEnd { runs: runs.to_vec() };
                match self.inner.ask_until::<ResultStore, _>(store_actor(shard), deadline, question) {
                    Ok(answer) => answer?,
                    Err(Error::Timeout(_)) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(true)
    }

    /// Aborts these tasks, whoever of this owner submitted them, and says what they were. Those that wait never run; those that run
    /// are stopped as [`AsyncResult::abort`] says, unless they end first. What has ended stays as it is.
    ///
    /// # Errors
    /// When the controller cannot be asked, or one of the jobs is another owner's.
    pub fn abort(&self, ids: impl IntoIterator<Item = MessageId>) -> Result<AbortCounts> {
        let mut sum = AbortCounts::default();
        for (job, first, count) in self.known(ids)? {
            sum += self.inner.ask_soon::<SchedulerActor, _>(SCHEDULER, || Abort { job, first, count })?;
        }
        Ok(sum)
    }

    /// Submits these tasks again, as new ones with new message ids: the same functions and arguments, with the options that they
    /// had. The results come in the order of the ids.
    ///
    /// # Errors
    /// When the controller does not know all of them, or does not keep their arguments any more: it does while it keeps their
    /// results, if its store is on disk.
    pub fn resubmit<R>(&self, ids: impl IntoIterator<Item = MessageId>) -> Result<AsyncResult<R>> {
        let mut parts = Vec::new();
        for (id, ranges) in consecutive(self.known(ids)?) {
            let (header, arguments) = self.fetch_arguments(id, &ranges)?;
            let direct = shares(&header.direct, &ranges);
            let subscription = self.inner.shared.next_number();
            let header = JobHeader { direct, subscription, window_bytes: WINDOW_BYTES, ..*header };
            let job = Job::new(JobId::fresh(), subscription, header);
            for argument in &arguments {
                // Told to the actor as a whole.
                job.push(&argument[..])?;
            }
            let (count, _) = job.length();
            let change = job.close();
            let job = Arc::new(job);
            new_job::add_job(self, &job);
            notify(self, &job, change);
            parts.push((job, 0, count));
        }
        Ok(AsyncResult::of_parts(self.clone(), parts))
    }

    /// Has the controller forget the outcomes and arguments of these tasks. Answers how many there were.
    ///
    /// # Errors
    /// When one of them has not ended, or the controller does not know it; tasks of other jobs may be gone then.
    pub fn purge_results(&self, ids: impl IntoIterator<Item = MessageId>) -> Result<u64> {
        let mut purged = 0;
        for (shard, runs) in by_shard(self.known(ids)?) {
            for runs in runs.chunks(IDS_PER_QUESTION) {
                let question = || Purge { runs: runs.to_vec() };
                purged += self.inner.ask_soon::<ResultStore, _>(store_actor(shard), question)??;
            }
        }
        Ok(purged)
    }

    /// Has the controller forget the outcomes and arguments of this owner's jobs that ended longer than `age` ago. Answers how
    /// many tasks there were.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub fn purge_older_than(&self, age: Duration) -> Result<u64> {
        let before = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        let before_us = before.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let before_us = u64::try_from(before_us).unwrap_or(u64::MAX);
        let mut purged = 0;
        for shard in 0..SHARDS {
            let question = || PurgeOlder { shard: shard as u32, before_us };
            purged += self.inner.ask_soon::<ResultStore, _>(store_actor(shard), question)??;
        }
        Ok(purged)
    }

    /// Tasks that the filter lets through, those of the newest job first, within a job by index: at most `limit` of those that
    /// come after `after`, and the place to go on from. Fewer than `limit` do not mean that there are no more: only `None` does.
    ///
    /// ```no_run
    /// # use engineroom::{TaskFilter, TaskState, prelude::*};
    /// # let client = Client::connect(Profile::default())?;
    /// let failed = TaskFilter { states: vec![TaskState::Failed], ..TaskFilter::default() };
    /// let (records, more) = client.query(&failed, None, 100)?;
    /// for task in records {
    ///     println!("{} {}", task.id, task.error.unwrap_or_default());
    /// }
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub fn query(
        &self,
        filter: &TaskFilter,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<(Vec<TaskRecord>, Option<MessageId>)> {
        let shards = match filter.job {
            Some(job) => job.shard(SHARDS)..job.shard(SHARDS) + 1,
            None => 0..SHARDS,
        };
        let mut pages = Vec::new();
        for shard in shards {
            let question = || QueryTasks { shard: shard as u32, filter: filter.clone(), after, limit };
            pages.push(self.inner.ask_soon::<ResultStore, _>(store_actor(shard), question)??);
        }
        Ok(merge(pages, limit as usize))
    }

    /// All tasks of this owner that the controller knows, those of the newest job first, asked for page by page.
    pub fn history(&self) -> History {
        History { client: self.clone(), records: VecDeque::new(), next: Some(None) }
    }

    /// What the tasks of a job have in common, and the arguments of these of them, in their order.
    fn fetch_arguments(&self, job: JobId, ranges: &[(u32, u32)]) -> Result<(Box<JobHeader>, Vec<bytes::Bytes>)> {
        let mut arguments = Vec::new();
        let mut common = None;
        for (first, count) in ranges {
            let end = first.saturating_add(*count);
            let mut next = *first;
            loop {
                let question = || FetchTasks { job, ranges: vec![(next, end - next)] };
                let store = store_actor(job.shard(SHARDS));
                let FetchedTasks { header, runs, next: more } = self.inner.ask_soon::<ResultStore, _>(store, question)??;
                common.get_or_insert(header);
                for (_, packed) in runs.iter().filter(|(_, packed)| packed.is_sound()) {
                    arguments.extend((0..packed.len()).filter_map(|at| packed.share(at)));
                }
                match more {
                    Some(more) if more > next && more < end => next = more,
                    _ => break,
                }
            }
        }
        let wanted: usize = ranges.iter().map(|(_, count)| *count as usize).sum();
        match common {
            Some(header) if arguments.len() == wanted => Ok((header, arguments)),
            _ => Err(Error::UnknownJob(job)),
        }
    }
}

/// The tasks of an owner, from [`Client::history`].
#[derive(Debug)]
pub struct History {
    client: Client,
    records: VecDeque<TaskRecord>,
    /// Where to go on; `None` at the end.
    next: Option<Option<MessageId>>,
}

impl Iterator for History {
    type Item = Result<TaskRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Some(Ok(record));
            }
            match self.client.query(&TaskFilter::default(), self.next.take()?, HISTORY_PAGE) {
                Ok((records, next)) => (self.records, self.next) = (records.into(), next.map(Some)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl From<StoreRefusal> for Error {
    fn from(refusal: StoreRefusal) -> Self {
        match refusal {
            StoreRefusal::Unknown(job) => Error::UnknownJob(job),
            refusal => Error::Store(refusal.to_string()),
        }
    }
}

pub(super) fn by_shard(runs: Runs) -> BTreeMap<usize, Runs> {
    let mut shards: BTreeMap<usize, Runs> = BTreeMap::new();
    for run in runs {
        shards.entry(run.0.shard(SHARDS)).or_default().push(run);
    }
    shards
}

/// Consecutive runs of one job together, in their order.
fn consecutive(runs: Runs) -> Vec<(JobId, Vec<(u32, u32)>)> {
    let mut jobs: Vec<(JobId, Vec<(u32, u32)>)> = Vec::new();
    for (job, first, count) in runs {
        match jobs.last_mut() {
            Some((last, ranges)) if *last == job => ranges.push((first, count)),
            _ => jobs.push((job, vec![(first, count)])),
        }
    }
    jobs
}

/// How many of these tasks each engine of a placement has, in their order.
fn shares<E: Copy + PartialEq>(placement: &[(E, u32)], ranges: &[(u32, u32)]) -> Vec<(E, u32)> {
    let mut shares: Vec<(E, u32)> = Vec::new();
    for (first, count) in ranges {
        let (mut start, end) = (0u32, first.saturating_add(*count));
        for (engine, share) in placement {
            let stop = start.saturating_add(*share);
            let common = stop.min(end).saturating_sub(start.max(*first));
            match shares.last_mut() {
                Some((last, share)) if common > 0 && last == engine => *share += common,
                _ if common > 0 => shares.push((*engine, common)),
                _ => {}
            }
            start = stop;
        }
    }
    shares
}

/// The first records of several pages, and where to go on.
fn merge(pages: Vec<TaskPage>, limit: usize) -> (Vec<TaskRecord>, Option<MessageId>) {
    // Newer jobs first: ids sort by time.
    let key = |id: &MessageId| (std::cmp::Reverse(id.job), id.index);
    // No page says anything of what comes after its own end.
    let horizon = pages.iter().filter_map(|page| page.next).min_by_key(key);
    let mut records: Vec<TaskRecord> = pages.into_iter().flat_map(|page| page.records).collect();
    records.sort_by_key(|record| key(&record.id));
    if let Some(horizon) = horizon {
        records.retain(|record| key(&record.id) <= key(&horizon));
    }
    let cut = records.len() > limit;
    records.truncate(limit);
    let next = if cut { records.last().map(|record| record.id) } else { horizon };
    (records, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskState;

    fn id(job: u128, index: u32) -> MessageId {
        MessageId { job: JobId::from_u128(job), index }
    }

    fn page(ids: &[(u128, u32)], next: Option<(u128, u32)>) -> TaskPage {
        let record = |&(job, index): &(u128, u32)| TaskRecord {
            id: id(job, index),
            state: TaskState::Pending,
            label: None,
            function: String::new(),
            owner: String::new(),
            engine: None,
            attempt: 0,
            submitted_us: 0,
            started_us: None,
            completed_us: None,
            error: None,
        };
        TaskPage { records: ids.iter().map(record).collect(), next: next.map(|(job, index)| id(job, index)) }
    }

    #[test]
    fn pages_are_merged_as_far_as_all_of_them_reach() {
        let merged = |pages, limit| {
            let (records, next) = merge(pages, limit);
            (records.iter().map(|record| (record.id.job, record.id.index)).collect::<Vec<_>>(), next)
        };
        let ids = |ids: &[(u128, u32)]| ids.iter().map(|(job, index)| (JobId::from_u128(*job), *index)).collect::<Vec<_>>();
        let whole = || vec![page(&[(9, 0), (9, 1), (3, 0)], None), page(&[(7, 5)], None)];
        assert_eq!(merged(whole(), 10), (ids(&[(9, 0), (9, 1), (7, 5), (3, 0)]), None));
        assert_eq!(merged(whole(), 3), (ids(&[(9, 0), (9, 1), (7, 5)]), Some(id(7, 5))));
        // The second store has looked as far as job 6 only: what it has of job 4 is not known.
        let partly = vec![page(&[(9, 0), (3, 0)], None), page(&[(7, 5)], Some((6, 2)))];
        assert_eq!(merged(partly, 10), (ids(&[(9, 0), (7, 5)]), Some(id(6, 2))));
        assert_eq!(merged(vec![page(&[], Some((6, 2))), page(&[], None)], 10), (vec![], Some(id(6, 2))));
    }

    #[test]
    fn a_part_of_a_placement_keeps_its_engines() {
        let placement = [('a', 3), ('b', 0), ('c', 2)];
        for (ranges, expected) in [
            (vec![(0, 5)], vec![('a', 3), ('c', 2)]),
            (vec![(1, 3)], vec![('a', 2), ('c', 1)]),
            (vec![(4, 1), (0, 1)], vec![('c', 1), ('a', 1)]),
            (vec![(0, 1), (2, 1)], vec![('a', 2)]),
        ] {
            assert_eq!(shares(&placement, &ranges), expected, "{ranges:?}");
        }
        assert!(shares::<char>(&[], &[(0, 5)]).is_empty());
    }
}
