//! Records with small, typed, reusable keys.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    num::NonZeroU32,
    ops::{Index, IndexMut},
};

/// Finds a `T` in its [`Slab`]. Reused after the record is removed: nobody may keep the key of a removed record.
pub(crate) struct Key<T> {
    /// One more than its place, so that an `Option` of it is no longer.
    number: NonZeroU32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// No other sorts before it.
    pub(crate) const FIRST: Self = Self { number: NonZeroU32::MIN, of: PhantomData };

    /// The key of a place; there are fewer than 2^32 − 1 of them.
    fn new(at: usize) -> Self {
        // Jobs, clients and engines are bounded far below that.
        let number = u32::try_from(at + 1).ok().and_then(NonZeroU32::new);
        Self { number: number.expect("a slab holds fewer than 2^32 - 1 records"), of: PhantomData }
    }

    fn at(self) -> usize {
        self.number.get() as usize - 1
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Key<T> {}

impl<T> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl<T> PartialOrd for Key<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Key<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.at())
    }
}

/// Records by key. Takes as much memory as it once had records at the same time.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    records: Vec<Option<T>>,
    free: Vec<Key<T>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { records: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    pub(crate) fn insert(&mut self, record: T) -> Key<T> {
        if let Some(key) = self.free.pop() {
            self.records[key.at()] = Some(record);
            return key;
        }
        self.records.push(Some(record));
        Key::new(self.records.len() - 1)
    }

    pub(crate) fn remove(&mut self, key: Key<T>) -> Option<T> {
        let record = self.records[key.at()].take();
        if record.is_some() {
            self.free.push(key);
        }
        record
    }

    pub(crate) fn get(&self, key: Key<T>) -> Option<&T> {
        self.records.get(key.at())?.as_ref()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.records.iter().enumerate().filter_map(|(at, record)| Some((Key::new(at), record.as_ref()?)))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<T>> {
        self.iter().map(|(key, _)| key)
    }
}

impl<T> Index<Key<T>> for Slab<T> {
    type Output = T;

    fn index(&self, key: Key<T>) -> &T {
        // Keys are dropped from every structure before their record is removed.
        self.records[key.at()].as_ref().expect("a key lives no longer than its record")
    }
}

impl<T> IndexMut<Key<T>> for Slab<T> {
    fn index_mut(&mut self, key: Key<T>) -> &mut T {
        // As above.
        self.records[key.at()].as_mut().expect("a key lives no longer than its record")
    }
}
