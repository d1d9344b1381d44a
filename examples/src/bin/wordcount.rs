//! Words of many files: a lazy ordered map over tasks that mostly wait, and so over many more engines than cores.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Parser;
use engineroom_examples::{ClusterOptions, Failure, run, say};

/// Engines of an embedded cluster, unless told otherwise. A task that waits for a disk or a server needs no core.
const ENGINES: u32 = 32;

/// How many files are read ahead of the one whose words are printed.
const FILES_AHEAD: u64 = 1000;

/// Counts the words of all files below a directory, prints how many each has, in order, and the most frequent of all.
///
/// Examples:
///   wordcount docs                             on an embedded cluster of 32 engines
///   wordcount docs --latency-ms 50             as if each file came from a server that takes its time
///   wordcount /shared/texts --profile lab      on a cluster whose machines all see /shared
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// The directory
    directory: PathBuf,

    /// How many of the most frequent words are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    top: usize,

    /// How much longer each file takes to arrive, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// The words of a file, and how often each is there.
type Counts = BTreeMap<String, u64>;

fn main() -> ExitCode {
    engineroom::init();
    run(wordcount)
}

fn wordcount() -> Result<(), Failure> {
    let mut options = Options::parse();
    if !options.cluster.is_remote() {
        options.cluster.engines.get_or_insert(ENGINES);
    }
    // Engines have working directories of their own.
    let directory = options.directory.canonicalize().map_err(Failure::read(&options.directory))?;
    let session = options.cluster.connect()?;

    let latency_ms = options.latency_ms;
    let inputs = files(directory).map(move |path| (path, latency_ms));
    let view = session.client.load_balanced_view().label("wordcount").chunk_size(1).max_outstanding(FILES_AHEAD);
    let (mut all, mut unread) = (Counts::new(), 0);
    for counted in view.try_map_lazy(count, inputs) {
        match counted {
            Ok((path, counts)) => {
                say!("{:>9} {}", counts.values().sum::<u64>(), path.display())?;
                counts.into_iter().for_each(|(word, count)| *all.entry(word).or_default() += count);
            }
            Err(error) if error.task().is_some() => {
                eprintln!("{error}");
                unread += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }

    let mut words: Vec<(String, u64)> = all.into_iter().collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    say!("{:>9} words, {} different", words.iter().map(|(_, count)| count).sum::<u64>(), words.len())?;
    for (word, count) in words.iter().take(options.top) {
        say!("{count:>9} {word}")?;
    }
    if unread > 0 { Err(Failure::Work(format!("{unread} files could not be read"))) } else { Ok(()) }
}

/// Reads a file and counts its words: what runs on the engines.
fn count((path, latency_ms): (PathBuf, u64)) -> Result<(PathBuf, Counts), String> {
    thread::sleep(Duration::from_millis(latency_ms));
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut counts = Counts::new();
    for word in String::from_utf8_lossy(&bytes).split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    Ok((path, counts))
}

/// All files below a directory, in the order of their names, found as they are asked for.
fn files(directory: PathBuf) -> impl Iterator<Item = PathBuf> + Send {
    let mut open = vec![directory];
    std::iter::from_fn(move || {
        loop {
            let path = open.pop()?;
            if path.is_file() {
                return Some(path);
            }
            open.extend(entries(&path));
        }
    })
}

/// What a directory holds, the first name last. Links are not followed, so that no way leads in a circle.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> =
        found.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink())).map(|entry| entry.path()).collect();
    paths.sort_unstable_by(|a, b| b.cmp(a));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_order_and_words_are_counted() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("b")).unwrap();
        for (name, text) in [("c", "One two, two"), ("a", ""), ("b/y", "x"), ("b/x", "TWO")] {
            fs::write(place.path().join(name), text).unwrap();
        }
        let found: Vec<PathBuf> = files(place.path().into()).collect();
        assert_eq!(found, ["a", "b/x", "b/y", "c"].map(|name| place.path().join(name)));
        let (_, counts) = count((place.path().join("c"), 0)).unwrap();
        assert_eq!(counts, [("one".into(), 1), ("two".into(), 2)].into());
        assert!(count((place.path().join("d"), 0)).unwrap_err().contains("/d: "));
    }
}
