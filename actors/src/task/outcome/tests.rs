use super::*;
use crate::task::PackedBuilder;

/// A text that ends with its number, so that no two are alike.
fn text(bytes: usize, number: usize) -> String {
    format!("{}{number:04}", "x".repeat(bytes))
}

fn causes(bytes: usize) -> Vec<Cause> {
    let text = |number| text(bytes, number);
    vec![
        Cause::Panicked { message: text(1), location: Some(text(2)), backtrace: Some(text(3)) },
        Cause::Panicked { message: text(1), location: None, backtrace: None },
        Cause::ReturnedError { type_name: text(1), message: text(2), value: None },
        Cause::ReturnedError { type_name: text(1), message: text(2), value: Some(text(3).into()) },
        Cause::WrongArgument { expected: text(1), message: text(2) },
        Cause::WrongResult { type_name: text(1), message: text(2) },
        Cause::FunctionUnknown { function: text(1), detail: text(2) },
        Cause::WorkerCrashed { exit: WorkerExit::Signal(i32::MIN), last_output: text(1) },
        Cause::WorkerCrashed { exit: WorkerExit::Unknown, last_output: text(1) },
        Cause::WorkerUnavailable { detail: text(1) },
        Cause::EngineLost { detail: text(1) },
        Cause::Poisoned { losses: u32::MAX },
        Cause::Aborted,
        Cause::TimeLimit { limit_ms: u64::MAX, ran_ms: Some(u64::MAX) },
        Cause::Evicted,
        Cause::Damaged { detail: text(1) },
    ]
}

/// Outcomes of so many tasks; every third fails and every fourth writes, with texts of so many bytes.
fn outcomes(count: u32, bytes: usize) -> Outcomes {
    let (mut values, causes) = (PackedBuilder::default(), causes(bytes));
    let mut outcomes = Outcomes { epoch_us: u64::MAX, ..Outcomes::default() };
    for index in 0..count {
        let fails = index % 3 == 0;
        let value = if fails { String::new() } else { text(bytes, index as usize) };
        values.push(value.as_bytes());
        outcomes.timings.push(Timing { start_us: u32::MAX, busy_us: u32::MAX - index });
        if fails {
            outcomes.failures.push((index, causes[index as usize / 3 % causes.len()].clone()));
        }
        if index % 4 == 0 {
            outcomes.output.push((
                index,
                TaskOutput {
                    stdout: text(bytes, 3),
                    stderr: text(bytes, index as usize),
                    published: Some(vec![1; bytes].into()),
                },
            ));
        }
    }
    outcomes.values = values.build();
    outcomes
}

fn encoded_bytes(value: &impl Serialize) -> usize {
    rmp_serde::to_vec(value).unwrap().len()
}

#[test]
fn causes_are_never_counted_below_their_texts() {
    for bytes in [0, 30, 1000, 70_000] {
        for cause in causes(bytes) {
            let encoded = encoded_bytes(&(u32::MAX, &cause));
            assert!((encoded..=encoded + ENTRY_BYTES).contains(&cause.bytes()), "{encoded} bytes of {}", cause.bytes());
        }
    }
}

#[test]
fn outcomes_are_never_counted_below_what_is_sent() {
    for (count, bytes) in [(0, 0), (1, 0), (1, 100_000), (13 * 3, 50), (500, 0), (70_000, 3)] {
        let outcomes = outcomes(count, bytes);
        let encoded = encoded_bytes(&outcomes);
        assert!(outcomes.bytes() >= encoded, "{count} tasks have {encoded} bytes, counted as {}", outcomes.bytes());
        assert!(
            outcomes.bytes() <= 3 * encoded + 2 * PARTS_BYTES,
            "{count} tasks have {encoded}, counted as {}",
            outcomes.bytes()
        );
    }
}

#[test]
fn parts_together_are_the_whole() {
    for (count, bytes, bytes_max) in [(1, 5000, 100), (100, 20, 700), (1000, 3, 24 << 10), (50, 300, 0), (10, 1, 1 << 20)] {
        let whole = outcomes(count, bytes);
        let parts = whole.clone().split(bytes_max);
        assert_eq!(parts.len() == 1, whole.len() == 1 || whole.bytes() <= bytes_max);
        let mut next = 0;
        for part in &parts {
            assert!(part.is_sound() && part.epoch_us == whole.epoch_us);
            assert!(part.bytes() <= bytes_max || part.len() == 1, "{} tasks in {} bytes", part.len(), part.bytes());
            for offset in 0..part.len() as u32 {
                let (at, index) = (offset as usize, next as usize);
                let wrote =
                    |outcomes: &Outcomes, task| outcomes.output.iter().find(|(at, _)| *at == task).map(|(_, o)| o.clone());
                assert_eq!(part.values.item(at), whole.values.item(index));
                assert_eq!(part.timings[at], whole.timings[index]);
                assert_eq!(part.failure(offset), whole.failure(next));
                assert_eq!(wrote(part, offset), wrote(&whole, next));
                next += 1;
            }
        }
        assert_eq!(next, count);
    }
}
