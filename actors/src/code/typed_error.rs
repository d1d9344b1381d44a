//! Errors of tasks that come back as the values that they were.

use std::{any::type_name, fmt};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{decode, encode_bounded};
use crate::task::{Cause, TaskError};

/// The longest error that comes back as a value, in bytes of its encoding.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// An error of a task that comes back to the client as the value that it is, not only as its text. `?` makes one of any error
/// that can be encoded; [`TaskError::downcast`] gives the error back.
///
/// ```no_run
/// use engineroom::{TypedError, prelude::*};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct Diverged { step: u32 }
///
/// impl std::fmt::Display for Diverged {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "diverged in step {}", self.step)
///     }
/// }
///
/// fn solve(x: f64) -> Result<f64, Diverged> {
///     if x < 1.0 { Ok(1.0 / (1.0 - x)) } else { Err(Diverged { step: 1 }) }
/// }
///
/// # let client = Client::connect(Profile::default())?;
/// let solve = |x: f64| Ok::<_, TypedError>(solve(x)?);
/// for result in client.load_balanced_view().try_map(solve, [0.5, 2.0]).results()? {
///     match result {
///         Ok(value) => println!("{value}"),
///         Err(error) => match error.downcast::<Diverged>() {
///             Some(diverged) => println!("no value after step {}", diverged.step),
///             None => println!("{error}"), // it panicked, its worker crashed, …
///         },
///     }
/// }
/// # Ok::<(), engineroom::Error>(())
/// ```
#[derive(Clone)]
pub struct TypedError {
    type_name: &'static str,
    message: String,
    value: Option<Bytes>,
}

impl TypedError {
    /// Keeps an error as text and, if its encoding has at most 16 KiB, as value.
    pub fn new<E: Serialize + fmt::Display>(error: E) -> Self {
        let value = encode_bounded(&error, ERROR_BYTES_MAX).ok();
        Self { type_name: type_name::<E>(), message: error.to_string(), value: value.map(Bytes::from) }
    }

    pub(super) fn cause(&self) -> Cause {
        let Self { type_name, message, value } = self.clone();
        Cause::ReturnedError { type_name: type_name.into(), message, value }
    }
}

impl<E: Serialize + fmt::Display> From<E> for TypedError {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypedError({}: {})", self.type_name, self.message)
    }
}

impl TaskError {
    /// The error that the task's function returned, if it was an `E`, returned as a [`TypedError`].
    pub fn downcast<E: DeserializeOwned>(&self) -> Option<E> {
        match &self.cause {
            Cause::ReturnedError { type_name: name, value: Some(value), .. } if name == type_name::<E>() => decode(value).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::call::{call_fallible, encode};
    use crate::task::{JobId, MessageId};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Odd {
        Too { much: u32 },
        Long(Vec<u8>),
    }

    impl fmt::Display for Odd {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("odd")
        }
    }

    fn failed(error: impl Fn(u32) -> Result<u32, TypedError>) -> TaskError {
        let mut argument = Vec::new();
        encode(&7, &mut argument).unwrap();
        let cause = call_fallible(error, &argument, &mut Vec::new()).unwrap_err();
        TaskError { id: MessageId { job: JobId::from_u128(1), index: 0 }, engine: None, attempt: 1, cause }
    }

    #[test]
    fn an_error_comes_back_as_the_value_that_it_was() {
        let error = failed(|much| Err(Odd::Too { much })?);
        assert_eq!(error.downcast::<Odd>(), Some(Odd::Too { much: 7 }));
        assert_eq!(error.downcast::<String>(), None);
        let text = error.to_string();
        assert!(text.contains("Odd): odd"), "{text}");
    }

    #[test]
    fn what_is_too_long_comes_back_as_text() {
        let error = failed(|_| Err(Odd::Long(vec![7; 20_000]))?);
        assert_eq!(error.downcast::<Odd>(), None);
        assert!(matches!(&error.cause, Cause::ReturnedError { message, value: None, .. } if message == "odd"), "{error}");
    }
}
