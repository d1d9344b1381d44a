//! What is in force: the flag, else the environment, else `config.toml`, else the default, and which of them it was.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{ArgMatches, parser::ValueSource};
use engineroom::{
    Profile, Retention, Scheme, WorkerKind,
    profile::{Config, EngineCount, Host, KeepDays, KeepGib, StoreKind},
};

use crate::{
    args::{ConnectionArgs, ControllerArgs, EngineArgs, Label, LogArgs, Resource},
    failure::Failure,
};

/// Where a controller listens unless told otherwise: this machine only.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7123);

/// How long an engine node tries for its first connection.
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// What is logged: what a user should act upon.
const LOG_DEFAULT: &str = "warn";

/// The most labels of a node, and the most resources. Each travels with every engine's registration.
const LABELS_MAX: usize = 32;

/// How long a day is.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn in_days(time: Duration) -> u64 {
    time.as_secs() / DAY.as_secs()
}

/// A value and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// The value in force.
    pub(crate) value: T,
    /// Where it is from.
    pub(crate) source: Source,
}

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This file.
    File(PathBuf),
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("command line"),
            Source::Environment(name) => write!(f, "environment, {name}"),
            Source::File(file) => write!(f, "{}", file.display()),
            Source::Default => f.write_str("default"),
        }
    }
}

/// A controller's settings.
#[derive(Clone, Debug)]
pub(crate) struct ControllerSettings {
    /// The address to listen on.
    pub(crate) listen: Setting<SocketAddr>,
    /// What connection files say; the address it listens on when `None`.
    pub(crate) advertise: Setting<Option<Host>>,
    /// Where jobs and results are kept.
    pub(crate) store: Setting<StoreKind>,
    /// Which engine gets a batch, of those that have room.
    pub(crate) scheme: Setting<Scheme>,
    /// How long results and arguments are kept, in days.
    pub(crate) keep_days: Setting<u64>,
    /// How much is kept, in GiB.
    pub(crate) keep_gib: Setting<u64>,
    /// How long what nobody has fetched is kept in any case, in days.
    pub(crate) keep_unfetched_days: Setting<u64>,
}

/// An engine node's settings.
#[derive(Clone, Debug)]
pub(crate) struct EngineSettings {
    /// How many engines.
    pub(crate) engines: Setting<EngineCount>,
    /// What they run tasks in.
    pub(crate) worker: Setting<WorkerKind>,
    /// Their labels.
    pub(crate) labels: Setting<BTreeMap<String, String>>,
    /// Their resources.
    pub(crate) resources: Setting<BTreeMap<String, u64>>,
    /// How long to try for the first connection.
    pub(crate) connect_timeout: Setting<Duration>,
}

/// Resolves settings against one command line and one profile.
pub(crate) struct Settings<'a> {
    matches: &'a ArgMatches,
    profile: &'a Profile,
    config: Config,
}

impl<'a> Settings<'a> {
    /// Reads the profile's `config.toml`.
    pub(crate) fn read(matches: &'a ArgMatches, profile: &'a Profile) -> Result<Self, Failure> {
        let config = profile.config().map_err(Failure::usage)?;
        Ok(Self { matches, profile, config })
    }

    /// A controller's settings.
    pub(crate) fn controller(&self, args: &ControllerArgs) -> ControllerSettings {
        let (file, results) = (&self.config.controller, &self.config.results);
        let days = |given: Option<KeepDays>| given.map(KeepDays::get);
        let gib = |given: Option<KeepGib>| given.map(KeepGib::get);
        let kept = Retention::default();
        ControllerSettings {
            listen: self.pick("listen", args.listen, file.listen, || LISTEN_DEFAULT),
            advertise: self.pick("advertise", args.advertise.clone().map(Some), file.advertise.clone().map(Some), || None),
            store: self.pick("store", args.store, file.store, StoreKind::default),
            scheme: self.pick("scheme", args.scheme, file.scheme, Scheme::default),
            keep_days: self.pick("keep_days", days(args.keep_days), days(results.keep_days), || in_days(kept.age)),
            keep_gib: self.pick("keep_gib", gib(args.keep_gib), gib(results.keep_gib), || kept.bytes >> 30),
            keep_unfetched_days: self.pick(
                "keep_unfetched_days",
                days(args.keep_unfetched_days),
                days(results.keep_unfetched_days),
                || in_days(kept.unfetched),
            ),
        }
    }

