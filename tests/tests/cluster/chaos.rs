//! Everything is killed, again and again, but for the client.

use std::{
    thread,
    time::{Duration, Instant},
};

use engineroom_tests::{Lab, Outcome, Process, rounds};
use rustix::process::{Pid, Signal, kill_process};

use crate::{PROBE, chance::Chance};

/// How long is killed in a round.
const STORM: Duration = Duration::from_secs(5);

/// The pause between two kills.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the rest of a round may take: engines that were lost in silence, and the time that a new controller waits for those
/// that it will never see again.
const CALM: Duration = Duration::from_secs(240);

const NODES: usize = 3;

struct Victims<'a> {
    lab: &'a Lab,
    controller: Option<Process>,
    nodes: Vec<Process>,
    killed: [usize; 3],
}

impl Victims<'_> {
    /// Kills a controller, an engine node or a worker, and starts what nobody else would.
    fn kill_one(&mut self, chance: &mut Chance) {
        match chance.below(3) {
            0 => {
                self.controller.take().into_iter().for_each(Process::kill);
                self.controller = Some(self.lab.start("node", ["--role", "controller", "--listen", "127.0.0.1:0"]));
                self.killed[0] += 1;
            }
            1 => {
                let at = chance.below(NODES as u64) as usize;
                let next = self.lab.start("node", ["--role", "engine", "--engines", "1"]);
                std::mem::replace(&mut self.nodes[at], next).kill();
                self.killed[1] += 1;
            }
            _ => {
                let is_worker = |(_, line): &(u32, String)| line.contains("/bundles/");
                let workers: Vec<u32> = self.lab.processes().into_iter().filter(is_worker).map(|(pid, _)| pid).collect();
                if workers.is_empty() {
                    return;
                }
                let pid = workers[chance.below(workers.len() as u64) as usize];
                // It may have ended by itself meanwhile.
                let _ = Pid::from_raw(pid as i32).map(|pid| kill_process(pid, Signal::KILL));
                self.killed[2] += 1;
            }
        }
    }
}

#[test]
fn a_map_survives_a_storm_of_kills() {
    let mut chance = Chance::seeded();
    let lab = Lab::new();
    let controller = Some(lab.controller());
    let nodes = (0..NODES).map(|_| lab.engine_node(1)).collect();
    let mut victims = Victims { lab: &lab, controller, nodes, killed: [0; 3] };
    let (rounds, mut slowest) = (rounds(1), Duration::ZERO);
    for round in 0..rounds {
        let began = Instant::now();
        let map = lab.start(PROBE, ["sleep-map", "2000", "5"]);
        map.wait_line("submitted");
        while began.elapsed() < STORM {
            thread::sleep(PAUSE);
            victims.kill_one(&mut chance);
        }
        let outcomes: Vec<Outcome<u64>> = map.finish_within(CALM).success().json();
        assert_eq!(outcomes.len(), 2000);
        for (number, outcome) in (0..).zip(&outcomes) {
            assert_eq!(outcome.result, Ok(number * number), "round {round}: {}", outcome.id);
        }
        slowest = slowest.max(began.elapsed());
        println!(
            "round {round}: {:.1?}, highest attempt {:?}",
            began.elapsed(),
            outcomes.iter().map(|outcome| outcome.attempt).max()
        );
    }
    let [controllers, nodes, workers] = victims.killed;
    println!(
        "{rounds} rounds: {controllers} controllers, {nodes} engine nodes and {workers} workers killed; the slowest took {slowest:.1?}"
    );
}
