//! Values on engines: what a direct view sets, fetches, and spreads over its engines.
//!
//! All of it is done by tasks, whose functions are part of the program as the user's own are.

use std::{future::IntoFuture, iter::repeat_n, pin::Pin, sync::Arc, time::Duration};

use serde::{Serialize, Serializer, de::DeserializeOwned};

use super::{
    async_result::AsyncResult,
    direct_view::{DirectView, share},
    new_job::travelling,
};
use crate::code::Function;
use crate::engine::worker::{Namespace, NamespaceError, TaskContext};
use crate::error::Result;

/// Which parts of a list of values go to which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Each engine gets one contiguous part, as equal as possible, the longer ones first.
    Block,
    /// As cards are dealt: the first value goes to the first engine, the second to the second, and round again.
    Cyclic,
}

/// The parts of a list that engines have, to be put together in the order of the whole: what [`DirectView::gather`] gives.
#[derive(Debug)]
#[must_use = "the parts are fetched in any case, but lost to this program"]
pub struct Gathered<T> {
    parts: AsyncResult<Vec<T>>,
    distribution: Distribution,
}

impl DirectView {
    /// Sets a value on each engine, where tasks of this program find it in their
    /// [`namespace`](crate::TaskContext::namespace). For what is small; see [`broadcast`](Self::broadcast) for what is not.
    ///
    /// ```no_run
    /// # use engineroom::{prelude::*, NamespaceError};
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.direct_view()?;
    /// view.push("rate", &0.25).get()?;
    /// let rates = view.try_apply(|()| TaskContext::current().expect("a task").namespace().get("rate").map(|rate| *rate), ());
    /// let rates: Vec<f64> = rates.get()?; // one for each engine
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn push<T>(&self, name: &str, value: &T) -> AsyncResult<()>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.on_each(keep_function::<T>(), |engines| repeat_n((name, value), engines))
    }

    /// As [`push`](Self::push), for a value that is large: it travels once to each engine node, and not once to each engine. Like
    /// what [`map_with`](crate::LoadBalancedView::map_with) shares, it may have up to 1 GiB in its encoded form.
    pub fn broadcast<T>(&self, name: &str, value: &T) -> AsyncResult<()>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let function = travelling(|bundle| Function::of_program_holding(hold::<T>, bundle));
        self.on_each_sharing(value, function, |engines| repeat_n(name, engines))
    }

    /// The value of that name on each engine, in the order of the targets. Where there is none, or one of another type, the engine's
    /// entry is an error that says so.
    pub fn pull<T>(&self, name: &str) -> AsyncResult<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let function = travelling(|bundle| Function::of_program_fallible(fetch::<T>, bundle));
        self.on_each(function, |engines| repeat_n(name, engines))
    }

    /// Sets a part of the values on each engine, as a `Vec<T>`; an engine for which there is none gets an empty one.
    ///
    /// ```no_run
    /// # use engineroom::{prelude::*, Distribution};
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.direct_view()?;
    /// view.scatter("numbers", 0..1000_u64, Distribution::Block).get()?;
    /// assert!(view.gather::<u64>("numbers", Distribution::Block).get()?.into_iter().eq(0..1000));
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn scatter<T>(&self, name: &str, values: impl IntoIterator<Item = T>, distribution: Distribution) -> AsyncResult<()>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let values: Vec<T> = values.into_iter().collect();
        self.on_each(keep_function::<Vec<T>>(), |engines| {
            let parts = split(&values, engines, distribution);
            parts.into_iter().map(move |part| (name, part))
        })
    }

    /// The values of the lists of that name on all engines, in the order of the whole that was scattered so. Of a list that each
    /// task has made itself, `distribution` says how they are put together.
    pub fn gather<T>(&self, name: &str, distribution: Distribution) -> Gathered<T>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        Gathered { parts: self.pull(name), distribution }
    }

    /// Removes all values that tasks of this program have left on these engines.
    pub fn clear(&self) -> AsyncResult<()> {
        let function = travelling(|bundle| Function::of_program_fallible(clear, bundle));
        self.on_each(function, |engines| repeat_n((), engines))
    }
}

