//! Actors: a question from one thread to an actix actor on another, and messages without an answer.

use std::{sync::mpsc, thread, time::Instant};

use actix::{Actor, Addr, Context, Handler, Message};

use crate::{
    Failure, bare,
    cluster::expect,
    line::{Line, Target, Unit},
    options::Scale,
    reading::Reading,
};

/// What stands in the table.
pub const LINES: &[Line] = &[
    Line { what: "question across threads, p50", figure: "ask.p50_us", unit: Unit::Micros, target: Target::None },
    Line { what: "question across threads, p99", figure: "ask.p99_us", unit: Unit::Micros, target: Target::None },
    Line { what: "messages across threads", figure: "ask.tells_per_second", unit: Unit::PerSecond, target: Target::None },
];

/// Adds up what comes.
#[derive(Default)]
struct Adder {
    sum: u64,
}

/// Adds, and answers with the sum.
#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

impl Actor for Adder {
    type Context = Context<Self>;
}

impl Handler<Add> for Adder {
    type Result = u64;

    fn handle(&mut self, Add(number): Add, _: &mut Context<Self>) -> u64 {
        self.sum += number;
        self.sum
    }
}

/// Measures both.
pub fn measure(scale: Scale) -> Result<Reading, Failure> {
    let adder = start_on_thread()?;
    let mut trips_us = Vec::new();
    let (questions, messages) = scale.of((20_000, 1_000_000), (2_000, 100_000));
    let rate = bare::block_on(async {
        for number in 1..=questions {
            let began = Instant::now();
            let sum = adder.send(Add(1)).await?;
            trips_us.push(began.elapsed().as_secs_f64() * 1e6);
            expect("the sum of the questions", sum, number)?;
        }
        let began = Instant::now();
        (0..messages).for_each(|_| adder.do_send(Add(1)));
        expect("the sum of all", adder.send(Add(0)).await?, questions + messages)?;
        Ok(messages as f64 / began.elapsed().as_secs_f64())
    })?;
    Ok(Reading::default().trips("ask", trips_us).figure("ask.tells_per_second", rate))
}

/// An actor on a thread of its own, which ends with the process.
fn start_on_thread() -> Result<Addr<Adder>, Failure> {
    let (sender, started) = mpsc::channel();
    thread::spawn(move || {
        actix::System::new().block_on(async {
            // Who started the thread waits for it.
            let _ = sender.send(Adder::default().start());
            std::future::pending::<()>().await;
        });
    });
    Ok(started.recv()?)
}
