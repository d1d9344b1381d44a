//! How commands that ask a controller find it.

use std::path::PathBuf;

use clap::{ArgMatches, Args};
use engineroom::{Client, ConnectionFile, Profile};

use crate::{
    args::ProfileArgs,
    failure::{Exit, Failure},
    run_file,
};

/// Which cluster is asked.
#[derive(Debug, Args)]
pub(super) struct ReachArgs {
    /// The client connection file of the cluster [default: security/client.json of the profile]
    #[arg(long, value_name = "FILE", help_heading = "Which profile")]
    connection: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileArgs,
}

impl ReachArgs {
    /// A connection to the cluster.
    pub(super) fn client(self, matches: &ArgMatches) -> Result<Client, Failure> {
        self.ask(matches, |connection| Ok(Client::connect(connection)?))
    }

    /// What `question` gives for the cluster's connection file; a failure to connect comes with advice.
    pub(super) fn ask<T>(
        self,
        matches: &ArgMatches,
        question: impl FnOnce(ConnectionFile) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let profile = self.profile.resolve(matches)?;
        let own = self.connection.is_none();
        let file = self.connection.map_or_else(|| own_file(&profile), Ok)?;
        let connection = ConnectionFile::load(file).map_err(Failure::connection)?;
        question(connection).map_err(|failure| if own { add_advice(failure, &profile) } else { failure })
    }
}

fn own_file(profile: &Profile) -> Result<PathBuf, Failure> {
    let file = profile.client_connection_file();
    if file.exists() {
        return Ok(file);
    }
    Err(Failure::connection(format!(
        "no cluster has been started on profile {} ({}): start one with `engineroom start`, or give --connection FILE",
        profile.name(),
        profile.dir().display()
    )))
}

/// A controller that does not answer is most often one that does not run.
fn add_advice(failure: Failure, profile: &Profile) -> Failure {
    let runs = run_file::holder(&run_file::controller(profile));
    if failure.exit != Exit::Connection || !matches!(runs, Ok(None)) {
        return failure;
    }
    let (name, dir, said) = (profile.name(), profile.dir().display(), &failure.message);
    let advice = format!("on this machine no controller runs on profile {name} ({dir}): `engineroom start` starts one");
    Failure { message: format!("{said} ({advice})"), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_was_never_started_is_told() {
        let place = tempfile::tempdir().unwrap();
        let failure = own_file(&Profile::in_dir(place.path())).expect_err("no file");
        assert_eq!(failure.exit, Exit::Connection);
        assert!(failure.message.contains("engineroom start"), "{failure}");
    }
}
