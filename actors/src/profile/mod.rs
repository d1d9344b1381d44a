//! Profiles: the directory that holds one cluster's configuration, security material, state and logs.

mod config;

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{self, Path, PathBuf},
};

pub use config::{
    Config, ConfigError, ControllerSection, EngineCount, EngineSection, Host, KeepDays, KeepGib, LogSection, ResultsSection,
    StoreKind,
};

/// The name of the profile that is used when none is named.
const DEFAULT_NAME: &str = "default";

/// The longest name of a profile, in characters: it becomes the cluster's name, which certificates carry as a part of a DNS
/// name, and no such part is longer (RFC 1035).
const NAME_CHARS_MAX: usize = 63;

/// The mode of every directory that a profile makes: its owner's alone, since keys and logs lie in it.
const PRIVATE_MODE: u32 = 0o700;

/// One cluster's directory, and the name it goes by.
///
/// ```text
/// ~/.engineroom/profiles/<name>/
///   config.toml                    settings, all optional
///   security/                      authority, keys, connection files
///   state/ log/ run/
/// ```
///
/// A profile is only a place: making one neither reads nor writes anything.
///
/// ```
/// # use engineroom::{Profile, ProfileError};
/// let profile = Profile::in_dir("/srv/cluster");
/// assert_eq!(profile.name(), "cluster");
/// assert_eq!(profile.client_connection_file().to_str(), Some("/srv/cluster/security/client.json"));
/// assert!(Profile::named("no/slashes").is_err());
/// # Ok::<(), ProfileError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    name: String,
    dir: PathBuf,
}

/// Why a profile cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The name cannot be a profile's.
    #[error(
        "{name:?} cannot be a profile's name: use 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' and '.', begin with a letter or \
         a digit, and end no part between dots with '-'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// One of its directories could not be made, or made private.
    #[error("the profile's directory {} could not be made: {source}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its `config.toml` is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Default for Profile {
    /// The profile named `default`. The variables `ENGINEROOM_PROFILE` and `ENGINEROOM_PROFILE_DIR` choose another one for `node` and
    /// `engineroom` only; a program that is to heed them hands them to [`Profile::resolve`].
    fn default() -> Self {
        Self::at_home(DEFAULT_NAME)
    }
}

impl Profile {
    /// The profile of this name: `~/.engineroom/profiles/<name>`, where the variable `ENGINEROOM_HOME`, if set, takes the
    /// place of `~/.engineroom`.
    ///
    /// # Errors
    /// When the name is empty, too long, or has characters that a profile's name has not.
    pub fn named(name: &str) -> Result<Self, ProfileError> {
        check_name(name)?;
        Ok(Self::at_home(name))
    }

    /// The profile that lies in this very directory. It is named after the directory.
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        let dir = absolute(dir.into());
        Self { name: name_of(&dir), dir }
    }

    /// The profile that options like `--profile NAME` and `--profile-dir DIR` pick: the directory says where it is, the name
    /// what it is called; without a directory the name says both, and without either it is the default profile.
    ///
    /// # Errors
    /// When the name cannot be a profile's.
    pub fn resolve(name: Option<&str>, dir: Option<&Path>) -> Result<Self, ProfileError> {
        match (name, dir) {
            (None, None) => Ok(Self::default()),
            (Some(name), None) => Self::named(name),
            (None, Some(dir)) => Ok(Self::in_dir(dir)),
            (Some(name), Some(dir)) => {
                check_name(name)?;
                Ok(Self { name: name.to_owned(), ..Self::in_dir(dir) })
            }
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is. Absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `config.toml`, which need not exist.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Where the authority, the keys and the connection files are.
    pub fn security_dir(&self) -> PathBuf {
        self.dir.join("security")
    }

    /// The file that lets clients in, once a controller has been started.
    pub fn client_connection_file(&self) -> PathBuf {
        self.security_dir().join("client.json")
    }

    /// The file that lets engine nodes in, once a controller has been started.
    pub fn engine_connection_file(&self) -> PathBuf {
        self.security_dir().join("engine.json")
    }

    /// What must outlive a process: caches, and what a controller remembers.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where background processes log to.
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// One file for each process that runs. Empty when nothing does.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The settings in `config.toml`; none when there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, or something in it is not a setting.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config::load(&self.config_file())
    }

    /// Makes the profile's directories where they are missing, for their owner alone. Those inside the profile are made private
    /// when they are there and are not; the profile's own directory, if it is there, keeps its mode.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create_dirs(&self) -> Result<(), ProfileError> {
        create_private(&self.dir).map_err(|source| ProfileError::Directory { dir: self.dir.clone(), source })?;
        for dir in [self.security_dir(), self.state_dir(), self.log_dir(), self.run_dir()] {
            create_private(&dir).and_then(|()| make_private(&dir)).map_err(|source| ProfileError::Directory { dir, source })?;
        }
        Ok(())
    }

    fn at_home(name: &str) -> Self {
        Self { name: name.to_owned(), dir: absolute(home_dir().join("profiles").join(name)) }
    }
}

