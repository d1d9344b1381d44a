//! The queued tasks of a job, as intervals of indices.

use std::collections::BTreeMap;

use crate::task::Tries;

/// Consecutive queued tasks with the same past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// How many engines were lost while they may have run these tasks.
    pub(crate) losses: u32,
    /// How often they have failed and are tried again.
    pub(crate) failures: u32,
    /// The most of them that may go in one batch.
    pub(crate) limit: u32,
}

impl Span {
    /// Tasks that no engine was lost with.
    pub(crate) fn fresh(first: u32, count: u32) -> Self {
        Self { first, count, losses: 0, failures: 0, limit: u32::MAX }
    }

    pub(crate) fn end(&self) -> u32 {
        self.first + self.count
    }

    /// How often these tasks have been sent to an engine that may have started them.
    pub(crate) fn attempts(&self) -> u32 {
        self.tries().count()
    }

    pub(crate) fn tries(&self) -> Tries {
        Tries { losses: self.losses, failures: self.failures }
    }

    fn joins(&self, next: &Span) -> bool {
        self.end() == next.first && self.tries() == next.tries() && self.limit == next.limit
    }

    fn part(&self, first: u32, end: u32) -> Self {
        Self { first, count: end - first, ..*self }
    }
}

/// Queued tasks in ascending order. Tasks leave at the front, so whatever comes back belongs before all that never left:
/// sorting by index *is* "returned tasks go to the front".
#[derive(Debug)]
pub(crate) struct Pending {
    /// What came back, and what a cancellation cut off; by first index, all below `tail`.
    pieces: BTreeMap<u32, Span>,
    /// The end of the job. Kept apart so that a job that only grows and shrinks needs no allocation.
    tail: Span,
    len: u32,
}

impl Default for Pending {
    fn default() -> Self {
        Self { pieces: BTreeMap::new(), tail: Span::fresh(0, 0), len: 0 }
    }
}

impl Pending {
    /// How many tasks are queued.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds tasks above all that ever were in here.
    pub(crate) fn append(&mut self, first: u32, count: u32) {
        self.len += count;
        if self.tail.count == 0 {
            self.tail = Span::fresh(first, count);
        } else if self.tail.end() == first {
            self.tail.count += count;
        } else {
            // A cancellation removed the end of the tail.
            let cut = std::mem::replace(&mut self.tail, Span::fresh(first, count));
            self.pieces.insert(cut.first, cut);
        }
    }

    /// Adds tasks above all that are in here, with the past that they have.
    pub(crate) fn restore(&mut self, span: Span) {
        if span.attempts() == 0 {
            return self.append(span.first, span.count);
        }
        self.end_tail();
        self.len += span.count;
        self.pieces.insert(span.first, span);
    }

    /// Takes all of `first..end`, which is queued, from wherever it is.
    pub(crate) fn take_out(&mut self, first: u32, end: u32) -> Vec<Span> {
        // What is taken from the end of the tail may be put back, and all that is put back lies below the tail.
        self.end_tail();
        self.remove(first, end)
    }

    /// The first queued task from `index` on.
    pub(crate) fn first_from(&self, index: u32) -> Option<u32> {
        self.from(index).next().map(|span| span.first)
    }

    /// What is queued of `index` and all above it, in order.
    pub(crate) fn from(&self, index: u32) -> impl Iterator<Item = Span> {
        let below = self.pieces.range(..index).next_back().map(|(_, span)| *span);
        let tail = Some(self.tail);
        let spans = below.into_iter().chain(self.pieces.range(index..).map(|(_, span)| *span)).chain(tail);
        let cut = move |span: Span| span.part(span.first.max(index).min(span.end()), span.end());
        spans.map(cut).filter(|span| span.count > 0)
    }

    /// Takes up to `size` of the lowest tasks: as many as have the same past and may go together.
    pub(crate) fn take(&mut self, size: u32) -> Option<Span> {
        let (taken, rest) = match self.pieces.pop_first() {
            Some((_, span)) => split(span, size),
            None if self.tail.count > 0 => split(self.tail, size),
            None => return None,
        };
        self.len -= taken.count;
        if taken.first == self.tail.first && self.tail.count > 0 {
            self.tail = rest;
        } else if rest.count > 0 {
            self.pieces.insert(rest.first, rest);
        }
        Some(taken)
    }

