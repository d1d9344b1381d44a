//! The controller.

use std::{net::SocketAddr, time::Duration};

use engineroom::{
    Controller, ControllerConfig, Profile, Retention, Scheme, StoreConfig,
    profile::{Host, StoreKind},
};

use super::profile_shown;
use crate::{
    failure::Failure,
    serve::{Life, Running},
    settings::{ControllerSettings, DAY},
};

/// A controller that is to be started.
#[derive(Clone, Debug)]
pub(crate) struct ControllerPlan {
    /// The profile it serves.
    pub(crate) profile: Profile,
    listen: SocketAddr,
    advertise: Option<Host>,
    store: StoreKind,
    retention: Retention,
    scheme: Scheme,
}

impl ControllerPlan {
    /// A plan from settings.
    pub(crate) fn new(profile: Profile, settings: ControllerSettings) -> Self {
        let retention = Retention {
            age: DAY * u32::try_from(settings.keep_days.value).unwrap_or(u32::MAX),
            bytes: settings.keep_gib.value << 30,
            unfetched: DAY * u32::try_from(settings.keep_unfetched_days.value).unwrap_or(u32::MAX),
        };
        let (listen, advertise, store) = (settings.listen.value, settings.advertise.value, settings.store.value);
        Self { profile, listen, advertise, store, retention, scheme: settings.scheme.value }
    }

    /// Starts it.
    pub(crate) fn start(self) -> Result<Running, Failure> {
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            tracing::warn!(
                "listening for other machines, but the connection files lead to this machine's loopback address: give --advertise HOST"
            );
        }
        let advertise = self.advertise.as_ref().map(Host::to_string);
        let store = match self.store {
            StoreKind::Sqlite => StoreConfig::Sqlite(self.retention),
            StoreKind::Memory => StoreConfig::Memory,
        };
        let config =
            ControllerConfig { listen: self.listen, advertise, store, scheme: self.scheme, ..ControllerConfig::default() };
        let controller = Controller::start(&self.profile, config)?;
        let ready = self.ready_line(controller.local_addr(), controller.advertised());
        Ok(Running { ready, node: Box::new(controller) })
    }

    fn ready_line(&self, local: SocketAddr, advertised: &str) -> String {
        let address = match local.to_string() {
            local if local == advertised => local,
            local => format!("{local}, known to others as {advertised}"),
        };
        let store = match self.store {
            StoreKind::Sqlite => "",
            StoreKind::Memory => ", everything in memory (lost when it ends)",
        };
        format!(
            "controller ready: {address}{store}, {}, connection files {} {}",
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
        let mut plan = ControllerPlan {
            profile: Profile::in_dir("/p/lab"),
            listen: "0.0.0.0:7123".parse().unwrap(),
            advertise: None,
            store: StoreKind::Sqlite,
            retention: Retention::default(),
            scheme: Scheme::default(),
        };
        let files = "profile lab (/p/lab), connection files /p/lab/security/client.json /p/lab/security/engine.json";
        for (local, advertised, address) in [
            ("127.0.0.1:7123", "127.0.0.1:7123", "127.0.0.1:7123"),
            ("0.0.0.0:7123", "head:7123", "0.0.0.0:7123, known to others as head:7123"),
        ] {
            let line = plan.ready_line(local.parse().unwrap(), advertised);
            assert_eq!(line, format!("controller ready: {address}, {files}"));
        }
        plan.store = StoreKind::Memory;
        let line = plan.ready_line("127.0.0.1:7123".parse().unwrap(), "127.0.0.1:7123");
        assert!(line.contains("7123, everything in memory (lost when it ends), profile"), "{line}");
    }
}
