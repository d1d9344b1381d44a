//! The rows: what can be measured.

use clap::ValueEnum;

use crate::{Failure, limits, line::Line, options::Scale, reading::Reading, rows};

/// One measurement, which gives one or more lines of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// Limit: frames of 64 bytes between two processes, there and back
    Hop,
    /// Limit: frames of 64 bytes through three processes, there and back
    Relay,
    /// Limit: as many bytes as go from one process to another
    BareBulk,
    /// Limit: a small message to and from MessagePack
    Codec,
    /// Limit: actors on two threads
    Ask,
    /// One task after the other
    Latency,
    /// Many separate tasks at once
    Single,
    /// A map of millions, and the memory that it takes (also: memory)
    #[value(alias = "memory")]
    Map,
    /// Memory of the controller for a task that waits
    Queued,
    /// As single, with the store on disk
    Durable,
    /// One large result, and round trips meanwhile
    Bulk,
    /// A thousand engines in four processes
    Engines,
    /// The scheduler's core alone
    Scheduler,
    /// Tasks of 10 ms on two engines
    Work,
    /// How soon controller and engine node are ready
    Start,
    /// What a controller of 100 idle engines takes
    Idle,
}

impl Row {
    /// Its name on the command line and in the table.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The rows whose figures its targets speak of.
    pub fn compared_with(self) -> &'static [Row] {
        match self {
            Row::Latency | Row::Single => &[Row::Relay],
            Row::Durable => &[Row::Relay, Row::Single],
            Row::Bulk => &[Row::BareBulk],
            _ => &[],
        }
    }

    /// How often one run measures it, for the median: more often what varies more.
    pub fn rounds(self, scale: Scale) -> u32 {
        let full = match self {
            Row::Relay | Row::Latency => 9,
            Row::Hop | Row::Single | Row::Durable | Row::BareBulk | Row::Bulk | Row::Engines => 5,
            Row::Scheduler | Row::Work => 3,
            _ => 1,
        };
        scale.of(full, 1)
    }

    /// What of it stands in the table.
    pub fn lines(self) -> &'static [Line] {
        match self {
            Row::Hop => limits::hop::LINES,
            Row::Relay => limits::relay::LINES,
            Row::BareBulk => limits::bulk::LINES,
            Row::Codec => limits::codec::LINES,
            Row::Ask => limits::ask::LINES,
            Row::Latency => rows::latency::LINES,
            Row::Single => rows::single::LINES,
            Row::Map => rows::map::LINES,
            Row::Queued => rows::queued::LINES,
            Row::Durable => rows::durable::LINES,
            Row::Bulk => rows::bulk::LINES,
            Row::Engines => rows::engines::LINES,
            Row::Scheduler => rows::scheduler::LINES,
            Row::Work => rows::work::LINES,
            Row::Start => rows::start::LINES,
            Row::Idle => rows::idle::LINES,
        }
    }

    /// Measures it, in this very process.
    pub fn measure(self, scale: Scale) -> Result<Reading, Failure> {
        match self {
            Row::Hop => limits::hop::measure(scale),
            Row::Relay => limits::relay::measure(scale),
            Row::BareBulk => limits::bulk::measure(scale),
            Row::Codec => limits::codec::measure(scale),
            Row::Ask => limits::ask::measure(scale),
            Row::Latency => rows::latency::measure(scale),
            Row::Single => rows::single::measure(scale),
            Row::Map => rows::map::measure(scale),
            Row::Queued => rows::queued::measure(scale),
            Row::Durable => rows::durable::measure(scale),
            Row::Bulk => rows::bulk::measure(scale),
            Row::Engines => rows::engines::measure(scale),
            Row::Scheduler => rows::scheduler::measure(scale),
            Row::Work => rows::work::measure(scale),
            Row::Start => rows::start::measure(scale),
            Row::Idle => rows::idle::measure(scale),
        }
    }
}
