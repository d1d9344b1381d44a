//! `config.toml`: what a profile sets. Read once, into typed values; a mistake in it is named with its line.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::Deserialize;

use crate::engine::WorkerKind;
use crate::scheduler::Scheme;

/// The largest `config.toml` that is read, in bytes. A real one has a few hundred.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The most engines of one node. Each is a process or a thread; more than this is a mistake on any one machine.
const ENGINES_MAX: u32 = 1024;

/// The longest time that a node waits for its first connection, in seconds: a day.
const CONNECT_TIMEOUT_S_MAX: u64 = 24 * 60 * 60;

/// The longest name of a host, in characters (RFC 1035).
const HOST_CHARS_MAX: usize = 253;

/// The settings in a `config.toml`. Each is optional, and what is not a setting is an error.
///
/// ```toml
/// [controller]
/// listen = "0.0.0.0:7123"
/// advertise = "head.lab.example"
/// store = "sqlite"
/// scheme = "least-loaded"
///
/// [results]
/// keep_days = 30
/// keep_gib = 16
/// keep_unfetched_days = 7
///
/// [engine]
/// connection = "/srv/lab/engine.json"
/// engines = 8
/// worker = "process"
/// labels = { gpu = "a100", rack = "3" }
/// resources = { gpu = 1, memory_gb = 16 }
/// connect_timeout_s = 60
///
/// [log]
/// level = "info"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What controllers use.
    pub controller: ControllerSection,
    /// What a controller keeps of jobs that have ended.
    pub results: ResultsSection,
    /// What engine nodes use.
    pub engine: EngineSection,
    /// What both use.
    pub log: LogSection,
}

/// `[controller]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerSection {
    /// The address to listen on. Port 0: a free one.
    pub listen: Option<SocketAddr>,
    /// The host, or host and port, that connection files tell others to dial.
    pub advertise: Option<Host>,
    /// Where jobs and results are kept.
    pub store: Option<StoreKind>,
    /// Which engine gets a batch, of those that have room.
    pub scheme: Option<Scheme>,
}

/// `[results]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResultsSection {
    /// How long results and arguments are kept after the end of their tasks, in days.
    pub keep_days: Option<KeepDays>,
    /// How much is kept, in GiB; what was fetched longest ago goes first.
    pub keep_gib: Option<KeepGib>,
    /// How long results that nobody has fetched are kept even if there is too much, in days.
    pub keep_unfetched_days: Option<KeepDays>,
}

/// `[engine]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSection {
    /// The connection file that lets the node in.
    pub connection: Option<PathBuf>,
    /// How many engines a node has.
    pub engines: Option<EngineCount>,
    /// What engines run tasks in.
    pub worker: Option<WorkerKind>,
    /// Labels of the engines.
    pub labels: Option<BTreeMap<String, String>>,
    /// What each engine can give to its task, and how much.
    pub resources: Option<BTreeMap<String, u64>>,
    /// How long a node waits for its first connection, in seconds.
    #[serde(deserialize_with = "connect_timeout_s")]
    pub connect_timeout_s: Option<u64>,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or a list like `warn,engineroom=debug`.
    pub level: Option<String>,
}

/// Why a `config.toml` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file is there and could not be read.
    #[error("{} could not be read: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is longer than any configuration is.
    #[error("{} is longer than {FILE_BYTES_MAX} bytes: it cannot be a configuration", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// The file has something in it that is not a setting.
    #[error("{}:{line}: {message}, in {text:?}", file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// That line.
        text: String,
        /// What is wrong with it.
        message: String,
    },
}

impl Config {
    /// The settings in this file, or none when it does not exist.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or something in it is not a setting.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        match read_bounded(file) {
            Ok(text) if text.len() as u64 > FILE_BYTES_MAX => Err(ConfigError::TooLong { file: file.to_owned() }),
            Ok(text) => Self::parse(&text, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Unreadable { file: file.to_owned(), source }),
        }
    }

    /// The settings in this text, which stands in `file`.
    ///
    /// # Errors
    /// When something in it is not a setting; the error names the file, the line and the mistake.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = &text.as_bytes()[..at];
            let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
            let text = text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
            let message = error.message().trim_end().replace('\n', "; ");
            ConfigError::Wrong { file: file.to_owned(), line, text, message }
        })
    }
}

