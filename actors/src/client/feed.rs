//! The submission of one job, in parts that fit a message. Pure.

use std::{borrow::Cow, collections::VecDeque};

use engineroom_runtime::net::link::INLINE_BYTES_MAX;

use crate::code::Bundle;
use crate::error::Error;
use crate::task::{BlobHash, Packed, PackedBuilder};
use crate::wire::{JobHeader, VALUE_BYTES_MAX};

/// How many bytes of arguments travel in one message, so that it does not travel as bulk, which keeps no order. One argument
/// that is longer travels alone.
const PART_BYTES: usize = 24 << 10;

/// How many tasks travel in one message.
const PART_TASKS: usize = 8192;

/// What a message needs beside header and arguments, in bytes.
const MARGIN_BYTES: usize = 1 << 10;

/// How many tasks a job may have.
const TASKS_MAX: u32 = u32::MAX;

/// Tasks on their way from the program to the actor.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// With the first part only.
    header: Option<JobHeader>,
    full: VecDeque<Packed>,
    full_bytes: usize,
    builder: PackedBuilder,
    /// The index of the next task to be added.
    next: u32,
    /// The index of the first task that has not been given to the actor.
    given: u32,
    /// No more tasks will be added.
    closed: bool,
    /// The actor has been given the end of the job.
    ended: bool,
}

/// A part of a submission, as it goes to the controller.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub open: Option<JobHeader>,
    pub first: u32,
    pub arguments: Packed,
    pub closed: bool,
}

impl Part {
    /// Whether it may travel as bulk, and so must travel alone.
    pub fn is_long(&self) -> bool {
        let header = self.open.as_ref().map_or(0, |header| {
            let label = header.label.as_ref().map_or(0, String::len);
            header.function.name.len()
                + label
                + header.target.len()
                + 12 * header.direct.len()
                + 40 * header.options.dependencies()
        });
        MARGIN_BYTES + header + self.arguments.bytes() > INLINE_BYTES_MAX
    }
}

impl Feed {
    pub fn new(header: JobHeader) -> Self {
        Self { header: Some(header), ..Self::default() }
    }

    /// The tasks share this value.
    pub fn share(&mut self, value: BlobHash) {
        if let Some(header) = self.header.as_mut() {
            header.shared = Some(value);
        }
    }

    /// One to which nothing is added.
    pub fn ended() -> Self {
        Self { closed: true, ended: true, ..Self::default() }
    }