    /// Puts tasks back that were taken.
    pub(crate) fn put_back(&mut self, mut span: Span) {
        self.len += span.count;
        if let Some((_, &before)) = self.pieces.range(..span.first).next_back()
            && before.joins(&span)
        {
            self.pieces.remove(&before.first);
            span = Span { first: before.first, count: before.count + span.count, ..span };
        }
        if let Some(after) = self.pieces.get(&span.end()).copied()
            && span.joins(&after)
        {
            self.pieces.remove(&after.first);
            span.count += after.count;
        }
        if self.tail.count > 0 && span.joins(&self.tail) {
            self.tail = Span { first: span.first, count: span.count + self.tail.count, ..span };
        } else {
            self.pieces.insert(span.first, span);
        }
    }

    /// Removes the tasks of `first..end` that are queued and returns them, in order.
    pub(crate) fn remove(&mut self, first: u32, end: u32) -> Vec<Span> {
        let mut removed = Vec::new();
        let below = self.pieces.range(..first).next_back().map(|(_, span)| *span);
        let mut next = below.filter(|span| span.end() > first).or_else(|| self.piece_from(first, end));
        while let Some(span) = next {
            self.pieces.remove(&span.first);
            let (low, high) = (span.first.max(first), span.end().min(end));
            if span.first < low {
                self.pieces.insert(span.first, span.part(span.first, low));
            }
            if high < span.end() {
                self.pieces.insert(high, span.part(high, span.end()));
            }
            removed.push(span.part(low, high));
            next = self.piece_from(high, end);
        }
        let (low, high) = (self.tail.first.max(first), self.tail.end().min(end));
        if low < high {
            let tail = self.tail;
            removed.push(tail.part(low, high));
            self.tail = tail.part(high, tail.end());
            if tail.first < low {
                let kept = tail.part(tail.first, low);
                if self.tail.count == 0 {
                    self.tail = kept;
                } else {
                    self.pieces.insert(kept.first, kept);
                }
            }
        }
        self.len -= removed.iter().map(|span| span.count).sum::<u32>();
        removed
    }

    #[cfg(test)]
    /// The intervals in order, for checks.
    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> {
        self.pieces.values().copied().chain(Some(self.tail).filter(|tail| tail.count > 0))
    }

    /// Makes the tail a piece like the others, and the tail empty.
    fn end_tail(&mut self) {
        let cut = self.tail;
        self.tail = Span::fresh(cut.end(), 0);
        if cut.count > 0 {
            self.pieces.insert(cut.first, cut);
        }
    }

    fn piece_from(&self, first: u32, end: u32) -> Option<Span> {
        if first >= end {
            return None;
        }
        self.pieces.range(first..end).next().map(|(_, span)| *span)
    }
}

fn split(span: Span, size: u32) -> (Span, Span) {
    let middle = span.first + size.min(span.limit).min(span.count).max(1);
    (span.part(span.first, middle), span.part(middle, span.end()))
}

/// A set of indices, as disjoint intervals.
#[derive(Clone, Debug, Default)]
pub(crate) struct IndexSet {
    /// First index → end. Neighbours are merged.
    ranges: BTreeMap<u32, u32>,
}

impl IndexSet {
    /// Adds `first..end` and returns the parts of it that were not in the set.
    pub(crate) fn insert(&mut self, first: u32, end: u32) -> Vec<(u32, u32)> {
        let mut added = Vec::new();
        let (mut low, mut high, mut at) = (first, end, first);
        let from = self.ranges.range(..=first).next_back().filter(|(_, e)| **e >= first).map_or(first, |(f, _)| *f);
        while let Some((&f, &e)) = self.ranges.range(from..=end).next() {
            self.ranges.remove(&f);
            if at < f {
                added.push((at, f));
            }
            (low, high, at) = (low.min(f), high.max(e), at.max(e));
        }
        if at < end {
            added.push((at, end));
        }
        self.ranges.insert(low, high);
        added
    }

