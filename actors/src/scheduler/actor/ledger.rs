//! The open jobs with their arguments, and which submissions are taken. Pure: it changes itself and the core, or neither.

mod checks;
mod held_back;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    num::NonZeroU32,
};

pub(super) use self::held_back::HeldBack;
use super::{
    arguments::Arguments,
    finished::{FinishedJob, FinishedJobs},
};
use crate::code::{Function, FunctionRef};
use crate::results::{KeepRun, Owner, PendingTasks, RestoredEnd, RestoredJob};
use crate::scheduler::{Chunk, ClientKey, JobSpec, OpenError, Past, Placement, Requirement, Scheduler, Suspended, Time, Weight};
use crate::task::{BlobHash, JobId, Packed, Tries};
use crate::wire::{JobHeader, Submit, SubmitRefusal, VALUE_BYTES_MAX};

/// How many bytes of arguments one client may have waiting. Beyond it its submissions are acknowledged only as its tasks
/// end, which holds it back.
const CLIENT_ARGUMENT_BYTES_MAX: usize = 1 << 30;

/// Beyond this many bytes of arguments a client's submissions are refused. Room for what a client has under way when it is held
/// back; more is from one that does not heed it.
const CLIENT_ARGUMENT_BYTES_LIMIT: usize = 2 * CLIENT_ARGUMENT_BYTES_MAX;

/// All open jobs, and what finished lately.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    jobs: HashMap<JobId, Job>,
    accounts: HashMap<ClientKey, Account>,
    finished: FinishedJobs,
    /// How many answers of stores are still to come about runs of jobs that could not be kept. The same job may have been submitted
    /// anew since. Each stands for a write in the store's queue, which bounds them.
    given_up: HashMap<JobId, usize>,
}

/// A job that has not finished.
#[derive(Debug)]
pub(crate) struct Job {
    pub client: ClientKey,
    pub owner: Owner,
    pub function: Function,
    /// The value that its tasks share.
    pub shared: Option<BlobHash>,
    /// How long each task may run, in milliseconds; 0 lets it run for as long as it likes.
    pub time_limit_ms: u64,
    pub arguments: Arguments,
    submitted: u32,
    closed: bool,
    /// How many tasks it has room for.
    room: u32,
    /// Runs that its store has not kept yet, oldest first: the core does not know them.
    unkept: VecDeque<Unkept>,
    /// How many runs have been kept.
    kept: u64,
}

/// What the core will be told of a run once it is kept.
#[derive(Clone, Copy, Debug)]
struct Unkept {
    count: u32,
    weight: Weight,
    closed: bool,
}

/// What is held for one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub jobs: u64,
    pub argument_bytes: usize,
}

/// What a submission that was taken asks of the job's result store, in this order, and of the client.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// Keep this, unless it is there already.
    pub keep: Option<KeepRun>,
    /// Subscribe the client under this number, with a window of so many bytes.
    pub subscribe: Option<(u64, u64)>,
    /// It is to be acknowledged once so many runs of the job have been kept.
    pub runs: u64,
}

/// A run of tasks, checked as far as it can be on its own.
struct NewRun {
    first: u32,
    count: u32,
    end: u32,
    arguments: Packed,
    closed: bool,
}

impl Ledger {
    /// Takes a submission, or refuses it and changes nothing. One that was taken before is taken again without effect, also when
    /// its job has finished since: a client that was not told of the acknowledgement sends again.
    ///
    /// # Errors
    /// When it contradicts itself or what is here, or goes beyond a bound.
    pub fn submit(
        &mut self,
        core: &mut Scheduler,
        (client, owner): (ClientKey, &Owner),
        submit: Submit,
    ) -> Result<Admission, SubmitRefusal> {
        let Submit { job: id, open, first, arguments, closed } = submit;
        let run = NewRun::check(first, arguments, closed)?;
        let subscribe = open.as_ref().map(|header| (header.subscription, header.window_bytes));
        if let Some(job) = self.jobs.get_mut(&id) {
            if job.owner != *owner {
                return Err(of_another(id));
            }
            let keep = if job.has(&run) { None } else { Some(self.extend(id, run)?) };
            return Ok(Admission { keep, subscribe, runs: self.runs_taken(id) });
        }
        if let Some(job) = self.finished.find(id) {
            if job.owner != *owner {
                return Err(of_another(id));
            }
            if run.end > job.submitted {
                return Err(invalid(format!("job {id} has ended: open another one for further tasks")));
            }
            return Ok(Admission { keep: None, subscribe, runs: 0 });
        }
        let header = open.ok_or(SubmitRefusal::UnknownJob)?;
        let keep = self.open(core, id, (client, owner), header, run)?;
        Ok(Admission { keep: Some(keep), subscribe, runs: self.runs_taken(id) })
    }

