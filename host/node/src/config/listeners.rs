//! Ports as the settings tell them: the protocol, who may come, how silent clients are found.

use std::time::Duration;

use tidegate_base::Protocol;
use tidegate_gateway::settings::{Heartbeat, ListenerSettings, Origins};

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
    const BY_DEFAULT: Heartbeat =
        Heartbeat { interval: Duration::from_secs(60), misses_max: 2, payload: None };
    let Some(file) = file else { return (protocol == Protocol::Ws).then_some(BY_DEFAULT) };
    let interval = file.interval_ms.get();
    (interval > 0).then(|| Heartbeat {
        interval: Duration::from_millis(interval),
        misses_max: file
            .misses_max
            .map_or(BY_DEFAULT.misses_max, |n| u8::try_from(n.get()).unwrap_or(u8::MAX)),
        payload: file.payload.clone().map(String::into_bytes),
    })
}
