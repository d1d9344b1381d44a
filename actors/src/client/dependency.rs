//! What tasks wait for: other tasks, by their handles or ids.

use super::{async_result::AsyncResult, runs_of};
use crate::task::{Condition, End, JobId, MessageId, Quorum};

/// Tasks that others wait for, and how they must end: see [`LoadBalancedView::after`](crate::LoadBalancedView::after) and
/// [`follow`](crate::LoadBalancedView::follow). Made from
/// results (`&AsyncResult`), message ids (one, a slice, a vector) or job ids; a job id stands for all tasks of the job, and is waited
/// for until the last of them has been submitted.
///
/// By default all of the tasks must succeed.
///
/// ```no_run
/// # use engineroom::{Dependency, prelude::*};
/// # let client = Client::connect(Profile::default())?;
/// # let view = client.load_balanced_view();
/// let fast = view.map(|x: u64| x + 1, 0..10);
/// let slow = view.apply(|x: u64| x * 2, 7);
/// let tidied = view.after(Dependency::on(&fast).and(&slow).ended()).apply(|(): ()| "both are over".to_string(), ());
/// # Ok::<(), engineroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency(pub(super) Condition);

impl Dependency {
    /// These tasks.
    pub fn on(tasks: impl Into<Dependency>) -> Self {
        tasks.into()
    }

    /// These tasks too. What was said of how they must end stays as it is.
    #[must_use]
    pub fn and(mut self, tasks: impl Into<Dependency>) -> Self {
        self.0.runs.extend(tasks.into().0.runs);
        self
    }

    /// One of the tasks is enough.
    #[must_use]
    pub fn any(mut self) -> Self {
        self.0.quorum = Quorum::Any;
        self
    }

    /// They must fail, or be aborted.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.0.end = End::Failed;
        self
    }

    /// They must end, in whatever way.
    #[must_use]
    pub fn ended(mut self) -> Self {
        self.0.end = End::Either;
        self
    }

    fn of(runs: Vec<(JobId, u32, u32)>) -> Self {
        Self(Condition { runs, quorum: Quorum::All, end: End::Succeeded })
    }
}

impl<R, S> From<&AsyncResult<R, S>> for Dependency {
    fn from(result: &AsyncResult<R, S>) -> Self {
        Self::of(result.runs())
    }
}

impl From<JobId> for Dependency {
    fn from(job: JobId) -> Self {
        Self::of(vec![(job, 0, u32::MAX)])
    }
}

impl From<MessageId> for Dependency {
    fn from(id: MessageId) -> Self {
        Self::of(vec![(id.job, id.index, 1)])
    }
}

impl From<&[MessageId]> for Dependency {
    fn from(ids: &[MessageId]) -> Self {
        Self::of(runs_of(ids.iter().copied()))
    }
}

impl From<&Vec<MessageId>> for Dependency {
    fn from(ids: &Vec<MessageId>) -> Self {
        Self::from(&ids[..])
    }
}

impl From<Vec<MessageId>> for Dependency {
    fn from(ids: Vec<MessageId>) -> Self {
        Self::from(&ids[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_runs_and_jobs_stay_whole() {
        let job = JobId::from_u128(1);
        let id = |index| MessageId { job, index };
        let ids = vec![id(3), id(4), id(9)];
        let dependency = Dependency::on(&ids).and(JobId::from_u128(2)).any().failed();
        let runs = vec![(job, 3, 2), (job, 9, 1), (JobId::from_u128(2), 0, u32::MAX)];
        assert_eq!(dependency.0, Condition { runs, quorum: Quorum::Any, end: End::Failed });
    }
}
