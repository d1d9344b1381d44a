//! Tasks that may not run for ever: the engine looks after the one that runs, and ends it when its time is over.

use std::time::Instant;

use actix::{AsyncContext, Context, SpawnHandle};

use super::{EngineActor, WorkerSetup};

/// When the engine looks after the task that runs.
pub(super) struct Look {
    at: Instant,
    handle: SpawnHandle,
}

impl EngineActor {
    /// The worker turns to the next of its tasks.
    pub(super) fn task_begins(&mut self, context: &mut Context<Self>) {
        if self.stopwatch.is_set() {
            self.stopwatch.begin(Instant::now());
            self.look_when_due(context);
        }
    }

    /// One look is enough however many tasks there are: one that comes early finds when the next is due.
    fn look_when_due(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        let Some((_, left)) = self.stopwatch.left(now) else { return };
        let at = now + left;
        if self.look.as_ref().is_some_and(|look| look.at <= at) {
            return;
        }
        let handle = context.run_later(left, Self::look);
        if let Some(former) = self.look.replace(Look { at, handle }) {
            context.cancel_future(former.handle);
        }
    }

    fn look(&mut self, context: &mut Context<Self>) {
        self.look = None;
        let Some((limit, left)) = self.stopwatch.left(Instant::now()).filter(|_| self.running_on.is_some()) else { return };
        if !left.is_zero() {
            return self.look_when_due(context);
        }
        match self.setup {
            WorkerSetup::Process => {
                let mut reports = Vec::new();
                self.slot.overran(limit, &mut reports);
                self.put_out(reports);
                self.stop_running();
                self.run_piece(context);
                self.advance(context);
            }
            // It cannot be stopped. It is told, and its outcome will say how long it took.
            WorkerSetup::Thread { .. } => {
                self.stopwatch.stop();
                if let Some(((batch, index), worker)) = self.slot.next_task().zip(self.running_worker()) {
                    worker.overrun(batch, index, limit);
                }
            }
        }
    }
}
