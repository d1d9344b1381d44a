//! Actors whose end is never silent.
//!
//! actix drops a panicking actor's future without a word. Here every actor's context runs under `catch_unwind`; its end
//! is told to each of its monitors exactly once, and a policy says whether a new one takes its place.

use std::{
    any::Any,
    cell::RefCell,
    panic::AssertUnwindSafe,
    rc::Rc,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Context};
use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::proto::packet::{TerminatedCode, TerminatedReason};

/// How many monitors one actor may have. More than one a link is a leak.
pub const MONITORS_MAX: usize = 65_536;

/// Up to how many monitors it is not worth looking which of them have given up.
const MONITORS_KEPT: usize = 64;

/// What happens when an actor panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It stays ended. Right where its state cannot be made anew.
    Never,
    /// A new one takes its place, at most `most` times in any `within`; after that it stays ended.
    UpTo {
        /// How many restarts.
        most: usize,
        /// In which time.
        within: Duration,
    },
}

/// An actor under supervision: where to send to it, also after a restart, and who is told of its end.
pub struct ActorHandle<A: Actor> {
    shared: Rc<Shared<A>>,
}

struct Shared<A: Actor> {
    address: RefCell<Addr<A>>,
    monitors: RefCell<Monitors>,
    ended: RefCell<Option<TerminatedReason>>,
}

/// Who waits for an actor's end. Those that have given up are swept out now and then, at a constant cost for each.
#[derive(Default)]
struct Monitors {
    waiting: Vec<oneshot::Sender<TerminatedReason>>,
    sweep_at: usize,
}

impl Monitors {
    /// Gives the monitor back when there are too many.
    fn add(&mut self, monitor: oneshot::Sender<TerminatedReason>) -> Result<(), oneshot::Sender<TerminatedReason>> {
        if self.waiting.len() >= self.sweep_at {
            self.waiting.retain(|monitor| !monitor.is_closed());
            self.sweep_at = (self.waiting.len() * 2).clamp(MONITORS_KEPT, MONITORS_MAX);
        }
        if self.waiting.len() >= MONITORS_MAX {
            return Err(monitor);
        }
        self.waiting.push(monitor);
        Ok(())
    }
}

impl<A: Actor> Clone for ActorHandle<A> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> ActorHandle<A> {
    /// The address of the actor that lives now.
    pub fn addr(&self) -> Addr<A> {
        self.shared.address.borrow().clone()
    }

    /// A future that ends exactly once, with the reason why the actor ended for good. At once if it has ended.
    pub fn monitor(&self) -> impl Future<Output = TerminatedReason> + use<A> {
        let (sender, receiver) = oneshot::channel();
        let ended = self.shared.ended.borrow().clone();
        match ended {
            Some(reason) => drop(sender.send(reason)),
            None => {
                if let Err(sender) = self.shared.monitors.borrow_mut().add(sender) {
                    drop(sender.send(TerminatedReason::new(TerminatedCode::Refused, "the actor has too many monitors")));
                }
            }
        }
        receiver.map(|reason| reason.unwrap_or_else(|_| TerminatedReason::new(TerminatedCode::Stopped, "its node has ended")))
    }

    fn end(&self, reason: TerminatedReason) {
        *self.shared.ended.borrow_mut() = Some(reason.clone());
        for monitor in self.shared.monitors.borrow_mut().waiting.drain(..) {
            // A monitor that nobody waits on any more is no fault.
            let _ = monitor.send(reason.clone());
        }
    }
}

