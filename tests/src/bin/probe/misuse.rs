//! Programs that forget `engineroom::init()`.

use std::{env, fs, process::ExitCode, thread};

use engineroom::{Client, Profile, Result};

use crate::{Options, print};

/// `squares TASKS`, and `uninitialised`, which does the same in a program that has not called `init`.
pub fn squares(options: &Options) -> Result<()> {
    print(&options.client()?.load_balanced_view().map(|x: u64| x * x, 0..options.number(1)).get()?);
    Ok(())
}

/// What a worker does: it serves, unless the executable ends in a text that says otherwise. A test appends it to a copy.
pub fn without_arguments() -> ExitCode {
    let own = env::current_exe().and_then(fs::read).unwrap_or_default();
    let ends_with = |text: &str| own.ends_with(text.as_bytes());
    if ends_with("worker: returns") {
        return ExitCode::SUCCESS;
    }
    if ends_with("worker: hangs") {
        loop {
            thread::park();
        }
    }
    if ends_with("worker: connects") {
        let connected = Client::connect(Profile::default());
        eprintln!("a worker has connected: {connected:?}");
        return ExitCode::SUCCESS;
    }
    if ends_with("worker: is asynchronous") {
        actix::System::new().block_on(async { engineroom::init() });
    }
    engineroom::init();
    eprintln!("probe SUBCOMMAND [ARGUMENT]... --profile-dir DIR");
    ExitCode::FAILURE
}
