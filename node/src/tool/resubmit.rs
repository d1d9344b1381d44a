//! `engineroom resubmit`.

use clap::{ArgMatches, Args};
use engineroom::{AsyncResult, Client, MessageId};
use serde::{Serialize, de::IgnoredAny};

use super::{
    lines::{Lines, Stop, ended},
    reach::ReachArgs,
    select::{SelectArgs, Selection},
};
use crate::failure::Failure;

const NOTES: &str = "\
They are submitted as new tasks, with the functions, arguments and options that they had; the old ones stay as they are. The ids
of the new ones are printed, one a line, once the controller has acknowledged them; with --json as {\"id\":NEW,\"of\":OLD}.

Examples:
  engineroom resubmit 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b/17
  engineroom resubmit --state failed --job 0192f0c1-2b3d-7e4f-8a5b-6c7d8e9f0a1b
  engineroom resubmit --state failed,aborted --label night --json";

/// Options of `engineroom resubmit`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct ResubmitArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Print JSON, one object a line
    #[arg(long, help_heading = "Options")]
    json: bool,
    #[command(flatten)]
    reach: ReachArgs,
}

impl ResubmitArgs {
    /// Submits tasks again.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let selection = self.select.selection()?;
        let client = self.reach.client(matches)?;
        let mut new = Successions::default();
        let submitted = resubmit(&client, &selection, &mut new);
        // What is printed is on the controller's disk; if not all could be handed over, these are the ids of what may be.
        let closed = client.close();
        ended(print(&new, if self.json { Form::Json } else { Form::Ids }))?;
        ended(submitted)?;
        Ok(closed?)
    }
}

fn resubmit(client: &Client, selection: &Selection, new: &mut Successions) -> Result<(), Stop> {
    selection.pages(client, |old| {
        // Their results are for whoever asks for them by id.
        let result: AsyncResult<IgnoredAny> = client.resubmit(old.iter().copied())?;
        for (old, id) in old.iter().zip(result.message_ids()) {
            new.push(*old, id);
        }
        Ok(())
    })
}

#[derive(Clone, Copy)]
enum Form {
    Ids,
    Json,
}

#[derive(Serialize)]
struct Line {
    id: String,
    of: String,
}

fn print(new: &Successions, form: Form) -> Result<(), Stop> {
    let mut lines = Lines::standard();
    for (old, id) in new.iter() {
        match form {
            Form::Ids => lines.text(&id.to_string())?,
            Form::Json => drop(lines.json(&Line { id: id.to_string(), of: old.to_string() })?),
        }
    }
    lines.flush()
}

/// Which new task is which old one again: runs of both, since there may be millions.
#[derive(Debug, Default)]
struct Successions {
    /// The first old one, the first new one, and how many follow.
    runs: Vec<(MessageId, MessageId, u32)>,
}

impl Successions {
    fn push(&mut self, old: MessageId, new: MessageId) {
        let follows = |first: MessageId, count: u32, id| later(first, count) == Some(id);
        match self.runs.last_mut() {
            Some((first_old, first_new, count)) if follows(*first_old, *count, old) && follows(*first_new, *count, new) => {
                *count += 1;
            }
            _ => self.runs.push((old, new, 1)),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (MessageId, MessageId)> {
        let pairs = |(old, new, count): &(MessageId, MessageId, u32)| {
            let (old, new) = (*old, *new);
            (0..*count).filter_map(move |offset| Some((later(old, offset)?, later(new, offset)?)))
        };
        self.runs.iter().flat_map(pairs)
    }
}

fn later(id: MessageId, offset: u32) -> Option<MessageId> {
    Some(MessageId { index: id.index.checked_add(offset)?, ..id })
}

#[cfg(test)]
mod tests {
    use engineroom::JobId;

    use super::*;

    #[test]
    fn successions_are_kept_as_runs_and_given_as_pairs() {
        let id = |(job, index)| MessageId { job: JobId::from_u128(job), index };
        let pairs: Vec<(MessageId, MessageId)> = [
            ((1, 3), (9, 0)),
            ((1, 4), (9, 1)),
            ((1, 6), (9, 2)),
            ((1, 7), (9, 3)),
            ((2, 8), (9, 4)),
            ((2, 9), (8, 0)),
            ((2, u32::MAX), (8, 1)),
            ((2, 0), (8, 2)),
        ]
        .map(|(old, new)| (id(old), id(new)))
        .to_vec();
        let mut new = Successions::default();
        pairs.iter().for_each(|(old, id)| new.push(*old, *id));
        assert_eq!(new.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(new.runs.len(), 6);
    }
}
