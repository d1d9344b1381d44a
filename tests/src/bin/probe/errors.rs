//! Programs that look closely at errors.

use std::{
    fmt,
    io::{BufRead, stdin},
    path::PathBuf,
    time::Duration,
};

use engineroom::{Cause, Error, Result, TaskContext, TypedError};
use engineroom_tests::{wait_for, wait_for_file};
use serde::{Deserialize, Serialize};

use crate::{Options, print};

/// How long it may take until the loss of an engine that went without a word is known to whoever waits for its tasks.
const LOSS_NOTICED: Duration = Duration::from_secs(15);

/// Why a number was not taken.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    Odd { number: u64, next: u64 },
    TooLarge(Vec<u8>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused")
    }
}

fn halve(number: u64) -> Result<u64, Refusal> {
    match number {
        100.. => Err(Refusal::TooLarge(vec![1, 2, 3])),
        _ if number % 2 == 1 => Err(Refusal::Odd { number, next: number + 1 }),
        _ => Ok(number / 2),
    }
}

/// `typed-errors`: errors that come back as the values that they were, of travelling functions with and without a shared value.
pub fn typed(options: &Options) -> Result<()> {
    let client = options.client()?;
    let view = client.load_balanced_view();
    let plain = view.try_map(|number| Ok::<_, TypedError>(halve(number)?), [4, 7, 100]);
    let sharing = view.try_map_with(&1_u64, |add, number: u64| halve(number + add).map_err(TypedError::new), [3, 6, 99]);
    for results in [plain.results()?, sharing.results()?] {
        let refusals: Vec<_> =
            results.iter().map(|result| result.as_ref().map_err(|error| error.downcast::<Refusal>())).collect();
        let odd = Refusal::Odd { number: 7, next: 8 };
        assert_eq!(refusals, [Ok(&2), Err(Some(odd)), Err(Some(Refusal::TooLarge(vec![1, 2, 3])))]);
        let text = results[1].as_ref().expect_err("7 is odd").to_string();
        assert!(text.contains("Refusal): refused"), "{text}");
    }
    // By its text alone, where the error is not returned as one of those.
    let error = view.try_apply(halve, 7).get().expect_err("7 is odd");
    assert_eq!(error.task().and_then(|error| error.downcast::<Refusal>()), None);
    let source = std::error::Error::source(&error).and_then(std::error::Error::source);
    assert!(matches!(source.and_then(|cause| cause.downcast_ref()), Some(Cause::ReturnedError { .. })), "{error:?}");
    print(&"as it should be");
    Ok(())
}

/// `direct-lost FILE`: one task an engine, each of which waits for the file. Prints the results by engine, all of which must be there
/// 15 s after a line has come by standard input; then has a call fail everywhere.
pub fn direct(options: &Options) -> Result<()> {
    let client = options.client()?;
    let engine_of_this = |gate: PathBuf| {
        wait_for_file(&gate);
        TaskContext::current().map(|task| task.engine)
    };
    let view = client.direct_view()?;
    let mut applied = view.apply(engine_of_this, PathBuf::from(&options.arguments[1]));
    println!("submitted");
    stdin().lock().lines().next();
    assert!(applied.wait(Some(LOSS_NOTICED))?, "{:?}", applied.progress());
    let results = applied.by_engine()?;

    let engines = view.targets().len();
    wait_for("news of the engine that is lost", || (client.engine_ids().len() < engines).then_some(()));
    let view = client.direct_view()?;
    let panics = |number: u64| -> u64 { panic!("engine {:?} and {number}", TaskContext::current().map(|task| task.engine)) };
    match view.apply(panics, 7).get() {
        Err(Error::Several { errors, total }) => {
            assert_eq!((errors.len(), total), (view.targets().len(), view.targets().len()));
            for (error, engine) in errors.iter().zip(view.targets()) {
                assert!(
                    matches!(&error.cause, Cause::Panicked { message, .. } if message.contains(&engine.to_string())),
                    "{error}"
                );
            }
        }
        other => panic!("{other:?}"),
    }
    print(&results);
    Ok(())
}
