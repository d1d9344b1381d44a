//! Load-balanced tasks that engines offer by name.

use serde::Serialize;

use super::{async_result::AsyncResult, shape::One, view::LoadBalancedView};
use crate::code::{Function, TaskName};

impl LoadBalancedView {
    /// As [`map`](Self::map), for a task that engines offer by name.
    pub fn map_named<A: Serialize, R, I: IntoIterator<Item = A>>(&self, name: TaskName<A, R>, inputs: I) -> AsyncResult<R> {
        self.map_function(Ok(Function::named(name.as_str())), inputs)
    }

    /// As [`map_with`](Self::map_with), for a task that engines offer by name, with
    /// [`Tasks::register_sharing`](crate::Tasks::register_sharing).
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// const DISTANCE: TaskName<(Vec<f64>, f64), f64> = TaskName::new("distance");
    /// let distances = client.load_balanced_view().map_named_with(DISTANCE, &vec![1.0, 2.0], [1.5, 7.0]);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn map_named_with<S, A, R, I>(&self, name: TaskName<(S, A), R>, shared: &S, inputs: I) -> AsyncResult<R>
    where
        S: Serialize,
        A: Serialize,
        I: IntoIterator<Item = A>,
    {
        self.map_sharing(shared, Ok(Function::named(name.as_str())), inputs)
    }

    /// As [`apply`](Self::apply), for a task that engines offer by name.
    pub fn apply_named<A: Serialize, R>(&self, name: TaskName<A, R>, argument: A) -> AsyncResult<R, One> {
        self.apply_function(Ok(Function::named(name.as_str())), &argument)
    }
}