/// Starts the actor that `make` makes, on this thread's `LocalSet`, under supervision.
///
/// `make` is given the context, so that it can keep its own address, and is called again after each restart.
///
/// # Panics
/// Outside a `LocalSet`.
pub fn spawn_actor<A, F>(name: &'static str, restart: Restart, mut make: F) -> ActorHandle<A>
where
    A: Actor<Context = Context<A>>,
    F: FnMut(&mut Context<A>) -> A + 'static,
{
    let mut context = Context::new();
    let actor = make(&mut context);
    let address = actix::AsyncContext::address(&context);
    let handle = ActorHandle {
        shared: Rc::new(Shared { address: RefCell::new(address), monitors: RefCell::default(), ended: RefCell::new(None) }),
    };
    let supervised = handle.clone();
    tokio::task::spawn_local(async move {
        let mut life = Some((context, actor));
        let mut restarts: Vec<Instant> = Vec::new();
        while let Some((context, actor)) = life.take() {
            let Err(panic) = live(context, actor).await else {
                supervised.end(TerminatedReason::new(TerminatedCode::Stopped, name));
                return;
            };
            let message = panic_message(panic.as_ref());
            tracing::error!(actor = name, "an actor panicked: {message}");
            if !may_restart(restart, &mut restarts, Instant::now()) {
                supervised.end(TerminatedReason::new(TerminatedCode::Panicked, format!("{name} panicked: {message}")));
                return;
            }
            let mut context = Context::new();
            let made = std::panic::catch_unwind(AssertUnwindSafe(|| make(&mut context)));
            let actor = match made {
                Ok(actor) => actor,
                Err(panic) => {
                    let text = format!("{name} panicked when it was started again: {}", panic_message(panic.as_ref()));
                    supervised.end(TerminatedReason::new(TerminatedCode::Panicked, text));
                    return;
                }
            };
            *supervised.shared.address.borrow_mut() = actix::AsyncContext::address(&context);
            life = Some((context, actor));
        }
    });
    handle
}

/// Runs an actor to its end; an error is its panic.
async fn live<A: Actor<Context = Context<A>>>(context: Context<A>, actor: A) -> Result<(), Box<dyn Any + Send>> {
    let mut future = Box::pin(context.into_future(actor));
    let ended = AssertUnwindSafe(&mut future).catch_unwind().await;
    // A context that panicked is polled once more by its destructor, and may panic again.
    let dropped = std::panic::catch_unwind(AssertUnwindSafe(|| drop(future)));
    ended.and(dropped)
}

fn may_restart(policy: Restart, restarts: &mut Vec<Instant>, now: Instant) -> bool {
    let Restart::UpTo { most, within } = policy else { return false };
    restarts.retain(|at| now.duration_since(*at) < within);
    if restarts.len() >= most {
        return false;
    }
    restarts.push(now);
    true
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use actix::{Handler, Message};

    use super::*;

    struct Fragile {
        lives: Rc<RefCell<u32>>,
    }

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Ping;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Panic;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Stop;

    impl Handler<Ping> for Fragile {
        type Result = u32;
        fn handle(&mut self, _: Ping, _: &mut Context<Self>) -> u32 {
            *self.lives.borrow()
        }
    }

    impl Handler<Panic> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            panic!("on purpose");
        }
    }

    impl Handler<Stop> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
            actix::ActorContext::stop(context);
        }
    }

    fn fragile(restart: Restart) -> ActorHandle<Fragile> {
        let lives = Rc::new(RefCell::new(0));
        spawn_actor("fragile", restart, move |_| {
            *lives.borrow_mut() += 1;
            Fragile { lives: lives.clone() }
        })
    }

    fn on_local_set(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn a_panic_is_told_to_each_monitor_once() {
        on_local_set(async {
            let handle = fragile(Restart::Never);
            let (first, second) = (handle.monitor(), handle.monitor());
            handle.addr().do_send(Panic);
            for reason in [first.await, second.await, handle.monitor().await] {
                assert_eq!(reason.code, TerminatedCode::Panicked);
                assert!(reason.text.contains("on purpose"), "{}", reason.text);
            }
        });
    }

    #[test]
    fn a_restarted_actor_answers_at_its_new_address_and_then_stays_ended() {
        on_local_set(async {
            let handle = fragile(Restart::UpTo { most: 1, within: Duration::from_secs(3600) });
            let ended = handle.monitor();
            assert_eq!(handle.addr().send(Ping).await.unwrap(), 1);
            assert!(handle.addr().send(Panic).await.is_err());
            while !handle.addr().connected() {
                tokio::task::yield_now().await;
            }
            assert_eq!(handle.addr().send(Ping).await.unwrap(), 2);
            handle.addr().do_send(Panic);
            assert_eq!(ended.await.code, TerminatedCode::Panicked);
        });
    }

    #[test]
    fn an_actor_that_cannot_be_made_anew_has_ended() {
        on_local_set(async {
            let mut lives = 0;
            let restart = Restart::UpTo { most: 9, within: Duration::from_secs(3600) };
            let handle = spawn_actor("fragile", restart, move |_| {
                lives += 1;
                assert!(lives == 1, "no second life");
                Fragile { lives: Rc::default() }
            });
            handle.addr().do_send(Panic);
            let reason = handle.monitor().await;
            assert_eq!(reason.code, TerminatedCode::Panicked);
            assert!(reason.text.contains("no second life"), "{}", reason.text);
        });
    }

    #[test]
    fn monitors_that_have_given_up_make_room_for_others() {
        on_local_set(async {
            let handle = fragile(Restart::Never);
            let first = handle.monitor();
            for _ in 0..2 * MONITORS_MAX {
                drop(handle.monitor());
            }
            assert!(handle.shared.monitors.borrow().waiting.len() <= MONITORS_KEPT);
            let mut full = Vec::new();
            // Those that have given up are not counted until they are swept out.
            while handle.shared.monitors.borrow().waiting.len() < MONITORS_MAX {
                full.push(handle.monitor());
            }
            assert_eq!(handle.monitor().await.code, TerminatedCode::Refused);
            drop(full);
            let last = handle.monitor();
            handle.addr().do_send(Stop);
            assert_eq!((first.await.code, last.await.code), (TerminatedCode::Stopped, TerminatedCode::Stopped));
        });
    }

    #[test]
    fn a_stop_is_no_panic() {
        on_local_set(async {
            let handle = fragile(Restart::Never);
            handle.addr().do_send(Stop);
            assert_eq!(handle.monitor().await.code, TerminatedCode::Stopped);
        });
    }
}
