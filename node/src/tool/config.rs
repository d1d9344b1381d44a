//! `engineroom config`.

use std::{collections::BTreeMap, fmt};

use clap::{ArgMatches, Args};

use crate::{
    args::{ConnectionArgs, ControllerArgs, EngineArgs, LogArgs, ProfileArgs},
    failure::{Failure, say},
    settings::{Settings, Source},
};

const NOTES: &str = "\
Shows each setting as `node` and `engineroom start` would use it with the same options, and where it comes from. The command line
comes first, then the environment, then config.toml of the profile, then the default. A config.toml with every setting:

  [controller]
  listen = \"0.0.0.0:7123\"
  advertise = \"head.lab\"
  store = \"sqlite\"
  scheme = \"least-loaded\"

  [results]
  keep_days = 30
  keep_gib = 16
  keep_unfetched_days = 7

  [engine]
  connection = \"/srv/lab/engine.json\"
  engines = 8
  worker = \"process\"
  labels = { gpu = \"a100\" }
  resources = { memory_gb = 16 }
  connect_timeout_s = 60

  [log]
  level = \"info\"";

/// Options of `engineroom config`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    controller: ControllerArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl ConfigArgs {
    /// Prints the settings in force.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        let profile = self.profile.resolve(matches)?;
        let settings = Settings::read(matches, &profile)?;
        let controller = settings.controller(&self.controller);
        let engine = settings.engine(&self.engine)?;
        let connection = settings.connection(&self.connection);
        let log = settings.log(&self.log)?;
        let advertise =
            controller.advertise.value.map_or_else(|| "(the address it listens on)".to_owned(), |host| host.to_string());
        let (labels, resources) = (listed(&engine.labels.value), listed(&engine.resources.value));
        let lines = [
            ("controller.listen", controller.listen.value.to_string(), controller.listen.source),
            ("controller.advertise", advertise, controller.advertise.source),
            ("controller.store", controller.store.value.to_string(), controller.store.source),
            ("controller.scheme", controller.scheme.value.to_string(), controller.scheme.source),
            ("results.keep_days", controller.keep_days.value.to_string(), controller.keep_days.source),
            ("results.keep_gib", controller.keep_gib.value.to_string(), controller.keep_gib.source),
            (
                "results.keep_unfetched_days",
                controller.keep_unfetched_days.value.to_string(),
                controller.keep_unfetched_days.source,
            ),
            ("engine.connection", connection.value.display().to_string(), connection.source),
            ("engine.engines", engine.engines.value.to_string(), engine.engines.source),
            ("engine.worker", engine.worker.value.to_string(), engine.worker.source),
            ("engine.labels", labels, engine.labels.source),
            ("engine.resources", resources, engine.resources.source),
            ("engine.connect_timeout_s", engine.connect_timeout.value.as_secs().to_string(), engine.connect_timeout.source),
            ("log.level", log.value, log.source),
        ];
        say(&format!("profile {} ({})\n{}", profile.name(), profile.dir().display(), shown(&lines)));
        Ok(())
    }
}

fn listed<V: fmt::Display>(pairs: &BTreeMap<String, V>) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if pairs.is_empty() { "(none)".to_owned() } else { pairs.join(", ") }
}

fn shown(lines: &[(&str, String, Source)]) -> String {
    let name_width = lines.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let value_width = lines.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value, source)| format!("  {name:<name_width$} = {value:<value_width$}  ({source})\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use engineroom::profile::Config;

    use super::*;

    #[test]
    fn the_example_in_the_help_is_a_configuration_with_every_setting() {
        let example: String = NOTES.lines().filter_map(|line| line.strip_prefix("  ")).map(|line| format!("{line}\n")).collect();
        let config = Config::parse(&example, Path::new("help")).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("None"), "{shown}");
    }
}
