//! The options that both programs have.
//!
//! By convention the environment variable of the option with id `x_y` is `ENGINEROOM_X_Y`; [`crate::settings`] relies on it.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{ArgMatches, Args, parser::ValueSource};
use engineroom::{
    Profile, Scheme, WorkerKind,
    profile::{EngineCount, Host, KeepDays, KeepGib, StoreKind},
};

use crate::failure::Failure;

/// The longest key of a label, in bytes.
const LABEL_KEY_BYTES_MAX: usize = 63;

/// The longest value of a label, in bytes.
const LABEL_VALUE_BYTES_MAX: usize = 255;

/// The longest `--connect-timeout`, in seconds: a day.
const CONNECT_TIMEOUT_S_MAX: u64 = 24 * 60 * 60;

/// Which profile.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which profile")]
pub(crate) struct ProfileArgs {
    /// The profile of this name, ~/.engineroom/profiles/NAME [default: default]
    #[arg(long, value_name = "NAME", env = "ENGINEROOM_PROFILE", hide_env_values = true)]
    pub(crate) profile: Option<String>,

    /// The profile that is this very directory
    #[arg(long, value_name = "DIR", env = "ENGINEROOM_PROFILE_DIR", hide_env_values = true)]
    pub(crate) profile_dir: Option<PathBuf>,
}

impl ProfileArgs {
    /// The profile that was picked. A name on the command line is not overruled by a directory in the environment.
    pub(crate) fn resolve(&self, matches: &ArgMatches) -> Result<Profile, Failure> {
        let given = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        let dir = self.profile_dir.as_deref().filter(|_| given("profile_dir") || !given("profile"));
        Profile::resolve(self.profile.as_deref(), dir).map_err(Failure::usage)
    }
}

/// What only controllers have.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Controller")]
pub(crate) struct ControllerArgs {
    /// Listen on this address; port 0 takes a free one and keeps it from then on [default: 127.0.0.1:7123]
    #[arg(long, value_name = "ADDR:PORT", env = "ENGINEROOM_LISTEN", hide_env_values = true)]
    pub(crate) listen: Option<SocketAddr>,

    /// What connection files tell other machines to dial [default: the address it listens on]
    #[arg(long, value_name = "HOST[:PORT]", env = "ENGINEROOM_ADVERTISE", hide_env_values = true)]
    pub(crate) advertise: Option<Host>,

    /// Where jobs and results are kept [default: sqlite]
    ///
    /// `sqlite` keeps them in the profile's state/: what is acknowledged is on disk, and outlives the controller.
    /// `memory` is faster, and gone with the controller.
    #[arg(verbatim_doc_comment, long, value_name = "sqlite|memory", env = "ENGINEROOM_STORE", hide_env_values = true)]
    pub(crate) store: Option<StoreKind>,

    /// Which engine gets a batch of tasks when several have room [default: least-loaded]
    ///
    /// `least-loaded`  one that runs nothing, the one that worked last first
    /// `lru`           the one that has been idle for longest
    /// `random`        each with the same probability, whether it runs something or not
    /// `two-bin`       the less loaded of two that are drawn
    /// `weighted`      as two-bin, and those with less to do are drawn more often
    #[arg(
        verbatim_doc_comment,
        long,
        value_name = "least-loaded|lru|random|two-bin|weighted",
        env = "ENGINEROOM_SCHEME",
        hide_env_values = true
    )]
    pub(crate) scheme: Option<Scheme>,

    /// Keep results and arguments for so many days after the end of their tasks [default: 30]
    #[arg(long, value_name = "DAYS", env = "ENGINEROOM_KEEP_DAYS", hide_env_values = true)]
    pub(crate) keep_days: Option<KeepDays>,

    /// Keep no more than this; what was fetched longest ago goes first [default: 16]
    #[arg(long, value_name = "GIB", env = "ENGINEROOM_KEEP_GIB", hide_env_values = true)]
    pub(crate) keep_gib: Option<KeepGib>,

    /// Keep results that nobody has fetched for so many days even if there is too much [default: 7]
    #[arg(long, value_name = "DAYS", env = "ENGINEROOM_KEEP_UNFETCHED_DAYS", hide_env_values = true)]
    pub(crate) keep_unfetched_days: Option<KeepDays>,
}