impl<T: DeserializeOwned + 'static> Gathered<T> {
    /// Blocks until all parts are here and gives the whole.
    ///
    /// # Errors
    /// [`Error::Task`](crate::Error::Task) with the first engine that has no such list, or any other when the results will never come.
    pub fn get(self) -> Result<Vec<T>> {
        Ok(join(self.parts.get()?, self.distribution))
    }

    /// As [`Gathered::get`], for at most that long. On a timeout it can be asked again.
    ///
    /// # Errors
    /// [`Error::Timeout`](crate::Error::Timeout), or as [`Gathered::get`].
    pub fn get_timeout(&mut self, timeout: Duration) -> Result<Vec<T>> {
        Ok(join(self.parts.get_timeout(timeout)?, self.distribution))
    }

    /// The parts, one for each engine.
    pub fn into_parts(self) -> AsyncResult<Vec<T>> {
        self.parts
    }
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Gathered<T> {
    type Output = Result<Vec<T>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Ok(join(self.parts.await?, self.distribution)) })
    }
}

fn keep_function<T>() -> Result<Function>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    travelling(|bundle| Function::of_program_fallible(keep::<T>, bundle))
}

// What runs on the engines:

fn keep<T: Serialize + Send + Sync + 'static>((name, value): (String, T)) -> Result<(), NamespaceError> {
    namespace().set(&name, value)
}

fn hold<T: Serialize + Send + Sync + 'static>(value: Arc<T>, name: String) -> Result<(), NamespaceError> {
    namespace().set_shared(&name, value)
}

fn fetch<T: Send + Sync + 'static>(name: String) -> Result<Fetched<T>, NamespaceError> {
    namespace().get(&name).map(Fetched)
}

fn clear((): ()) -> Result<(), NamespaceError> {
    namespace().clear();
    Ok(())
}

fn namespace() -> Namespace {
    // These functions are called as tasks only. Elsewhere there is an empty one, which says that nothing is there.
    TaskContext::current().map_or_else(Namespace::default, |task| task.namespace().clone())
}

/// A value that stays where it is, encoded as if it were alone.
struct Fetched<T>(Arc<T>);

impl<T: Serialize> Serialize for Fetched<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The parts of a list for so many engines.
fn split<T>(values: &[T], over: usize, distribution: Distribution) -> Vec<Vec<&T>> {
    let mut rest = values.iter();
    match distribution {
        Distribution::Block => (0..over).map(|place| rest.by_ref().take(share(values.len(), over, place)).collect()).collect(),
        Distribution::Cyclic => (0..over).map(|place| values.iter().skip(place).step_by(over).collect()).collect(),
    }
}

/// The whole of which these are the parts.
fn join<T>(parts: Vec<Vec<T>>, distribution: Distribution) -> Vec<T> {
    match distribution {
        Distribution::Block => parts.into_iter().flatten().collect(),
        Distribution::Cyclic => {
            let mut whole = Vec::with_capacity(parts.iter().map(Vec::len).sum());
            let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
            while !parts.is_empty() {
                parts.retain_mut(|part| part.next().map(|value| whole.push(value)).is_some());
            }
            whole
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_split_is_joined_again() {
        for over in 1..5 {
            for length in [0, 1, over - 1, over, over + 1, 2 * over, 17] {
                let values: Vec<usize> = (0..length).collect();
                for distribution in [Distribution::Block, Distribution::Cyclic] {
                    let parts = split(&values, over, distribution);
                    assert_eq!(parts.len(), over);
                    let lengths = parts.iter().map(Vec::len);
                    assert!(lengths.clone().max() <= lengths.min().map(|least| least + 1), "{parts:?}");
                    let parts = parts.into_iter().map(|part| part.into_iter().copied().collect()).collect();
                    assert_eq!(join(parts, distribution), values);
                }
            }
        }
    }

    #[test]
    fn parts_of_any_lengths_are_dealt_out_again() {
        assert_eq!(join(vec![vec![1], vec![2, 4, 5], vec![3]], Distribution::Cyclic), [1, 2, 3, 4, 5]);
        assert_eq!(split(&[1, 2, 3, 4, 5], 2, Distribution::Cyclic), [vec![&1, &3, &5], vec![&2, &4]]);
    }
}
