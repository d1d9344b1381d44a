//! What clients want done to engines, whatever runs there: signals, restarts, ends.
//!
//! **Who may.** Engines belong to nobody, and what is done to one may hit whoever has tasks there. So an administrator may, and so
//! may a client while no other owner has jobs that have not ended.

use std::time::Duration;

use actix::{Context, Handler};
use engineroom_runtime::{actor::Remote, net::link::Link};
use futures_util::future::join_all;

use super::{SchedulerActor, nodes::ENGINES_MAX};
use crate::wire::{ControlEngine, ControlEngines, EngineOrder};

/// How long an engine may take to answer. It has nothing to wait for.
const ORDER_DEADLINE: Duration = Duration::from_secs(10);

impl SchedulerActor {
    fn may_control(&self, from: &Link) -> bool {
        let peer = from.peer();
        let of_others = |name: &str| *name != *peer.name.name();
        peer.admin
            || !self.clients.iter().any(|(key, client)| of_others(&client.owner.name) && self.ledger.account(*key).jobs > 0)
    }
}

impl Handler<Remote<ControlEngines>> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, remote: Remote<ControlEngines>, context: &mut Context<Self>) {
        let Remote { message: ControlEngines { engines, order }, from, reply } = remote;
        if !self.may_control(&from) {
            let text = "others have jobs here that have not ended: ask an administrator, whose certificate says so, or wait";
            return reply.send(&Err(text.into()));
        }
        if engines.len() > ENGINES_MAX {
            return reply.send(&Err(format!("there are {ENGINES_MAX} engines at most, not {}", engines.len())));
        }
        if order == EngineOrder::Shutdown {
            self.drain(&engines, context);
        }
        let orders = engines.into_iter().map(|engine| {
            let asked = self.seats.get(&engine).map(|seat| seat.remote.ask(&ControlEngine { order }, ORDER_DEADLINE));
            async move {
                match asked {
                    Some(answer) => answer.await.unwrap_or_else(|error| Err(format!("it gave no answer: {error}"))),
                    None => Err("it is not there".into()),
                }
            }
        });
        let orders = join_all(orders);
        actix_rt::spawn(async move { reply.send(&Ok(orders.await)) });
    }
}
