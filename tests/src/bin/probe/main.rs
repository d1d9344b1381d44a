//! The client program of the tests: each subcommand submits something and prints what became of it, as JSON in its last line.
//!
//! `probe SUBCOMMAND [ARGUMENT]... --profile-dir DIR`. Without arguments it was started by an engine, as a worker.

mod contexts;
mod durable;
mod ends;
mod errors;
mod handles;
mod lazy;
mod misuse;
mod namespace;
mod news;
mod placement;
mod questions;
mod schedule;
mod service;
mod shared;
mod stopped;
mod views;
mod work;

use std::{env, path::PathBuf, process::ExitCode};

use engineroom::{Client, Profile, Result};
use serde::Serialize;

/// What is on the command line.
struct Options {
    arguments: Vec<String>,
    profile: Profile,
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        return misuse::without_arguments();
    };
    if options.arguments.first().is_none_or(|name| name != "uninitialised") {
        engineroom::init();
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let name = options.arguments.first().map(String::as_str).unwrap_or_default();
    match name {
        "sleep-map" => work::sleep_map(options),
        "logged-map" => durable::logged_map(options),
        "many" => durable::many(options),
        "texts" => durable::texts(options),
        "unread" => durable::unread(options),
        "recorded" => durable::show_recorded(options),
        "leave" => durable::leave(options),
        "big" => work::big(options),
        "overfill" => work::overfill(options),
        "flood" => work::flood(options),
        "ping" => work::ping(options),
        "submit" => work::submit(options),
        "order" => work::order(options),
        "abort" => work::abort(options),
        "abort-million" => stopped::abort_million(options),
        "abort-thread" => stopped::abort_thread(),
        "time-limit" => stopped::time_limit(options),
        "time-limit-thread" => stopped::time_limit_thread(),
        "direct" => work::direct(options),
        "await-end" => work::await_end(options),
        "timeouts" => work::timeouts(options),
        "ask-at-once" => questions::at_once(options),
        "async" => work::run_async(options),
        "failures" => ends::failures(options),
        "poison" => ends::poison(options),
        "handles-times" => handles::times(options),
        "handles-order" => handles::order(options),
        "handles-failures" => handles::failures(options),
        "handles-composed" => handles::composed(options),
        "lazy-bounded" => lazy::bounded(options),
        "lazy-completed" => lazy::completed(options),
        "zipped" => lazy::zipped(options),
        "typed-errors" => errors::typed(options),
        "direct-lost" => errors::direct(options),
        "views" => views::views(options),
        "direct-options" => views::direct_options(options),
        "contexts" => contexts::contexts(options),
        "blocking-tasks" => contexts::blocking_tasks(options),
        "uninitialised" | "squares" => misuse::squares(options),
        "priorities" => schedule::priorities(options),
        "after" => schedule::after(options),
        "chain" => schedule::chain(options),
        "conditions" => schedule::conditions(options),
        "in-time" => schedule::in_time(options),
        "retries" => schedule::retries(options),
        "placed" => placement::placed(options),
        "placed-at" => placement::placed_at(options),
        "placed-in-vain" => placement::placed_in_vain(options),
        "followed" => placement::followed(options),
        "follow-one" => placement::follow_one(options),
        "each-option" => schedule::each_option(options),
        "turns" => schedule::turns(options),
        "service" => service::serve(options),
        "named" => service::call(options),
        "named-required" => service::where_offered(options),
        "shared-map" => shared::map(options),
        "shared-embedded" => shared::embedded(),
        "shared-submit" => shared::submit(options),
        "follow" => news::follow(options),
        "tell" => news::tell_while_running(options),
        "values" => namespace::values(options),
        "scatter" => namespace::scatter(options),
        "broadcast" => namespace::broadcast(options),
        "lost-value" => namespace::lost_value(options),
        "seeds" => namespace::seeds(options),
        "named-sharing" => service::call_sharing(options),
        "named-wrongly" => service::call_wrongly(options),
        other => panic!("there is no subcommand {other:?}"),
    }
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut arguments: Vec<String> = arguments.collect();
        let at = arguments.iter().position(|argument| argument == "--profile-dir")?;
        let directory = PathBuf::from(arguments.get(at + 1)?);
        arguments.truncate(at);
        Some(Self { arguments, profile: Profile::in_dir(directory) })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(&self.profile)
    }

    /// A number on the command line.
    fn number(&self, place: usize) -> u64 {
        self.arguments.get(place).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("argument {place} is a number"))
    }
}

/// Prints a value as one line of JSON.
fn print(value: &impl Serialize) {
    println!("{}", serde_json::to_string(value).expect("what the probe prints can be JSON"));
}
