//! `engineroom cert`.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, Subcommand};
use engineroom::{
    ConnectionFile,
    certificates::{self, CERTIFICATE_DAYS, Issued, Listed, Request, Role, Serial, State},
};

use super::status::table;
use crate::{
    args::ProfileArgs,
    failure::{Failure, say},
};

/// How many digits of a serial number are shown in tables: enough to tell some thousands apart.
const SERIAL_DIGITS: usize = 12;

const NOTES: &str = "\
A connection file is one node's way in: the controller's address, a certificate and its private key. A controller makes client.json
and engine.json for whoever may read the profile; files for others are made here, on the machine with the profile, whether the
controller runs or not.

Examples:
  engineroom cert new client --name ada              a connection file for a user or program
  engineroom cert new client --name ops --admin      for one who may see to the tasks of all clients
  engineroom cert new engine --name rack-4 --days 90  for engine nodes on another machine
  engineroom cert list                               what was made, and what it is worth
  engineroom cert revoke rack-4                      cuts rack-4 off, within 2 s if the controller runs";

/// Options of `engineroom cert`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    command: CertCommand,
}

#[derive(Debug, Subcommand)]
enum CertCommand {
    /// Make a certificate, and the connection file with it
    New(NewArgs),
    /// Show every certificate that was made
    List(ListArgs),
    /// Revoke the certificate of a client or engine, for good
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// What it is for
    #[arg(value_name = "client|engine", value_parser = role)]
    role: Role,
    /// The node's name: letters, digits, '.', '_' and '-'
    #[arg(long, value_name = "NAME")]
    name: String,
    /// For how long it is valid [default: 825]
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Let the client see to what other clients own
    #[arg(long)]
    admin: bool,
    /// Write the connection file here [default: security/ROLE-NAME.json of the profile]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Revoke a valid certificate of that name, and overwrite a file that is there
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    profile: ProfileArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    profile: ProfileArgs,
}

#[derive(Debug, Args)]
struct RevokeArgs {
    /// Whose certificate
    #[arg(value_name = "NAME")]
    name: String,
    /// Needed when a client and an engine have that name
    #[arg(long, value_name = "client|engine", value_parser = role)]
    role: Option<Role>,
    #[command(flatten)]
    profile: ProfileArgs,
}

impl CertArgs {
    /// Does what was asked for.
    pub(crate) fn run(self, matches: &ArgMatches) -> Result<(), Failure> {
        // A subcommand is required, so there is one.
        let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
        let said = match self.command {
            CertCommand::New(args) => args.run(matches),
            CertCommand::List(args) => args.run(matches),
            CertCommand::Revoke(args) => args.run(matches),
        }?;
        say(&said);
        Ok(())
    }
}

impl NewArgs {
    fn run(self, matches: &ArgMatches) -> Result<String, Failure> {
        let directory = self.profile.resolve(matches)?.security_dir();
        let request = Request {
            role: self.role,
            name: self.name,
            days: self.days.unwrap_or(CERTIFICATE_DAYS),
            admin: self.admin,
            replace: self.replace,
            output: self.output,
        };
        let file = certificates::issue(&directory, &request)?;
        Ok(made(&request, &file))
    }
}

impl ListArgs {
    fn run(self, matches: &ArgMatches) -> Result<String, Failure> {
        let listed = certificates::list(&self.profile.resolve(matches)?.security_dir())?;
        match self.json {
            true => Ok(format!("{}\n", serde_json::to_string_pretty(&listed).map_err(Failure::internal)?)),
            false => Ok(shown(&listed)),
        }
    }
}

impl RevokeArgs {
    fn run(self, matches: &ArgMatches) -> Result<String, Failure> {
        let directory = self.profile.resolve(matches)?.security_dir();
        let revoked = certificates::revoke(&directory, self.role, &self.name)?;
        Ok(revoked_shown(&revoked))
    }
}

fn role(text: &str) -> Result<Role, String> {
    match text.parse() {
        Ok(role @ (Role::Client | Role::Engine)) => Ok(role),
        _ => Err("choose client or engine".to_owned()),
    }
}

fn made(request: &Request, file: &ConnectionFile) -> String {
    let (path, name) = (file.path().display(), &request.name);
    let base = file.path().file_name().map_or(file.path(), Path::new).display();
    let (kind, whom, what_next) = match (request.role, request.admin) {
        (Role::Engine, _) => ("engine", "node", format!("node --role engine --connection {base}")),
        (_, true) => ("admin client", "user", format!("engineroom status --connection {base}")),
        _ => (
            "client",
            "user",
            format!("engineroom status --connection {base}, or in a program Client::connect(Path::new(\"{base}\"))"),
        ),
    };
    format!(
        "{kind} {name}, valid for {} days, leads to {}: {path}\n\
         The file is a secret: give it to that {whom} alone, with mode 0600. There: {what_next}\n",
        request.days,
        file.address()
    )
}

fn shown(listed: &[Listed]) -> String {
    let head = ["name", "role", "admin", "serial", "issued", "expires", "state"];
    table(&head, listed.iter().map(row).collect())
}

fn row(listed: &Listed) -> Vec<String> {
    let state = match (listed.state, &listed.revoked) {
        (State::Valid, _) => "valid".to_owned(),
        (State::ExpiresSoon, _) => "expires soon".to_owned(),
        (State::Expired, _) => "expired".to_owned(),
        (State::Revoked, date) => format!("revoked {}", date.as_deref().unwrap_or_default()),
    };
    let admin = if listed.admin { "yes" } else { "-" };
    let (issued, expires) = (listed.issued.clone(), listed.expires.clone());
    vec![listed.name.clone(), listed.role.to_string(), admin.to_owned(), short(&listed.serial), issued, expires, state]
}

fn revoked_shown(revoked: &[Issued]) -> String {
    let mut text: String = revoked
        .iter()
        .map(|issued| format!("revoked {} {} (serial {})\n", issued.role, issued.name, short(&issued.serial)))
        .collect();
    text.push_str("A controller that runs ends its links within 2 s. The name is free for a new certificate.\n");
    text
}

fn short(serial: &Serial) -> String {
    serial.to_string().chars().take(SERIAL_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_shown_with_what_they_are_worth() {
        let serial = |text: &str| serde_json::from_value::<Serial>(serde_json::json!(text)).unwrap();
        let listed = |name: &str, role, state, revoked: Option<&str>| Listed {
            name: name.into(),
            role,
            admin: role == Role::Client,
            serial: serial("0123456789abcdef0123456789abcdef"),
            issued: "2026-11-21".into(),
            expires: "2029-02-23".into(),
            state,
            revoked: revoked.map(str::to_owned),
        };
        let expected = "  name    role    admin  serial        issued      expires     state
  ada     client  yes    0123456789ab  2026-11-21  2029-02-23  valid
  rack-4  engine  -      0123456789ab  2026-11-21  2029-02-23  revoked 2026-12-01
  old     engine  -      0123456789ab  2026-11-21  2029-02-23  expires soon
";
        let all = [
            listed("ada", Role::Client, State::Valid, None),
            listed("rack-4", Role::Engine, State::Revoked, Some("2026-12-01")),
            listed("old", Role::Engine, State::ExpiresSoon, None),
        ];
        assert_eq!(shown(&all), expected);
    }
}
