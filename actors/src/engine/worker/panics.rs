//! Panics of tasks: caught, with their message and place.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    sync::Once,
};

use crate::task::Cause;

/// Whether a task's panic is also announced on standard error, as Rust does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noise {
    /// It is not: the process is also the user's own, and the panic is reported as the task's outcome.
    Silent,
    /// It is: standard error is the task's own.
    Loud,
}

#[derive(Debug)]
struct Panicked {
    message: String,
    location: Option<String>,
    backtrace: Option<String>,
}

thread_local! {
    /// Set while the thread runs a task.
    static RUNNING: Cell<Option<Noise>> = const { Cell::new(None) };
    /// The last panic on this thread while it ran a task.
    static LAST: RefCell<Option<Panicked>> = const { RefCell::new(None) };
}

/// Makes panics of tasks known to [`catch`]. The hook that was there before stays responsible for all other panics.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // On a thread that is being torn down its locals may be gone; then it runs no task.
            let running = RUNNING.try_with(Cell::get).unwrap_or(None);
            if running.is_some() {
                record(info);
            }
            if running != Some(Noise::Silent) {
                previous(info);
            }
        }));
    });
}

/// Runs a task. A panic becomes [`Cause::Panicked`].
pub(super) fn catch(noise: Noise, task: impl FnOnce() -> Result<(), Cause>) -> Result<(), Cause> {
    LAST.take();
    RUNNING.set(Some(noise));
    // A task that panics leaves only its own argument and the bytes of its result behind, and both are dropped.
    let result = panic::catch_unwind(AssertUnwindSafe(task));
    let result = result.unwrap_or_else(|payload| {
        let message = message(&*payload);
        // The place is known unless the panic went past the hook, or the user's program has installed another. What the
        // hook saw last may also be a panic that the task has caught itself.
        let told = LAST.take().filter(|told| told.message == message);
        let (location, backtrace) = told.map_or((None, None), |told| (told.location, told.backtrace));
        discard(payload);
        Err(Cause::Panicked { message, location, backtrace })
    });
    RUNNING.set(None);
    result
}

fn record(info: &PanicHookInfo<'_>) {
    // Captured only where RUST_BACKTRACE or RUST_LIB_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    let location = info.location().map(ToString::to_string);
    let panicked = Panicked { message: message(info.payload()), location, backtrace };
    LAST.with(|last| {
        // Of panics within panics, the borrow of an outer one may still be there; the outer one is then told.
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(panicked);
        }
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_string()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(the panic's payload is not a text)".to_string()
    }
}

/// Drops a payload, whose own drop may panic again.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Leaking the payload of a payload's panic is the only way out that cannot panic.
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caught(task: impl FnOnce() -> Result<(), Cause>) -> (String, Option<String>) {
        match catch(Noise::Silent, task) {
            Err(Cause::Panicked { message, location, .. }) => (message, location),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn panics_are_told_with_message_and_place() {
        install();
        install();
        let (message, location) = caught(|| panic!("number {}", 7));
        assert_eq!(message, "number 7");
        assert!(location.unwrap().contains("panics.rs:"));
        assert_eq!(caught(|| panic!("plain")).0, "plain");
        assert_eq!(caught(|| panic::panic_any(5)).0, "(the panic's payload is not a text)");
        assert_eq!(caught(|| panic::resume_unwind(Box::new("no hook"))), ("no hook".into(), None));
        assert_eq!(catch(Noise::Silent, || Ok(())), Ok(()));
        assert_eq!(catch(Noise::Silent, || Err(Cause::Aborted)), Err(Cause::Aborted));
    }

    #[test]
    fn a_panic_that_the_task_catches_itself_is_not_told_later() {
        install();
        let own = || {
            let _ = panic::catch_unwind(|| panic!("first"));
            panic::resume_unwind(Box::new("second"))
        };
        assert_eq!(caught(own).0, "second");
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_no_harm() {
        install();
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("boom");
            }
        }
        caught(|| panic::panic_any(Bomb));
    }
}
