//! `[[bridge]]`: what PHP's GatewayClient speaks to, at a node with the register.

use std::path::Path;
use std::time::Duration;

use tidegate_base::{AppName, Role, Secret, Setting};
use tidegate_bridge::{BridgeSettings, Doors, Network};

use super::spec::{Secrets, setting};
use super::values::{BridgeDoors, SettingValue, Within};
use super::{ConfigError, Place, file};

/// More bridges than anybody needs; each is a few sockets.
const BRIDGES_MAX: usize = 64;

impl file::Bridge {
    /// Makes the path of the secret absolute.
    pub fn resolve_paths(&mut self, folder: &Path) {
        if let Some(SettingValue::File(path)) = &mut self.secret {
            *path = folder.join(&path);
        }
    }
}

/// One table, or what is wrong with it. So many are there before it.
pub(super) fn resolve(file: file::Bridge, place: &Place, before: usize) -> Result<BridgeSettings, String> {
    if before >= BRIDGES_MAX {
        return Err(format!(
            "there are more than {BRIDGES_MAX} bridges: a bridge is for an app that PHP pushes to"
        ));
    }
    if !place.runs(Role::Register) {
        return Err("a bridge is part of a node with the register, and this is none: move the table into the settings of the \
             register"
            .into());
    }
    let lacks = |key, example| format!("the bridge has no `{key}`: add `{key} = {example}` to it");
    let app = file.app.ok_or_else(|| lacks("app", "\"chat\""))?;
    let app = AppName::new(&app).map_err(|error| format!("`app`: {error}"))?;
    let register = file.register.ok_or_else(|| lacks("register", "\"127.0.0.1:1238\""))?.0;
    let BridgeDoors(gateway) = file.gateway.ok_or_else(|| lacks("gateway", "\"127.0.0.0/8:2900\""))?;
    let secret = secret(file.secret.ok_or_else(|| lacks("secret", "{ file = \"PATH\" }"))?)?;
    let defaults = BridgeSettings::new(app, register, gateway, secret);
    Ok(BridgeSettings {
        connections_max: file.connections_max.map_or(defaults.connections_max, size),
        frame_bytes_max: file.frame_bytes_max.map_or(defaults.frame_bytes_max, size),
        requests_max: file.requests_max.map_or(defaults.requests_max, size),
        idle_wait: file.idle_wait_ms.map_or(defaults.idle_wait, |ms| Duration::from_millis(ms.get())),
        ..defaults
    })
}

/// The network in which a gateway draws its id: what its settings say, or in an all-in-one that of its first bridge.
pub(super) fn client_ids(
    given: Option<BridgeDoors>,
    place: &Place,
    bridges: &[BridgeSettings],
) -> Result<Option<Network>, ConfigError> {
    let of_bridge = || match (place, bridges.first()?.gateway) {
        // A port that is not known yet is in no id.
        (Place::AllInOne, Doors::Network(network)) if network.port() != 0 => Some(network),
        _ => None,
    };
    match given {
        None => Ok(of_bridge()),
        Some(BridgeDoors(Doors::Network(network))) if network.port() != 0 => Ok(Some(network)),
        Some(BridgeDoors(other)) => Err(ConfigError::Conflict(format!(
            "[gateway] client_ids is {other}, and ids can only be drawn from a network: write what the register's [[bridge]] has as \
             `gateway` if that is a network, such as \"127.0.0.0/8:2900\", and else leave it out"
        ))),
    }
}

fn secret(value: SettingValue) -> Result<Secret, String> {
    match setting(value, Secrets::Read).map_err(|reason| format!("`secret`: {reason}"))? {
        Setting::Secret(secret) if secret.expose().is_empty() => {
            Err("`secret` is empty: anybody who reaches the bridge could push; write what PHP has as \
                 Gateway::$secretKey, at least one character"
                .into())
        }
        Setting::Secret(secret) => Ok(secret),
        Setting::Plain(_) | Setting::Hidden => {
            Err("`secret` does not stand in the settings: write { file = \"PATH\" } or { env = \"NAME\" }"
                .into())
        }
    }
}

fn size<const MIN: u64, const MAX: u64>(value: Within<MIN, MAX>) -> usize {
    usize::try_from(value.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
