//! Waiting for a future on a thread that has no runtime, or on one that has: nothing here cares which.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// A thread whose waits have been shorter than this of late stays awake in the next one for as long: to put a processor to sleep
/// and wake it takes a good part of a round trip. Longer waits are for work, which then has the processor.
const AWAKE_MAX: Duration = Duration::from_millis(1);

/// How often others may take their turn on the processor of a thread that stays awake. Beyond it the processor is wanted, and
/// the thread sleeps. A round trip needs a few turns of the node's own thread.
const TURNS_MAX: u32 = 16;

/// A turn of another thread takes longer than this; with nobody there to take one, control comes back sooner.
const TURN_MIN: Duration = Duration::from_micros(5);

thread_local! {
    static RECENT: Cell<Recent> = const { Cell::new(Recent { micros: 0 }) };
    /// The thread's own, unless a wait has it: who waits again and again for the same is one waiter, not many.
    static ALARM: Cell<Option<Arc<Alarm>>> = const { Cell::new(None) };
}

/// How long the waits of a thread have taken of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Recent {
    micros: u32,
}

impl Recent {
    /// Whether the next one is likely to be short.
    fn is_short(self) -> bool {
        Duration::from_micros(self.micros.into()) < AWAKE_MAX
    }

    /// With one that has taken so long: a moving average, in which a single one counts a quarter, and no more than twice what
    /// would be short, so that a few short ones outweigh a long one.
    fn with(self, wait: Duration) -> Self {
        let micros = wait.min(2 * AWAKE_MAX).as_micros() as u32;
        Self { micros: (3 * self.micros + micros) / 4 }
    }
}

/// Wakes a thread, awake or asleep.
struct Alarm {
    thread: Thread,
    rung: AtomicBool,
}

impl Alarm {
    fn take(&self) -> bool {
        self.rung.swap(false, Ordering::Acquire)
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    match block_until(future, None) {
        Some(output) => output,
        // Without a deadline only the future's end ends the wait.
        None => unreachable!("a wait without a deadline ended without a result"),
    }
}

/// Runs a future to its end, or until the deadline: then it is dropped.
pub(crate) fn block_until<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    // One that was rung after its wait costs a poll.
    let alarm = ALARM.try_with(Cell::take).ok().flatten();
    let alarm = alarm.unwrap_or_else(|| Arc::new(Alarm { thread: thread::current(), rung: AtomicBool::new(false) }));
    let output = block_until_rung(future.as_mut(), deadline, &alarm);
    // A thread that ends has no use for it.
    let _ = ALARM.try_with(|own| own.set(Some(alarm)));
    output
}

fn block_until_rung<F: Future>(mut future: Pin<&mut F>, deadline: Option<Instant>, alarm: &Arc<Alarm>) -> Option<F::Output> {
    let waker = Waker::from(alarm.clone());
    let mut context = Context::from_waker(&waker);
    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
        return Some(output);
    }
    let (start, recent) = (Instant::now(), RECENT.get());
    let awake_until = deadline.unwrap_or(start + AWAKE_MAX).min(start + AWAKE_MAX);
    let output = loop {
        let rung = recent.is_short() && stays_awake(alarm, awake_until);
        if !rung && !sleep(alarm, deadline) {
            break None;
        }
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            break Some(output);
        }
    };
    RECENT.set(recent.with(start.elapsed()));
    output
}

/// Waits for the alarm without going to sleep, for as long as nobody else wants the processor. Whether it has rung.
fn stays_awake(alarm: &Alarm, end: Instant) -> bool {
    let (mut turns, mut before) = (0, Instant::now());
    while turns < TURNS_MAX && before < end {
        thread::yield_now();
        if alarm.take() {
            return true;
        }
        let now = Instant::now();
        turns += u32::from(now - before > TURN_MIN);
        before = now;
    }
    false
}

/// Sleeps until the alarm rings, or to the deadline. Whether it has rung.
fn sleep(alarm: &Alarm, deadline: Option<Instant>) -> bool {
    while !alarm.take() {
        match deadline {
            None => thread::park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                thread::park_timeout(left);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver), Ok(7));
        other.join().unwrap().unwrap();
    }

    #[test]
    fn a_thread_stays_awake_while_its_waits_are_short() {
        let (short, long) = (AWAKE_MAX / 2, Duration::from_secs(3));
        let mut recent = Recent { micros: 0 };
        (0..100).for_each(|_| recent = recent.with(short));
        assert!(recent.is_short());
        // Tasks that take a while cost it a few waits at most.
        let waits = (1..10).find(|_| {
            recent = recent.with(long);
            !recent.is_short()
        });
        assert!(waits.is_some_and(|waits| waits <= 3), "{waits:?}");
        (0..100).for_each(|_| recent = recent.with(long));
        let waits = (1..20).find(|_| {
            recent = recent.with(short);
            recent.is_short()
        });
        assert!(waits.is_some_and(|waits| waits <= 8), "{waits:?}");
    }

    #[test]
    fn a_wake_during_the_poll_is_not_lost() {
        let mut polls = 0;
        let woken_twice = std::future::poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            if polls < 3 { Poll::Pending } else { Poll::Ready(polls) }
        });
        assert_eq!(block_on(woken_twice), 3);
    }

    #[test]
    fn a_thread_that_waits_again_for_the_same_is_the_same_waiter() {
        let mut wakers: Vec<Waker> = Vec::new();
        for _ in 0..3 {
            let pending = std::future::poll_fn(|context| {
                if !wakers.iter().any(|known| known.will_wake(context.waker())) {
                    wakers.push(context.waker().clone());
                }
                // A wait within a wait is another.
                let outer = context.waker().clone();
                assert!(block_on(std::future::poll_fn(|context| Poll::Ready(!context.waker().will_wake(&outer)))));
                Poll::<()>::Pending
            });
            assert_eq!(block_until(pending, Some(Instant::now())), None);
        }
        assert_eq!(wakers.len(), 1);
    }

    #[test]
    fn a_deadline_ends_a_wait_for_nothing() {
        let deadline = Instant::now() + Duration::from_millis(5);
        assert_eq!(block_until(std::future::pending::<()>(), Some(deadline)), None);
    }
}