fn read_bounded(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn connect_timeout_s<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let seconds = u64::deserialize(deserializer)?;
    if !(1..=CONNECT_TIMEOUT_S_MAX).contains(&seconds) {
        return Err(serde::de::Error::custom(format!("{seconds} s is not between 1 and {CONNECT_TIMEOUT_S_MAX} s")));
    }
    Ok(Some(seconds))
}

/// How many engines a node has: from 1 to 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct EngineCount(u32);

impl EngineCount {
    /// The number.
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// One for each core of this machine.
    pub fn of_cores() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Self(u32::try_from(cores).map_or(ENGINES_MAX, |cores| cores.min(ENGINES_MAX)))
    }
}

impl TryFrom<i64> for EngineCount {
    type Error = String;

    fn try_from(count: i64) -> Result<Self, String> {
        match u32::try_from(count) {
            Ok(count) if (1..=ENGINES_MAX).contains(&count) => Ok(Self(count)),
            _ => Err(format!("{count} engines: a node has 1 to {ENGINES_MAX}")),
        }
    }
}

impl FromStr for EngineCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count: i64 = text.parse().map_err(|_| format!("{text:?} is not a number of engines"))?;
        Self::try_from(count)
    }
}

impl fmt::Display for EngineCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a controller keeps jobs and results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In a database in the profile's `state/`. What is acknowledged is on disk, and outlives the controller.
    #[default]
    Sqlite,
    /// In the controller's memory. Faster, and gone with the controller.
    Memory,
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sqlite" => Ok(Self::Sqlite),
            "memory" => Ok(Self::Memory),
            _ => Err(format!("{text:?} is not a store: sqlite or memory")),
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Memory => "memory",
        })
    }
}