/// What only engine nodes have.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine node")]
pub(crate) struct EngineArgs {
    /// How many engines: tasks that this node runs at once [default: one a core]
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        env = "ENGINEROOM_ENGINES",
        hide_env_values = true,
        allow_negative_numbers = true
    )]
    pub(crate) engines: Option<EngineCount>,

    /// What engines run tasks in [default: process]
    ///
    /// `process` starts the program that submitted the task, as a worker, and so runs what this node has never seen.
    /// `thread` runs tasks in the node's own process, which has only the functions that were compiled into it.
    #[arg(
        verbatim_doc_comment,
        id = "worker_kind",
        long = "worker",
        value_name = "process|thread",
        env = "ENGINEROOM_WORKER_KIND",
        hide_env_values = true
    )]
    pub(crate) worker_kind: Option<WorkerKind>,

    /// A label of the engines, as in --label gpu=a100; repeat it for more
    #[arg(
        id = "labels",
        long = "label",
        value_name = "KEY=VALUE",
        env = "ENGINEROOM_LABELS",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) labels: Vec<Label>,

    /// What each engine can give to its task, as in --resource memory_gb=16; repeat it for more
    #[arg(
        id = "resources",
        long = "resource",
        value_name = "NAME=AMOUNT",
        env = "ENGINEROOM_RESOURCES",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) resources: Vec<Resource>,

    /// How long to try for the first connection [default: 30]
    #[arg(
        long,
        value_name = "SECONDS",
        env = "ENGINEROOM_CONNECT_TIMEOUT", hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..=CONNECT_TIMEOUT_S_MAX)
    )]
    pub(crate) connect_timeout: Option<u64>,
}

/// How an engine node finds its controller.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine node")]
pub(crate) struct ConnectionArgs {
    /// The connection file that lets it in [default: security/engine.json of the profile]
    #[arg(long, value_name = "FILE", env = "ENGINEROOM_CONNECTION", hide_env_values = true)]
    pub(crate) connection: Option<PathBuf>,
}

/// What is logged.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct LogArgs {
    /// off, error, warn, info, debug, trace, or a list like warn,engineroom=debug [default: warn]
    #[arg(id = "log", long = "log-level", value_name = "LEVEL", env = "ENGINEROOM_LOG", hide_env_values = true)]
    pub(crate) log: Option<String>,
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// What stands before the sign of equality.
    pub(crate) key: String,
    /// What stands after it.
    pub(crate) value: String,
}

impl Label {
    /// A label, if these can be one.
    pub(crate) fn new(key: &str, value: &str) -> Result<Self, String> {
        // A comma stands between the labels of a list.
        let value_good = value.len() <= LABEL_VALUE_BYTES_MAX && !value.contains(|c: char| c.is_control() || c == ',');
        if is_key(key) && value_good {
            return Ok(Self { key: key.to_owned(), value: value.to_owned() });
        }
        Err(format!(
            "{key:?}={value:?} is not a label: a key has 1 to {LABEL_KEY_BYTES_MAX} letters, digits and -_./, a value at most \
             {LABEL_VALUE_BYTES_MAX} bytes of text without commas"
        ))
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        Self::new(key.trim(), value.trim())
    }
}

/// `NAME=AMOUNT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    /// What it is.
    pub(crate) name: String,
    /// How much there is of it, in whatever unit the name says.
    pub(crate) amount: u64,
}

impl Resource {
    /// A resource, if it can have that name.
    pub(crate) fn new(name: &str, amount: u64) -> Result<Self, String> {
        if is_key(name) {
            return Ok(Self { name: name.to_owned(), amount });
        }
        Err(format!("{name:?} is not the name of a resource: it has 1 to {LABEL_KEY_BYTES_MAX} letters, digits and -_./"))
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(name, amount)| Some((name.trim(), amount.trim().parse().ok()?)));
        let (name, amount) = parsed.ok_or_else(|| format!("{text:?} is not NAME=AMOUNT, with a whole number as amount"))?;
        Self::new(name, amount)
    }
}

