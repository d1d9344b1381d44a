//! What the scheduler waits for on behalf of jobs: times, and what stores know of tasks that others depend on.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, SpawnHandle};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::SchedulerActor;
use crate::results::{CountTasks, LocateTasks, Settle};
use crate::scheduler::{Known, Located, Ticket, Time, Whereabouts};
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

/// A store has said where tasks ran.
#[derive(Message)]
#[rtype(result = "()")]
struct TasksLocated {
    ticket: Ticket,
    located: Located,
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

    /// Asks the store of a job where tasks ran that another job follows. Everything that is asked about is kept.
    pub(super) fn locate_tasks(&self, ticket: Ticket, question: Whereabouts, context: &Context<Self>) {
        let Some(entry) = self.ledger.job(ticket.job) else { return };
        let (reply, told) = oneshot::channel();
        let owner = entry.owner.name.clone();
        self.store(question.of).do_send(LocateTasks { question, owner, reply });
        let own = context.address();
        actix_rt::spawn(async move {
            // A store that has ended takes the controller with it.
            if let Ok(located) = told.await {
                own.do_send(TasksLocated { ticket, located });
            }
        });
    }
}

impl Handler<TasksLocated> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, TasksLocated { ticket, located }: TasksLocated, context: &mut Context<Self>) {
        let now = self.now();
        self.core.located(now, ticket, located);
        self.carry_out(context);
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