    /// Takes up a job that was kept by an earlier life of the controller.
    ///
    /// # Errors
    /// When the core does not take it; nothing is changed then.
    pub fn restore(&mut self, core: &mut Scheduler, client: ClientKey, restored: RestoredJob) -> Result<(), OpenError> {
        let RestoredJob { id, owner, header, submitted, failed, closed, released, engines, waited, pending, arguments } =
            restored;
        let mut job = Job::new(client, owner, &header);
        (job.submitted, job.closed) = (submitted, closed);
        let mut load = Weight::default();
        for (first, arguments) in arguments {
            let Weight { bytes, longest_bytes } = weight(&arguments);
            load = Weight { bytes: load.bytes + bytes, longest_bytes: load.longest_bytes.max(longest_bytes) };
            job.arguments.extend(first, arguments);
        }
        job.arguments.keep_only(pending.iter().map(|span| (span.first, span.first.saturating_add(span.count))));
        let suspended =
            |span: &PendingTasks| Suspended { first: span.first, count: span.count, tries: Tries::of_kept(span.losses) };
        let suspended: Vec<Suspended> = pending.iter().map(suspended).collect();
        let past = Past { total: submitted, failed, closed, released, engines, waited };
        core.restore_job(spec(id, client, &header), &past, load, &suspended)?;
        let account = self.accounts.entry(client).or_default();
        account.jobs += 1;
        account.argument_bytes += job.arguments.bytes();
        self.jobs.insert(id, job);
        Ok(())
    }

    /// Remembers a job that ended in an earlier life of the controller.
    pub fn restore_ended(&mut self, RestoredEnd { id, owner, submitted }: RestoredEnd) {
        self.finished.add(id, FinishedJob { owner, submitted });
    }

    /// The oldest run of a job that was not kept is now: its tasks go to the core. Returns how many runs have been kept.
    pub fn kept(&mut self, core: &mut Scheduler, now: Time, id: JobId) -> u64 {
        let Some(job) = self.jobs.get_mut(&id) else { return u64::MAX };
        let Some(run) = job.unkept.pop_front() else { return job.kept };
        job.kept += 1;
        let kept = job.kept;
        if run.count > 0 {
            // The core has the job, open and with room, which `submit` has checked.
            let extended = core.extend_job(now, id, run.count, run.weight);
            debug_assert!(extended.is_ok(), "{extended:?}");
        }
        if run.closed {
            let known = core.close_job(id);
            debug_assert!(known.is_ok(), "{known:?}");
        }
        kept
    }

    /// Whether an answer that a run could not be kept is about a run of a job that was given up. Each is asked about once.
    pub fn was_given_up(&mut self, id: JobId) -> bool {
        let Some(answers) = self.given_up.get_mut(&id) else { return false };
        *answers -= 1;
        if *answers == 0 {
            self.given_up.remove(&id);
        }
        true
    }

    /// The store could not keep the run that opens a job: the job is as if it had never been. Returns whose it was.
    pub fn not_kept(&mut self, core: &mut Scheduler, id: JobId) -> Option<ClientKey> {
        let job = self.jobs.remove(&id)?;
        if job.unkept.len() > 1 {
            self.given_up.insert(id, job.unkept.len() - 1);
        }
        // It has no tasks in the core, which forgets it once it is closed.
        let known = core.close_job(id);
        debug_assert!(known.is_ok(), "{known:?}");
        self.settle_account(&job);
        Some(job.client)
    }

    /// How many runs of a job have been taken, kept or not.
    pub fn runs_taken(&self, id: JobId) -> u64 {
        self.jobs.get(&id).map_or(0, |job| job.kept + job.unkept.len() as u64)
    }

