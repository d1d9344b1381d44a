//! How a value becomes bytes, and how a call is made from bytes to bytes.

use std::{
    any::{Any, type_name},
    fmt,
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use engineroom_runtime::proto::payload::{LENT_BYTES_MIN, lent, with_source};
use rmp_serde::{Deserializer, Serializer, decode, encode};
use serde::{
    Deserialize, Serialize, Serializer as _,
    de::{DeserializeOwned, IgnoredAny},
};

use super::{Shared, TypedError};
use crate::task::Cause;

/// A function as a worker calls it: with what the tasks of its job share, decodes the argument and appends the encoded result. It
/// may panic.
pub(crate) type Callable = Arc<dyn Fn(&Shared, &[u8], &mut Vec<u8>) -> Result<(), Cause> + Send + Sync>;

/// Bytes that are not the value that was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The bytes are not of that type.
    #[error(transparent)]
    Wrong(#[from] decode::Error),
    /// The bytes go on after the value.
    #[error("there are bytes after the end of the value")]
    Trailing,
    /// They cannot be read on.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// A value that has no bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// Its `Serialize` fails.
    #[error(transparent)]
    Failed(#[from] encode::Error),
    /// It has too many.
    #[error("it has more than {bytes_max} bytes")]
    TooLong {
        /// How many it may have.
        bytes_max: usize,
    },
}

/// Appends `value` to `out` as MessagePack.
///
/// Structs are encoded with the names of their fields. As bare arrays they would be smaller, but then a field with
/// `skip_serializing_if` silently shifts those after it.
///
/// # Errors
/// When the value's `Serialize` fails; `out` then ends with a part of the value.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), encode::Error> {
    value.serialize(&mut Serializer::new(out).with_struct_map())
}

/// As [`encode`], for the result of a task. If it is a long `Vec<u8>` it becomes a byte string, which takes no time for each
/// byte, and not a list of numbers. Who expects a list reads both; who takes whatever it is sees bytes.
///
/// # Errors
/// As [`encode`].
fn encode_result<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<(), encode::Error> {
    match (value as &dyn Any).downcast_ref::<Vec<u8>>() {
        Some(bytes) if bytes.len() >= LENT_BYTES_MIN => (&mut Serializer::new(out)).serialize_bytes(bytes),
        _ => encode(value, out),
    }
}

/// As [`encode`], for a value that may be too long; it is not encoded to its end then.
///
/// # Errors
/// When the value's `Serialize` fails, or it has more than `bytes_max` bytes.
pub(crate) fn encode_bounded<T: Serialize + ?Sized>(value: &T, bytes_max: usize) -> Result<Vec<u8>, EncodeError> {
    let mut out = Bounded { bytes: Vec::new(), bytes_max, exceeded: false };
    let encoded = value.serialize(&mut Serializer::new(&mut out).with_struct_map());
    if out.exceeded {
        return Err(EncodeError::TooLong { bytes_max });
    }
    encoded?;
    Ok(out.bytes)
}

/// How many bytes [`encode`] would append.
///
/// # Errors
/// When the value's `Serialize` fails.
pub(crate) fn encoded_bytes<T: Serialize + ?Sized>(value: &T) -> Result<u64, encode::Error> {
    let mut counter = Counter(0);
    value.serialize(&mut Serializer::new(&mut counter).with_struct_map())?;
    Ok(counter.0)
}

/// Counts bytes.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0 += part.len() as u64;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes in a bounded number of bytes.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.bytes_max - self.bytes.len() {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes what [`encode_result`] wrote, from all of these bytes. A [`Bytes`] shares them if it is long.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_sharing<T: DeserializeOwned + 'static>(bytes: &Bytes) -> Result<T, DecodeError> {
    let shared = || with_source(bytes, || decode(bytes)).ok().map(|Lent(shared)| shared);
    let copied = || decode::<&[u8]>(bytes).ok().filter(|_| is_byte_string(bytes)).map(<[u8]>::to_vec);
    decoded_as(bytes, shared).or_else(|| decoded_as(bytes, copied)).map_or_else(|| decode(bytes), Ok)
}

/// What `decode` makes of the bytes, if they are long and `T` is the `B` that it makes. What is no byte string may still be a list of
/// numbers: then there is nothing.
fn decoded_as<B: 'static, T: 'static>(bytes: &[u8], decode: impl FnOnce() -> Option<B>) -> Option<T> {
    let mut value = None::<T>;
    if bytes.len() >= LENT_BYTES_MIN
        && let Some(wanted) = (&mut value as &mut dyn Any).downcast_mut::<Option<B>>()
    {
        *wanted = decode();
    }
    value
}