    /// An engine node's settings.
    pub(crate) fn engine(&self, args: &EngineArgs) -> Result<EngineSettings, Failure> {
        let file = &self.config.engine;
        let file_timeout = file.connect_timeout_s.map(Duration::from_secs);
        Ok(EngineSettings {
            engines: self.pick("engines", args.engines, file.engines, EngineCount::of_cores),
            worker: self.pick("worker_kind", args.worker_kind, file.worker, WorkerKind::default),
            labels: self.labels(args)?,
            resources: self.resources(args)?,
            connect_timeout: self
                .pick("connect_timeout", args.connect_timeout.map(Duration::from_secs), file_timeout, || CONNECT_TIMEOUT_DEFAULT),
        })
    }

    /// The connection file of an engine node. In `config.toml` its path is relative to the profile.
    pub(crate) fn connection(&self, args: &ConnectionArgs) -> Setting<PathBuf> {
        let file = self.config.engine.connection.as_ref().map(|path| self.profile.dir().join(path));
        self.pick("connection", args.connection.clone(), file, || self.profile.engine_connection_file())
    }

    /// What is logged.
    pub(crate) fn log(&self, args: &LogArgs) -> Result<Setting<String>, Failure> {
        let level = self.pick("log", args.log.clone(), self.config.log.level.clone(), || LOG_DEFAULT.to_owned());
        match crate::log::check_level(&level.value) {
            Ok(()) => Ok(level),
            Err(wrong) => Err(Failure::usage(format!("{wrong} (from {})", level.source))),
        }
    }

    fn labels(&self, args: &EngineArgs) -> Result<Setting<BTreeMap<String, String>>, Failure> {
        let given = (!args.labels.is_empty()).then(|| args.labels.clone());
        let file = self.config.engine.labels.as_ref();
        let file = file.map(|labels| labels.iter().map(|(key, value)| Label::new(key, value)).collect());
        let labels = self.pick("labels", given, self.checked(file)?, Vec::new);
        named("label", labels, |Label { key, value }| (key, value))
    }

    fn resources(&self, args: &EngineArgs) -> Result<Setting<BTreeMap<String, u64>>, Failure> {
        let given = (!args.resources.is_empty()).then(|| args.resources.clone());
        let file = self.config.engine.resources.as_ref();
        let file = file.map(|resources| resources.iter().map(|(name, amount)| Resource::new(name, *amount)).collect());
        let resources = self.pick("resources", given, self.checked(file)?, Vec::new);
        named("resource", resources, |Resource { name, amount }| (name, amount))
    }

    /// What stands in the file; an error names it.
    fn checked<T>(&self, read: Option<Result<T, String>>) -> Result<Option<T>, Failure> {
        read.transpose().map_err(|wrong| Failure::usage(format!("{}: {wrong}", self.profile.config_file().display())))
    }

    /// The first of these that is there. `given` comes from the flag or the environment, as the option `id` knows.
    fn pick<T>(&self, id: &str, given: Option<T>, file: Option<T>, default: impl FnOnce() -> T) -> Setting<T> {
        if let Some(value) = given {
            let source = match self.matches.value_source(id) {
                Some(ValueSource::EnvVariable) => Source::Environment(format!("ENGINEROOM_{}", id.to_uppercase())),
                _ => Source::Flag,
            };
            return Setting { value, source };
        }
        match file {
            Some(value) => Setting { value, source: Source::File(self.profile.config_file()) },
            None => Setting { value: default(), source: Source::Default },
        }
    }
}

