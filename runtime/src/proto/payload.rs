//! Messages as bytes, without copies of what is long in them.
//!
//! Memory that is new to a process costs more than anything else that is done with a long message, so a long field is never
//! copied: a message is encoded into a [`Rope`], which takes such a field by reference, and [`decode()`]d from one buffer, of
//! which such a field is a part. A field takes part by `#[serde(with = "engineroom_runtime::proto::payload::lent")]`. On the
//! wire it is what it would be anyway.

use std::{
    cell::{Cell, RefCell},
    io,
};

use bytes::{Buf, Bytes, BytesMut};
use rmp_serde::{decode, encode};
use serde::{Serialize, de::DeserializeOwned};

/// Fields of at least so many bytes are lent instead of copied. Longer than any frame, so that a message that travels inline
/// is one piece, and no field keeps the buffer of a control stream alive.
pub const LENT_BYTES_MIN: usize = 64 << 10;

thread_local! {
    /// The field that is being encoded, for the [`Rope`] that is given its bytes.
    static FIELD: Cell<Option<Bytes>> = const { Cell::new(None) };
    /// What is being decoded, for fields that are a part of it.
    static SOURCE: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// An encoded message: short parts gathered in one buffer, and between them the long ones, by reference.
#[derive(Debug, Default)]
pub struct Rope {
    gathered: BytesMut,
    /// The long parts, and where in `gathered` each belongs. Ascending.
    lent: Vec<(usize, Bytes)>,
    lent_bytes: usize,
}

/// Bytes in pieces.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Rope {
    /// A rope that begins with these bytes.
    pub fn after(prefix: BytesMut) -> Self {
        Self { gathered: prefix, ..Self::default() }
    }

    /// Appends a message as MessagePack.
    ///
    /// # Errors
    /// When its `Serialize` fails; the rope then ends with a part of it.
    pub fn encode(&mut self, message: &impl Serialize) -> Result<(), encode::Error> {
        encode::write(self, message)
    }

    /// How many bytes there are, the prefix included.
    pub fn len(&self) -> usize {
        self.gathered.len() + self.lent_bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was gathered: the prefix, and all the rest of a message of less than [`LENT_BYTES_MIN`].
    pub fn gathered_mut(&mut self) -> &mut BytesMut {
        &mut self.gathered
    }

    /// All of it from offset `from` on, which lies within the prefix.
    pub fn into_payload(self, from: usize) -> Payload {
        let Self { mut gathered, lent, lent_bytes } = self;
        let from = from.min(lent.first().map_or(gathered.len(), |(at, _)| *at));
        gathered.advance(from);
        let (mut gathered, mut taken) = (gathered.freeze(), from);
        let bytes = gathered.len() + lent_bytes;
        let mut chunks = Vec::with_capacity(2 * lent.len() + 1);
        for (at, field) in lent {
            // Places ascend, and none is beyond what was gathered.
            chunks.push(gathered.split_to(at - taken));
            chunks.push(field);
            taken = at;
        }
        chunks.push(gathered);
        chunks.retain(|chunk| !chunk.is_empty());
        Payload { chunks, bytes }
    }
}

impl io::Write for Rope {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let field = if bytes.len() < LENT_BYTES_MIN { None } else { FIELD.take() };
        match field.filter(|field| field.as_ptr() == bytes.as_ptr() && field.len() == bytes.len()) {
            Some(field) => {
                self.lent_bytes += field.len();
                self.lent.push((self.gathered.len(), field));
            }
            None => self.gathered.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Payload {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The pieces, in order. None is empty.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The pieces, in order. None is empty.
    pub fn into_chunks(self) -> Vec<Bytes> {
        self.chunks
    }
}

/// Decodes a message from MessagePack. Its long fields share the buffer.
///
/// # Errors
/// When the bytes are no such message.
pub fn decode<M: DeserializeOwned>(source: &Bytes) -> Result<M, decode::Error> {
    with_source(source, || rmp_serde::from_slice(source))
}

/// Calls `read`, which decodes something from `source`: long fields share its buffer.
pub fn with_source<R>(source: &Bytes, read: impl FnOnce() -> R) -> R {
    if source.len() < LENT_BYTES_MIN {
        return read();
    }
    let _restored = Restored(SOURCE.replace(Some(source.clone())));
    read()
}

/// Puts the source back that was there before, also when decoding panics.
struct Restored(Option<Bytes>);

impl Drop for Restored {
    fn drop(&mut self) {
        SOURCE.set(self.0.take());
    }
}

/// The same bytes as a part of what is being decoded. Only when they are long and at least half of it: a value must not keep
/// much more memory alive than it counts for.
fn share(field: &[u8]) -> Option<Bytes> {
    SOURCE.with_borrow(|source| {
        let source = source.as_ref()?;
        let start = field.as_ptr().addr().checked_sub(source.as_ptr().addr())?;
        let end = start.checked_add(field.len())?;
        let lies_within = end <= source.len();
        let is_most = field.len() >= LENT_BYTES_MIN && field.len() >= source.len() / 2;
        (lies_within && is_most).then(|| source.slice(start..end))
    })
}

/// How a long field is written and read, for `#[serde(with)]`.
pub mod lent {
    use std::fmt;

    use bytes::Bytes;
    use serde::{Deserializer, Serializer, de};

    use super::{FIELD, LENT_BYTES_MIN, share};

    /// Writes the field. A [`Rope`](super::Rope) takes it without a copy.
    ///
    /// # Errors
    /// As the serializer has.
    pub fn serialize<S: Serializer>(field: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if field.len() < LENT_BYTES_MIN {
            return serializer.serialize_bytes(field);
        }
        FIELD.set(Some(field.clone()));
        let written = serializer.serialize_bytes(field);
        // A serializer that is no rope has left it there.
        FIELD.set(None);
        written
    }

    /// Reads the field. It shares the buffer that [`decode`](super::decode()) was given, if it is most of it.
    ///
    /// # Errors
    /// As the deserializer has.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_byte_buf(Field)
    }

    struct Field;

    impl de::Visitor<'_> for Field {
        type Value = Bytes;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(share(bytes).unwrap_or_else(|| Bytes::copy_from_slice(bytes)))
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(bytes.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Message {
        before: u32,
        #[serde(with = "lent")]
        field: Bytes,
        #[serde(with = "lent")]
        other: Bytes,
    }

    fn message(bytes: usize, other: usize) -> Message {
        let filled = |count: usize| (0..count).map(|at| at as u8).collect();
        Message { before: 7, field: filled(bytes), other: filled(other) }
    }

    fn rope(message: &Message) -> Rope {
        let mut rope = Rope::after(b"head"[..].into());
        rope.encode(message).unwrap();
        rope
    }

    #[test]
    fn a_rope_has_the_bytes_that_an_encoder_without_one_writes() {
        for (bytes, other) in [(0, 0), (LENT_BYTES_MIN - 1, 1), (LENT_BYTES_MIN, 1), (5, LENT_BYTES_MIN), (100_000, 100_000)] {
            let message = message(bytes, other);
            let expected = rmp_serde::to_vec(&message).unwrap();
            let rope = rope(&message);
            assert_eq!(rope.len(), 4 + expected.len());
            let payload = rope.into_payload(4);
            assert_eq!(payload.len(), expected.len());
            assert!(payload.chunks().iter().all(|chunk| !chunk.is_empty()));
            assert_eq!(payload.into_chunks().concat(), expected);
            assert_eq!(decode::<Message>(&expected.into()).unwrap(), message);
        }
    }

    #[test]
    fn long_fields_are_the_very_memory_that_was_given() {
        let message = message(100_000, 9);
        let payload = rope(&message).into_payload(0);
        assert!(payload.chunks().iter().any(|chunk| chunk.as_ptr() == message.field.as_ptr()));
        assert!(FIELD.take().is_none());
        let source = Bytes::from(payload.into_chunks().concat()).slice(4..);
        let decoded: Message = decode(&source).unwrap();
        assert!(source.as_ptr_range().contains(&decoded.field.as_ptr()));
        assert!(!source.as_ptr_range().contains(&decoded.other.as_ptr()));
        assert!(SOURCE.take().is_none());
    }

    #[test]
    fn a_field_that_is_a_small_part_keeps_nothing_alive() {
        let source = Bytes::from(rmp_serde::to_vec(&message(LENT_BYTES_MIN, 3 * LENT_BYTES_MIN)).unwrap());
        let decoded: Message = decode(&source).unwrap();
        assert!(!source.as_ptr_range().contains(&decoded.field.as_ptr()));
        assert!(source.as_ptr_range().contains(&decoded.other.as_ptr()));
    }

    #[test]
    fn a_serializer_that_is_no_rope_leaves_nothing_behind() {
        let message = message(100_000, 0);
        let mut rope = Rope::default();
        rmp_serde::to_vec(&message).unwrap();
        io::Write::write_all(&mut rope, &message.field).unwrap();
        assert_eq!(rope.gathered_mut().len(), 100_000);
    }

    #[test]
    fn damaged_bytes_are_errors() {
        let good = rmp_serde::to_vec(&message(100_000, 9)).unwrap();
        for end in [0, 1, 5, 70_000, good.len() - 1] {
            assert!(decode::<Message>(&Bytes::copy_from_slice(&good[..end])).is_err(), "cut at {end}");
        }
    }
}
