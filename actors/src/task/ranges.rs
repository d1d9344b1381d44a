//! Sets of task indices, as disjoint ranges.

use std::collections::BTreeMap;

/// A set of indices. Ranges that meet are merged, so that a set costs its gaps and not its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start and end of each range.
    ranges: BTreeMap<u32, u32>,
}

impl Ranges {
    /// Adds `first..end`.
    pub fn cover(&mut self, first: u32, end: u32) {
        if first >= end {
            return;
        }
        let (mut first, mut end) = (first, end);
        while let Some((&start, &stop)) = self.ranges.range(..=end).next_back().filter(|(_, stop)| **stop >= first) {
            self.ranges.remove(&start);
            first = first.min(start);
            end = end.max(stop);
        }
        self.ranges.insert(first, end);
    }

    /// Takes `first..end` out.
    pub fn uncover(&mut self, first: u32, end: u32) {
        let overlapping: Vec<(u32, u32)> = self.whole_within(first, end).collect();
        for (start, stop) in overlapping {
            self.ranges.remove(&start);
            if start < first {
                self.ranges.insert(start, first);
            }
            if stop > end {
                self.ranges.insert(end, stop);
            }
        }
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many of `first..end` are in the set.
    pub fn covered(&self, first: u32, end: u32) -> u32 {
        self.within(first, end).map(|(start, stop)| stop - start).sum()
    }

    /// Whether all of `first..end` are in the set.
    pub fn contains(&self, first: u32, end: u32) -> bool {
        self.first_gap(first, end).is_none()
    }

    /// The first of `first..end` that is not in the set.
    pub fn first_gap(&self, first: u32, end: u32) -> Option<u32> {
        let covering = self.ranges.range(..=first).next_back().map(|(_, stop)| *stop);
        let gap = covering.map_or(first, |stop| stop.max(first));
        (gap < end).then_some(gap)
    }

    /// The last of `first..end` that is not in the set.
    pub fn last_gap(&self, first: u32, end: u32) -> Option<u32> {
        let covering = self.ranges.range(..end).next_back().filter(|(_, stop)| **stop >= end);
        let gap = covering.map_or(end, |(start, _)| *start).checked_sub(1)?;
        (gap >= first && first < end).then_some(gap)
    }

    /// The parts of the set within `first..end`, as start and end.
    pub fn within(&self, first: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
        self.whole_within(first, end).map(move |(start, stop)| (start.max(first), stop.min(end)))
    }

    /// The ranges that overlap `first..end`, whole.
    fn whole_within(&self, first: u32, end: u32) -> impl Iterator<Item = (u32, u32)> {
        let before = self.ranges.range(..first).next_back().filter(move |(_, stop)| **stop > first);
        let inside = self.ranges.range(first..end.max(first));
        before.into_iter().chain(inside).map(|(start, stop)| (*start, *stop))
    }

    /// What of `first..end` is not in the set, as start and end.
    pub fn gaps(&self, first: u32, end: u32) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let mut next = first;
        for (start, stop) in self.within(first, end) {
            if start > next {
                gaps.push((next, start));
            }
            next = next.max(stop);
        }
        if next < end {
            gaps.push((next, end));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_whatever_their_order() {
        for order in [[(0, 3), (3, 5), (8, 9)], [(8, 9), (3, 5), (0, 3)], [(3, 5), (8, 9), (0, 4)]] {
            let mut set = Ranges::default();
            order.iter().for_each(|(first, end)| set.cover(*first, *end));
            assert_eq!(set.within(0, 100).collect::<Vec<_>>(), [(0, 5), (8, 9)]);
        }
    }

    #[test]
    fn a_set_agrees_with_the_list_of_its_members() {
        let mut set = Ranges::default();
        let mut members = [false; 40];
        let mut number = 7u32;
        for _ in 0..30 {
            number = number.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            let first = (number >> 16) % 36;
            let end = first + (number >> 8) % 4;
            if number & 0x60 == 0 {
                set.uncover(first, end);
                members[first as usize..end as usize].fill(false);
            } else {
                set.cover(first, end);
                members[first as usize..end as usize].fill(true);
            }
            for from in 0..40u32 {
                for to in from..=40u32 {
                    let inside = &members[from as usize..to as usize];
                    assert_eq!(set.covered(from, to) as usize, inside.iter().filter(|member| **member).count());
                    assert_eq!(set.contains(from, to), inside.iter().all(|member| *member));
                    let is_gap = |index: &u32| !members[*index as usize];
                    assert_eq!(set.first_gap(from, to), (from..to).find(is_gap));
                    assert_eq!(set.last_gap(from, to), (from..to).rfind(is_gap));
                    let gaps: u32 = set.gaps(from, to).iter().map(|(start, stop)| stop - start).sum();
                    assert_eq!(gaps, to - from - set.covered(from, to));
                }
            }
        }
    }

    #[test]
    fn the_largest_index_is_no_special_case() {
        let mut set = Ranges::default();
        set.cover(5, u32::MAX);
        assert_eq!(set.gaps(0, u32::MAX), [(0, 5)]);
        assert_eq!(set.last_gap(0, u32::MAX), Some(4));
        assert!(set.contains(5, u32::MAX));
    }
}
