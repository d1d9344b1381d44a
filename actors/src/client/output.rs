//! What tasks write, shown while they run.

use std::{collections::BTreeMap, time::Duration};

use super::{async_result::AsyncResult, job::Job, received::Received};
use crate::error::Result;
use crate::task::{MessageId, OutputStream, Piece, TaskOutput};
use crate::wire::RunBody;

/// How often is looked for what has come.
const LOOK: Duration = Duration::from_millis(100);

/// By how much of what was shown last the place is found again in an outcome that has the end of a long output only, in bytes.
const ANCHOR_BYTES: usize = 256;

/// What was shown of one stream of a task.
#[derive(Debug, Default)]
struct Shown {
    /// Up to this byte of what it wrote.
    until: u64,
    /// The last of that.
    last: String,
}

/// What was shown of the tasks of one part of the results.
#[derive(Debug)]
struct Place {
    /// All tasks before this one have ended, and were shown.
    next: u32,
    /// Those of which a piece was shown and that have not been shown to their end, each with both streams.
    begun: BTreeMap<u32, [Shown; 2]>,
    /// Those after `next` that were shown to their end.
    done: Vec<u32>,
}

impl<R, S> AsyncResult<R, S> {
    /// Blocks until all tasks have ended, and meanwhile shows what they write to their standard output and error: `show` gets the
    /// task, the stream and the next piece of text.
    ///
    /// What a running task writes is seen once a second, at most 4 KiB of each stream at a time, and may be missed where it writes
    /// more than can be sent; its last 16 KiB are complete when it has ended. Of tasks that were too quick to be seen running, the
    /// output comes in the order of the inputs. Tasks in threads write where their node does, and are not seen here.
    ///
    /// ```no_run
    /// # use engineroom::{OutputStream, prelude::*};
    /// # let client = Client::connect(Profile::default())?;
    /// let mut result = client.load_balanced_view().map(|x: u64| println!("this is {x}"), 0..10);
    /// result.follow_output(|task, stream, text| match stream {
    ///     OutputStream::Stdout => print!("{task}: {text}"),
    ///     OutputStream::Stderr => eprint!("{task}: {text}"),
    /// })?;
    /// # Ok::<(), engineroom::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`AsyncResult::wait`].
    pub fn follow_output(&mut self, mut show: impl FnMut(MessageId, OutputStream, &str)) -> Result<()> {
        let mut places: Vec<Place> = self.ranges().map(|(_, first, _)| Place::new(first)).collect();
        loop {
            let all_ended = self.wait(Some(LOOK))?;
            for (place, (job, first, end)) in places.iter_mut().zip(self.ranges()) {
                place.show(job, (first, end), &mut show);
            }
            if all_ended {
                return Ok(());
            }
        }
    }
}

impl Place {
    fn new(next: u32) -> Self {
        Self { next, begun: BTreeMap::new(), done: Vec::new() }
    }

    /// Shows what has come since the last time.
    fn show(&mut self, job: &Job, (first, end): (u32, u32), show: &mut impl FnMut(MessageId, OutputStream, &str)) {
        for (index, piece) in job.take_written(first, end) {
            if index >= self.next && !self.done.contains(&index) {
                show(MessageId { job: job.id, index }, piece.stream, &piece.text);
                self.begun.entry(index).or_default()[piece.stream as usize].add(&piece);
            }
        }
        let ended: Vec<u32> = self.begun.keys().copied().filter(|index| job.inspect(|all| all.find(*index).is_some())).collect();
        for index in ended {
            self.finish(job, index, show);
            self.done.push(index);
        }
        while self.next < end && job.inspect(|all| all.find(self.next).is_some()) {
            match self.done.iter().position(|done| *done == self.next) {
                Some(at) => drop(self.done.swap_remove(at)),
                None => self.finish(job, self.next, show),
            }
            self.next += 1;
        }
    }

    /// Shows the rest of what a task has written that has ended.
    fn finish(&mut self, job: &Job, index: u32, show: &mut impl FnMut(MessageId, OutputStream, &str)) {
        let shown = self.begun.remove(&index).unwrap_or_default();
        let Some(output) = job.inspect(|all| output_of(all, index)) else { return };
        let streams = [(OutputStream::Stdout, &output.stdout), (OutputStream::Stderr, &output.stderr)];
        for ((stream, text), shown) in streams.into_iter().zip(&shown) {
            let rest = shown.rest_of(text);
            if !rest.is_empty() {
                show(MessageId { job: job.id, index }, stream, rest);
            }
        }
    }
}

impl Shown {
    fn add(&mut self, piece: &Piece) {
        self.until = piece.until;
        self.last = piece.text[piece.text.ceil_char_boundary(piece.text.len().saturating_sub(ANCHOR_BYTES))..].to_owned();
    }

    /// What was not shown of a task's whole output, of which the end is kept. Rather twice than not at all.
    fn rest_of<'a>(&self, text: &'a str) -> &'a str {
        if self.until == 0 {
            return text;
        }
        if text.len() < TaskOutput::BYTES_MAX {
            let until = usize::try_from(self.until).unwrap_or(usize::MAX).min(text.len());
            return &text[text.ceil_char_boundary(until)..];
        }
        text.find(&self.last).map_or(text, |at| &text[at + self.last.len()..])
    }
}

fn output_of(received: &Received, index: u32) -> Option<TaskOutput> {
    let (run, offset) = received.find(index)?;
    match &run.body {
        RunBody::Ran(outcomes) => outcomes.output_of(offset).cloned(),
        RunBody::Ended(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(until: u64, text: &str) -> Shown {
        let mut shown = Shown::default();
        shown.add(&Piece { stream: OutputStream::Stdout, until, text: text.into() });
        shown
    }

    #[test]
    fn of_a_whole_output_the_rest_is_shown_once() {
        assert_eq!(Shown::default().rest_of("all"), "all");
        assert_eq!(shown(3, "one").rest_of("one two"), " two");
        assert_eq!(shown(7, "two").rest_of("one two"), "");
        assert_eq!(shown(9, "gone").rest_of("short"), "", "its file was emptied meanwhile");
    }

    #[test]
    fn of_the_end_of_a_long_output_nothing_is_left_out() {
        let long = "0123456789\n".repeat(TaskOutput::BYTES_MAX / 11 + 1);
        let tail = format!("{}last shown\nnew\n", &long[..TaskOutput::BYTES_MAX]);
        assert_eq!(shown(50_000, "last shown\n").rest_of(&tail), "new\n");
        assert_eq!(shown(50_000, "long ago\n").rest_of(&tail), tail, "it is not known what was missed");
    }
}