/// Labels or resources by their names, of which there is one each.
fn named<T, V: fmt::Debug + Clone>(
    what: &str,
    Setting { value: all, source }: Setting<Vec<T>>,
    pair: impl Fn(T) -> (String, V),
) -> Result<Setting<BTreeMap<String, V>>, Failure> {
    if all.len() > LABELS_MAX {
        return Err(Failure::usage(format!("{} {what}s are too many: at most {LABELS_MAX} (from {source})", all.len())));
    }
    let mut value = BTreeMap::new();
    for (name, one) in all.into_iter().map(pair) {
        if let Some(other) = value.insert(name.clone(), one.clone()) {
            return Err(Failure::usage(format!("{what} {name} is given twice, as {other:?} and {one:?} (from {source})")));
        }
    }
    Ok(Setting { value, source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::{Args, Command, FromArgMatches};

    use super::*;

    /// Runs `check` on the settings that this `config.toml` and command line make. `tests/config.rs` has the environment.
    fn with<R>(toml: &str, line: &str, check: impl FnOnce(&Settings<'_>, &ArgMatches) -> R) -> R {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::in_dir(place.path());
        fs::write(profile.config_file(), toml).unwrap();
        let command = EngineArgs::augment_args(ControllerArgs::augment_args(Command::new("x")));
        let command = LogArgs::augment_args(ConnectionArgs::augment_args(command)).mut_args(|arg| arg.env(None));
        let matches = command.get_matches_from(line.split_whitespace());
        check(&Settings::read(&matches, &profile).unwrap(), &matches)
    }

    fn engine(settings: &Settings<'_>, matches: &ArgMatches) -> Result<EngineSettings, Failure> {
        settings.engine(&EngineArgs::from_arg_matches(matches).unwrap())
    }

    #[test]
    fn flags_beat_the_file_and_the_file_beats_defaults() {
        let toml =
            "[engine]\nengines = 5\nlabels = { a = \"file\" }\n[controller]\nlisten = \"127.0.0.1:5\"\nscheme = \"two-bin\"\n";
        for (toml, line, engines, listen, label, scheme, source) in [
            ("", "x", EngineCount::of_cores().get(), LISTEN_DEFAULT.port(), None, Scheme::LeastLoaded, "default"),
            (toml, "x", 5, 5, Some("file"), Scheme::TwoBin, "config.toml"),
            (toml, "x -n 6 --listen 127.0.0.1:6 --label a=flag --scheme lru", 6, 6, Some("flag"), Scheme::Lru, "command line"),
        ] {
            with(toml, line, |settings, matches| {
                let controller = settings.controller(&ControllerArgs::from_arg_matches(matches).unwrap());
                let engine = engine(settings, matches).unwrap();
                assert_eq!(engine.engines.value.get(), engines, "{line}");
                assert_eq!((controller.listen.value.port(), controller.scheme.value), (listen, scheme), "{line}");
                assert_eq!(engine.labels.value.get("a").map(String::as_str), label, "{line}");
                for found in [&engine.engines.source, &controller.listen.source, &controller.scheme.source, &engine.labels.source]
                {
                    assert!(found.to_string().ends_with(source), "{line}: {found}");
                }
            });
        }
    }

    #[test]
    fn labels_and_resources_that_cannot_be_are_refused_with_their_source() {
        let many = (0..=LABELS_MAX).map(|i| format!(" --label l{i}=x")).collect::<String>();
        for (toml, line, said) in [
            ("", "x --label a=1 --label a=2", "label a is given twice"),
            ("", "x --resource a=1 --resource a=2", "resource a is given twice, as 1 and 2 (from command line)"),
            ("[engine]\nresources = { \"a b\" = 1 }\n", "x", "config.toml: \"a b\" is not the name of a resource"),
            ("[engine]\nlabels = { \"a b\" = \"1\" }\n", "x", "config.toml: \"a b\"=\"1\" is not a label"),
            ("[engine]\nlabels = { a = \"1,2\" }\n", "x", "without commas"),
            ("", &format!("x{many}"), "33 labels are too many: at most 32 (from command line)"),
        ] {
            let error = with(toml, line, |settings, matches| engine(settings, matches).expect_err(said));
            assert!(error.message.contains(said), "{error}");
            assert_eq!(error.exit, crate::failure::Exit::Usage);
        }
    }

    #[test]
    fn a_connection_file_in_the_configuration_is_relative_to_the_profile() {
        let toml = "[engine]\nconnection = \"far.json\"\n";
        for (toml, line, end) in
            [("", "x", "security/engine.json"), (toml, "x", "far.json"), (toml, "x --connection near.json", "near.json")]
        {
            with(toml, line, |settings, matches| {
                let found = settings.connection(&ConnectionArgs::from_arg_matches(matches).unwrap()).value;
                assert!(found.ends_with(end), "{line}: {}", found.display());
                assert_eq!(found.is_absolute(), !line.contains("--connection"), "{line}");
            });
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused_with_its_source() {
        with("[log]\nlevel = \"wran\"\n", "x", |settings, matches| {
            let error = settings.log(&LogArgs::from_arg_matches(matches).unwrap()).expect_err("no such level");
            assert!(error.message.contains("wran") && error.message.contains("config.toml"), "{error}");
        });
    }
}