macro_rules! bounded_number {
    ($(#[$doc:meta])* $name:ident, $max:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "u64")]
        pub struct $name(u64);

        impl $name {
            /// The most there can be.
            pub const MAX: u64 = $max;

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = String;

            fn try_from(number: u64) -> Result<Self, String> {
                match number {
                    1..=Self::MAX => Ok(Self(number)),
                    _ => Err(format!(concat!("{} ", $what, ": it takes 1 to {}"), number, Self::MAX)),
                }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let number: u64 = text.parse().map_err(|_| format!(concat!("{:?} is not a number of ", $what), text))?;
                Self::try_from(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded_number! {
    /// For how long something is kept: 1 to 36500 days.
    KeepDays, 36_500, "days"
}

bounded_number! {
    /// How much is kept: 1 to 65536 GiB.
    KeepGib, 65_536, "GiB"
}

/// A host that others can dial, with or without a port: `head.lab`, `10.0.0.1:7123`, `[::1]:7123`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(String);

impl Host {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address has its colons in brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text.as_str(), None),
        };
        let port_good = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if port_good && is_host(host) { Ok(Self(text)) } else { Err(format!("{text:?} is not HOST or HOST:PORT")) }
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    (1..=HOST_CHARS_MAX).contains(&host.len()) && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/p/config.toml"))
    }

    #[test]
    fn every_setting_is_read() {
        let config = parse(
            r#"
            [controller]
            listen = "0.0.0.0:7123"
            advertise = "head.lab:7000"
            store = "memory"
            [results]
            keep_days = 3
            keep_gib = 2
            keep_unfetched_days = 1
            [engine]
            connection = "/srv/engine.json"
            engines = 8
            worker = "thread"
            labels = { gpu = "a100", rack = "3" }
            resources = { memory_gb = 16 }
            connect_timeout_s = 60
            [log]
            level = "info"
            "#,
        )
        .unwrap();
        assert_eq!(config.controller.listen, Some("0.0.0.0:7123".parse().unwrap()));
        assert_eq!(config.controller.advertise.as_ref().map(Host::as_str), Some("head.lab:7000"));
        assert_eq!(config.controller.store, Some(StoreKind::Memory));
        let ResultsSection { keep_days, keep_gib, keep_unfetched_days } = config.results;
        assert_eq!([keep_days, keep_unfetched_days].map(|days| days.map(KeepDays::get)), [Some(3), Some(1)]);
        assert_eq!(keep_gib.map(KeepGib::get), Some(2));
        assert_eq!(config.engine.connection, Some("/srv/engine.json".into()));
        assert_eq!(config.engine.engines.map(EngineCount::get), Some(8));
        assert_eq!(config.engine.worker, Some(WorkerKind::Thread));
        assert_eq!(config.engine.labels.unwrap()["gpu"], "a100");
        assert_eq!(config.engine.resources.unwrap()["memory_gb"], 16);
        assert_eq!(config.engine.connect_timeout_s, Some(60));
        assert_eq!(config.log.level.as_deref(), Some("info"));
    }

    #[test]
    fn nothing_is_a_configuration_too() {
        for text in ["", "# only a comment\n", "[controller]\n[engine]\n[log]\n"] {
            assert_eq!(parse(text).unwrap(), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_file_line_and_key() {
        for (text, line, said) in [
            ("[controler]\n", 1, "controler"),
            ("[controller]\nlisten = \"127.0.0.1:1\"\nlisn = \"x\"\n", 3, "unknown field `lisn`"),
            ("[controller]\n\nlisten = \"nowhere\"\n", 3, "listen = "),
            ("[controller]\nadvertise = \"http://x\"\n", 2, "is not HOST or HOST:PORT"),
            ("[controller]\nstore = \"paper\"\n", 2, "unknown variant `paper`"),
            ("[results]\nkeep_days = 0\n", 2, "0 days: it takes 1 to 36500"),
            ("[results]\nkeep_gib = 1.5\n", 2, "expected u64"),
            ("[engine]\nengines = 0\n", 2, "0 engines: a node has 1 to 1024"),
            ("[engine]\nengines = -2\n", 2, "-2 engines"),
            ("[engine]\nengines = \"four\"\n", 2, "expected i64"),
            ("[engine]\nworker = \"fibre\"\n", 2, "worker = \\\"fibre\\\""),
            ("[engine]\nlabels = [\"a=b\"]\n", 2, "labels"),
            ("[engine]\nresources = { gpu = -1 }\n", 2, "resources"),
            ("[engine]\n\n\nconnect_timeout_s = 0\n", 4, "0 s is not between 1 and 86400 s"),
            ("[engine\n", 1, "[engine"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("/p/config.toml:{line}: ")), "{text:?}: {error}");
            assert!(error.contains(said), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{text:?}: {error}");
        }
    }

    #[test]
    fn hosts_are_told_from_what_cannot_be_dialled() {
        for good in ["head", "head.lab.example", "head:7123", "10.0.0.1", "10.0.0.1:1", "[::1]", "[fe80::1]:7123"] {
            assert_eq!(good.parse::<Host>().map(|host| host.to_string()).as_deref(), Ok(good));
        }
        let long = "h".repeat(HOST_CHARS_MAX + 1);
        for bad in ["", ":", ":1", "head:", "head:0", "head:65536", "head:x", "a b", "a/b", "::1", "[::1", "[x]:1", "ä", &long] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_is_too_long_or_no_file_at_all() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("config.toml");
        assert_eq!(Config::load(&file).unwrap(), Config::default());
        assert!(matches!(Config::load(place.path()), Err(ConfigError::Unreadable { .. })));
        std::fs::write(&file, "#".repeat(FILE_BYTES_MAX as usize)).unwrap();
        assert_eq!(Config::load(&file).unwrap(), Config::default());
        std::fs::write(&file, "#".repeat(FILE_BYTES_MAX as usize + 1)).unwrap();
        assert!(matches!(Config::load(&file), Err(ConfigError::TooLong { .. })));
    }
}
