//! One life of a node: it starts, says that it is ready, works until it is told to stop, and drains. A second signal ends it
//! at once.

use std::{
    io,
    sync::mpsc::{self as blocking, RecvTimeoutError},
    thread,
    time::Duration,
};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::failure::Failure;

/// How long a node that was told to stop goes on with what it runs.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a node that was cut off from its cluster goes on: nobody takes what it still does.
const CUT_OFF_DEADLINE: Duration = Duration::from_secs(1);

/// How many signals are remembered: one drains, another ends at once, more make no difference.
const SIGNALS_KEPT: usize = 2;

/// How often a node is asked whether it is still there: one that ends by itself does not tell.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A node that is up, and the line that says so.
pub(crate) struct Running {
    /// The line.
    pub(crate) ready: String,
    /// The node.
    pub(crate) node: Box<dyn Life>,
}

/// What a node of any role can be asked.
pub(crate) trait Life {
    /// Whether it has not ended by itself.
    fn is_running(&self) -> bool;

    /// Why it has no use any more and is to be ended, if so.
    fn cut_off(&self) -> Option<Failure> {
        None
    }

    /// Whether it has done what it was for, and is to be ended.
    fn is_done(&self) -> bool {
        false
    }

    /// Ends it in order, within this time. An error says what was left unfinished.
    fn shutdown(self: Box<Self>, deadline: Duration) -> Result<(), String>;
}

/// Runs a node to its end. `start` and the shutdown run on a thread of their own, so that signals are heard meanwhile;
/// `announce` is given the line that says that the node is ready, and when it fails the node is ended again.
pub(crate) fn serve(
    start: impl FnOnce() -> Result<Running, Failure> + Send + 'static,
    announce: impl FnOnce(&str) -> io::Result<()>,
) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build().map_err(Failure::internal)?;
    let ended = runtime.block_on(async {
        let mut signals = stop_signals().map_err(Failure::internal)?;
        supervise(start, announce, &mut signals).await
    });
    // A node that did not end must not hold the program back.
    runtime.shutdown_background();
    ended
}

/// One item for every SIGTERM, SIGINT and SIGHUP from now on.
fn stop_signals() -> io::Result<mpsc::Receiver<()>> {
    let (heard, signals) = mpsc::channel(SIGNALS_KEPT);
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let mut stream = signal(kind)?;
        let heard = heard.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() {
                // When it is full, the node is being ended already.
                let _ = heard.try_send(());
            }
        });
    }
    Ok(signals)
}

