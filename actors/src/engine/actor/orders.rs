//! What a client wants done to this engine: see [`EngineOrder`].

use actix::{ActorContext, Context, Handler};
use engineroom_runtime::actor::Remote;

use super::{EngineActor, WorkerSetup};
use crate::engine::host::EngineOver;
use crate::wire::{ControlEngine, Draining, EngineOrder};

impl EngineActor {
    /// Ends the engine once it has nothing to do any more, if it is to leave.
    pub(super) fn leave_if_idle(&mut self, context: &mut Context<Self>) {
        if self.leaving && self.slot.is_idle() && self.holdings.is_empty() {
            self.leaving = false;
            self.host.do_send(EngineOver);
            context.stop();
        }
    }

    /// A controller by another link does not know that this engine leaves.
    pub(super) fn say_that_it_leaves(&self) {
        if let (true, Some(scheduler), Some(id)) = (self.leaving, &self.scheduler, self.id) {
            // If the link is down, it is said by the next one.
            let _ = scheduler.tell(&Draining { engines: vec![id] });
        }
    }

    fn signal(&self, signal: i32) -> Result<(), String> {
        match self.signal_workers(signal) {
            0 => Err("it has no worker process at the moment".into()),
            _ => Ok(()),
        }
    }

    /// What runs is begun anew by a fresh worker: nothing is to blame for that it was stopped.
    fn restart(&mut self, context: &mut Context<Self>) {
        let was_running = self.running_on.take().is_some();
        self.workers.clear();
        self.slot.worker_left();
        if was_running {
            self.run_piece(context);
        }
    }
}

impl Handler<Remote<ControlEngine>> for EngineActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<ControlEngine>, context: &mut Context<Self>) {
        let in_threads = matches!(self.setup, WorkerSetup::Thread { .. });
        let done = match remote.message.order {
            EngineOrder::Signal(_) | EngineOrder::Restart if in_threads => {
                Err("it runs tasks in threads of its node's process, which can be had only as a whole".into())
            }
            EngineOrder::Signal(signal) => self.signal(signal),
            EngineOrder::Restart => {
                self.restart(context);
                Ok(())
            }
            EngineOrder::Shutdown => {
                self.leaving = true;
                Ok(())
            }
        };
        remote.reply.send(&done);
        self.advance(context);
    }
}
