//! What the scheduler waits for on behalf of jobs: times, and what stores know of tasks that others depend on.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, SpawnHandle};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::SchedulerActor;
use crate::results::{CountTasks, Settle};
use crate::scheduler::{Known, Ticket, Time};
use crate::task::JobId;

/// The timer for what is due next.
pub(super) struct Alarm {
    at: Time,
    handle: SpawnHandle,
}

/// Everything that the stores were told before is kept.
#[derive(Message)]
#[rtype(result = "()")]
struct Confirmed(Ticket);

/// A store has said what it knows.
#[derive(Message)]
#[rtype(result = "()")]
struct Counted {
    ticket: Ticket,
    known: Option<Known>,
}

impl SchedulerActor {
    /// Sees to it that the core is told the time when something is due.
    pub(super) fn set_alarm(&mut self, context: &mut Context<Self>) {
        let Some(at) = self.core.next_alarm() else { return };
        if let Some(alarm) = &self.alarm {
            if alarm.at <= at {
                return;
            }
            context.cancel_future(alarm.handle);
        }
        // A little later rather than too early.
        let wait = Duration::from_micros(at.since(self.now()).saturating_add(1_000));
        let handle = context.run_later(wait, |this, context| {
            this.alarm = None;
            this.core.tick(this.now());
            this.carry_out(context);
        });
        self.alarm = Some(Alarm { at, handle });
    }

    /// Waits until everything is kept that the stores have been told.
    pub(super) fn confirm(&self, ticket: Ticket, context: &Context<Self>) {
        let stores: Vec<_> = self.stores.iter().map(|store| store.send(Settle)).collect();
        let own = context.address();
        actix_rt::spawn(async move {
            // A store that has ended takes the controller with it.
            if join_all(stores).await.iter().all(Result::is_ok) {
                own.do_send(Confirmed(ticket));
            }
        });
    }

    /// Asks the store of a job for tasks that another job waits for. Behind everything that it was told before.
    pub(super) fn count_tasks(&self, ticket: Ticket, of: JobId, (first, count): (u32, u32), context: &Context<Self>) {
        let Some(entry) = self.ledger.job(ticket.job) else { return };
        let (reply, told) = oneshot::channel();
        let owner = entry.owner.name.clone();
        self.store(of).do_send(CountTasks { job: of, first, count, owner, reply });
        let own = context.address();
        actix_rt::spawn(async move {
            // A store that has ended takes the controller with it.
            if let Ok(known) = told.await {
                own.do_send(Counted { ticket, known });
            }
        });
    }
}

impl Handler<Confirmed> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Confirmed(ticket): Confirmed, context: &mut Context<Self>) {
        let now = self.now();
        self.core.confirmed(now, ticket);
        self.carry_out(context);
    }
}

impl Handler<Counted> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Counted { ticket, known }: Counted, context: &mut Context<Self>) {
        let now = self.now();
        self.core.counted(now, ticket, known);
        self.carry_out(context);
    }
}