/// `~/.engineroom`, or what `ENGINEROOM_HOME` names instead: where everything of a user is that no path was given for. For an
/// account without a home directory, it is relative to the current one.
pub(crate) fn home_dir() -> PathBuf {
    match env::var_os("ENGINEROOM_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().unwrap_or_default().join(".engineroom"),
    }
}

/// Paths are absolute from the start: a background process and its messages must mean the same place as the user did.
fn absolute(dir: PathBuf) -> PathBuf {
    path::absolute(&dir).unwrap_or(dir)
}

/// A profile's name can be a cluster's, so that its controller never stumbles over it.
fn check_name(name: &str) -> Result<(), ProfileError> {
    let good = name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_name_char)
        && name.split('.').all(|part| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-'));
    if good { Ok(()) } else { Err(ProfileError::Name { name: name.to_owned() }) }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// The name of a profile that was given by its directory: the directory's, as far as it can be a name.
fn name_of(dir: &Path) -> String {
    let file_name = dir.file_name().unwrap_or_default().to_string_lossy();
    let spelt: String = file_name.chars().map(|c| if is_name_char(c) { c } else { '-' }).take(NAME_CHARS_MAX).collect();
    let parts: Vec<&str> = spelt.split('.').map(|part| part.trim_matches('-')).filter(|part| !part.is_empty()).collect();
    let name = parts.join(".").trim_start_matches(['_', '-', '.']).to_owned();
    if check_name(&name).is_ok() { name } else { DEFAULT_NAME.to_owned() }
}

fn create_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(dir)
}

fn make_private(dir: &Path) -> io::Result<()> {
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(PRIVATE_MODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn names_that_could_leave_the_directory_of_profiles_are_refused() {
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        for name in ["", ".", "..", ".hidden", "-n", "n-", "a..b", "a.-b", "_x", "a/b", "../x", "a b", "a\0b", "naïve", &long] {
            let error = Profile::named(name).expect_err(name);
            assert!(error.to_string().contains("cannot be a profile's name"), "{error}");
            assert!(Profile::resolve(Some(name), Some(Path::new("/tmp"))).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_name_picks_a_directory_under_the_home_of_profiles() {
        for name in ["default", "lab", "lab-2", "v1.0_x", "7"] {
            let profile = Profile::named(name).unwrap();
            assert_eq!(profile.name(), name);
            assert!(profile.dir().is_absolute());
            assert!(profile.dir().ends_with(Path::new("profiles").join(name)), "{profile:?}");
        }
        assert_eq!(Profile::default(), Profile::named("default").unwrap());
        assert_eq!(Profile::resolve(None, None).unwrap(), Profile::default());
        assert_eq!(Profile::resolve(Some("lab"), None).unwrap(), Profile::named("lab").unwrap());
    }

    #[test]
    fn a_directory_is_the_profile_and_names_it_unless_a_name_is_given() {
        for (dir, name) in [
            ("/srv/lab", "lab"),
            ("/srv/lab/", "lab"),
            ("/tmp/.tmpAb3", "tmpAb3"),
            ("/tmp/two words", "two-words"),
            ("/tmp/-x.-y-.", "x.y"),
            ("/", "default"),
            ("/tmp/...", "default"),
        ] {
            let profile = Profile::resolve(None, Some(Path::new(dir))).unwrap();
            assert_eq!((profile.name(), profile.dir()), (name, Path::new(dir)), "{dir}");
            check_name(profile.name()).unwrap();
        }
        let both = Profile::resolve(Some("lab"), Some(Path::new("/srv/x"))).unwrap();
        assert_eq!((both.name(), both.dir()), ("lab", Path::new("/srv/x")));
    }

    #[test]
    fn a_relative_directory_becomes_absolute() {
        let profile = Profile::in_dir("some/where");
        assert_eq!(profile.dir(), env::current_dir().unwrap().join("some/where"));
    }

    #[test]
    fn directories_are_made_for_the_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::in_dir(place.path().join("deep/lab"));
        profile.create_dirs().unwrap();
        profile.create_dirs().unwrap();
        for dir in [profile.dir().to_owned(), profile.security_dir(), profile.state_dir(), profile.log_dir(), profile.run_dir()] {
            assert_eq!(mode(&dir), 0o700, "{}", dir.display());
        }
    }

    #[test]
    fn open_directories_inside_are_closed_and_the_profiles_own_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let profile = Profile::in_dir(place.path());
        fs::create_dir(profile.security_dir()).unwrap();
        for dir in [place.path(), &profile.security_dir()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        profile.create_dirs().unwrap();
        assert_eq!((mode(place.path()), mode(&profile.security_dir())), (0o755, 0o700));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("log"), "a file in the way").unwrap();
        let error = Profile::in_dir(place.path()).create_dirs().expect_err("a file is in the way");
        assert!(error.to_string().contains(&place.path().join("log").display().to_string()), "{error}");
    }

    #[test]
    fn a_profile_without_a_file_has_no_settings() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(Profile::in_dir(place.path()).config().unwrap(), Config::default());
    }
}