/// Whether labels and resources can have this name.
fn is_key(key: &str) -> bool {
    (1..=LABEL_KEY_BYTES_MAX).contains(&key.len())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct All {
        #[command(flatten)]
        profile: ProfileArgs,
        #[command(flatten)]
        controller: ControllerArgs,
        #[command(flatten)]
        engine: EngineArgs,
        #[command(flatten)]
        connection: ConnectionArgs,
        #[command(flatten)]
        log: LogArgs,
    }

    fn parse(line: &str) -> Result<(All, ArgMatches), clap::Error> {
        let matches = All::command().mut_args(|arg| arg.env(None)).try_get_matches_from(line.split_whitespace())?;
        Ok((All::from_arg_matches(&matches)?, matches))
    }

    #[test]
    fn every_option_has_the_variable_of_its_id() {
        let command = All::command();
        let options: Vec<_> = command.get_arguments().filter(|arg| arg.get_id() != "help").collect();
        assert_eq!(options.len(), 16);
        for arg in options {
            let expected = format!("ENGINEROOM_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(expected.as_str()), "{}", arg.get_id());
        }
        command.debug_assert();
    }

    #[test]
    fn good_options_are_understood() {
        let line = "x --listen 0.0.0.0:1 --advertise head --store memory --scheme weighted --keep-days 9 -n 3 --worker thread --label gpu=a100 --label site=a=b --resource memory_gb=16 --connect-timeout 5";
        let (all, _) = parse(line).unwrap();
        assert_eq!(all.controller.listen, Some("0.0.0.0:1".parse().unwrap()));
        assert_eq!(all.controller.advertise.unwrap().as_str(), "head");
        assert_eq!(all.controller.store, Some(StoreKind::Memory));
        assert_eq!(all.controller.scheme, Some(Scheme::Weighted));
        assert_eq!(all.controller.keep_days.map(KeepDays::get), Some(9));
        assert_eq!(all.engine.engines.map(EngineCount::get), Some(3));
        assert_eq!(all.engine.worker_kind, Some(WorkerKind::Thread));
        assert_eq!(all.engine.labels, [Label::new("gpu", "a100").unwrap(), Label::new("site", "a=b").unwrap()]);
        assert_eq!(all.engine.resources, [Resource::new("memory_gb", 16).unwrap()]);
        assert_eq!(all.engine.connect_timeout, Some(5));
    }

    #[test]
    fn bad_options_are_refused_with_a_reason() {
        for (line, said) in [
            ("x --listen here", "invalid socket address"),
            ("x --listen 127.0.0.1", "invalid socket address"),
            ("x --advertise http://head", "is not HOST or HOST:PORT"),
            ("x --store paper", "sqlite or memory"),
            ("x --scheme fair", "least-loaded, lru, random, two-bin, weighted"),
            ("x --keep-days 0", "0 days: it takes 1 to 36500"),
            ("x --keep-gib much", "is not a number of GiB"),
            ("x -n 0", "a node has 1 to 1024"),
            ("x -n -1", "a node has 1 to 1024"),
            ("x --engines many", "is not a number of engines"),
            ("x --worker fibre", "process or thread"),
            ("x --label gpu", "is not KEY=VALUE"),
            ("x --label =a100", "is not a label"),
            ("x --connect-timeout 0", "1..=86400"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn the_profile_is_the_one_that_was_named() {
        for (line, name, dir_end) in [
            ("x", "default", "profiles/default"),
            ("x --profile lab", "lab", "profiles/lab"),
            ("x --profile-dir /srv/lab", "lab", "/srv/lab"),
            ("x --profile lab --profile-dir /srv/x", "lab", "/srv/x"),
        ] {
            let (all, matches) = parse(line).unwrap();
            let profile = all.profile.resolve(&matches).unwrap();
            assert!(profile.name() == name && profile.dir().ends_with(dir_end.trim_start_matches('/')), "{line}: {profile:?}");
        }
        let (all, matches) = parse("x --profile ../up").unwrap();
        assert!(all.profile.resolve(&matches).is_err());
    }

    #[test]
    fn a_name_on_the_command_line_beats_a_directory_from_the_environment() {
        let (mut all, matches) = parse("x --profile lab").unwrap();
        all.profile.profile_dir = Some("/from/the/environment".into());
        assert_eq!(all.profile.resolve(&matches).unwrap(), Profile::named("lab").unwrap());
    }
}
