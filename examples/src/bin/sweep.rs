//! A lab: points of a parameter space, measured on a cluster, with a notebook that outlives this program.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use engineroom::{AbortCounts, Client};
use engineroom_examples::{
    ClusterOptions, Failure,
    lab::{Design, Entry, Notebook, Point, State, Summary, mean_wait, points},
    run, say,
};

/// How long `wait` waits at a time before it writes down what has come.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Measures how long customers wait, over a parameter space, and keeps a notebook of it.
///
/// Examples:
///   sweep submit --notebook queue.json --load 0.5,0.9 --customers 1000,100000 --profile lab
///   sweep show --notebook queue.json --profile lab       what is there now; does not wait
///   sweep cancel 2 3 --notebook queue.json --profile lab
///   sweep wait --notebook queue.json --profile lab
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    #[command(subcommand)]
    step: Step,

    /// The notebook's file
    #[arg(long, value_name = "FILE", global = true, default_value = "notebook.json")]
    notebook: PathBuf,

    #[command(flatten)]
    cluster: ClusterOptions,
}

#[derive(Subcommand)]
enum Step {
    /// Submit points, write them into the notebook, and leave
    Submit {
        /// How busy the server is, from 0 to below 1
        #[arg(long, value_name = "LOAD,...", value_delimiter = ',', default_value = "0.5,0.8,0.9")]
        load: Vec<f64>,
        /// How many customers come
        #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000,10000")]
        customers: Vec<u32>,
        /// How points are made of these values
        #[arg(long, value_enum, default_value_t = Design::Factorial)]
        design: Design,
        /// How often each point is measured
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        repetitions: u32,
        /// Where the random numbers start
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Resolve what has ended and print the notebook, without waiting
    Show,
    /// Cancel points, by their numbers in the notebook
    Cancel {
        /// The numbers of the points
        #[arg(required = true)]
        points: Vec<usize>,
    },
    /// Wait until no point is pending, and print the notebook
    Wait,
}

fn main() -> ExitCode {
    engineroom::init();
    run(|| {
        let options = Options::parse();
        if !options.cluster.is_remote() {
            let text = "name a cluster with --profile, --profile-dir or --connection: one embedded in this program would end with it, \
                        and its results too (`engineroom start` starts one that stays)";
            return Err(Failure::Usage(text.into()));
        }
        let mut notebook = Notebook::open(&options.notebook)?;
        match options.step {
            Step::Submit { load, customers, design, repetitions, seed } => {
                let points = points(design, &load, &customers).map_err(Failure::Usage)?;
                submit(&options.cluster.connect()?.client, &mut notebook, &points, repetitions, seed)
            }
            Step::Show => {
                resolve(&options.cluster.connect()?.client, &mut notebook)?;
                show(&notebook)?;
                Ok(())
            }
            Step::Cancel { points } => cancel(&options.cluster.connect()?.client, &mut notebook, &points),
            Step::Wait => wait(&options.cluster.connect()?.client, &mut notebook),
        }
    })
}

/// All repetitions at one point, summed up where they run: what travels back is five numbers.
fn measure((point, repetitions, seed): (Point, u32, u64)) -> Option<Summary> {
    Summary::of((0..repetitions).map(|repetition| mean_wait(point, seed, repetition.into())))
}

fn submit(client: &Client, notebook: &mut Notebook, points: &[Point], repetitions: u32, seed: u64) -> Result<(), Failure> {
    let inputs = points.iter().map(|point| (*point, repetitions, seed));
    // One point is work enough for one message.
    let job = client.load_balanced_view().label("sweep").chunk_size(1).map(measure, inputs);
    let entry = |(point, id): (&Point, engineroom::MessageId)| Entry { point: *point, id: id.to_string(), state: State::Pending };
    notebook.entries.extend(points.iter().zip(job.message_ids()).map(entry));
    notebook.save()?;
    client.close()?; // returns once the cluster has all of the job
    say!("{} points submitted", points.len())?;
    Ok(())
}

/// Writes down what has become of pending points; those that still are stay so.
fn resolve(client: &Client, notebook: &mut Notebook) -> Result<(), Failure> {
    for (place, id) in notebook.pending()? {
        if client.result_status(&[id])?.pending > 0 {
            continue;
        }
        for result in client.get_result::<Option<Summary>>([id])?.results()? {
            notebook.entries[place].state = match result {
                Ok(None) => State::Failed("there were no repetitions".into()),
                Ok(Some(summary)) => State::of(Ok(summary)),
                Err(error) => State::of(Err(error)),
            };
        }
    }
    notebook.save()
}

fn cancel(client: &Client, notebook: &mut Notebook, points: &[usize]) -> Result<(), Failure> {
    let mut ids = Vec::new();
    for number in points {
        let entry = notebook.entries.get(*number);
        let entry = entry.ok_or_else(|| Failure::Usage(format!("there is no point {number} in the notebook")))?;
        ids.push(notebook.id(entry)?);
    }
    let AbortCounts { queued, active, .. } = client.abort(ids.iter().copied())?;
    say!("cancelled {queued} points that waited and {active} that ran")?;
    client.wait(ids, SAVE_EVERY)?;
    resolve(client, notebook)?;
    show(notebook)
}

fn wait(client: &Client, notebook: &mut Notebook) -> Result<(), Failure> {
    loop {
        let pending = notebook.pending()?;
        if pending.is_empty() {
            break;
        }
        client.wait(pending.into_iter().map(|(_, id)| id), SAVE_EVERY)?;
        resolve(client, notebook)?;
    }
    show(notebook)?;
    let failed = notebook.entries.iter().filter(|entry| matches!(entry.state, State::Failed(_))).count();
    if failed > 0 { Err(Failure::Work(format!("{failed} points failed"))) } else { Ok(()) }
}

fn show(notebook: &Notebook) -> Result<(), Failure> {
    for (number, Entry { point, state, .. }) in notebook.entries.iter().enumerate() {
        match state {
            State::Pending => say!("{number:>4}  {point}: pending")?,
            State::Done(summary) => say!("{number:>4}  {point}: {summary}")?,
            State::Cancelled => say!("{number:>4}  {point}: cancelled")?,
            State::Failed(why) => say!("{number:>4}  {point}: failed: {why}")?,
        }
    }
    Ok(())
}
