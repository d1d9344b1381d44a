//! Programs with tasks that end badly.

use std::{fmt, process};

use engineroom::Result;
use engineroom_tests::outcomes;
use rustix::process::{Signal, getpid, getppid, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{Options, print};

/// Odd ends, by the number of the task; all others go well.
#[derive(Debug)]
struct Odd(u64);

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {} is odd", self.0)
    }
}

/// An argument that some of its values cannot be read back from, and a result that some cannot be written of.
#[derive(Debug)]
struct Number(u64);

impl Number {
    const UNREADABLE: u64 = 60;
    const UNWRITABLE: u64 = 70;
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Self::UNWRITABLE => Err(ser::Error::custom("this number cannot be written")),
            number => serializer.serialize_u64(number),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            Self::UNREADABLE => Err(de::Error::custom("this number cannot be read")),
            number => Ok(Self(number)),
        }
    }
}

fn end_somehow(Number(number): Number) -> Result<Number, Odd> {
    println!("out {number}");
    eprintln!("err {number}");
    match number {
        10 => process::abort(),
        20 => panic!("number {number} panics"),
        30 => Err(Odd(number)),
        40 => process::exit(3),
        // Rust's own handler takes the first one, finds no overflow of the stack, and lets the next one kill.
        50 => loop {
            let _ = kill_process(getpid(), Signal::SEGV);
        },
        71 => Ok(Number(Number::UNWRITABLE)),
        number => Ok(Number(number)),
    }
}

/// `failures TASKS`: the outcomes of tasks of which some fail, each in its way.
pub fn failures(options: &Options) -> Result<()> {
    let inputs = (0..options.number(1)).map(Number);
    let client = options.client()?;
    let result = client.load_balanced_view().try_map(end_somehow, inputs.filter(|number| number.0 != Number::UNWRITABLE));
    print(&outcomes(result)?);
    Ok(())
}

/// `poison TASKS`: the outcomes of tasks of which the one in the middle kills the node of any engine that runs it.
pub fn poison(options: &Options) -> Result<()> {
    let tasks = options.number(1);
    let kill = |(number, poison): (u64, u64)| {
        if number == poison {
            getppid().map(|node| kill_process(node, Signal::KILL));
            loop {
                std::thread::park();
            }
        }
        number
    };
    let inputs = (0..tasks).map(|number| (number, tasks / 2));
    print(&outcomes(options.client()?.load_balanced_view().map(kill, inputs))?);
    Ok(())
}
