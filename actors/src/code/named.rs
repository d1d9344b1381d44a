//! Tasks that are called by name, for programs that differ on the two sides.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Callable, Shared,
    call::{call, call_fallible},
    function::FUNCTION_NAME_BYTES_MAX,
};

/// The name of a task and the types of its argument and result: what a program that calls it and a program that runs it
/// have in common.
///
/// ```
/// use engineroom::{TaskName, Tasks};
///
/// const SUM_OF_SQUARES: TaskName<Vec<f64>, f64> = TaskName::new("sum-of-squares");
///
/// let tasks = Tasks::new().register(SUM_OF_SQUARES, |numbers| numbers.iter().map(|x| x * x).sum());
/// assert_eq!(tasks.names().collect::<Vec<_>>(), ["sum-of-squares"]);
/// ```
pub struct TaskName<A, R> {
    name: &'static str,
    // Mentions the types without owning them, so that the name is `Copy`, `Send` and `Sync` whatever they are.
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> TaskName<A, R> {
    /// A name. Both sides must use the same name with types that encode alike.
    ///
    /// # Panics
    /// When the name is empty or longer than 256 bytes; for a constant, at compile time.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= FUNCTION_NAME_BYTES_MAX, "a task's name has 1 to 256 bytes");
        Self { name, types: PhantomData }
    }

    /// The name as text.
    pub const fn as_str(&self) -> &'static str {
        self.name
    }
}

// Not derived: derives would ask the same of `A` and `R`.
impl<A, R> Clone for TaskName<A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R> Copy for TaskName<A, R> {}

impl<A, R> fmt::Debug for TaskName<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskName({:?})", self.name)
    }
}

/// The named tasks that a program runs. Cheap to clone.
///
/// Unlike a function that travels, a named task stays in its process, so it may be a closure with captures.
#[derive(Clone, Default)]
pub struct Tasks {
    tasks: Arc<BTreeMap<&'static str, Callable>>,
}

impl Tasks {
    /// No tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a task.
    ///
    /// # Panics
    /// When a task of that name is registered already.
    pub fn register<A, R, F>(self, name: TaskName<A, R>, function: F) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        self.insert(name.name, Arc::new(move |_, argument, result| call(&function, argument, result)))
    }

    /// Adds a task that may return an error, which then is the outcome of the call.
    ///
    /// # Panics
    /// When a task of that name is registered already.
    pub fn register_fallible<A, R, E, F>(self, name: TaskName<A, R>, function: F) -> Self
    where
        F: Fn(A) -> Result<R, E> + Send + Sync + 'static,
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
        E: fmt::Display + 'static,
    {
        self.insert(name.name, Arc::new(move |_, argument, result| call_fallible(&function, argument, result)))
    }

    /// Adds a task that gets, beside its argument, a value that the tasks of a job share: see
    /// [`LoadBalancedView::map_named_with`](crate::LoadBalancedView::map_named_with).
    ///
    /// # Panics
    /// When a task of that name is registered already.
    pub fn register_sharing<S, A, R, F>(self, name: TaskName<(S, A), R>, function: F) -> Self
    where
        F: Fn(&S, A) -> R + Send + Sync + 'static,
        S: DeserializeOwned + Send + Sync + 'static,
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let sharing = move |shared: &Shared, argument: &[u8], result: &mut Vec<u8>| {
            let value = shared.get()?;
            call(|own| function(value, own), argument, result)
        };
        self.insert(name.name, Arc::new(sharing))
    }

    /// The names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tasks.keys().copied()
    }

    /// The task of that name.
    pub(crate) fn find(&self, name: &str) -> Option<Callable> {
        self.tasks.get(name).cloned()
    }

    fn insert(mut self, name: &'static str, callable: Callable) -> Self {
        match Arc::make_mut(&mut self.tasks).entry(name) {
            Entry::Vacant(place) => place.insert(callable),
            Entry::Occupied(_) => panic!("the task {name:?} is registered twice: give one of them another name"),
        };
        self
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{
        code::{SharedValues, decode, encode},
        task::Cause,
    };

    const HALF: TaskName<u32, u32> = TaskName::new("half");

    fn halve(x: u32) -> Result<u32, String> {
        if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
    }

    fn run(tasks: &Tasks, name: &str, argument: u32) -> Result<u32, Cause> {
        let (mut bytes, mut result) = (Vec::new(), Vec::new());
        encode(&argument, &mut bytes).unwrap();
        tasks.find(name).unwrap()(&SharedValues::default().of_run(None), &bytes, &mut result)?;
        Ok(decode(&result).unwrap())
    }

    #[test]
    fn tasks_are_called_by_name_and_keep_their_state() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        let count = move |x: u32| x + counted.fetch_add(1, Ordering::Relaxed);
        let tasks = Tasks::new().register_fallible(HALF, halve).register(TaskName::new("count"), count);
        assert_eq!(run(&tasks, "half", 8), Ok(4));
        assert!(matches!(run(&tasks, "half", 7), Err(Cause::ReturnedError { message, .. }) if message == "7 is odd"));
        assert_eq!((run(&tasks, "count", 5), run(&tasks, "count", 5)), (Ok(5), Ok(6)));
        assert!(tasks.find("none").is_none());
        assert_eq!(format!("{tasks:?}"), r#"{"count", "half"}"#);
    }

    #[test]
    #[should_panic(expected = "registered twice")]
    fn a_second_task_of_one_name_is_refused() {
        let _ = Tasks::new().register_fallible(HALF, halve).register(HALF, |x| x);
    }
}
