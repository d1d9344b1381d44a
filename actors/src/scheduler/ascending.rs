//! A sorted map for keys that mostly come in ascending order and mostly go in the order in which they came.

use std::{collections::VecDeque, ops::Range};

/// How many removed entries are kept at least before the others move together.
const GAPS_MIN: usize = 32;

/// What is added at the end and removed near the beginning costs the same however much there is; anything else costs a search, and
/// what is added elsewhere moves what is behind it.
///
/// With thousands of engines such records are in no cache, and the paths of a tree cost more than what is done at their ends.
#[derive(Debug)]
pub(crate) struct Ascending<K, V> {
    /// Ascending. Removed ones have no value; neither the first nor the last is one.
    entries: VecDeque<(K, Option<V>)>,
    len: usize,
}

impl<K, V> Default for Ascending<K, V> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), len: 0 }
    }
}

impl<K: Copy + Ord, V: Copy> Ascending<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.entries.back().is_none_or(|(last, _)| *last < key) {
            self.len += 1;
            return self.entries.push_back((key, Some(value)));
        }
        let at = self.position(key);
        match self.entries.get_mut(at) {
            Some((found, old)) if *found == key => self.len += usize::from(old.replace(value).is_none()),
            _ => {
                self.entries.insert(at, (key, Some(value)));
                self.len += 1;
            }
        }
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        let at = self.position(key);
        let (_, value) = self.entries.get_mut(at).filter(|(found, _)| *found == key)?;
        let value = value.take()?;
        self.len -= 1;
        while self.entries.front().is_some_and(|(_, value)| value.is_none()) {
            self.entries.pop_front();
        }
        while self.entries.back().is_some_and(|(_, value)| value.is_none()) {
            self.entries.pop_back();
        }
        if self.entries.len() > 2 * self.len + GAPS_MIN {
            self.entries.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    /// All that is there, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (K, V)> {
        self.slice(0..self.entries.len())
    }

    /// What is within `keys`, ascending.
    pub(crate) fn range(&self, keys: Range<K>) -> impl DoubleEndedIterator<Item = (K, V)> {
        let end = self.position(keys.end);
        self.slice(self.position(keys.start).min(end)..end)
    }

    fn slice(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = (K, V)> {
        self.entries.range(range).filter_map(|(key, value)| Some((*key, (*value)?)))
    }

    /// Where the key is, or would be. Looks near the beginning first.
    fn position(&self, key: K) -> usize {
        let mut end = 1;
        while end < self.entries.len() && self.entries[end - 1].0 < key {
            end *= 2;
        }
        let (mut low, mut high) = (end / 2, end.min(self.entries.len()));
        while low < high {
            let middle = low.midpoint(high);
            if self.entries[middle].0 < key { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
impl<K: Copy + Ord, V: Copy> Ascending<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: K) -> Option<V> {
        self.entries.get(self.position(key)).filter(|(found, _)| *found == key)?.1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn it_is_a_sorted_map_in_whatever_order_keys_come_and_go() {
        for seed in 0..200 {
            let mut random = Rng(seed + 1);
            let (mut map, mut model) = (Ascending::default(), BTreeMap::new());
            let span = 1 + random.below(300);
            for step in 0..600 {
                let key = random.below(span);
                if random.below(100) < 50 + 40 * u64::from(step < 200) {
                    map.insert(key, step);
                    model.insert(key, step);
                } else {
                    assert_eq!(map.remove(key), model.remove(&key), "seed {seed}, step {step}, key {key}");
                }
                let (low, high) = (random.below(span + 2), random.below(span + 2));
                let within: Vec<_> = map.range(low..high).collect();
                let expected: Vec<_> = model.iter().filter(|(key, _)| (low..high).contains(key)).map(|(k, v)| (*k, *v)).collect();
                assert_eq!(within, expected, "seed {seed}, step {step}, {low}..{high}");
                assert_eq!((map.len(), map.is_empty(), map.get(low)), (model.len(), model.is_empty(), model.get(&low).copied()));
                assert!(map.entries.len() <= 2 * map.len() + GAPS_MIN, "gaps are kept");
            }
        }
    }

    #[test]
    fn one_that_stays_does_not_keep_those_that_come_and_go() {
        let mut map = Ascending::default();
        map.insert(0, ());
        map.insert(1, ());
        for key in 2..100_000 {
            map.insert(key, ());
            assert!(map.remove(key - 1).is_some());
            assert!(map.entries.len() < 100, "{} entries are kept for 2", map.entries.len());
        }
    }
}