/// Whether an encoded value is a byte string. To serde a text is one too.
fn is_byte_string(encoded: &[u8]) -> bool {
    matches!(encoded.first(), Some(0xc4..=0xc6))
}

/// A byte string that is a part of what it is decoded from.
#[derive(Deserialize)]
struct Lent(#[serde(with = "lent")] Bytes);

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// When the bytes are not exactly one value of that type.
pub(crate) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, DecodeError> {
    let mut decoder = Deserializer::from_read_ref(bytes);
    let value = T::deserialize(&mut decoder)?;
    // The decoder does not tell its position, but finds no further value exactly when it is at the end.
    match Deserialize::deserialize(&mut decoder) {
        Err(decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(IgnoredAny) | Err(_) => Err(DecodeError::Trailing),
    }
}

/// As [`decode`], without having all of the bytes in memory.
///
/// # Errors
/// When the bytes are not exactly one value of that type, or cannot be read.
pub(crate) fn decode_from<T: DeserializeOwned>(bytes: impl Read) -> Result<T, DecodeError> {
    let mut decoder = Deserializer::new(bytes);
    let value = T::deserialize(&mut decoder)?;
    match decoder.get_mut().read(&mut [0])? {
        0 => Ok(value),
        _ => Err(DecodeError::Trailing),
    }
}

/// Calls a function that returns its result.
pub(super) fn call<A, R>(function: impl FnOnce(A) -> R, argument: &[u8], result: &mut Vec<u8>) -> Result<(), Cause>
where
    A: DeserializeOwned,
    R: Serialize + 'static,
{
    store(&function(load(argument)?), result)
}

/// Calls a function that may return an error instead.
pub(super) fn call_fallible<A, R, E>(
    function: impl FnOnce(A) -> Result<R, E>,
    argument: &[u8],
    result: &mut Vec<u8>,
) -> Result<(), Cause>
where
    A: DeserializeOwned,
    R: Serialize + 'static,
    E: fmt::Display + 'static,
{
    match function(load(argument)?) {
        Ok(value) => store(&value, result),
        Err(error) => Err(match (&error as &dyn Any).downcast_ref::<TypedError>() {
            Some(typed) => typed.cause(),
            None => Cause::ReturnedError { type_name: type_name::<E>().into(), message: error.to_string(), value: None },
        }),
    }
}

fn load<A: DeserializeOwned>(argument: &[u8]) -> Result<A, Cause> {
    decode(argument).map_err(|error| Cause::WrongArgument { expected: type_name::<A>().into(), message: error.to_string() })
}

fn store<R: Serialize + 'static>(value: &R, result: &mut Vec<u8>) -> Result<(), Cause> {
    encode_result(value, result)
        .map_err(|error| Cause::WrongResult { type_name: type_name::<R>().into(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out).unwrap();
        out
    }

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        assert_eq!(decode::<T>(&bytes(&value)).unwrap(), value);
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skips {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        a: Option<u32>,
        #[serde(default)]
        b: Option<u32>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Unit,
        New(u8),
        Named { x: f64, y: Vec<String> },
    }

    #[test]
    fn values_round_trip() {
        round_trip(());
        round_trip(i64::MIN);
        round_trip(f64::MAX);
        round_trip(Some(Some(3)));
        round_trip("text".to_string());
        round_trip(vec![Shape::Unit, Shape::New(7), Shape::Named { x: 0.5, y: vec!["ü".into()] }]);
    }

    #[test]
    fn a_skipped_field_does_not_shift_the_next() {
        round_trip(Skips { a: None, b: Some(1) });
    }

    #[test]
    fn anything_but_exactly_one_value_is_refused() {
        let good = bytes(&(1_u32, "two"));
        assert!(decode::<(u32, String)>(&good).is_ok());
        for end in 0..good.len() {
            assert!(matches!(decode::<(u32, String)>(&good[..end]), Err(DecodeError::Wrong(_))), "cut at {end}");
            assert!(matches!(decode_from::<(u32, String)>(&good[..end]), Err(DecodeError::Wrong(_))), "cut at {end}");
        }
        for extra in [0x00, 0xc0, 0xc1, 0xd9, 0xff] {
            let long = [&good[..], &[extra]].concat();
            assert!(matches!(decode::<(u32, String)>(&long), Err(DecodeError::Trailing)), "{extra:#x} after the end");
            assert!(matches!(decode_from::<(u32, String)>(&long[..]), Err(DecodeError::Trailing)), "{extra:#x} after the end");
        }
        assert!(matches!(decode::<u32>(&good), Err(DecodeError::Wrong(_))));
    }

    #[test]
    fn long_bytes_share_what_they_are_decoded_from_and_nothing_else_does() {
        let value = Bytes::from(vec![7; LENT_BYTES_MIN]);
        let encoded = Bytes::from(bytes(&value));
        let shared: Bytes = decode_sharing(&encoded).unwrap();
        assert!(shared == value && encoded.as_ptr_range().contains(&shared.as_ptr()));
        let list = Bytes::from(bytes(&value.to_vec()));
        assert!(decode_sharing::<Bytes>(&list).unwrap() == value);
        assert!(decode_sharing::<Vec<u8>>(&list).unwrap() == value);
        let short = Bytes::from(bytes(&value.slice(1..100)));
        assert!(!short.as_ptr_range().contains(&decode_sharing::<Bytes>(&short).unwrap().as_ptr()));
        let trailing = Bytes::from([&encoded[..], b"x"].concat());
        assert!(matches!(decode_sharing::<Bytes>(&trailing), Err(DecodeError::Trailing)));
        assert!(matches!(decode_sharing::<Bytes>(&encoded.slice(1..)), Err(DecodeError::Trailing | DecodeError::Wrong(_))));
    }

    #[test]
    fn a_long_vector_of_bytes_is_a_byte_string_and_a_short_one_a_list() {
        const LIST: u8 = 0xdc;
        const BYTE_STRING: u8 = 0xc6;
        for (length, marker) in [(LENT_BYTES_MIN - 1, LIST), (LENT_BYTES_MIN, BYTE_STRING)] {
            let value: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let mut encoded = Vec::new();
            encode_result(&value, &mut encoded).unwrap();
            assert_eq!(encoded[0], marker, "{length}");
            let shared = Bytes::from(encoded.clone());
            assert!(decode_sharing::<Vec<u8>>(&shared).unwrap() == value);
            assert!(decode::<Vec<u8>>(&encoded).unwrap() == value);
            assert!(decode::<Vec<u32>>(&encoded).unwrap().iter().map(|byte| *byte as u8).eq(value.iter().copied()));
            assert!(decode_sharing::<Bytes>(&shared).unwrap() == value);
            assert!(decode::<Vec<u8>>(&encoded[..length]).is_err());
            assert!(matches!(decode::<Vec<u8>>(&[&encoded[..], b"x"].concat()), Err(DecodeError::Trailing)));
            let mut back = Vec::new();
            call(|value: Vec<u8>| value, &encoded, &mut back).unwrap();
            assert!(back == encoded);
        }
        let text = Bytes::from(bytes(&"x".repeat(LENT_BYTES_MIN)));
        assert!(matches!(decode_sharing::<Vec<u8>>(&text), Err(DecodeError::Wrong(_))));
    }

    #[test]
    fn what_is_too_long_is_not_encoded() {
        let value = vec!["text".to_string(); 1000];
        let whole = bytes(&value);
        assert_eq!(encode_bounded(&value, whole.len()).unwrap(), whole);
        assert_eq!(encoded_bytes(&value).unwrap(), whole.len() as u64);
        let error = encode_bounded(&value, whole.len() - 1).unwrap_err();
        assert!(matches!(error, EncodeError::TooLong { bytes_max } if bytes_max == whole.len() - 1), "{error}");
    }

    #[test]
    fn failures_say_what_was_expected() {
        let mut out = Vec::new();
        let wrong = call(|x: u32| x, &bytes("text"), &mut out);
        assert!(matches!(wrong, Err(Cause::WrongArgument { expected, .. }) if expected == "u32"));
        let error = call_fallible(|x: u32| u8::try_from(x), &bytes(&300), &mut out);
        assert!(matches!(error, Err(Cause::ReturnedError { type_name, message, .. })
            if type_name.ends_with("TryFromIntError") && message.contains("out of range")));
        assert!(out.is_empty());
        assert_eq!(call_fallible(|x: u32| u8::try_from(x), &bytes(&30), &mut out), Ok(()));
        assert_eq!(decode::<u8>(&out).unwrap(), 30);
    }

    #[test]
    fn a_result_that_cannot_be_encoded_is_a_failure() {
        struct Never;
        impl Serialize for Never {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not this one"))
            }
        }
        let result = call(|()| Never, &bytes(&()), &mut Vec::new());
        assert!(matches!(result, Err(Cause::WrongResult { type_name, message })
            if type_name.ends_with("Never") && message.contains("not this one")));
    }
}