    /// How many runs of a job have been kept; all, of one that has finished.
    pub fn runs_kept(&self, id: JobId) -> u64 {
        self.jobs.get(&id).map_or(u64::MAX, |job| job.kept)
    }

    /// An open job.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// Whether a job is open, or ended not long ago.
    pub fn knows(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id) || self.finished.find(id).is_some()
    }

    /// What is held for a client.
    pub fn account(&self, client: ClientKey) -> Account {
        self.accounts.get(&client).copied().unwrap_or_default()
    }

    /// Tasks have ended. Returns the client whose they are, if less is held for it now.
    pub fn end_tasks(&mut self, id: JobId, first: u32, count: u32) -> Option<ClientKey> {
        let job = self.jobs.get_mut(&id)?;
        let before = job.arguments.bytes();
        job.arguments.end(first, count);
        let freed = before - job.arguments.bytes();
        let client = job.client;
        self.accounts.get_mut(&client)?.argument_bytes -= freed;
        (freed > 0).then_some(client)
    }

    /// A job is closed and all its tasks have ended. Returns whose it was.
    pub fn finish(&mut self, id: JobId) -> Option<ClientKey> {
        let job = self.jobs.remove(&id)?;
        self.settle_account(&job);
        let client = job.client;
        self.finished.add(id, FinishedJob { owner: job.owner, submitted: job.submitted });
        Some(client)
    }

    /// Closes the jobs of clients that will add nothing more; what is returned is to be kept. What was submitted still runs.
    /// Costs a step for each job.
    pub fn close_all_of(&mut self, clients: &HashSet<ClientKey>) -> Vec<KeepRun> {
        let open = self.jobs.iter_mut().filter(|(_, job)| clients.contains(&job.client) && !job.closed);
        open.map(|(id, job)| job.close(*id)).collect()
    }

    fn settle_account(&mut self, job: &Job) {
        let Some(account) = self.accounts.get_mut(&job.client) else { return };
        account.argument_bytes -= job.arguments.bytes();
        account.jobs -= 1;
        if account.jobs == 0 {
            self.accounts.remove(&job.client);
        }
    }

    fn extend(&mut self, id: JobId, run: NewRun) -> Result<KeepRun, SubmitRefusal> {
        let job = self.jobs.get_mut(&id).ok_or(SubmitRefusal::UnknownJob)?;
        if job.closed {
            let text =
                "is closed, by its last run or because its client was away for too long: open another one for further tasks";
            return Err(invalid(format!("job {id} {text}")));
        }
        if run.first != job.submitted {
            return Err(out_of_order(run.first, job.submitted));
        }
        let account = self.accounts.entry(job.client).or_default();
        account.check(&run)?;
        job.check_room(id, &run)?;
        Ok(job.take(id, account, run, None))
    }

    fn open(
        &mut self,
        core: &mut Scheduler,
        id: JobId,
        (client, owner): (ClientKey, &Owner),
        header: JobHeader,
        run: NewRun,
    ) -> Result<KeepRun, SubmitRefusal> {
        checks::header(id, &header)?;
        if run.first != 0 {
            return Err(out_of_order(run.first, 0));
        }
        self.account(client).check(&run)?;
        let mut job = Job::new(client, owner.clone(), &header);
        job.check_room(id, &run)?;
        core.open_job(spec(id, client, &header)).map_err(|error| invalid(error.to_string()))?;
        let account = self.accounts.entry(client).or_default();
        account.jobs += 1;
        let keep = job.take(id, account, run, Some((owner.clone(), header)));
        self.jobs.insert(id, job);
        Ok(keep)
    }
}

/// What the core is told of a job.
fn spec(id: JobId, client: ClientKey, header: &JobHeader) -> JobSpec {
    let requirement = match &header.function.reference {
        FunctionRef::Offset { bundle, .. } => Requirement::Bundle { hash: *bundle, target: header.target.clone() },
        FunctionRef::Named { name } => Requirement::Named { name: name.clone() },
    };
    let balanced = header.direct.is_empty();
    let placement = if balanced { Placement::Balanced } else { Placement::Direct(header.direct.clone()) };
    let chunk = NonZeroU32::new(header.chunk).map_or(Chunk::Adaptive, Chunk::Fixed);
    JobSpec { id, client, requirement, placement, chunk, options: (*header.options).clone() }
}

