//! `[admin]`: the HTTP API of a node with the register.

use std::path::Path;
use std::time::Duration;

use tidegate_admin::{AdminSettings, Tls, TlsFile};
use tidegate_base::Role;
use tidegate_push::PushSettings;

use super::locate::Source;
use super::{AdminConfig, ConfigError, Place, file, mistake};

/// More names than anybody needs.
const HOSTS_MAX: usize = 64;

/// What the section says. None: there is no HTTP API.
pub(super) fn resolve(
    file: file::Admin,
    place: &Place,
    source: Source<'_>,
    folder: &Path,
) -> Result<Option<AdminConfig>, ConfigError> {
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
    let tls = tls(&file, source, folder)?;
    Ok(Some(AdminConfig { settings, tls, push, for_dev: false }))
}

/// The certificate, if there is to be one.
fn tls(file: &file::Admin, source: Source<'_>, folder: &Path) -> Result<Option<Tls>, ConfigError> {
    let wrong = |key, path, reason| wrong(key, path, reason, source, folder);
    match (&file.cert, &file.key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Tls::load(cert, key).map(Some).map_err(|error| match error.file {
            TlsFile::Cert => wrong("cert", cert, error.to_string()),
            TlsFile::Key => wrong("key", key, error.to_string()),
        }),
        (Some(cert), None) => {
            let reason = "a certificate is of no use without its private key: name that as `key` in [admin]";
            Err(wrong("cert", cert, reason.to_owned()))
        }
        (None, Some(key)) => {
            let reason = "a private key is of no use without its certificate: name that as `cert` in [admin]";
            Err(wrong("key", key, reason.to_owned()))
        }
    }
}

/// A mistake where the path comes from: the file, or the environment, which is stronger.
fn wrong(key: &str, path: &Path, reason: String, source: Source<'_>, folder: &Path) -> ConfigError {
    match source.text_of("admin", key) {
        Some((span, text)) if folder.join(&text) == path => mistake(source.at(&span, reason)),
        _ => ConfigError::Variable { name: format!("TIDEGATE_ADMIN_{}", key.to_uppercase()), reason },
    }
}

fn is_host(host: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    (1..=253).contains(&host.len()) && host.bytes().all(fine)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};
    use crate::testing::Folder;

    fn wrong(admin: &str, variables: &[(&str, &str)]) -> String {
        let folder = Folder::new();
        std::fs::write(folder.path().join("none.pem"), "nothing").unwrap();
        let text = format!("[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n");
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let path = folder.path().join("t.toml");
        Config::parse(&text, &path, variables, &Overrides::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_certificate_that_cannot_be_used_is_told_where_it_is_named() {
        let cases = [
            ("cert = \"gone.pem\"\nkey = \"gone.pem\"", "t.toml:3:8: admin.cert: ", "cannot be read"),
            ("cert = \"none.pem\"\nkey = \"none.pem\"", "t.toml:3:8: admin.cert: ", "it has to be PEM"),
            ("cert = \"none.pem\"", "t.toml:3:8: admin.cert: ", "name that as `key`"),
            ("key = \"none.pem\"", "t.toml:3:7: admin.key: ", "name that as `cert`"),
        ];
        for (admin, place, says) in cases {
            let error = wrong(admin, &[]);
            assert!(error.contains(place) && error.contains(says), "{error}");
        }
        let error = wrong("cert = \"none.pem\"", &[("TIDEGATE_ADMIN_KEY", "/gone/key.pem")]);
        assert!(error.contains("t.toml:3:8: admin.cert: "), "{error}");
        let error = wrong("", &[("TIDEGATE_ADMIN_KEY", "/gone/key.pem")]);
        assert!(error.contains("variable TIDEGATE_ADMIN_KEY: ") && error.contains("`cert`"), "{error}");
        let error =
            wrong("key = \"none.pem\"\ncert = \"none.pem\"", &[("TIDEGATE_ADMIN_CERT", "/gone/cert.pem")]);
        assert!(error.contains("variable TIDEGATE_ADMIN_CERT: /gone/cert.pem: it cannot be read"), "{error}");
    }
}
