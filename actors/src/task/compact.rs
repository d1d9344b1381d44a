//! How lists of small numbers travel and are kept: as variable-length integers (LEB128) in one byte string, a byte each where the
//! general encoding needs several, and without a call of the encoder for each number.
//!
//! The lists of numbers of earlier versions are read too.

use std::fmt;

use serde::{
    Deserializer, Serializer,
    de::{Error, SeqAccess, Visitor},
};

use super::Timing;

/// More tasks than this are not made room for before their numbers have been seen, in bytes of the encoded list.
const RESERVED_MAX: usize = 1 << 20;

/// The ends of byte strings in one buffer, ascending: what travels are their lengths.
pub(crate) mod ends {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(ends: &[u32], serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(ends.len() + ends.len() / 8);
        let mut start = 0;
        for end in ends {
            // Wraps only for ends that are not sound, which then come out as they went in.
            put(&mut bytes, end.wrapping_sub(start));
            start = *end;
        }
        serializer.serialize_bytes(&bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
        deserializer.deserialize_any(Ends)
    }

    struct Ends;

    impl<'de> Visitor<'de> for Ends {
        type Value = Vec<u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the lengths of byte strings")
        }

        fn visit_bytes<E: Error>(self, mut bytes: &[u8]) -> Result<Vec<u32>, E> {
            let mut ends = Vec::with_capacity(bytes.len().min(RESERVED_MAX));
            let mut end = 0_u32;
            while !bytes.is_empty() {
                end = end.wrapping_add(take(&mut bytes)?);
                ends.push(end);
            }
            Ok(ends)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<u32>, A::Error> {
            all(list)
        }
    }
}

/// When tasks ran: what travels of each is how long after the one before it began, and how long it ran.
pub(crate) mod timings {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(timings: &[Timing], serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(2 * timings.len() + timings.len() / 4);
        let mut before = 0;
        for Timing { start_us, busy_us } in timings {
            put(&mut bytes, start_us.wrapping_sub(before));
            put(&mut bytes, *busy_us);
            before = *start_us;
        }
        serializer.serialize_bytes(&bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Timing>, D::Error> {
        deserializer.deserialize_any(Timings)
    }

    struct Timings;

    impl<'de> Visitor<'de> for Timings {
        type Value = Vec<Timing>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the times at which tasks ran")
        }

        fn visit_bytes<E: Error>(self, mut bytes: &[u8]) -> Result<Vec<Timing>, E> {
            let mut timings = Vec::with_capacity((bytes.len() / 2).min(RESERVED_MAX));
            let mut start_us = 0_u32;
            while !bytes.is_empty() {
                start_us = start_us.wrapping_add(take(&mut bytes)?);
                timings.push(Timing { start_us, busy_us: take(&mut bytes)? });
            }
            Ok(timings)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<Timing>, A::Error> {
            all(list)
        }
    }
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

fn all<'de, T: serde::Deserialize<'de>, A: SeqAccess<'de>>(mut list: A) -> Result<Vec<T>, A::Error> {
    let mut all = Vec::with_capacity(list.size_hint().unwrap_or(0).min(RESERVED_MAX / size_of::<T>()));
    while let Some(each) = list.next_element()? {
        all.push(each);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Compact(#[serde(with = "ends")] Vec<u32>, #[serde(with = "timings")] Vec<Timing>);

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
