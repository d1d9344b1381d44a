//! Values that stay with a worker from task to task.

use std::{
    any::{Any, type_name},
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::code::encoded_bytes;

/// How many values a namespace has at most.
const VALUES_MAX: usize = 4096;

/// How many bytes the values of a namespace have at most, together with their names, as they are encoded; in memory they may take
/// a multiple of it. As much as one value may have that travels.
const BYTES_MAX: u64 = 1 << 30;

/// The values that tasks of one program have left on one engine, by name.
///
/// An engine keeps them in its worker, a namespace for each program. So they are there as long as the worker is: they are lost when
/// its process ends, be it that a task crashes or is stopped, that the engine is restarted, or that it has run four other programs
/// since. Nothing says that a task of a load-balanced view comes to an engine where a value was set, unless it
/// [follows](crate::LoadBalancedView::follow) the one that set it; a [`DirectView`](crate::DirectView) sets values on all of its
/// engines.
///
/// It has at most 4,096 values, and 1 GiB of them as they are encoded. What is beyond is refused; nothing is dropped to make room.
///
/// ```
/// use engineroom::{NamespaceError, TaskContext};
///
/// /// Counts how many tasks of this program have run on this engine.
/// fn count(_: u64) -> Result<u64, NamespaceError> {
///     let task = TaskContext::current().expect("this is a task");
///     let before = task.namespace().get::<u64>("tasks").map_or(0, |tasks| *tasks);
///     task.namespace().set("tasks", before + 1)?;
///     Ok(before + 1)
/// }
/// ```
#[derive(Clone, Default)]
pub struct Namespace {
    values: Arc<Mutex<Values>>,
}

#[derive(Default)]
struct Values {
    by_name: BTreeMap<String, Value>,
    bytes: u64,
}

struct Value {
    value: Arc<dyn Any + Send + Sync>,
    type_name: &'static str,
    bytes: u64,
}

/// Why a namespace does not give a value, or take one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// There is no value of that name.
    #[error(
        "there is no value {name:?} on this engine: it was not set here, or was lost with the worker that had it; set it again"
    )]
    Missing {
        /// The name.
        name: String,
    },
    /// The value is of another type.
    #[error("the value {name:?} is of type {found}, not {wanted}")]
    WrongType {
        /// Its name.
        name: String,
        /// The Rust name of the type that was asked for.
        wanted: &'static str,
        /// The Rust name of the type that it has.
        found: &'static str,
    },
    /// There is no room for a further value.
    #[error(
        "there is no room for {name:?}, which has {bytes} bytes: an engine keeps {BYTES_MAX} bytes in {VALUES_MAX} values of a program at most; remove some"
    )]
    Full {
        /// The name of the value that was to be set.
        name: String,
        /// How many bytes it has, its name included.
        bytes: u64,
    },
    /// Its `Serialize` fails, so that it cannot be told how large it is.
    #[error("the value {name:?} ({type_name}) cannot be encoded: {message}")]
    NotEncoded {
        /// Its name.
        name: String,
        /// The Rust name of its type.
        type_name: &'static str,
        /// What the encoder found wrong.
        message: String,
    },
}

