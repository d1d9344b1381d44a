//! What a job waits for, and whether that has come or never will. Pure counting: which events count is found out in
//! [`gate`](super::gate).

use std::collections::BTreeSet;

use super::follow::Located;
use crate::task::{Cause, End, EngineId, JobId, Quorum, TaskOptions};

/// What a job waits for. All its conditions must be met.
#[derive(Debug)]
pub(crate) struct Wait {
    rules: Vec<(Quorum, End)>,
    /// How many of the rules are only waited for; where the tasks of the others ran, those of the job are to run.
    unfollowed: usize,
    pub(crate) items: Vec<Item>,
    pub(crate) stage: Stage,
}

/// How far a [`Wait`] is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Undecided,
    /// By outcomes that may not be kept yet.
    Decided,
    /// It is met, and asked where the tasks ran that are followed.
    Locating,
    /// On these engines, which may not be kept yet.
    Located(BTreeSet<EngineId>),
}

/// Tasks of one job that a condition is about.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) rule: usize,
    pub(crate) job: JobId,
    pub(crate) first: u32,
    pub(crate) end: u32,
    pub(crate) counts: Counts,
    /// Whether the store has said what was there before.
    pub(crate) answered: bool,
    /// Where the tasks ran, once the store has said so.
    pub(crate) located: Option<Box<Located>>,
}

/// What became of the tasks of an [`Item`] so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How many there are in all; `None` while more may be submitted.
    pub tasks: Option<u32>,
    /// Those with a value.
    pub succeeded: u32,
    /// Those that ended without one.
    pub failed: u32,
    /// Those that ended, and whose outcome was dropped since.
    pub dropped: u32,
    /// Those that are not there and will never be.
    pub missing: u32,
}

/// What can be said of a [`Wait`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Undecided,
    Met,
    /// It never will be, for this reason.
    Hopeless(Cause),
}

impl Item {
    /// Whether it is about all tasks of its job, however many they turn out to be.
    pub(crate) fn is_whole(&self) -> bool {
        self.first == 0 && self.end == u32::MAX
    }
}

impl Wait {
    pub(crate) fn new(options: &TaskOptions) -> Self {
        let mut items = Vec::new();
        for (rule, condition) in options.conditions().enumerate() {
            for &(job, first, count) in &condition.runs {
                let end = first.saturating_add(count);
                let mut item = Item { rule, job, first, end, counts: Counts::default(), answered: false, located: None };
                if !item.is_whole() {
                    item.counts.tasks = Some(end - first);
                }
                items.push(item);
            }
        }
        let rules = options.conditions().map(|condition| (condition.quorum, condition.end)).collect();
        Self { rules, unfollowed: options.after.len(), items, stage: Stage::Undecided }
    }

    /// Whether the job is to run where others ran.
    pub(crate) fn follows(&self) -> bool {
        self.unfollowed < self.rules.len()
    }

    /// The items that are followed, with their place and how their tasks must have ended, one or all.
    pub(crate) fn followed(&self) -> impl Iterator<Item = (usize, &Item, Quorum, End)> {
        let followed = self.items.iter().enumerate().filter(|(_, item)| item.rule >= self.unfollowed);
        followed.map(|(at, item)| (at, item, self.rules[item.rule].0, self.rules[item.rule].1))
    }

    /// The rules that are followed, by what one of them must have.
    pub(crate) fn followed_rules(&self) -> impl Iterator<Item = (usize, Quorum)> {
        (self.unfollowed..self.rules.len()).map(|rule| (rule, self.rules[rule].0))
    }

    /// Whether all conditions are met, or one never will be.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.items.iter().any(|item| !item.answered) {
            return Verdict::Undecided;
        }
        let mut all = Verdict::Met;
        for (rule, (quorum, end)) in self.rules.iter().enumerate() {
            match self.judge(rule, *quorum, *end) {
                Verdict::Met => {}
                Verdict::Undecided => all = Verdict::Undecided,
                hopeless => return hopeless,
            }
        }
        all
    }

    fn judge(&self, rule: usize, quorum: Quorum, end: End) -> Verdict {
        let (mut good, mut bad, mut tasks) = (0, 0, Some(0));
        for Item { counts, .. } in self.items.iter().filter(|item| item.rule == rule) {
            let (wanted, other) = sides(counts, end);
            good += u64::from(wanted);
            bad += u64::from(other);
            tasks = tasks.and_then(|sum: u64| Some(sum + u64::from(counts.tasks?)));
        }
        match quorum {
            Quorum::All if bad > 0 => Verdict::Hopeless(self.reason(rule, end)),
            Quorum::All if tasks == Some(good) => Verdict::Met,
            Quorum::Any if good > 0 => Verdict::Met,
            Quorum::Any if tasks == Some(bad) => Verdict::Hopeless(self.reason(rule, end)),
            Quorum::All | Quorum::Any => Verdict::Undecided,
        }
    }

    /// Why a condition will never be met.
    fn reason(&self, rule: usize, end: End) -> Cause {
        let of_rule = || self.items.iter().filter(|item| item.rule == rule);
        let Some(item) = of_rule().find(|item| sides(&item.counts, end).1 > 0) else {
            return Cause::ImpossibleDependency { detail: "it names no tasks".into() };
        };
        let Item { job, counts, .. } = item;
        if counts.missing > 0 {
            let detail = format!(
                "{} of the tasks that it names of job {job} are not there: the job was never submitted, has fewer tasks, belongs to \
                 another owner, or was purged",
                counts.missing
            );
            return Cause::ImpossibleDependency { detail };
        }
        if counts.dropped > 0 {
            let detail = format!("the outcomes of {} tasks of job {job} have been dropped to make room", counts.dropped);
            return Cause::ImpossibleDependency { detail };
        }
        let (number, how) = match end {
            End::Failed => (counts.succeeded, "succeeded, and it was to run if they fail"),
            End::Succeeded | End::Either => (counts.failed, "failed or were aborted, and it was to run if they succeed"),
        };
        Cause::UnmetDependency { detail: format!("{number} of the tasks of job {job} {how}") }
    }
}

