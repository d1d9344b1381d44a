use super::{Direct, image};
use crate::results::{
    NoteEngines, PendingTasks, Retention,
    backend::Write,
    testing::{JOB, Keeps, ada, close, header, keep, packed, ran},
};
use crate::task::{EngineId, JobId};

const OTHER: JobId = JobId::from_u128(9);

fn losses(first: u32, count: u32, losses: u32) -> Write {
    Write::Losses { job: JOB, first, count, losses }
}

fn pending(store: &Direct) -> Vec<(u32, u32, u32)> {
    let job = store.restored.jobs.iter().find(|job| job.id == JOB).unwrap();
    job.pending.iter().map(|PendingTasks { first, count, losses }| (*first, *count, *losses)).collect()
}

#[test]
fn what_was_committed_outlives_a_kill_at_any_moment() {
    let mut store = Direct::new();
    for step in 0..20u32 {
        let killed = Direct::open(image(store.dir.path()), Retention::default()).unwrap();
        let jobs: Vec<_> = killed.restored.jobs.iter().map(|job| (job.id, job.submitted)).collect();
        assert_eq!(jobs, if step == 0 { vec![] } else { vec![(JOB, step.div_ceil(2) * 10)] }, "step {step}");
        let mut killed = killed;
        assert_eq!(killed.status(JOB, 0, 1000).succeeded, u64::from(step / 2) * 10, "step {step}");
        match step % 2 {
            0 => store.apply(keep(JOB, step * 5, 10)),
            _ => store.apply(Write::Record { job: JOB, run: ran(step / 2 * 10, 10, &[]) }),
        };
    }
}

#[test]
fn only_what_has_not_ended_is_restored() {
    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 10));
    store.apply(keep(JOB, 10, 10));
    store.apply(keep(JOB, 20, 10));
    store.apply(keep(OTHER, 0, 1));
    store.apply(close(OTHER, 1));
    store.record(OTHER, ran(0, 1, &[]));
    store.record(JOB, ran(8, 12, &[]));
    let store = store.reopened();
    let [job] = &store.restored.jobs[..] else { panic!("one job: {:?}", store.restored.jobs) };
    assert_eq!((job.id, job.submitted, job.closed), (JOB, 30, false));
    assert_eq!((&*job.owner.name, job.owner.incarnation.to_string()), ("ada", format!("{:032x}", 5)));
    assert_eq!(format!("{:?}", job.header), format!("{:?}", header()));
    assert_eq!(pending(&store), [(0, 8, 0), (20, 10, 0)]);
    assert_eq!(job.arguments, [(0, packed(0, 10, 20)), (20, packed(20, 10, 20))], "of the second run nothing is pending");
}

#[test]
fn losses_of_parts_are_known_after_a_restart() {
    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 30));
    store.apply(losses(5, 10, 1));
    store.apply(losses(8, 2, 2));
    store.apply(losses(14, 4, 3));
    store.record(JOB, ran(0, 6, &[]));
    let mut store = store.reopened();
    assert_eq!(pending(&store), [(6, 2, 1), (8, 2, 2), (10, 4, 1), (14, 4, 3), (18, 12, 0)]);
    store.apply(losses(0, 30, 0));
    assert_eq!(pending(&store.reopened()), [(6, 24, 0)]);
}

#[test]
fn engines_ids_and_batches_go_on_above_those_of_earlier_lives() {
    let mut store = Direct::new();
    let first = store.restored.first_batch;
    assert!(first > 0 && store.restored.engines.is_empty());
    let note = |next, joined: &[u32], left: &[u32]| {
        let ids = |ids: &[u32]| ids.iter().copied().map(EngineId).collect();
        Write::Engines(NoteEngines { next, joined: ids(joined), left: ids(left) })
    };
    store.apply(note(3, &[0, 1, 2], &[]));
    store.apply(note(5, &[4], &[1]));
    store.apply(note(4, &[], &[7]));
    let store = store.reopened();
    assert_eq!(store.restored.engines, [EngineId(0), EngineId(2), EngineId(4)]);
    assert_eq!(store.restored.next_engine, 5);
    assert!(store.restored.first_batch >= first + (1 << 40));
}

#[test]
fn arguments_are_given_to_their_owner() {
    use crate::results::backend::{Answer, Question};
    use crate::wire::{FetchTasks, StoreRefusal};

    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 10));
    store.apply(keep(JOB, 10, 10));
    let mut ask = |owner: &str, ranges: &[(u32, u32)]| {
        let question = Question::Tasks { viewer: owner.into(), fetch: FetchTasks { job: JOB, ranges: ranges.to_vec() } };
        let Answer::Tasks(tasks) = store.answer(question) else { panic!("another answer") };
        tasks
    };
    let tasks = ask(&ada(), &[(2, 3), (8, 4)]).unwrap();
    assert_eq!(tasks.runs, [(2, packed(2, 3, 20)), (8, packed(8, 2, 20)), (10, packed(10, 2, 20))]);
    assert_eq!((tasks.header.label.as_deref(), tasks.next), (Some("evening"), None));
    assert_eq!(ask("bob", &[(0, 1)]).unwrap_err(), StoreRefusal::Unknown(JOB));
}

#[test]
fn who_waits_for_no_others_any_more_is_known_after_a_restart_and_so_is_since_when_tasks_wait() {
    let mut store = Direct::new();
    let in_time = |job, first| {
        let Write::Keep(mut keep) = keep(job, first, 2) else { unreachable!("it keeps") };
        keep.open.iter_mut().for_each(|(_, header)| header.options.queue_timeout_us = Some(1));
        Write::Keep(keep)
    };
    store.apply(in_time(JOB, 0));
    store.apply(in_time(JOB, 2));
    store.apply(keep(OTHER, 0, 1));
    let engines = Some([EngineId(3), EngineId(70_000)].into());
    store.apply(Write::Released { job: JOB, engines: engines.clone() });
    store.apply(Write::Released { job: OTHER, engines: None });
    store.record(JOB, ran(0, 2, &[1]));
    let store = store.reopened();
    let [job, other] = &store.restored.jobs[..] else { panic!("two jobs: {:?}", store.restored.jobs) };
    assert_eq!((job.released, job.failed, other.released, other.failed), (true, 1, true, 0));
    assert_eq!((&job.engines, &other.engines), (&engines, &None));
    assert_eq!(job.waited.iter().map(|(end, _)| *end).collect::<Vec<_>>(), [2, 4]);
    assert!(other.waited.is_empty(), "nobody asks");
}

#[test]
fn a_file_of_the_first_schema_becomes_one_of_today() {
    let mut store = Direct::new();
    store.apply(keep(JOB, 0, 3));
    let dir = store.dir.clone();
    drop(store);
    let file = dir.path().join("store.sqlite");
    let older = rusqlite::Connection::open(file).unwrap();
    older
        .execute_batch("ALTER TABLE job DROP COLUMN released; ALTER TABLE job DROP COLUMN engines; PRAGMA user_version = 1")
        .unwrap();
    drop(older);
    let store = Direct::open(dir, Retention::default()).unwrap();
    assert_eq!(
        store.restored.jobs.iter().map(|job| (job.id, job.submitted, job.released)).collect::<Vec<_>>(),
        [(JOB, 3, false)]
    );
}
