//! The controller.

use std::{net::SocketAddr, time::Duration};

use engineroom::{Controller, ControllerConfig, Profile, profile::Host};

use super::profile_shown;
use crate::{
    failure::Failure,
    serve::{Life, Running},
    settings::{ControllerSettings, Setting},
};

/// A controller that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct ControllerPlan {
    /// The profile it serves.
    pub(crate) profile: Profile,
    listen: SocketAddr,
    advertise: Option<Host>,
}

impl ControllerPlan {
    /// A plan from settings.
    pub(crate) fn new(profile: Profile, settings: ControllerSettings) -> Self {
        let ControllerSettings { listen: Setting { value: listen, .. }, advertise: Setting { value: advertise, .. } } = settings;
        Self { profile, listen, advertise }
    }

    /// Starts it.
    pub(crate) fn start(self) -> Result<Running, Failure> {
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            tracing::warn!(
                "listening for other machines, but the connection files lead to this machine's loopback address: give --advertise HOST"
            );
        }
        let advertise = self.advertise.as_ref().map(Host::to_string);
        let config = ControllerConfig { listen: self.listen, advertise, ..ControllerConfig::default() };
        let controller = Controller::start(&self.profile, config)?;
        let ready = self.ready_line(controller.local_addr(), controller.advertised());
        Ok(Running { ready, node: Box::new(controller) })
    }

    fn ready_line(&self, local: SocketAddr, advertised: &str) -> String {
        let address = match local.to_string() {
            local if local == advertised => local,
            local => format!("{local}, known to others as {advertised}"),
        };
        format!(
            "controller ready: {address}, {}, connection files {} {}",
            profile_shown(&self.profile),
            self.profile.client_connection_file().display(),
            self.profile.engine_connection_file().display()
        )
    }
}

impl Life for Controller {
    fn is_running(&self) -> bool {
        Controller::is_running(self)
    }

    fn shutdown(self: Box<Self>, deadline: Duration) -> Result<(), String> {
        let report = Controller::shutdown(*self, deadline);
        if report.finished { Ok(()) } else { Err(format!("the controller: {report}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_names_address_profile_and_files() {
        let plan =
            ControllerPlan { profile: Profile::in_dir("/p/lab"), listen: "0.0.0.0:7123".parse().unwrap(), advertise: None };
        let files = "profile lab (/p/lab), connection files /p/lab/security/client.json /p/lab/security/engine.json";
        for (local, advertised, address) in [
            ("127.0.0.1:7123", "127.0.0.1:7123", "127.0.0.1:7123"),
            ("0.0.0.0:7123", "head:7123", "0.0.0.0:7123, known to others as head:7123"),
        ] {
            let line = plan.ready_line(local.parse().unwrap(), advertised);
            assert_eq!(line, format!("controller ready: {address}, {files}"));
        }
    }
}
