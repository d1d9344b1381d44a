//! Files of a store that were damaged: a controller refuses them with a reason, or serves what is intact.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use engineroom::{Client, JobId, MessageId};
use engineroom_tests::{Finished, Lab, Process};

use crate::PROBE;

const TASKS: u32 = 50;

/// How long a client tries to reach a controller that may have ended.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long is waited for results until it is looked again whether the controller runs.
const SLICE: Duration = Duration::from_millis(200);

/// What is known of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Nothing,
    InPart,
    Whole,
}

/// A store with jobs, and copies of it that can be damaged.
struct Kept {
    lab: Lab,
    jobs: Vec<JobId>,
}

impl Kept {
    fn new() -> Self {
        Self { lab: Lab::new(), jobs: Vec::new() }
    }

    /// Runs so many jobs, with results of that many bytes, one after the other.
    fn run_jobs(&mut self, count: usize, bytes: u32) {
        for _ in 0..count {
            let file = self.lab.path().join("job");
            let args = ["texts", &TASKS.to_string(), "0", &bytes.to_string(), file.to_str().expect("a path of this test")];
            assert_eq!(self.lab.run(PROBE, args).success().json::<u32>(), TASKS);
            self.jobs.push(fs::read_to_string(&file).expect("written").parse().expect("the id of a job"));
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.lab.profile().state_dir().join(format!("store.{extension}"))
    }

    fn saved(&self) -> PathBuf {
        self.lab.path().join("saved")
    }

    /// Remembers the store as it is.
    fn save(&self) {
        copy(&self.lab.profile().state_dir(), &self.saved());
    }

    /// Puts it back, damages it, and starts a controller: one that is ready, or one that has refused it.
    fn start(&self, damage: impl FnOnce(&Self)) -> Result<Process, Finished> {
        copy(&self.saved(), &self.lab.profile().state_dir());
        damage(self);
        let controller = self.lab.start("node", ["--role", "controller", "--listen", "127.0.0.1:0"]);
        if controller.has_line_or_ends("controller ready") { Ok(controller) } else { Err(controller.finish()) }
    }

    /// What is known of each job; what is given out is right. A controller that has ended is asked nothing more.
    fn known(&self, controller: &mut Process) -> Vec<Result<Known, String>> {
        let mut known = |job: &JobId| match controller.is_running() {
            true => self.known_of(*job, controller).map_err(|error| error.to_string()),
            false => Err("the controller has ended".to_owned()),
        };
        self.jobs.iter().map(&mut known).collect()
    }

    fn known_of(&self, job: JobId, controller: &mut Process) -> engineroom::Result<Known> {
        let client = Client::connect_within(self.lab.profile(), CONNECT_LIMIT)?;
        let ids: Vec<MessageId> = (0..TASKS).map(|index| MessageId { job, index }).collect();
        let counts = client.result_status(&ids)?;
        match counts.succeeded {
            0 if counts.unknown == u64::from(TASKS) => Ok(Known::Nothing),
            all if all == u64::from(TASKS) => {
                let mut result = client.get_result::<String>(ids)?;
                while !result.wait(Some(SLICE))? && controller.is_running() {}
                let texts = result.get_timeout(SLICE)?;
                let is_right = |(index, text): (usize, &String)| text.bytes().all(|byte| byte == b'a' + (index % 26) as u8);
                assert!(texts.iter().enumerate().all(is_right), "what is given out is what was recorded");
                Ok(Known::Whole)
            }
            _ => Ok(Known::InPart),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp is there");
    assert!(copied.success(), "{} cannot be copied", from.display());
}

/// It names the file and says what to do.
#[track_caller]
fn assert_refused(name: &str, ended: &Finished) {
    let text = &ended.stderr;
    assert!(!ended.status.success(), "{name}: {ended:?}");
    assert!(!text.contains("panicked"), "{name}: {text}");
    let says_what_to_do = ["put it back", "move it away", "run the version", "check the"].iter().any(|what| text.contains(what));
    assert!(text.contains("store.sqlite") && says_what_to_do, "{name}: {text}");
}

#[test]
fn a_log_that_was_cut_is_recovered_up_to_its_last_whole_commit() {
    const EARLIER: usize = 2;
    let mut kept = Kept::new();
    let (engines, controller) = kept.lab.cluster(2);
    kept.run_jobs(EARLIER, 1000);
    // In order: everything is moved to the file itself.
    controller.signal(rustix::process::Signal::TERM);
    controller.finish().success();
    let controller = kept.lab.controller();
    kept.run_jobs(4, 1000);
    controller.kill();
    drop(engines);
    kept.save();
    let length = fs::metadata(kept.file("sqlite-wal")).expect("a log").len();
    let mut last = vec![Known::Nothing; kept.jobs.len()];
    for part in 0..=8 {
        let cut = |kept: &Kept| {
            let log = File::options().write(true).open(kept.file("sqlite-wal")).expect("a log");
            log.set_len(length * part / 8).expect("cut");
        };
        let mut controller = kept.start(cut).unwrap_or_else(|ended| panic!("{part}/8 of the log: {ended:?}"));
        let known: Vec<Known> = kept.known(&mut controller).into_iter().collect::<Result<_, _>>().expect("it answers");
        println!("{part}/8 of the log: {known:?}");
        assert!(known[..EARLIER].iter().all(|known| *known == Known::Whole), "{known:?}");
        assert!(known.is_sorted_by(|one, next| one >= next), "nothing is missing before what is there: {known:?}");
        assert!(known.iter().zip(&last).all(|(now, before)| now >= before), "{last:?}, and with more of the log {known:?}");
        assert!(!controller.stderr().contains("panicked"));
        last = known;
    }
    assert!(last.iter().all(|known| *known == Known::Whole), "{last:?}");
}

/// A store whose controller has ended in order: no log.
fn closed(jobs: usize, bytes: u32) -> Kept {
    let mut kept = Kept::new();
    let (engines, controller) = kept.lab.cluster(2);
    kept.run_jobs(jobs, bytes);
    drop(engines);
    controller.signal(rustix::process::Signal::TERM);
    controller.finish().success();
    kept.save();
    kept
}

#[test]
fn what_is_no_store_or_of_another_time_is_refused_with_a_reason() {
    type Damage = fn(&Kept);
    let cases: [(&str, Damage, &str); 7] = [
        ("empty", |kept| fs::write(kept.file("sqlite"), "").expect("written"), "is empty"),
        ("missing", |kept| fs::remove_file(kept.file("sqlite")).expect("deleted"), "is missing"),
        ("garbage", |kept| fs::write(kept.file("sqlite"), [0xA5; 40_000]).expect("written"), "is not a result store"),
        ("text", |kept| fs::write(kept.file("sqlite"), "jobs: none\n").expect("written"), "is not a result store"),
        ("newer", |kept| overwrite(kept, 60, &99u32.to_be_bytes()), "has schema 99"),
        ("another program's", |kept| overwrite(kept, 68, b"Mine"), "is not a result store"),
        ("cut in half", cut_in_half, "is damaged"),
    ];
    let kept = closed(2, 1000);
    for (name, damage, said) in cases {
        let ended = kept.start(damage).err().unwrap_or_else(|| panic!("{name}: a controller is ready"));
        println!("{name}: {}", ended.stderr.trim());
        assert_refused(name, &ended);
        assert!(ended.stderr.contains(said), "{name}: {}", ended.stderr);
    }
    let mut controller = kept.start(|_| {}).expect("the store itself is good");
    assert_eq!(kept.known(&mut controller), [Ok(Known::Whole), Ok(Known::Whole)]);
}

fn cut_in_half(kept: &Kept) {
    let file = File::options().write(true).open(kept.file("sqlite")).expect("a store");
    let length = file.metadata().expect("open").len();
    file.set_len(length / 2).expect("cut");
}

fn overwrite(kept: &Kept, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(kept.file("sqlite")).expect("a store");
    file.write_all_at(bytes, at).expect("written");
}

/// Flips some bits of a few bytes at one place.
fn flip(kept: &Kept, at: u64) {
    let file = File::options().read(true).write(true).open(kept.file("sqlite")).expect("a store");
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).expect("within the file");
    file.write_all_at(&bytes.map(|byte| byte ^ 0x5A), at).expect("written");
}

/// Flips bytes at each of these places, and checks that nothing is given out that was not recorded and nothing goes missing
/// without a word.
fn check_flips(kept: &Kept, places: impl IntoIterator<Item = u64>) {
    let (mut refused, mut harmless, mut reported) = (0, 0, 0);
    for at in places {
        let name = format!("bytes flipped at {at}");
        let mut controller = match kept.start(|kept| flip(kept, at)) {
            Ok(controller) => controller,
            Err(ended) => {
                assert_refused(&name, &ended);
                refused += 1;
                continue;
            }
        };
        let known = kept.known(&mut controller);
        let text = controller.stderr();
        assert!(!text.contains("panicked"), "{name}: {text}");
        for known in &known {
            match known {
                Ok(known) => assert_eq!(*known, Known::Whole, "{name}: something is missing, and nobody was told: {text}"),
                Err(error) => {
                    println!("{name}: {error}");
                    assert!(error.contains("damaged") || text.contains("is damaged"), "{name}: {error}\n{text}");
                }
            }
        }
        *(if known.iter().all(Result::is_ok) { &mut harmless } else { &mut reported }) += 1;
    }
    println!("{refused} refused at the start, {reported} reported when they were read, {harmless} harmless");
}

#[test]
fn flipped_bytes_of_a_small_store_are_refused_or_harmless() {
    let kept = closed(3, 1000);
    let length = fs::metadata(kept.file("sqlite")).expect("a store").len();
    // The header field by field, the page of the schema, and places all over the rest.
    let header = [0, 16, 18, 24, 28, 44, 56, 92, 100, 104, 110];
    let all_over = (1..24).map(|part| length * part / 24 + part * 37 % 8000);
    check_flips(&kept, header.into_iter().chain(all_over.filter(|at| at + 4 <= length)));
}

#[test]
fn flipped_bytes_of_a_store_too_large_to_be_checked_are_reported_when_they_are_read() {
    // More than is checked whole at a start.
    let kept = closed(6, 64 << 10);
    let length = fs::metadata(kept.file("sqlite")).expect("a store").len();
    assert!(length > 16 << 20, "{length} bytes");
    check_flips(&kept, (1..8).map(|part| length * part / 8 + part * 1371));
}
