//! What a client may have done to engines.

use super::Client;
use crate::error::{Error, Result};
use crate::scheduler::SchedulerActor;
use crate::task::EngineId;
use crate::wire::{ControlEngines, EngineOrder, SCHEDULER};

/// What an engine has answered: done, or why not, as a sentence for people.
type Answer = std::result::Result<(), String>;

/// What may hit whoever has tasks on an engine is for [administrators](crate::certificates::Request::admin), and for a client while no
/// other owner has jobs that have not ended.
impl Client {
    /// Sends a signal, by its number, to the worker processes of these engines and all that they have started; what each engine
    /// answers, in their order. A task that the signal ends fails as one that has crashed, or is tried again after SIGKILL.
    ///
    /// ```no_run
    /// # use engineroom::prelude::*;
    /// # let client = Client::connect(Profile::default())?;
    /// const SIGUSR1: i32 = 10;
    /// for (engine, done) in client.send_signal(&client.engine_ids(), SIGUSR1)? {
    ///     println!("engine {engine}: {done:?}");
    /// }
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the controller cannot be asked, or refuses. What one engine cannot do is its own answer: it runs no process, say.
    pub fn send_signal(&self, engines: &[EngineId], signal: i32) -> Result<Vec<(EngineId, Answer)>> {
        self.order(engines, EngineOrder::Signal(signal))
    }

    /// Replaces the worker processes of an engine, and with them the [values](crate::Namespace) that tasks have left there. The
    /// task that runs is begun anew, and what waits stays where it is.
    ///
    /// # Errors
    /// When the controller cannot be asked, or refuses; [`Error::Engine`] when the engine is not there, or runs tasks in threads.
    pub fn restart_engine(&self, engine: EngineId) -> Result<()> {
        let answers = self.order(&[engine], EngineOrder::Restart)?;
        answers.into_iter().try_for_each(|(engine, done)| done.map_err(|text| Error::Engine { engine, text }))
    }

    /// Ends these engines, or all with [`Client::engine_ids`]: they take nothing new, finish what they have begun, and leave. What
    /// waits there goes to others; tasks that are bound to such an engine fail with [`EngineLost`](crate::Cause::EngineLost). An
    /// engine node without engines ends too. What each engine answers, in their order: that it will.
    ///
    /// # Errors
    /// When the controller cannot be asked, or refuses.
    pub fn shutdown(&self, engines: &[EngineId]) -> Result<Vec<(EngineId, Answer)>> {
        self.order(engines, EngineOrder::Shutdown)
    }

    fn order(&self, engines: &[EngineId], order: EngineOrder) -> Result<Vec<(EngineId, Answer)>> {
        let question = || ControlEngines { engines: engines.to_vec(), order };
        let answers = self.inner.ask_soon::<SchedulerActor, _>(SCHEDULER, question)?;
        Ok(engines.iter().copied().zip(answers.map_err(Error::NotAllowed)?).collect())
    }
}
