//! What [`AsyncResult::get`](super::AsyncResult::get) gives: many values, or one.

/// What a result consists of: many values, or one.
pub trait Shape {
    /// What [`AsyncResult::get`](crate::AsyncResult::get) gives for values of type `R`.
    type Output<R>;

    #[doc(hidden)]
    fn collect<R>(values: Vec<R>) -> Self::Output<R>;
}

/// The results of many tasks, as a vector in the order of the inputs.
#[derive(Debug)]
pub enum All {}

/// The result of one task.
#[derive(Debug)]
pub enum One {}

impl Shape for All {
    type Output<R> = Vec<R>;

    fn collect<R>(values: Vec<R>) -> Vec<R> {
        values
    }
}

impl Shape for One {
    type Output<R> = R;

    fn collect<R>(mut values: Vec<R>) -> R {
        // Made by `apply`, for exactly one task, whose value is there when this is called.
        values.pop().expect("one task has one value")
    }
}
