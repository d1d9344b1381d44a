//! A controller that was restarted: the jobs that its store has kept, and the engines that may still have tasks of them.

use std::{collections::BTreeSet, time::Duration};

use actix::{AsyncContext, Context, Handler, Message};

use super::{SchedulerActor, needed::NoSharedValue};
use crate::results::{NoteEngines, Restored};
use crate::task::EngineId;

/// How long engines that were there before the restart have to come back until tasks are given out anew. They notice the end of
/// the controller at once if it says so, else with the next packet that they send, which is after 5 s at the latest, and dial again.
const GRACE: Duration = Duration::from_secs(15);

/// The controller is ending: what its links and engines do from now on is of no consequence.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leaving;

/// For whom a restarted controller waits.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Engines that were there before the restart and have not come back.
    awaited: BTreeSet<EngineId>,
    /// The controller is ending.
    pub leaving: bool,
}

impl SchedulerActor {
    /// Takes in what the store has kept. Nothing is given out before the engines that may still run some of it are back.
    pub(super) fn restore(&mut self, restored: Restored, context: &mut Context<Self>) {
        let Restored { next_engine, engines, jobs, ended, .. } = restored;
        ended.into_iter().for_each(|job| self.ledger.restore_ended(job));
        self.next_engine = next_engine;
        self.recovery.awaited = engines.into_iter().collect();
        context.run_later(GRACE, |this, context| {
            // Those that have not come back have left. Not before: the next life, if this one is killed as well, waits for them too.
            let gone: Vec<EngineId> = std::mem::take(&mut this.recovery.awaited).into_iter().collect();
            if !gone.is_empty() {
                this.note_engines(Vec::new(), gone);
            }
            this.resume_if_complete(context);
        });
        if !self.recovery.awaited.is_empty() {
            self.core.expect_engines();
        }
        if jobs.is_empty() {
            // There is nothing that they could still have.
            return;
        }
        let engines = self.recovery.awaited.len();
        tracing::info!(jobs = jobs.len(), engines, "going on with what was submitted before the restart");
        self.core.pause();
        for job in jobs {
            let client = self.client_of(&job.owner);
            let id = job.id;
            match self.needed.find(&job.header) {
                Ok(needed) => self.needed.keep(id, needed),
                // Its tasks will say so, each, unless an engine still has it.
                Err(NoSharedValue) => tracing::error!(job = %id, "the value that its tasks share is gone from the disk"),
            }
            if let Err(error) = self.ledger.restore(&mut self.core, client, job) {
                // To go on without it would be to lose what was acknowledged.
                panic!("job {id} cannot be taken up again: {error}");
            }
        }
        let now = self.now();
        for client in self.clients.keys() {
            self.absences.left(*client, now);
        }
        self.carry_out(context);
        self.look_after_absences(context);
        self.resume_if_complete(context);
    }

    /// These engines are here, again or for the first time.
    pub(super) fn engines_came(&mut self, engines: &[EngineId], context: &mut Context<Self>) {
        self.note_engines(engines.to_vec(), Vec::new());
        for engine in engines {
            self.recovery.awaited.remove(engine);
        }
        self.resume_if_complete(context);
    }

    /// The store is to know which engines there are.
    pub(super) fn note_engines(&self, joined: Vec<EngineId>, left: Vec<EngineId>) {
        self.stores[0].do_send(NoteEngines { next: self.next_engine, joined, left });
    }

    fn resume_if_complete(&mut self, context: &mut Context<Self>) {
        if self.core.expects_engines() && self.recovery.awaited.is_empty() {
            let now = self.now();
            self.core.resume(now);
            self.carry_out(context);
        }
    }
}

impl Handler<Leaving> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: Leaving, _: &mut Context<Self>) {
        self.recovery.leaving = true;
    }
}
