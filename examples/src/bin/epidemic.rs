//! How large are epidemics on networks? Many repetitions of a simulation over a range of a parameter, on all engines.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use engineroom_examples::{
    ClusterOptions, Failure,
    epidemic::{EDGES_MAX, NODES_MAX, Sweep, csv, read_edge_list, simulate, table, write_plot},
    run, say,
};

/// Simulates SIR epidemics on networks over a range of the transmissibility T.
///
/// An infected node passes the infection along each edge once with probability T, and then recovers. Prints for each T the
/// mean size of the outbreaks that took off (that reached n^(2/3) of the n nodes), and draws the curve.
///
/// Examples:
///   epidemic                                       on random networks, on an embedded cluster
///   epidemic --nodes 100000 --repetitions 1000 --profile lab
///   epidemic --network facebook_combined.txt --csv facebook.csv
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Options {
    /// Nodes of each random network
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: u32,

    /// Neighbours that a node of a random network has on average
    #[arg(long, value_name = "K", default_value_t = 4.0)]
    mean_degree: f64,

    /// Use this network instead: an edge list, two node numbers a line, `#` for comments
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "mean_degree"])]
    network: Option<PathBuf>,

    /// How many values of T, evenly spaced
    #[arg(long, value_name = "P", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    points: u32,

    /// The smallest T [default: the largest divided by the number of points]
    #[arg(long, value_name = "T", value_parser = probability)]
    t_min: Option<f64>,

    /// The largest T
    #[arg(long, value_name = "T", default_value = "1", value_parser = probability)]
    t_max: f64,

    /// Epidemics at each T
    #[arg(long, value_name = "R", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// Where the random numbers start: one seed makes one curve, whatever the engines
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Draw the curve into this file
    #[arg(long, value_name = "FILE.svg", default_value = "epidemic.svg")]
    plot: PathBuf,

    /// Write the curve into this file, too
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterOptions,
}

fn main() -> ExitCode {
    engineroom::init();
    run(epidemic)
}

fn epidemic() -> Result<(), Failure> {
    let options = Options::parse();
    let (sweep, title) = options.sweep()?;
    let session = options.cluster.connect()?;

    say!("{title}\n{} values of T, {} epidemics at each, seed {}", options.points, options.repetitions, options.seed)?;
    let view = session.client.load_balanced_view().label("epidemic");
    let tallies = view.try_map(simulate, sweep.groups()).wait_interactive()?.get()?;

    let curve = sweep.curve(&tallies);
    say!("{}", table(&curve).trim_end())?;
    if let Some(file) = &options.csv {
        fs::write(file, csv(&curve)).map_err(Failure::write(file))?;
        say!("table written to {}", file.display())?;
    }
    let mean_degree = options.network.is_none().then_some(options.mean_degree);
    write_plot(&options.plot, &title, &curve, mean_degree).map_err(|error| Failure::Work(error.to_string()))?;
    say!("curve drawn in {}", options.plot.display())?;
    Ok(())
}

impl Options {
    /// What is to be simulated, and a title for it.
    fn sweep(&self) -> Result<(Sweep, String), Failure> {
        let values = self.transmissibilities()?;
        for file in self.csv.iter().chain([&self.plot]) {
            check_directory(file)?;
        }
        if let Some(file) = &self.network {
            let reader = BufReader::new(File::open(file).map_err(Failure::read(file))?);
            let network = read_edge_list(reader, &file.display().to_string()).map_err(|e| Failure::Usage(e.to_string()))?;
            let name = file.file_name().unwrap_or(file.as_os_str()).display();
            let title = format!("SIR epidemics on {name}: {} nodes, {} edges", network.nodes(), network.edges());
            return Ok((Sweep::on_network(&network, values, self.repetitions, self.seed), title));
        }
        let (nodes, mean_degree) = (self.nodes, self.mean_degree);
        // Half of what fits, because the number of edges scatters about its mean.
        let possible = f64::from(nodes - 1).min(EDGES_MAX as f64 / f64::from(nodes));
        if !(0.0..=possible).contains(&mean_degree) {
            return Err(Failure::Usage(format!(
                "--mean-degree {mean_degree} is not possible with {nodes} nodes: it must be between 0 and {possible}"
            )));
        }
        let title = format!("SIR epidemics on Erdős–Rényi networks: {nodes} nodes, mean degree ⟨k⟩ = {mean_degree}");
        Ok((Sweep::on_random_networks(nodes, mean_degree, values, self.repetitions, self.seed), title))
    }

    fn transmissibilities(&self) -> Result<Vec<f64>, Failure> {
        let (points, t_max) = (f64::from(self.points), self.t_max);
        let t_min = self.t_min.unwrap_or(t_max / points);
        if t_min > t_max {
            return Err(Failure::Usage(format!("--t-min {t_min} is above --t-max {t_max}")));
        }
        let step = (t_max - t_min) / (points - 1.0).max(1.0);
        // Rounded to nine digits, so that the third of twenty points is 0.15 and not 0.15000000000000002.
        let t = |point: u32| ((t_max - step * f64::from(self.points - point)) * 1e9).round() / 1e9;
        Ok((1..=self.points).map(t).collect())
    }
}

/// Refuses a file to write whose directory is not there: now, and not after a week of simulation.
fn check_directory(file: &Path) -> Result<(), Failure> {
    match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.is_dir() => {
            Err(Failure::Usage(format!("cannot write {}: there is no directory {}", file.display(), directory.display())))
        }
        _ => Ok(()),
    }
}

fn probability(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number from 0 to 1")?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("expected a number from 0 to 1".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    #[test]
    fn values_of_t_are_even_and_end_exactly_at_the_largest() -> Result<(), Failure> {
        for (line, values) in [
            ("epidemic --points 4", vec![0.25, 0.5, 0.75, 1.0]),
            ("epidemic --points 1", vec![1.0]),
            ("epidemic --points 3 --t-min 0", vec![0.0, 0.5, 1.0]),
            ("epidemic --points 3 --t-min 0.1 --t-max 0.3", vec![0.1, 0.2, 0.3]),
            ("epidemic --points 1 --t-min 0.1 --t-max 0.3", vec![0.3]),
        ] {
            assert_eq!(options(line).transmissibilities()?, values, "{line}");
        }
        let twenty = options("epidemic").transmissibilities()?;
        assert_eq!((twenty.len(), twenty[2], twenty[19]), (20, 0.15, 1.0));
        Ok(())
    }

    #[test]
    fn impossible_sweeps_are_wrong_usage() {
        for line in [
            "epidemic --t-min 0.5 --t-max 0.4",
            "epidemic --mean-degree NaN",
            "epidemic --nodes 3 --mean-degree 2.1",
            "epidemic --nodes 100000000 --mean-degree 1000",
            "epidemic --csv /nonexistent/curve.csv",
        ] {
            assert!(matches!(options(line).sweep(), Err(Failure::Usage(_))), "{line}");
        }
        for line in ["epidemic --t-max 1.1", "epidemic --t-min nan", "epidemic --repetitions 0", "epidemic --network a --nodes 3"]
        {
            assert!(Options::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