    pub fn push<'a>(&mut self, argument: impl Into<Cow<'a, [u8]>>) -> Result<u32, Error> {
        if self.next == TASKS_MAX {
            return Err(Error::Submit(format!("a job has at most {TASKS_MAX} tasks: split the inputs over several maps")));
        }
        let index = self.next;
        let argument = argument.into();
        if argument.len() > VALUE_BYTES_MAX {
            let bytes = argument.len();
            let text = format!(
                "the argument of task {index} has {bytes} bytes, and {VALUE_BYTES_MAX} is the limit: leave the data in a file"
            );
            return Err(Error::Submit(text));
        }
        if argument.len() > PART_BYTES {
            // It is a part of its own, and is not copied to become one.
            self.cut();
        }
        self.builder.push_item(argument);
        self.next += 1;
        if self.builder.bytes() > PART_BYTES && self.builder.len() > 1 {
            let last = self.builder.split_last();
            self.cut();
            self.builder = last;
        }
        if self.builder.bytes() > PART_BYTES || self.builder.len() >= PART_TASKS {
            self.cut();
        }
        Ok(index)
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    /// What the tasks have in common, until it is handed over.
    pub fn header(&self) -> Option<&JobHeader> {
        self.header.as_ref()
    }

    /// Drops what has not been given to the actor; the job ends there.
    pub fn abandon(&mut self) {
        self.full.clear();
        self.full_bytes = 0;
        self.builder.take();
        self.next = self.given;
        self.closed = true;
    }

    pub fn length(&self) -> u32 {
        self.next
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn waiting_bytes(&self) -> usize {
        self.full_bytes + self.builder.bytes()
    }

    pub fn needs_bundle(&self) -> bool {
        self.header.as_ref().is_some_and(|header| Bundle::is_own(&header.function))
    }

    pub fn take_part(&mut self) -> Option<Part> {
        if self.full.is_empty() {
            self.cut();
        }
        let arguments = self.full.pop_front().unwrap_or_default();
        self.full_bytes -= arguments.bytes();
        let last = self.closed && self.full.is_empty() && self.builder.is_empty();
        if arguments.is_empty() && (!last || self.ended) {
            return None;
        }
        let first = self.given;
        // A part has at most `PART_TASKS` tasks.
        self.given += arguments.len() as u32;
        self.ended = last;
        Some(Part { open: self.header.take(), first, arguments, closed: last })
    }

    /// Whether all tasks below `end`, or all that there will ever be, have been given to the actor.
    pub fn is_fed_until(&self, end: u32) -> bool {
        self.given >= end || self.ended
    }

    /// Whether there is nothing to be given now.
    pub fn is_fed(&self) -> bool {
        self.given == self.next && self.closed == self.ended
    }

    /// Whether the actor has been given everything, the end included.
    pub fn is_done(&self) -> bool {
        self.ended && self.given == self.next
    }

    fn cut(&mut self) {
        if !self.builder.is_empty() {
            let part = self.builder.take();
            self.full_bytes += part.bytes();
            self.full.push_back(part);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::code::Function;

    pub fn header() -> JobHeader {
        JobHeader {
            function: Function::named("f"),
            target: String::new(),
            direct: Vec::new(),
            chunk: 0,
            label: None,
            subscription: 1,
            window_bytes: 1,
            shared: None,
            options: Box::default(),
        }
    }

    fn feed() -> Feed {
        Feed::new(header())
    }

    #[test]
    fn an_argument_that_is_too_long_is_refused_and_the_others_go() {
        let mut feed = feed();
        feed.push(&[1][..]).unwrap();
        let error = feed.push(vec![0; VALUE_BYTES_MAX + 1]).unwrap_err();
        assert!(error.to_string().contains("the argument of task 1 has 939524097 bytes"), "{error}");
        assert_eq!((feed.push(&[2][..]).unwrap(), feed.length()), (1, 2));
    }

    #[test]
    fn parts_are_short_or_a_single_task_whatever_the_sizes() {
        for sizes in [vec![100, 100, 100_000, 5], vec![12_000; 7], vec![24 << 10; 3], vec![1; 20_000], vec![70_000, 1, 70_000]] {
            let mut feed = feed();
            sizes.iter().for_each(|size| drop(feed.push(vec![7; *size])));
            feed.close();
            let mut next = 0;
            while let Some(part) = feed.take_part() {
                assert_eq!(part.first, next);
                assert!(
                    !part.is_long() || part.arguments.len() == 1,
                    "{} tasks, {} bytes",
                    part.arguments.len(),
                    part.arguments.bytes()
                );
                assert_eq!(part.open.is_some(), next == 0);
                next += part.arguments.len() as u32;
                assert_eq!(part.closed, next as usize == sizes.len());
            }
            assert_eq!(next as usize, sizes.len());
            assert!(feed.is_done());
            assert_eq!(feed.waiting_bytes(), 0);
        }
    }

    #[test]
    fn an_empty_job_still_has_its_end() {
        let mut feed = feed();
        assert!(feed.take_part().is_none());
        feed.close();
        let part = feed.take_part().unwrap();
        assert!(part.closed && part.arguments.is_empty() && part.open.is_some());
        assert!(feed.take_part().is_none());
    }

    #[test]
    fn an_end_that_comes_later_is_given_alone() {
        let mut feed = feed();
        feed.push(b"x").unwrap();
        assert!(!feed.take_part().unwrap().closed);
        assert!(feed.is_fed() && !feed.is_done());
        feed.close();
        assert!(!feed.is_fed());
        assert!(feed.take_part().unwrap().closed);
        assert!(feed.is_done());
    }

    #[test]
    fn an_abandoned_job_ends_with_what_was_given() {
        let mut feed = feed();
        feed.push(b"x").unwrap();
        feed.take_part();
        feed.push(b"y").unwrap();
        feed.abandon();
        let part = feed.take_part().unwrap();
        assert!(part.closed && part.arguments.is_empty());
        assert_eq!(feed.length(), 1);
    }
}