impl Job {
    fn new(client: ClientKey, owner: Owner, header: &JobHeader) -> Self {
        let direct = header.direct.iter().map(|(_, count)| *count);
        Self {
            client,
            owner,
            function: header.function.clone(),
            shared: header.shared,
            time_limit_ms: header.options.time_limit_ms,
            arguments: Arguments::default(),
            submitted: 0,
            closed: false,
            room: if header.direct.is_empty() { u32::MAX } else { direct.fold(0, u32::saturating_add) },
            unkept: VecDeque::new(),
            kept: 0,
        }
    }

    /// Whether that run is here already.
    fn has(&self, run: &NewRun) -> bool {
        run.end <= self.submitted && (run.count > 0 || !run.closed || self.closed)
    }

    fn check_room(&self, id: JobId, run: &NewRun) -> Result<(), SubmitRefusal> {
        let room = self.room - self.submitted;
        if run.count <= room {
            return Ok(());
        }
        Err(invalid(format!("job {id} has room for {room} more tasks, not for {}: open another one for them", run.count)))
    }

    fn take(&mut self, id: JobId, account: &mut Account, run: NewRun, open: Option<(Owner, JobHeader)>) -> KeepRun {
        let NewRun { first, count, end, arguments, closed } = run;
        account.argument_bytes += Arguments::cost(&arguments);
        self.arguments.extend(first, arguments.clone());
        self.submitted = end;
        self.closed = closed;
        self.unkept.push_back(Unkept { count, weight: weight(&arguments), closed });
        KeepRun { job: id, open, first, arguments, closed }
    }

    fn close(&mut self, id: JobId) -> KeepRun {
        self.closed = true;
        self.unkept.push_back(Unkept { count: 0, weight: Weight::default(), closed: true });
        KeepRun { job: id, open: None, first: self.submitted, arguments: Packed::default(), closed: true }
    }
}

impl Account {
    fn check(&self, run: &NewRun) -> Result<(), SubmitRefusal> {
        let held = self.argument_bytes;
        if held.saturating_add(Arguments::cost(&run.arguments)) <= CLIENT_ARGUMENT_BYTES_LIMIT {
            return Ok(());
        }
        let text = format!(
            "this client's tasks wait with {held} bytes of arguments, and {CLIENT_ARGUMENT_BYTES_LIMIT} is the limit: \
             let some of them end first"
        );
        Err(invalid(text))
    }
}

impl NewRun {
    fn check(first: u32, arguments: Packed, closed: bool) -> Result<Self, SubmitRefusal> {
        if !arguments.is_sound() {
            return Err(invalid("its arguments contradict themselves".into()));
        }
        let end = u32::try_from(arguments.len()).ok().and_then(|count| Some((count, first.checked_add(count)?)));
        let Some((count, end)) = end else {
            return Err(invalid(format!("a job has at most {} tasks: open another one for the rest", u32::MAX)));
        };
        if longest(&arguments) > VALUE_BYTES_MAX {
            return Err(invalid(format!("an argument has at most {VALUE_BYTES_MAX} bytes: leave the data in a file")));
        }
        Ok(Self { first, count, end, arguments, closed })
    }
}

fn longest(arguments: &Packed) -> usize {
    arguments.iter().map(<[u8]>::len).max().unwrap_or(0)
}

fn weight(arguments: &Packed) -> Weight {
    Weight { bytes: arguments.bytes() as u64, longest_bytes: longest(arguments) as u64 + 4 }
}

fn of_another(id: JobId) -> SubmitRefusal {
    invalid(format!("job {id} belongs to another client: use a fresh id"))
}

fn out_of_order(first: u32, there: u32) -> SubmitRefusal {
    invalid(format!("its tasks start at {first}, but {there} are there and the next must follow"))
}

fn invalid(text: String) -> SubmitRefusal {
    SubmitRefusal::Invalid(text)
}

#[cfg(test)]
pub(super) mod tests;