/// How many tasks have ended as wanted, and how many never will.
fn sides(counts: &Counts, end: End) -> (u32, u32) {
    let Counts { succeeded, failed, dropped, missing, .. } = *counts;
    match end {
        End::Succeeded => (succeeded, failed + dropped + missing),
        End::Failed => (failed, succeeded + dropped + missing),
        End::Either => (succeeded + failed + dropped, missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Condition;

    fn wait(quorum: Quorum, end: End, items: &[(u32, Counts)]) -> Wait {
        let runs = items.iter().map(|(count, _)| (JobId::from_u128(1), 0, *count)).collect();
        let after = vec![Condition { runs, quorum, end }];
        let mut wait = Wait::new(&TaskOptions { after, ..TaskOptions::default() });
        for (item, (count, counts)) in wait.items.iter_mut().zip(items) {
            let tasks = if *count == u32::MAX { counts.tasks } else { Some(*count) };
            (item.counts, item.answered) = (Counts { tasks, ..*counts }, true);
        }
        wait
    }

    #[test]
    fn who_waits_is_told_as_soon_as_it_is_certain() {
        use {End::*, Quorum::*};
        let counts = |succeeded, failed| Counts { succeeded, failed, ..Counts::default() };
        let (three, whole) = (3, u32::MAX);
        let closed = |counts, tasks| Counts { tasks: Some(tasks), ..counts };
        for (quorum, end, items, expected) in [
            (All, Succeeded, vec![(three, counts(2, 0))], "undecided"),
            (All, Succeeded, vec![(three, counts(3, 0))], "met"),
            (All, Succeeded, vec![(three, counts(1, 1))], "unmet"),
            (All, Failed, vec![(three, counts(0, 3))], "met"),
            (All, Failed, vec![(three, counts(1, 0))], "unmet"),
            (All, Either, vec![(three, counts(2, 1))], "met"),
            (Any, Succeeded, vec![(three, counts(1, 2))], "met"),
            (Any, Succeeded, vec![(three, counts(0, 2))], "undecided"),
            (Any, Succeeded, vec![(three, counts(0, 3))], "unmet"),
            (Any, Succeeded, vec![(three, counts(0, 3)), (three, counts(0, 0))], "undecided"),
            (All, Succeeded, vec![(three, counts(3, 0)), (three, counts(3, 0))], "met"),
            (All, Succeeded, vec![(whole, counts(9, 0))], "undecided"),
            (All, Succeeded, vec![(whole, closed(counts(9, 0), 9))], "met"),
            (All, Either, vec![(three, Counts { missing: 1, ..counts(2, 0) })], "impossible"),
            (All, Either, vec![(three, Counts { dropped: 1, ..counts(2, 0) })], "met"),
            (All, Succeeded, vec![(three, Counts { dropped: 1, ..counts(2, 0) })], "impossible"),
            (All, Succeeded, vec![], "met"),
            (Any, Succeeded, vec![], "impossible"),
        ] {
            let verdict = wait(quorum, end, &items).verdict();
            let found = match &verdict {
                Verdict::Undecided => "undecided",
                Verdict::Met => "met",
                Verdict::Hopeless(Cause::UnmetDependency { .. }) => "unmet",
                Verdict::Hopeless(_) => "impossible",
            };
            assert_eq!(found, expected, "{quorum:?} {end:?} {items:?}: {verdict:?}");
        }
    }

    #[test]
    fn nothing_is_decided_before_the_past_is_known() {
        let mut wait = wait(Quorum::All, End::Succeeded, &[(3, Counts { succeeded: 3, ..Counts::default() })]);
        wait.items[0].answered = false;
        assert_eq!(wait.verdict(), Verdict::Undecided);
    }
}
