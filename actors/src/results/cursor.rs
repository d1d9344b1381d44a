//! What a subscription has been sent, and what it may be sent next. Pure.
//!
//! A subscription holds no results, only the ranges in which there may be some that it has not been sent. They are read in
//! pages while it has credit, so that a client that does not read costs no memory here.

use crate::task::Ranges;
use crate::wire::Run;

/// How many bytes one page has, about; one run of more comes alone.
pub(super) const PAGE_BYTES_MAX: u64 = 1 << 20;

/// How many ranges one page is asked for from.
const PAGE_RANGES_MAX: usize = 64;

/// How far a subscription is.
#[derive(Debug)]
pub(super) struct Cursor {
    /// What was subscribed to: start and end, ascending.
    ranges: Vec<(u32, u32)>,
    /// How many more bytes the client takes; the message that exhausts it still goes.
    credit: i64,
    /// Where there may be outcomes that were not sent. Does not change while a page is under way.
    behind: Ranges,
    /// While a page is under way: where there have been outcomes since, which the page may or may not have.
    since: Option<Ranges>,
}

impl Cursor {
    /// A subscription to these tasks, each as first index and count. Of those that have an outcome already none was sent.
    pub fn new(ranges: Vec<(u32, u32)>, window_bytes: u64) -> Self {
        let mut behind = Ranges::default();
        ranges.iter().for_each(|(first, count)| behind.cover(*first, first.saturating_add(*count)));
        let ranges = behind.within(0, u32::MAX).collect();
        Self { ranges, credit: i64::try_from(window_bytes).unwrap_or(i64::MAX), behind, since: None }
    }

    /// No task has an outcome yet.
    pub fn nothing_yet(&mut self) {
        self.behind = Ranges::default();
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// There are outcomes of these tasks now. Returns whether they are to be sent at once; if not, they are read later.
    pub fn offer(&mut self, run: &Run) -> bool {
        let until = self.ranges.partition_point(|(first, _)| *first < run.end());
        let is_wanted = self.ranges[..until].last().is_some_and(|(_, end)| *end > run.first);
        let at_once = is_wanted && self.credit > 0 && self.since.is_none() && self.behind.is_empty();
        if is_wanted && !at_once {
            self.missed(run.first, run.end());
        }
        at_once
    }

    /// These could not be sent.
    pub fn missed(&mut self, first: u32, end: u32) {
        self.since.as_mut().unwrap_or(&mut self.behind).cover(first, end);
    }

    /// So much was sent.
    pub fn sent(&mut self, run: &Run) {
        self.credit = self.credit.saturating_sub(i64::try_from(run.window_bytes()).unwrap_or(i64::MAX));
    }

    pub fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// The client takes so many more bytes.
    pub fn grant(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Nobody takes anything any more.
    pub fn give_up(&mut self) {
        self.credit = i64::MIN;
    }

    /// What is to be read next, and how many bytes of it. At most one page is under way.
    pub fn next_page(&mut self) -> Option<(Vec<(u32, u32)>, u64)> {
        if self.since.is_some() || self.credit <= 0 || self.behind.is_empty() {
            return None;
        }
        self.since = Some(Ranges::default());
        let bytes = PAGE_BYTES_MAX.min(self.credit.unsigned_abs());
        Some((self.behind.within(0, u32::MAX).take(PAGE_RANGES_MAX).collect(), bytes))
    }

    /// The page has come: of what was asked for, everything below `until` is in it.
    pub fn arrived(&mut self, until: u32) {
        self.behind.uncover(0, until);
        let since = self.since.take().unwrap_or_default();
        since.within(0, u32::MAX).for_each(|(first, end)| self.behind.cover(first, end));
    }

    /// Whether everything that there is has been sent.
    pub fn is_settled(&self) -> bool {
        self.since.is_none() && self.behind.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::evicted_run;

    fn cursor() -> Cursor {
        let mut cursor = Cursor::new(vec![(10, 10), (30, 10)], 1 << 30);
        let (ranges, _) = cursor.next_page().unwrap();
        assert_eq!(ranges, [(10, 20), (30, 40)]);
        cursor
    }

    #[test]
    fn a_run_that_comes_while_a_page_is_under_way_is_read_again() {
        let mut cursor = cursor();
        assert!(!cursor.offer(&evicted_run(12, 14)), "the page may have it");
        assert!(cursor.next_page().is_none(), "one page at a time");
        cursor.arrived(40);
        assert_eq!(cursor.next_page().unwrap().0, [(12, 14)]);
        cursor.arrived(14);
        assert!(cursor.is_settled());
        assert!(cursor.offer(&evicted_run(14, 15)));
    }

    #[test]
    fn a_page_that_was_cut_is_gone_on_with() {
        let mut cursor = cursor();
        cursor.arrived(15);
        assert_eq!(cursor.next_page().unwrap().0, [(15, 20), (30, 40)]);
    }

    #[test]
    fn only_what_was_subscribed_to_is_sent() {
        let mut cursor = cursor();
        cursor.arrived(40);
        for (first, end, expected) in [(0, 10, false), (9, 11, true), (19, 31, true), (20, 30, false), (40, 50, false)] {
            assert_eq!(cursor.offer(&evicted_run(first, end)), expected, "{first}..{end}");
            assert!(cursor.is_settled());
        }
    }

    #[test]
    fn without_credit_outcomes_are_noted_and_not_read() {
        let mut cursor = Cursor::new(vec![(0, u32::MAX)], 1);
        cursor.nothing_yet();
        let run = evicted_run(0, 5);
        assert!(cursor.offer(&run));
        cursor.sent(&run);
        assert!(!cursor.offer(&evicted_run(5, 9)));
        assert!(cursor.next_page().is_none());
        cursor.grant(10_000);
        assert_eq!(cursor.next_page().unwrap().0, [(5, 9)]);
    }
}
