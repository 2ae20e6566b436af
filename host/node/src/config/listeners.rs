//! Ports as the settings tell them: the protocol, who may come, how silent clients are found.

use std::time::Duration;

use tidegate_base::{AppSpec, HeartbeatSpec, OriginsSpec, Protocol};
use tidegate_gateway::settings::{
    Heartbeat, InvalidOrigin, ListenerSettings, Origins, Route, SharedHeartbeat, SharedSettings,
};

use super::Config;
use super::file;

/// One `[[listener]]`.
pub(super) fn shared_listener(config: &Config, file: file::Listener) -> Result<ListenerSettings, String> {
    let Some(listen) = file.address else {
        return Err("the listener has no address: add `address = \"ws://127.0.0.1:8080\"` to it".into());
    };
    if listen.protocol != Protocol::Ws {
        return Err(format!(
            "{listen}: apps share a port by the host and path that a WebSocket client asks for, and others name none: \
             write ws://, or give one app this port with `listen`"
        ));
    }
    let taken = |listener: &ListenerSettings| listener.address == listen.address;
    if listen.address.port() != 0 && config.gateway.listeners.iter().any(taken) {
        return Err(format!("{listen}: this address is listened on twice: take another port"));
    }
    Ok(ListenerSettings {
        protocol: listen.protocol,
        address: listen.address,
        origins: file.origins.map_or(Origins::Same, |origins| origins.0),
        heartbeat: heartbeat(file.heartbeat.as_ref(), listen.protocol),
    })
}

/// WebSocket clients answer pings by themselves, so by default they are asked once a minute and closed after two silent
/// ones: else a client whose network went away would stay for hours. Others are asked only if the app says with what.
pub(super) fn heartbeat(file: Option<&file::Heartbeat>, protocol: Protocol) -> Option<Heartbeat> {
    match file {
        None => (protocol == Protocol::Ws).then_some(HEARTBEAT),
        Some(file) => wanted_heartbeat(&heartbeat_spec(file)),
    }
}

const HEARTBEAT: Heartbeat = Heartbeat { interval: Duration::from_secs(60), misses_max: 2, payload: None };

fn wanted_heartbeat(spec: &HeartbeatSpec) -> Option<Heartbeat> {
    (spec.interval_ms > 0).then(|| Heartbeat {
        interval: Duration::from_millis(spec.interval_ms),
        misses_max: spec.misses_max.unwrap_or(HEARTBEAT.misses_max),
        payload: spec.payload.clone().map(String::into_bytes),
    })
}

/// As it travels.
pub(super) fn heartbeat_spec(file: &file::Heartbeat) -> HeartbeatSpec {
    HeartbeatSpec {
        interval_ms: file.interval_ms.get(),
        misses_max: file.misses_max.map(|misses| u8::try_from(misses.get()).unwrap_or(u8::MAX)),
        payload: file.payload.clone(),
    }
}

/// As they travel.
pub(super) fn origins_spec(origins: &Origins) -> OriginsSpec {
    match origins {
        Origins::Any => OriginsSpec::Any,
        Origins::Same => OriginsSpec::Same,
        Origins::List(list) => OriginsSpec::List(list.iter().map(ToString::to_string).collect()),
    }
}

/// How an app is reached on shared ports.
///
/// # Errors
/// A route or an origin is none.
pub(crate) fn shared_settings(spec: &AppSpec) -> Result<SharedSettings, String> {
    let mut shared = SharedSettings::default();
    for route in &spec.routes {
        shared.routes.push(route.parse::<Route>().map_err(|error| error.to_string())?);
    }
    shared.origins = match &spec.origins {
        None => None,
        Some(OriginsSpec::Any) => Some(Origins::Any),
        Some(OriginsSpec::Same) => Some(Origins::Same),
        Some(OriginsSpec::List(list)) => {
            let origins = list.iter().map(|origin| origin.parse()).collect::<Result<_, InvalidOrigin>>();
            Some(Origins::List(origins.map_err(|error| error.to_string())?))
        }
    };
    shared.heartbeat = match &spec.heartbeat {
        None => SharedHeartbeat::OfListener,
        Some(own) => wanted_heartbeat(own).map_or(SharedHeartbeat::Off, SharedHeartbeat::Own),
    };
    Ok(shared)
}
