//! How lists of small numbers travel and are kept: as variable-length integers (LEB128) in one byte string, a byte each where the
//! general encoding needs several, and without a call of the encoder for each number.
//!
//! The lists of numbers of earlier versions are read too.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use super::Timing;

/// More than this is not made room for before it has been seen, in bytes of the decoded list.
const RESERVED_BYTES_MAX: usize = 4 << 20;

/// What lists are made of. What travels of each is how it differs from the one before it, which is small as a rule.
pub(crate) trait Entry: Copy + Default {
    /// Appends it.
    fn put(self, before: Self, bytes: &mut Vec<u8>);

    /// Takes it off the front.
    fn take<E: Error>(before: Self, bytes: &mut &[u8]) -> Result<Self, E>;
}

/// The ends of byte strings in one buffer, ascending: what travels are their lengths.
impl Entry for u32 {
    fn put(self, before: Self, bytes: &mut Vec<u8>) {
        // Wraps only for ends that are not sound, which then come out as they went in.
        put(bytes, self.wrapping_sub(before));
    }

    fn take<E: Error>(before: Self, bytes: &mut &[u8]) -> Result<Self, E> {
        Ok(before.wrapping_add(take(bytes)?))
    }
}

/// When tasks ran: how long after the one before it each began, and how long it ran.
impl Entry for Timing {
    fn put(self, before: Self, bytes: &mut Vec<u8>) {
        put(bytes, self.start_us.wrapping_sub(before.start_us));
        put(bytes, self.busy_us);
    }

    fn take<E: Error>(before: Self, bytes: &mut &[u8]) -> Result<Self, E> {
        Ok(Self { start_us: before.start_us.wrapping_add(take(bytes)?), busy_us: take(bytes)? })
    }
}

/// Writes a list, for `#[serde(with)]`.
pub(crate) fn serialize<T: Entry, S: Serializer>(list: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(size_of_val(list) / size_of::<u32>() + list.len() / 4);
    let mut before = T::default();
    for entry in list {
        entry.put(before, &mut bytes);
        before = *entry;
    }
    serializer.serialize_bytes(&bytes)
}

/// Reads a list, for `#[serde(with)]`.
pub(crate) fn deserialize<'de, T: Entry + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_any(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Entry + Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of small numbers")
    }

    fn visit_bytes<E: Error>(self, mut bytes: &[u8]) -> Result<Vec<T>, E> {
        let mut list = Vec::with_capacity(room::<T>(bytes.len() * size_of::<u32>() / size_of::<T>()));
        let mut before = T::default();
        while !bytes.is_empty() {
            before = T::take(before, &mut bytes)?;
            list.push(before);
        }
        Ok(list)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::with_capacity(room::<T>(entries.size_hint().unwrap_or(0)));
        while let Some(entry) = entries.next_element()? {
            list.push(entry);
        }
        Ok(list)
    }
}

/// For how many entries room is made at once.
fn room<T>(entries: usize) -> usize {
    entries.min(RESERVED_BYTES_MAX / size_of::<T>())
}

/// Appends a number: seven bits a byte, the lowest first; the top bit says that more follow.
fn put(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front.
fn take<E: Error>(bytes: &mut &[u8]) -> Result<u32, E> {
    let mut number = 0_u32;
    for shift in (0..u32::BITS).step_by(7) {
        let Some((byte, rest)) = bytes.split_first() else { return Err(E::custom("a number ends too early")) };
        *bytes = rest;
        let bits = u32::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(E::custom("a number is beyond 32 bits"))
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Compact(#[serde(with = "super")] Vec<u32>, #[serde(with = "super")] Vec<Timing>);

    #[derive(Serialize, Deserialize)]
    struct Plain(Vec<u32>, Vec<Timing>);

    fn timing(start_us: u32, busy_us: u32) -> Timing {
        Timing { start_us, busy_us }
    }

    fn decode(bytes: &[u8]) -> Result<Compact, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    #[test]
    fn numbers_come_back_whatever_they_are() {
        let ends = vec![0, 1, 1, 128, 16_512, u32::MAX, 3];
        let timings = vec![timing(0, 0), timing(u32::MAX, 127), timing(5, 128), timing(5, u32::MAX)];
        let sent = Compact(ends, timings);
        assert_eq!(decode(&rmp_serde::to_vec(&sent).unwrap()).unwrap(), sent);
        let none = Compact(vec![], vec![]);
        assert_eq!(decode(&rmp_serde::to_vec(&none).unwrap()).unwrap(), none);
    }

    #[test]
    fn a_quick_task_costs_three_bytes() {
        let sent = Compact((1..=100).collect(), (0..100).map(|at| timing(at, 1)).collect());
        // An array of two, and two byte strings with a head of two bytes each.
        assert_eq!(rmp_serde::to_vec(&sent).unwrap().len(), 1 + 2 + 100 + 2 + 200);
    }

    #[test]
    fn lists_of_earlier_versions_are_read() {
        let old = Plain(vec![1, 300], vec![timing(1, 2), timing(400, 5)]);
        let read = decode(&rmp_serde::to_vec(&old).unwrap()).unwrap();
        assert_eq!(read, Compact(old.0, old.1));
    }

    #[test]
    fn bytes_that_are_no_numbers_are_an_error() {
        for (wrong, why) in [
            (&[0x80][..], "ends too early"),
            (&[0xff, 0xff, 0xff, 0xff, 0x1f], "beyond 32 bits"),
            (&[0xff, 0xff, 0xff, 0xff, 0x8f, 0], "beyond 32 bits"),
        ] {
            let encoded = rmp_serde::to_vec(&(bytes::Bytes::copy_from_slice(wrong), bytes::Bytes::new())).unwrap();
            let error = decode(&encoded).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        // A start without a duration.
        let encoded = rmp_serde::to_vec(&(bytes::Bytes::new(), bytes::Bytes::from_static(&[1]))).unwrap();
        assert!(decode(&encoded).is_err());
    }
}
