//! Which cluster a program works on: one that is there, or an embedded one.

use std::{num::NonZeroUsize, path::PathBuf, thread, time::Duration};

use engineroom::{Client, Cluster, Profile};

/// How long `--engines N` waits for a remote cluster to have that many: long enough to start engines by hand.
const ENGINES_WAIT: Duration = Duration::from_secs(30);

/// The most engines that an embedded cluster is asked for. Each is a thread, and more of them than this is a slip of the
/// keyboard on any one machine.
const ENGINES_MAX: i64 = 1024;

/// The options that say which cluster to use. Flatten them into a program's own with `#[command(flatten)]`, last.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which cluster (none of the first three: one embedded in this program)")]
pub struct ClusterOptions {
    /// Use the cluster of this profile, as in `--profile lab`
    #[arg(long, value_name = "NAME", global = true)]
    pub profile: Option<String>,

    /// Use the cluster whose profile is this directory, as in `--profile-dir /shared/lab`
    #[arg(long, value_name = "DIR", global = true)]
    pub profile_dir: Option<PathBuf>,

    /// Use the cluster that this connection file lets you into, as in `--connection client.json`
    #[arg(long, value_name = "FILE", global = true, conflicts_with_all = ["profile", "profile_dir"])]
    pub connection: Option<PathBuf>,

    /// Engines of the embedded cluster [default: one a core]; with a cluster that is there, wait until it has this many
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u32).range(1..=ENGINES_MAX))]
    pub engines: Option<u32>,
}

/// A client and, unless the cluster is elsewhere, the cluster it works on.
pub struct Session {
    /// The client. It stands before the cluster, so that it is dropped first.
    pub client: Client,
    /// The embedded cluster, when no other was named.
    pub cluster: Option<Cluster>,
}

impl ClusterOptions {
    /// Whether a cluster outside this program was named.
    pub fn is_remote(&self) -> bool {
        self.profile.is_some() || self.profile_dir.is_some() || self.connection.is_some()
    }

    /// How many engines were asked for, or one a core.
    pub fn engines_or_cores(&self) -> usize {
        self.engines.map_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get), |n| n as usize)
    }

    /// The profile that was named, or the default one.
    ///
    /// # Errors
    /// When the name or the directory cannot be a profile's.
    pub fn resolve_profile(&self) -> engineroom::Result<Profile> {
        Ok(Profile::resolve(self.profile.as_deref(), self.profile_dir.as_deref())?)
    }

    /// Connects to the cluster that was named or, when none was, starts an embedded one and says so on standard error.
    ///
    /// # Errors
    /// When the cluster does not answer, refuses this program, or has fewer engines than asked for after 30 s.
    pub fn connect(&self) -> engineroom::Result<Session> {
        if !self.is_remote() {
            return embedded(self.engines_or_cores());
        }
        let client = match &self.connection {
            Some(file) => Client::connect(file.as_path())?,
            None => Client::connect(self.resolve_profile()?)?,
        };
        if let Some(engines) = self.engines {
            client.wait_for_engines(engines as usize, ENGINES_WAIT)?;
        }
        Ok(Session { client, cluster: None })
    }
}

fn embedded(engines: usize) -> engineroom::Result<Session> {
    let cluster = Cluster::local(engines)?;
    let plural = if engines == 1 { "" } else { "s" };
    eprintln!("no cluster given: started an embedded one with {engines} engine{plural} on this machine");
    Ok(Session { client: cluster.client()?, cluster: Some(cluster) })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        cluster: ClusterOptions,
    }

    fn parse(line: &str) -> Result<ClusterOptions, clap::Error> {
        Program::try_parse_from(line.split_whitespace()).map(|program| program.cluster)
    }

    #[test]
    fn any_of_the_first_three_names_a_cluster() {
        for (line, remote) in [
            ("pi", false),
            ("pi --engines 3", false),
            ("pi --profile lab", true),
            ("pi --profile-dir /shared/lab", true),
            ("pi --profile lab --profile-dir /shared", true),
            ("pi --connection client.json --engines 3", true),
        ] {
            assert_eq!(parse(line).map(|options| options.is_remote()).ok(), Some(remote), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["pi --engines 0", "pi --engines -1", "pi --engines many", "pi --connection a.json --profile lab"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