async fn supervise(
    start: impl FnOnce() -> Result<Running, Failure> + Send + 'static,
    announce: impl FnOnce(&str) -> io::Result<()>,
    signals: &mut mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let (started, ready) = oneshot::channel();
    let (stop, stopped) = blocking::channel::<()>();
    let (drained, mut done) = oneshot::channel();
    let life = move || match start() {
        Err(failure) => drop(started.send(Err(failure))),
        Ok(Running { ready, node }) => {
            if started.send(Ok(ready)).is_err() {
                return;
            }
            while node.is_running() {
                match stopped.recv_timeout(LOOK_INTERVAL) {
                    Ok(()) => return drop(drained.send(node.shutdown(DRAIN_DEADLINE).map_err(Failure::internal))),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                if node.is_done() {
                    return drop(drained.send(node.shutdown(DRAIN_DEADLINE).map_err(Failure::internal)));
                }
                if let Some(failure) = node.cut_off() {
                    // What is left unfinished is of no use to anybody; the reason is what matters.
                    let _ = node.shutdown(CUT_OFF_DEADLINE);
                    return drop(drained.send(Err(failure)));
                }
            }
            let _ = drained.send(Err(Failure::internal("it ended by itself; the log says why")));
        }
    };
    thread::Builder::new().name("node".to_owned()).spawn(life).map_err(Failure::internal)?;

    let ready = tokio::select! {
        ready = ready => ready.map_err(|_| died())??,
        _ = signals.recv() => return Err(Failure::at_once("stopped before it was ready")),
    };
    let announced = announce(&ready);
    if announced.is_ok() {
        tokio::select! {
            _ = signals.recv() => {}
            ended = &mut done => return ended.map_err(|_| died())?,
        }
        eprintln!("ending: running tasks have {} s to finish; a second signal ends them at once", DRAIN_DEADLINE.as_secs());
    }
    // A node that has just ended by itself has said so.
    let _ = stop.send(());
    let ended = tokio::select! {
        ended = done => ended.map_err(|_| died())?,
        _ = signals.recv() => return Err(Failure::at_once("ended at once; what was running is left unfinished")),
    };
    ended?;
    announced.map_err(|_| Failure::internal("the program that started this one has gone"))
}

fn died() -> Failure {
    Failure::internal("an internal error ended the node; the lines above say where")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::failure::Exit;

    /// What happened, in order.
    type Trace = Arc<Mutex<Vec<String>>>;

    type Start = Box<dyn FnOnce() -> Result<Running, Failure> + Send>;

    type Drain = Box<dyn FnOnce() -> Result<(), String> + Send>;

    struct Fake {
        trace: Trace,
        drain: Drain,
        lives: bool,
        cut_off: bool,
    }

    impl Life for Fake {
        fn is_running(&self) -> bool {
            self.lives
        }

        fn cut_off(&self) -> Option<Failure> {
            self.cut_off.then(|| Failure::connection("revoked"))
        }

        fn shutdown(self: Box<Self>, deadline: Duration) -> Result<(), String> {
            self.trace.lock().unwrap().push(format!("drain {}", deadline.as_secs()));
            (self.drain)()
        }
    }

    fn node(trace: &Trace, drain: impl FnOnce() -> Result<(), String> + Send + 'static) -> Start {
        let fake = Fake { trace: trace.clone(), drain: Box::new(drain), lives: true, cut_off: false };
        start_of(fake)
    }

    fn start_of(fake: Fake) -> Start {
        Box::new(move || {
            fake.trace.lock().unwrap().push("start".to_owned());
            Ok(Running { ready: "ready".to_owned(), node: Box::new(fake) })
        })
    }

    fn run(
        start: impl FnOnce() -> Result<Running, Failure> + Send + 'static,
        announce: impl FnOnce(&str) -> io::Result<()>,
        signals: usize,
    ) -> Result<(), Failure> {
        let (tell, mut heard) = mpsc::channel(SIGNALS_KEPT);
        for _ in 0..signals {
            tell.try_send(()).unwrap();
        }
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let ended = runtime.block_on(supervise(start, announce, &mut heard));
        drop(tell);
        ended
    }

    /// Announces, and only then sends so many signals.
    fn run_then_signal(start: Start, trace: &Trace, signals: usize) -> Result<(), Failure> {
        let (tell, mut heard) = mpsc::channel(SIGNALS_KEPT);
        let announce = |line: &str| {
            trace.lock().unwrap().push(line.to_owned());
            (0..signals).for_each(|_| tell.try_send(()).unwrap());
            Ok(())
        };
        runtime::Builder::new_current_thread().build().unwrap().block_on(supervise(start, announce, &mut heard))
    }

    #[test]
    fn one_signal_drains() {
        let trace = Trace::default();
        run_then_signal(node(&trace, || Ok(())), &trace, 1).unwrap();
        assert_eq!(*trace.lock().unwrap(), ["start", "ready", "drain 10"]);
    }

    #[test]
    fn a_node_that_ends_by_itself_ends_the_program() {
        let trace = Trace::default();
        let fake = Fake { trace: trace.clone(), drain: Box::new(|| Ok(())), lives: false, cut_off: false };
        let failure = run_then_signal(start_of(fake), &trace, 0).expect_err("ended");
        assert_eq!((failure.exit, *trace.lock().unwrap() == ["start", "ready"]), (Exit::Internal, true), "{failure}");
    }

    #[test]
    fn a_node_that_is_cut_off_is_ended_and_says_why() {
        let trace = Trace::default();
        let unfinished = Box::new(|| Err("2 tasks unfinished".to_owned()));
        let fake = Fake { trace: trace.clone(), drain: unfinished, lives: true, cut_off: true };
        let failure = run_then_signal(start_of(fake), &trace, 0).expect_err("cut off");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Connection, "revoked"));
        assert_eq!(*trace.lock().unwrap(), ["start", "ready", "drain 1"]);
    }

    #[test]
    fn a_second_signal_ends_a_drain_that_hangs() {
        let trace = Trace::default();
        let (_never, hang) = blocking::channel::<()>();
        let failure =
            run_then_signal(node(&trace, move || hang.recv().map_err(|_| String::new())), &trace, 2).expect_err("ended");
        assert_eq!(failure.exit, Exit::AtOnce);
    }

    #[test]
    fn a_signal_ends_a_start_that_hangs() {
        let (_never, hang) = blocking::channel::<()>();
        let start = move || {
            let _ = hang.recv();
            Err(Failure::internal("never"))
        };
        let failure = run(start, |_| panic!("announced"), 1).expect_err("ended");
        assert_eq!(failure.exit, Exit::AtOnce);
    }

    #[test]
    fn failures_keep_their_kind() {
        let trace = Trace::default();
        let refused = run(|| Err(Failure::connection("refused")), |_| panic!("announced"), 0).expect_err("refused");
        assert_eq!((refused.exit, refused.message.as_str()), (Exit::Connection, "refused"));
        let panicked = run(|| panic!("a test's panic"), |_| panic!("announced"), 0).expect_err("panicked");
        assert_eq!(panicked.exit, Exit::Internal);
        let unfinished =
            run_then_signal(node(&trace, || Err("2 tasks unfinished".to_owned())), &trace, 1).expect_err("unfinished");
        assert_eq!((unfinished.exit, unfinished.message.as_str()), (Exit::Internal, "2 tasks unfinished"));
    }

    #[test]
    fn a_node_that_nobody_waits_for_is_ended_again() {
        let trace = Trace::default();
        let failure = run(node(&trace, || Ok(())), |_| Err(io::ErrorKind::BrokenPipe.into()), 0).expect_err("nobody there");
        assert!(failure.message.contains("has gone"), "{failure}");
        assert_eq!(*trace.lock().unwrap(), ["start", "drain 10"]);
    }
}
