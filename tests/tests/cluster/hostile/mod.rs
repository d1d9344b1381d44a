//! Hostile peers against a controller, while honest ones go on working.

mod messages;
mod peer;
mod strangers;
mod wire;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use engineroom_tests::{Lab, memory_peak_mib, wait_for};
use rustix::process::Signal;

use self::peer::{Random, Target};
use crate::PROBE;

/// The most memory that the controller may ever have had, in MiB. It needs some ten; what hostile peers may add is a matter of
/// the bounds of its queues and windows, which is far below what they send.
const MEMORY_MAX_MIB: u64 = 200;

/// How long one attack may take, until it has run and every reaction that it waits for is there.
const ATTACK_MAX: Duration = Duration::from_secs(180);

/// Names the seed of a run that is to be repeated.
const SEED_VARIABLE: &str = "HOSTILE_SEED";

/// What honest clients have done so far, and whether they are to stop.
#[derive(Default)]
struct Honest {
    questions: AtomicUsize,
    programs: AtomicUsize,
    stop: AtomicBool,
}

impl Honest {
    /// A client that stays connected and asks.
    fn ask(&self, lab: &Lab) {
        let client = lab.client();
        while !self.stop.load(Ordering::Relaxed) {
            assert_eq!(client.status().expect("an honest client is answered").engines.len(), 2);
            self.questions.fetch_add(1, Ordering::Relaxed);
        }
        client.close().expect("nothing is open");
    }

    /// One program after another, each with a connection of its own.
    fn run(&self, lab: &Lab) {
        while !self.stop.load(Ordering::Relaxed) {
            lab.run(PROBE, ["ping", "3"]).success();
            self.programs.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until each has done something that it began after this call.
    fn wait_progress(&self, during: &str) {
        let counts = || [&self.questions, &self.programs].map(|count| count.load(Ordering::Relaxed));
        let before = counts();
        wait_for(&format!("progress of honest clients after {during}"), || {
            counts().iter().zip(before).all(|(now, before)| *now >= before + 2).then_some(())
        });
    }
}

/// Stops the honest clients also when an attack has failed, so that the test ends.
struct StopOnDrop<'a>(&'a Honest);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn hostile_peers_neither_stop_a_controller_nor_those_who_work_with_it() {
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or_else(fresh_seed);
    eprintln!("repeat with {SEED_VARIABLE}={seed}");
    let lab = Lab::new();
    let (engines, mut controller) = lab.cluster(2);
    let target = Target::of(&lab);
    let honest = Honest::default();
    thread::scope(|scope| {
        let stop = StopOnDrop(&honest);
        scope.spawn(|| honest.ask(&lab));
        scope.spawn(|| honest.run(&lab));
        honest.wait_progress("their start");
        for (number, (what, attack)) in (1..).zip(ATTACKS) {
            let mut random = Random::new(seed ^ (number << 32));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let attacked = runtime.block_on(async { tokio::time::timeout(ATTACK_MAX, attack(&target, &mut random)).await });
            attacked.unwrap_or_else(|_| panic!("{what}: not over within {ATTACK_MAX:?}"));
            assert!(controller.is_running(), "the controller did not survive {what}");
            honest.wait_progress(what);
            let peak = memory_peak_mib(controller.pid());
            eprintln!("after {what}: at most {peak} MiB");
            assert!(peak < MEMORY_MAX_MIB, "the controller had {peak} MiB after {what}");
        }
        drop(stop);
    });
    controller.signal(Signal::TERM);
    controller.finish().success();
    drop(engines);
}

type Attack = for<'a> fn(&'a Target, &'a mut Random) -> peer::Boxed<'a>;

const ATTACKS: [(&str, Attack); 12] = [
    ("random datagrams", |target, random| Box::pin(strangers::datagrams(target, random))),
    ("connections without a certificate", |target, _| Box::pin(strangers::without_certificate(target))),
    ("frames before a greeting", |target, random| Box::pin(wire::frames(target, random, wire::When::First, 500))),
    ("frames on a link", |target, random| Box::pin(wire::frames(target, random, wire::When::Linked, 500))),
    ("wrong greetings", |target, random| Box::pin(wire::greetings(target, random))),
    ("bulk that lies", |target, random| Box::pin(wire::bulk(target, random))),
    ("handshakes that stay half open", |target, _| Box::pin(strangers::half_open(target))),
    ("packets that answer nothing", |target, _| Box::pin(messages::unasked(target))),
    ("messages of others, to nobody or of garbage", |target, random| Box::pin(messages::garbage(target, random))),
    ("well-formed messages without sense", |target, random| Box::pin(messages::senseless(target, random))),
    ("monitors without number", |target, _| Box::pin(messages::monitors(target))),
    ("questions whose answers nobody reads", |target, _| Box::pin(messages::unread(target))),
];

fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
