//! `[admin]`: the HTTP API of a node with the register.

use std::time::Duration;

use tidegate_admin::AdminSettings;
use tidegate_base::Role;
use tidegate_push::PushSettings;

use super::{AdminConfig, ConfigError, Place, file};

/// More names than anybody needs.
const HOSTS_MAX: usize = 64;

/// What the section says. None: there is no HTTP API.
pub(super) fn resolve(file: file::Admin, place: &Place) -> Result<Option<AdminConfig>, ConfigError> {
    let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
    let file::Admin { listen, hosts, .. } = &file;
    let Some(listen) = listen else {
        if file.is_empty() {
            return Ok(None);
        }
        return conflict(
            "[admin] has settings and no `listen`, so there would be no HTTP API: add `listen = \"127.0.0.1:7480\"`",
        );
    };
    if !place.runs(Role::Register) {
        return conflict(
            "[admin] listen is set, but the HTTP API is that of a node with the register, and this is none: move the section \
             into the settings of the register",
        );
    }
    let defaults = AdminConfig::default();
    let AdminSettings { connections_max, requests_max, .. } = defaults.settings;
    let hosts = hosts.clone().unwrap_or_default();
    if hosts.len() > HOSTS_MAX || hosts.iter().any(|host| !is_host(host)) {
        return conflict(
            "[admin] hosts has at most 64 names without ports, such as [\"push.example.com\"]: they are what clients write into \
             the address",
        );
    }
    let or = |given: Option<u64>, default: usize| {
        given.map_or(default, |value| usize::try_from(value).unwrap_or(default))
    };
    let time = |given: Option<u64>, default: Duration| given.map_or(default, Duration::from_millis);
    let settings = AdminSettings {
        listen: listen.0,
        hosts,
        body_bytes_max: or(file.body_bytes_max.map(|it| it.get()), defaults.settings.body_bytes_max),
        batch_max: or(file.batch_max.map(|it| it.get()), defaults.settings.batch_max),
        connections_max: or(file.connections_max.map(|it| it.get()), connections_max),
        requests_max: or(file.requests_max.map(|it| it.get()), requests_max),
        read_wait: time(file.read_wait_ms.map(|it| it.get()), defaults.settings.read_wait),
        idle_wait: time(file.idle_wait_ms.map(|it| it.get()), defaults.settings.idle_wait),
        token_requests_per_s: file.token_requests_per_s.map_or(0, |it| it.get()),
        failures_per_s: file.failures_per_s.map_or(defaults.settings.failures_per_s, |it| it.get()),
        key_keep: time(file.key_keep_ms.map(|it| it.get()), defaults.settings.key_keep),
        keys_max: or(file.keys_max.map(|it| it.get()), defaults.settings.keys_max),
    };
    let push = PushSettings {
        wait: time(file.push_wait_ms.map(|it| it.get()), defaults.push.wait),
        ..defaults.push
    };
    Ok(Some(AdminConfig { settings, push, for_dev: false }))
}

fn is_host(host: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    (1..=253).contains(&host.len()) && host.bytes().all(fine)
}
