//! What clients ask of a result store.

use actix::{Context, Handler};
use engineroom_runtime::{actor::Remote, net::link::Link};

use super::{Asker, ResultStore, Then, Waiter};
use crate::results::{
    awaiting::{WAITER_RUNS_MAX, WAITERS_MAX},
    backend::{Question, Viewer, Write},
    subscription::Subscription,
};
use crate::wire::{AwaitEnd, FetchTasks, Purge, PurgeOlder, QueryStatus, QueryTasks, StoreRefusal, Subscribe, Taken};

/// How many waits one link may have here, so that no client takes the place of all others.
const LINK_WAITERS_MAX: usize = 4096;

/// Whose jobs a client may see.
pub(super) fn viewer(link: &Link) -> Viewer {
    Viewer { name: link.peer().name.name().into(), admin: link.peer().admin }
}

impl Handler<Remote<Subscribe>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Subscribe>, context: &mut Context<Self>) {
        let Remote { message: Subscribe { job, subscription, ranges, window_bytes }, from, reply } = remote;
        let subscription = Box::new(Subscription::new(from, subscription, ranges, window_bytes));
        self.ask(Question::Job(job), Asker::Subscribe(job, subscription, reply), context);
    }
}

impl Handler<Remote<Taken>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Taken>, context: &mut Context<Self>) {
        let Taken { job, subscription: number, runs, grant_bytes } = remote.message;
        if !runs.is_empty() {
            self.write_only(Write::Take { job, owner: viewer(&remote.from).name, runs });
        }
        let key = (remote.from.id(), number);
        if let Some(subscription) = self.subscriptions.get_mut(&job).and_then(|of_job| of_job.find(key)) {
            subscription.cursor.grant(grant_bytes);
            self.pump(job, context);
        }
    }
}

impl Handler<Remote<QueryStatus>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<QueryStatus>, context: &mut Context<Self>) {
        let question = Question::Status { viewer: viewer(&remote.from), runs: remote.message.runs };
        self.ask(question, Asker::Status(remote.reply), context);
    }
}

impl Handler<Remote<AwaitEnd>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<AwaitEnd>, context: &mut Context<Self>) {
        let Remote { message: AwaitEnd { runs }, from, mut reply } = remote;
        let of_link = || self.awaiting.count(|waiter| waiter.link == from);
        if runs.len() > WAITER_RUNS_MAX || self.awaiting.len() >= WAITERS_MAX || of_link() >= LINK_WAITERS_MAX {
            let text = format!(
                "a client may wait {LINK_WAITERS_MAX} times at once, each time for {WAITER_RUNS_MAX} runs of tasks: wait for fewer"
            );
            return reply.send(&Err(StoreRefusal::TooMuch(text)));
        }
        if from.is_up() {
            // Bounded here from now on.
            reply.release_permit();
            let viewer = viewer(&from);
            let (waiter, next) = self.awaiting.add(Waiter { link: from, reply }, viewer, runs);
            self.wait_on(waiter, next, context);
        }
    }
}

impl Handler<Remote<FetchTasks>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<FetchTasks>, context: &mut Context<Self>) {
        let question = Question::Tasks { viewer: viewer(&remote.from), fetch: remote.message };
        self.ask(question, Asker::Tasks(remote.reply), context);
    }
}

impl Handler<Remote<Purge>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<Purge>, context: &mut Context<Self>) {
        let purge = Write::Purge { viewer: viewer(&remote.from), runs: remote.message.runs };
        self.write(purge, Then::Purged(remote.reply), context);
    }
}

impl Handler<Remote<PurgeOlder>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<PurgeOlder>, context: &mut Context<Self>) {
        let PurgeOlder { shard, before_us } = remote.message;
        let purge = Write::PurgeOlder { viewer: viewer(&remote.from), shard, before_us };
        self.write(purge, Then::Purged(remote.reply), context);
    }
}

impl Handler<Remote<QueryTasks>> for ResultStore {
    type Result = ();

    fn handle(&mut self, remote: Remote<QueryTasks>, context: &mut Context<Self>) {
        let question = Question::Records { viewer: viewer(&remote.from), query: Box::new(remote.message) };
        self.ask(question, Asker::Records(remote.reply), context);
    }
}
