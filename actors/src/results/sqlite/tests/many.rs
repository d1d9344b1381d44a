//! What a great many results cost. Measures, and so is not run by itself:
//! `cargo test --release -p engineroom --lib -- --ignored --nocapture results::sqlite::tests::many`.

use std::time::{Duration, Instant};

use super::Direct;
use crate::results::{
    Retention,
    backend::{Answer, Question, Write},
    testing::{JOB, Keeps, ada, close, keep, ran},
};
use crate::task::JobId;

const JOBS: u32 = 200;
const TASKS: u32 = 10_000;

/// The memory of this process that is resident, in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Writes in groups, as the thread does.
fn write(store: &mut Direct, what: &str, per_group: usize, tasks: u32, writes: impl Iterator<Item = Write>) {
    let (mut writes, mut rows, started) = (writes.peekable(), 0, Instant::now());
    while writes.peek().is_some() {
        let group: Vec<Write> = writes.by_ref().take(per_group).collect();
        store.writer.commit(group.iter(), crate::results::now_us()).unwrap();
        rows += group.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{what}: {rows} rows in {seconds:.2} s: {:.0} rows/s, {:.0} tasks/s",
        rows as f64 / seconds,
        f64::from(tasks) / seconds
    );
}

/// How long a start, and reading single results, take.
fn restart(store: Direct, jobs: u32, tasks: u32) -> Direct {
    let dir = store.dir.clone();
    drop(store);
    let started = Instant::now();
    let mut store = Direct::open(dir, Retention::default()).unwrap();
    let mib = std::fs::metadata(super::file(store.dir.path())).unwrap().len() >> 20;
    println!("a file of {mib} MiB opened in {:?}, {} MiB resident", started.elapsed(), resident_mib());
    let (mut longest, mut page_runs) = (Duration::ZERO, 0);
    for number in 0..500u32 {
        let (job, task) = (number.wrapping_mul(7919) % jobs, number.wrapping_mul(104_729) % tasks);
        let started = Instant::now();
        let question =
            Question::Page { job: JobId::from_u128(u128::from(job) + 1), ranges: vec![(task, task + 1)], bytes_max: 1 };
        let Answer::Page(page) = store.answer(question) else { panic!("another answer") };
        page_runs += page.runs.len();
        longest = longest.max(started.elapsed());
    }
    assert_eq!(page_runs, 500);
    println!("500 single results, the slowest in {longest:?}; {} MiB resident", resident_mib());
    store
}

#[test]
#[ignore = "takes a minute; measures"]
fn two_million_results_in_runs_of_a_thousand_and_one_by_one() {
    let job = |number: u32| JobId::from_u128(u128::from(number) + 1);
    let mut store = Direct::new();
    write(&mut store, "submissions of 10,000", 20, JOBS * TASKS, (0..JOBS).map(|number| keep(job(number), 0, TASKS)));
    let runs = (0..JOBS).flat_map(|number| (0..TASKS / 1000).map(move |run| (number, run * 1000)));
    let run = |(number, first)| Write::Record { job: job(number), run: ran(first, 1000, &[]) };
    write(&mut store, "outcomes by the thousand", 60, JOBS * TASKS, runs.map(run));
    write(&mut store, "closing", 1000, 0, (0..JOBS).map(|number| close(job(number), TASKS)));
    let mut store = restart(store, JOBS, TASKS);

    let tasks = 2_000_000;
    (0..200).for_each(|part| drop(store.apply(keep(JOB_ONE, part * 10_000, 10_000))));
    for part in 0..20 {
        let single = |task| Write::Record { job: JOB_ONE, run: ran(task, 1, &[]) };
        write(&mut store, "outcomes one by one", 8192, tasks / 20, (part * tasks / 20..(part + 1) * tasks / 20).map(single));
    }
    store.apply(close(JOB_ONE, tasks));
    let mut store = restart(store, JOBS, TASKS);
    for (what, first, end) in [("the last of them", tasks - 1, tasks), ("all of them", 0, tasks)] {
        let started = Instant::now();
        let question = Question::FirstPending { viewer: ada().into(), job: JOB_ONE, first, end };
        store.answer(question);
        let page = Question::Page { job: JOB_ONE, ranges: vec![(first, end)], bytes_max: 1 << 20 };
        let Answer::Page(page) = store.answer(page) else { panic!("another answer") };
        println!("{what}: a page of {} runs in {:?}", page.runs.len(), started.elapsed());
    }
    let started = Instant::now();
    println!("counting a part: {} in {:?}", store.status(JOB_ONE, 1, tasks - 2).succeeded, started.elapsed());
    assert_ne!(JOB, JOB_ONE);
}

const JOB_ONE: JobId = JobId::from_u128(1 << 100);
