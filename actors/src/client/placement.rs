//! On which engines a load-balanced view's tasks may run.

use super::{dependency::Dependency, engine_set::Engines, view::LoadBalancedView};
use crate::code::TaskName;

/// # Where tasks may run
///
/// By default a task goes to any engine that has its function. What is said here narrows that down, all of it together; what is
/// said twice must hold twice, but for [`targets`](LoadBalancedView::targets), of which the last counts. Tasks that are submitted
/// again by their ids keep it.
impl LoadBalancedView {
    /// Tasks run only on these engines: one id, a list or a range of ids, or any other [`Engines`]. Their order is of no
    /// consequence here.
    ///
    /// ```no_run
    /// # use engineroom::{EngineId, Engines, prelude::*};
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.load_balanced_view();
    /// let on_two = view.targets([EngineId(3), EngineId(4)]).map(|x: u64| x * x, 0..1_000);
    /// let on_gpus = view.targets(Engines::label("gpu", "a100")).map(|x: u64| x * x, 0..1_000);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// Ranges and nodes are looked up at each call, and stand for the engines that there are at that moment; tasks of a call that
    /// finds none have [`Error::NoEngines`](crate::Error::NoEngines). With a label, engines that join later take part, and tasks
    /// wait for them; see [`require_label`](Self::require_label). Ids never stand for another engine: tasks fail with
    /// [`Cause::EngineLost`](crate::Cause::EngineLost) once the last of the engines has left, and with
    /// [`Cause::UnmetDependency`](crate::Cause::UnmetDependency) when those do not have what is required besides. A task that
    /// names one engine alone is lost with it also while it runs. At most 1,000 ids; choose more engines by a label.
    pub fn targets(&self, engines: impl Into<Engines>) -> Self {
        let engines = engines.into();
        self.with(|options| options.targets = Some(engines))
    }

    /// Tasks run only on engines whose node was started with this label (`node --label gpu=a100`). They wait while there is none;
    /// the cluster's status says so.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.load_balanced_view().require_label("site", "basement").require_label("gpu", "a100");
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn require_label(&self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|options| {
            options.tasks.selection.labels.insert((key.into(), value.into()));
        })
    }

    /// Tasks run only on engines whose node was started with at least so much of this resource (`node --resource memory_gb=16`).
    /// Each engine of a node has that amount for the one task that it runs at a time. They wait while there is none; the
    /// cluster's status says so.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// let view = client.load_balanced_view().require_resource("gpu", 1).require_resource("memory_gb", 16);
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    pub fn require_resource(&self, name: impl Into<String>, amount: u64) -> Self {
        self.with(|options| {
            let required = options.tasks.selection.resources.entry(name.into()).or_default();
            *required = amount.max(*required);
        })
    }

    /// Tasks run only on engines that offer this named task, whatever they call themselves. They wait while there is none; the
    /// cluster's status says so.
    pub fn require_task<A, R>(&self, name: TaskName<A, R>) -> Self {
        self.with(|options| {
            options.tasks.selection.tasks.insert(name.as_str().to_owned());
        })
    }

    /// As [`after`](Self::after); and tasks run only on engines on which those others ran, and find there what they have left in the
    /// [namespace](crate::TaskContext::namespace): on the one that ran all of them, or, with [`any`](Dependency::any), on those that ran
    /// one of them and ended as they were to, of which the first 1,000 count.
    ///
    /// ```no_run
    /// # use engineroom::{TaskContext, prelude::*};
    /// # let client = Client::connect(Profile::default())?;
    /// # let view = client.load_balanced_view();
    /// let build = |nodes: u64| TaskContext::current().is_some_and(|task| task.namespace().set("nodes", nodes).is_ok());
    /// let count = |(): ()| TaskContext::current().and_then(|task| task.namespace().get::<u64>("nodes").ok().map(|nodes| *nodes));
    /// let built = view.apply(build, 100);
    /// let nodes = view.follow(&built).apply(count, ()); // 100, where that is
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// Where the others ran is looked up when they have ended, however long ago that was, and stays as it is when the controller is
    /// restarted. Tasks fail at once with [`Cause::ImpossibleDependency`](crate::Cause::ImpossibleDependency) if there is no such
    /// engine: no one ran all of them, or those that did have left. They fail with [`Cause::EngineLost`](crate::Cause::EngineLost) when
    /// the last of the engines leaves later.
    pub fn follow(&self, tasks: impl Into<Dependency>) -> Self {
        let Dependency(condition) = tasks.into();
        self.with(|options| options.tasks.follow.push(condition))
    }
}