    /// Cuts `first..end` into runs that lie wholly in the set (`true`) or wholly outside.
    pub(crate) fn cut(&self, first: u32, end: u32) -> Vec<(u32, u32, bool)> {
        let mut runs = Vec::new();
        let mut at = first;
        let from = self.ranges.range(..=first).next_back().map_or(first, |(f, _)| *f);
        for (&f, &e) in self.ranges.range(from..).take_while(|(f, _)| **f < end) {
            let (f, e) = (f.max(at), e.min(end));
            if f >= e {
                continue;
            }
            if at < f {
                runs.push((at, f, false));
            }
            runs.push((f, e, true));
            at = e;
        }
        if at < end {
            runs.push((at, end, false));
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pending: &Pending) -> Vec<(u32, u32)> {
        pending.spans().map(|span| (span.first, span.end())).collect()
    }

    #[test]
    fn a_million_appends_are_one_interval() {
        let mut pending = Pending::default();
        (0..1_000_000).for_each(|index| pending.append(index, 1));
        assert_eq!(ranges(&pending), [(0, 1_000_000)]);
        assert_eq!(pending.len(), 1_000_000);
    }

    #[test]
    fn what_comes_back_goes_first_and_merges() {
        let mut pending = Pending::default();
        pending.append(0, 100);
        let a = pending.take(10).unwrap();
        let b = pending.take(10).unwrap();
        let c = pending.take(10).unwrap();
        pending.put_back(b);
        assert_eq!(ranges(&pending), [(10, 20), (30, 100)]);
        pending.put_back(Span { losses: 1, limit: 2, ..a });
        assert_eq!(ranges(&pending), [(0, 10), (10, 20), (30, 100)]);
        pending.put_back(c);
        assert_eq!(ranges(&pending), [(0, 10), (10, 100)]);
        assert_eq!(pending.take(50), Some(Span { first: 0, count: 2, losses: 1, failures: 0, limit: 2 }));
        assert_eq!(pending.take(8).map(|s| s.first), Some(2));
    }

    #[test]
    fn pieces_merge_on_both_sides() {
        let mut pending = Pending::default();
        pending.append(0, 100);
        let taken: Vec<_> = (0..4).map(|_| pending.take(10).unwrap()).collect();
        for (at, expected) in [(2, vec![(20, 30)]), (0, vec![(0, 10), (20, 30)]), (1, vec![(0, 30)])] {
            pending.put_back(taken[at]);
            assert_eq!(ranges(&pending), [expected, vec![(40, 100)]].concat());
        }
    }

    #[test]
    fn removal_agrees_with_a_plain_set() {
        // Every pair of removals from a queue with a hole and a returned piece.
        for (first, end) in (0..24).flat_map(|first| (first..=24).map(move |end| (first, end))) {
            let mut pending = Pending::default();
            pending.append(0, 20);
            let taken = pending.take(6).unwrap();
            pending.put_back(Span { first: 2, count: 3, losses: 1, failures: 0, limit: 1 });
            let mut model: Vec<u32> = (2..5).chain(taken.end()..20).collect();
            let removed: Vec<u32> = pending.remove(first, end).iter().flat_map(|s| s.first..s.end()).collect();
            assert_eq!(removed, model.extract_if(.., |i| (first..end).contains(i)).collect::<Vec<_>>());
            pending.append(20, 3);
            model.extend(20..23);
            assert_eq!(pending.len() as usize, model.len());
            let left: Vec<u32> = pending.spans().flat_map(|s| s.first..s.end()).collect();
            assert_eq!(left, model, "after removing {first}..{end}");
            let drained: Vec<u32> = std::iter::from_fn(|| pending.take(4)).flat_map(|s| s.first..s.end()).collect();
            assert_eq!(drained, model);
        }
    }

    #[test]
    fn an_index_set_agrees_with_a_plain_set() {
        for mask in 0u32..256 {
            for (first, end) in (0..8).flat_map(|first| (first + 1..=8).map(move |end| (first, end))) {
                let mut set = IndexSet::default();
                (0..8).filter(|i| mask >> i & 1 == 1).for_each(|i| drop(set.insert(i, i + 1)));
                for (f, e, inside) in set.cut(first, end) {
                    assert!((f..e).all(|i| (mask >> i & 1 == 1) == inside), "{mask:b} {first}..{end}");
                }
                assert_eq!(set.cut(first, end).iter().map(|(f, e, _)| e - f).sum::<u32>(), end - first);
                let added: Vec<u32> = set.insert(first, end).into_iter().flat_map(|(f, e)| f..e).collect();
                assert_eq!(added, (first..end).filter(|i| mask >> i & 1 == 0).collect::<Vec<_>>(), "{mask:b} {first}..{end}");
                assert_eq!(set.cut(first, end), [(first, end, true)]);
            }
        }
    }
}
