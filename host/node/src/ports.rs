//! The ports that a node opens first, or looks at before it does anything else.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_exporter::{Exporter, Source};
use tokio::runtime::Handle;

use crate::config::Config;
use crate::error::NodeError;
use crate::metrics::Watched;
use crate::system;

/// From now on whoever asks is told how it does.
pub(crate) fn export(
    address: SocketAddr,
    watched: &Arc<Watched>,
    control: &Handle,
) -> Result<Exporter, NodeError> {
    let exporter = Exporter::start(address, Arc::clone(watched) as Arc<dyn Source>, control);
    exporter.map_err(|error| NodeError::ListenMetrics { address, error })
}

/// Before anything that takes long: every port that clients come to is free.
pub(crate) fn check(config: &Config) -> Result<(), NodeError> {
    for listener in &config.gateway.listeners {
        let address = listener.address;
        system::check_free(address).map_err(|error| NodeError::ListenShared { address, error })?;
    }
    for app in &config.apps {
        for listener in &app.listeners {
            let address = listener.address;
            system::check_free(address).map_err(|error| NodeError::Listen {
                app: app.name.clone(),
                address,
                error,
            })?;
        }
    }
    Ok(())
}