impl Namespace {
    /// The value of that name.
    ///
    /// # Errors
    /// When there is none, or it is of another type.
    pub fn get<T: Send + Sync + 'static>(&self, name: &str) -> Result<Arc<T>, NamespaceError> {
        let values = self.lock();
        let Some(found) = values.by_name.get(name) else { return Err(NamespaceError::Missing { name: name.into() }) };
        let value = Arc::clone(&found.value).downcast::<T>();
        value.map_err(|_| NamespaceError::WrongType { name: name.into(), wanted: type_name::<T>(), found: found.type_name })
    }

    /// Sets a value, in the place of the one that has that name, of whatever type that is.
    ///
    /// # Errors
    /// When there is no room for it, or it cannot be encoded. A value that was there stays.
    pub fn set<T: Serialize + Send + Sync + 'static>(&self, name: &str, value: T) -> Result<(), NamespaceError> {
        self.set_shared(name, Arc::new(value))
    }

    /// As [`Namespace::set`], for a value that others have too: it is not copied.
    ///
    /// # Errors
    /// As [`Namespace::set`].
    pub fn set_shared<T: Serialize + Send + Sync + 'static>(&self, name: &str, value: Arc<T>) -> Result<(), NamespaceError> {
        let type_name = type_name::<T>();
        let bytes = encoded_bytes(&*value).map_err(|error| {
            let (name, message) = (name.into(), error.to_string());
            NamespaceError::NotEncoded { name, type_name, message }
        })?;
        let bytes = bytes + name.len() as u64;
        let former = self.lock().put(name, Value { value, type_name, bytes });
        // To drop a large value takes a while, and runs the program's code: not under the lock.
        former.map(drop).ok_or_else(|| NamespaceError::Full { name: name.into(), bytes })
    }

    /// Removes the value of that name, of whatever type it is; says whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.lock().take(name);
        removed.is_some()
    }

    /// Removes all values.
    pub fn clear(&self) {
        let removed = std::mem::take(&mut *self.lock());
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        // Nothing panics while it holds this lock.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    /// The value that stood there before, if any; `None` when there is no room.
    fn put(&mut self, name: &str, value: Value) -> Option<Option<Value>> {
        let former_bytes = self.by_name.get(name).map(|former| former.bytes);
        let count = self.by_name.len() + usize::from(former_bytes.is_none());
        let bytes = self.bytes - former_bytes.unwrap_or(0) + value.bytes;
        if count > VALUES_MAX || bytes > BYTES_MAX {
            return None;
        }
        self.bytes = bytes;
        Some(self.by_name.insert(name.into(), value))
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.by_name.remove(name)?;
        self.bytes -= value.bytes;
        Some(value)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.lock();
        f.debug_map().entries(values.by_name.iter().map(|(name, value)| (name, value.type_name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde::Serializer;

    use super::*;

    #[test]
    fn a_value_is_found_by_name_and_type() {
        let namespace = Namespace::default();
        namespace.set("numbers", vec![1_u32, 2]).unwrap();
        assert_eq!(*namespace.get::<Vec<u32>>("numbers").unwrap(), [1, 2]);
        let wrong = namespace.get::<Vec<u64>>("numbers").unwrap_err();
        assert!(wrong.to_string().contains("alloc::vec::Vec<u32>, not alloc::vec::Vec<u64>"), "{wrong}");
        assert_eq!(namespace.get::<u8>("number"), Err(NamespaceError::Missing { name: "number".into() }));
        namespace.set("numbers", 7_u8).unwrap();
        assert_eq!(namespace.get("numbers"), Ok(Arc::new(7_u8)));
        assert!(namespace.remove("numbers") && !namespace.remove("numbers"));
        assert!(namespace.get::<u8>("numbers").is_err());
    }

    #[test]
    fn what_has_no_room_is_refused_and_nothing_is_lost_for_it() {
        struct Huge;
        impl Serialize for Huge {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let part = "x".repeat(1 << 20);
                serializer.collect_seq((0..BYTES_MAX >> 20).map(|_| &part))
            }
        }
        let namespace = Namespace::default();
        namespace.set("small", 1_u8).unwrap();
        assert!(matches!(namespace.set("small", Huge), Err(NamespaceError::Full { bytes, .. }) if bytes > BYTES_MAX));
        assert_eq!(namespace.get("small"), Ok(Arc::new(1_u8)));
        for number in 1..VALUES_MAX {
            namespace.set(&number.to_string(), number).unwrap();
        }
        assert!(matches!(namespace.set("one more", ()), Err(NamespaceError::Full { .. })));
        namespace.set("small", 2_u8).expect("it takes the place of the former");
        namespace.clear();
        assert_eq!(namespace.lock().bytes, 0);
        namespace.set("one more", ()).unwrap();
        namespace.remove("one more");
        assert_eq!(namespace.lock().bytes, 0);
    }

    #[test]
    fn what_cannot_be_encoded_is_refused() {
        struct Never;
        impl Serialize for Never {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("not this one"))
            }
        }
        let refused = Namespace::default().set("never", Never).unwrap_err();
        assert!(refused.to_string().contains("not this one"), "{refused}");
    }
}
