//! Many small byte strings in one allocation: the arguments or the values of a run of tasks.

use std::borrow::Cow;

use bytes::Bytes;
use engineroom_runtime::proto::payload::{LENT_BYTES_MIN, lent};
use serde::{Deserialize, Serialize};

use super::compact;

/// A sequence of byte strings, held as one buffer and the end of each. Costs four bytes an item beside its bytes.
///
/// What comes from a peer is checked once, by [`Packed::is_sound`], before it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    #[serde(with = "compact")]
    ends: Vec<u32>,
    #[serde(with = "lent")]
    data: Bytes,
}

impl Packed {
    /// How many items there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Item `index`, or `None` past the end.
    pub fn item(&self, index: usize) -> Option<&[u8]> {
        let range = self.range(index)?;
        self.data.get(range)
    }

    /// Item `index` without a copy: the result shares this sequence's buffer.
    pub fn share(&self, index: usize) -> Option<Bytes> {
        let range = self.range(index)?;
        (range.end <= self.data.len()).then(|| self.data.slice(range))
    }

    /// Items `first..first + count` as a sequence of their own, which shares this one's buffer.
    ///
    /// # Panics
    /// When the range does not lie within the sequence.
    pub fn slice(&self, first: usize, count: usize) -> Self {
        let start = self.start(first);
        let ends: Vec<u32> = self.ends[first..first + count].iter().map(|end| end - start).collect();
        let stop = start + ends.last().copied().unwrap_or(0);
        Self { ends, data: self.data.slice(start as usize..stop as usize) }
    }

    /// The bytes that this sequence occupies, its index included.
    pub fn bytes(&self) -> usize {
        self.data.len() + 4 * self.ends.len()
    }

    /// Whether the ends grow and stay within the buffer. False only for what a broken or hostile peer sent.
    pub fn is_sound(&self) -> bool {
        self.ends.is_sorted() && self.ends.last().copied().unwrap_or(0) as usize == self.data.len()
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        // `item` is `Some` for every index below `len` of a sound sequence.
        (0..self.len()).map(|index| self.item(index).unwrap_or_default())
    }

    fn start(&self, index: usize) -> u32 {
        if index == 0 { 0 } else { self.ends[index - 1] }
    }

    fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        let end = *self.ends.get(index)? as usize;
        let start = self.start(index) as usize;
        (start <= end).then_some(start..end)
    }
}

/// Builds a [`Packed`] item by item.
#[derive(Clone, Debug, Default)]
pub struct PackedBuilder {
    ends: Vec<u32>,
    data: Vec<u8>,
}

impl PackedBuilder {
    /// How many items have been pushed.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing has been pushed.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes held so far, the index included.
    pub fn bytes(&self) -> usize {
        self.data.len() + 4 * self.ends.len()
    }

    /// Adds an item.
    pub fn push(&mut self, item: &[u8]) {
        self.data.extend_from_slice(item);
        self.seal();
    }

    /// As [`push`](Self::push). An item that is owned is not copied if no bytes are held so far.
    pub fn push_item(&mut self, item: Cow<'_, [u8]>) {
        match item {
            Cow::Owned(mut item) if self.data.is_empty() => {
                // It was grown for what might have come.
                item.shrink_to_fit();
                self.data = item;
                self.seal();
            }
            item => self.push(&item),
        }
    }

    /// Takes the last item out again, into a builder of its own.
    pub fn split_last(&mut self) -> Self {
        self.ends.pop();
        let start = self.ends.last().copied().unwrap_or(0) as usize;
        let data = self.data.split_off(start);
        let ends = vec![data.len() as u32];
        Self { ends, data }
    }

    /// The finished sequence.
    pub fn build(self) -> Packed {
        Packed { ends: self.ends, data: self.data.into() }
    }

    /// Takes what was pushed so far and starts anew.
    pub fn take(&mut self) -> Packed {
        std::mem::take(self).build()
    }

    fn seal(&mut self) {
        // Callers cut sequences long before 4 GiB; a single item is bounded by the message size.
        let end = u32::try_from(self.data.len()).expect("a sequence stays below 4 GiB");
        self.ends.push(end);
    }
}

/// What was encoded to a buffer, as an item: a long one takes the buffer along, so that it is never copied.
pub fn item_of(encoded: &mut Vec<u8>) -> Cow<'_, [u8]> {
    if encoded.len() < LENT_BYTES_MIN { Cow::Borrowed(encoded) } else { Cow::Owned(std::mem::take(encoded)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_item_is_moved_when_it_is_the_first() {
        let mut builder = PackedBuilder::default();
        builder.push(b"");
        let mut long = vec![7; LENT_BYTES_MIN];
        let place = long.as_ptr();
        builder.push_item(item_of(&mut long));
        assert!(long.is_empty());
        let mut other = vec![8; LENT_BYTES_MIN];
        let mut both = builder.clone();
        both.push_item(item_of(&mut other));
        both.push_item(item_of(&mut b"end".to_vec()));
        let built = builder.build();
        assert_eq!(built.item(1).map(<[u8]>::as_ptr), Some(place));
        let both = both.build();
        assert_eq!(both.iter().map(<[u8]>::len).collect::<Vec<_>>(), [0, LENT_BYTES_MIN, LENT_BYTES_MIN, 3]);
        assert!(both.is_sound());
    }

    fn packed(items: &[&[u8]]) -> Packed {
        let mut builder = PackedBuilder::default();
        items.iter().for_each(|item| builder.push(item));
        builder.build()
    }

    #[test]
    fn items_come_back_as_pushed() {
        let p = packed(&[b"one", b"", b"three"]);
        assert_eq!(p.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!(p.item(3), None);
        assert!(p.is_sound());
    }

    #[test]
    fn a_slice_is_a_sequence_of_its_own() {
        let p = packed(&[b"one", b"two", b"three", b"four"]).slice(1, 2);
        assert_eq!(p.iter().collect::<Vec<_>>(), [&b"two"[..], b"three"]);
        assert!(p.is_sound());
        assert!(p.slice(2, 0).is_empty());
    }

    #[test]
    fn the_last_item_can_be_taken_out() {
        let mut builder = PackedBuilder::default();
        [&b"one"[..], b"two"].iter().for_each(|item| builder.push(item));
        assert_eq!(builder.split_last().build(), packed(&[b"two"]));
        assert_eq!(builder.build(), packed(&[b"one"]));
    }

    #[test]
    fn lies_about_ends_are_found_and_never_panic() {
        for (ends, data) in [(vec![5], "abc"), (vec![3, 2], "abc"), (vec![], "abc"), (vec![1], "abc")] {
            let p = Packed { ends, data: Bytes::from_static(data.as_bytes()) };
            assert!(!p.is_sound());
            for index in 0..4 {
                let _ = (p.item(index), p.share(index));
            }
        }
    }
}
