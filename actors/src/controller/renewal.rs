//! What keeps the certificates of a controller that is never restarted from expiring.

use std::{path::PathBuf, time::Duration};

use engineroom_runtime::{net::security_dir::SecurityDir, node::Node};

/// How often it looks. Renewal is due weeks before the end.
const LOOK_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Renews the controller's certificate and the connection files beside it, for as long as the node lives.
pub(super) fn keep_renewed(node: &Node, directory: PathBuf) {
    let node = node.clone();
    actix_rt::spawn(async move {
        let mut shown = node.identity().certificate.clone();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let (directory, cluster) = (directory.clone(), node.identity().name.cluster().to_owned());
            let renewed = tokio::task::spawn_blocking(move || SecurityDir::renew(directory, &cluster)).await;
            let text = match renewed {
                Ok(Ok(security)) if security.controller().certificate == shown => continue,
                Ok(Ok(security)) => match node.present(security.controller()) {
                    Ok(()) => {
                        shown = security.controller().certificate.clone();
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!("the certificates could not be renewed: {text}");
        }
    });
}
