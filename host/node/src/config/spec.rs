//! The settings of an app as [`AppSpec`]: from a settings file, and to what gateway and worker are told.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tidegate_base::{AppName, AppSpec, CpuShare, Rate, Secret, Setting, limits};

use super::file;
use super::listeners::{heartbeat_spec, origins_spec};
use super::locate::Source;
use super::values::{SettingValue, Within};
use super::{AppConfig, ConfigError, mistake};

/// Keys of `[[app]]` that a file for one app made at run time must not have, and what to do instead.
const NOT_HERE: [(&str, &str); 5] = [
    ("name", "the app is named on the command line"),
    ("tenant", "the app is named on the command line: TENANT/NAME"),
    ("plugin", "its code is deployed with `tidegate deploy`"),
    ("listen", "ports stand in the settings files of gateways"),
    ("web", "files of gateways stand in their settings files"),
];

/// Whether texts that stand elsewhere are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// They are.
    Read,
    /// Nobody here looks at them.
    Hide,
}

/// What an app's table says, but for its name, its code and its ports.
///
/// # Errors
/// A secret cannot be read, or something is too large.
pub(super) fn of_file(file: &mut file::App, secrets: Secrets) -> Result<AppSpec, String> {
    let mut spec = AppSpec {
        slots: file.slots.map(Within::get),
        min_slots: file.min_slots.as_ref().map(|min| min.get_ref().get()),
        slot_idle_ms: file.slot_idle_ms.map(Within::get),
        memory_mib: file.memory_mib.map(Within::get),
        turn_cpu_ms: file.turn_cpu_ms.map(Within::get),
        turn_wall_ms: file.turn_wall_ms.map(Within::get),
        cpu_share_millis: file.cpu_share.map(|share| share.0.millis().into()),
        turn_output_bytes_max: file.turn_output_bytes_max.map(Within::get),
        commands_per_turn_max: file.commands_per_turn_max.map(Within::get),
        timers_max: file.timers_max.map(Within::get),
        state_bytes_max: file.state_bytes_max.map(Within::get),
        module_bytes_max: file.module_bytes_max.map(Within::get),
        keys_bytes_max: file.keys_bytes_max.map(Within::get),
        log_lines_per_s: file.log_lines_per_s.map(Within::get),
        on_failure: file.on_failure.map(|failing| failing.0),
        connections_max: file.connections_max.map(Within::get),
        client_events_max: file.client_events_max.map(Within::get),
        client_messages_per_s: file.client_messages_per_s.map(Within::get),
        client_bytes_per_s: file.client_bytes_per_s.map(Within::get),
        messages_per_s: file.messages_per_s.map(Within::get),
        bytes_per_s: file.bytes_per_s.map(Within::get),
        connects_per_s: file.connects_per_s.map(Within::get),
        client_out_messages_per_s: file.client_out_messages_per_s.map(Within::get),
        client_out_bytes_per_s: file.client_out_bytes_per_s.map(Within::get),
        out_messages_per_s: file.out_messages_per_s.map(Within::get),
        out_bytes_per_s: file.out_bytes_per_s.map(Within::get),
        payload_bytes_max: file.payload_bytes_max.map(Within::get),
        out_bytes_max: file.out_bytes_max.map(Within::get),
        session_bytes_max: file.session_bytes_max.map(Within::get),
        groups_per_client_max: file.groups_per_client_max.map(Within::get),
        slow_policy: file.slow_policy.map(|policy| policy.0),
        routes: file.routes.iter().flatten().map(|route| route.0.to_string()).collect(),
        origins: file.origins.as_ref().map(|origins| origins_spec(&origins.0)),
        heartbeat: file.heartbeat.as_ref().map(heartbeat_spec),
        grants: file.grants.clone(),
        ..AppSpec::default()
    };
    for label in file.require.iter().flatten() {
        spec.require.push(label.get()?);
    }
    for (key, value) in std::mem::take(&mut file.settings.0) {
        let value = setting(value, secrets).map_err(|reason| format!("the setting `{key}`: {reason}"))?;
        spec.settings.insert(key, value);
    }
    if secrets == Secrets::Read {
        spec.check().map_err(|error| error.to_string())?;
    }
    Ok(spec)
}

/// Whether there are as many slots as are never to sleep. Else: where the mistake is, and how to mend it.
pub(super) fn check_min_slots(file: &file::App) -> Result<(), (Range<usize>, String)> {
    let Some(min) = &file.min_slots else { return Ok(()) };
    let spec = AppSpec {
        slots: file.slots.map(Within::get),
        min_slots: Some(min.get_ref().get()),
        ..AppSpec::default()
    };
    spec.check().map_err(|error| (min.span(), error.to_string()))
}

/// Reads the settings file of an app that is made at run time: what an `[[app]]` table holds, at the top level, without
/// `name`, `tenant`, `plugin`, `listen` and `web`. Paths in it are relative to it, and secrets are read here and now.
///
/// # Errors
/// The first thing that is wrong, with its place and how to mend it.
pub fn read_app_spec(path: &Path) -> Result<AppSpec, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    parse_app_spec(&text, path)
}

pub(super) fn parse_app_spec(text: &str, path: &Path) -> Result<AppSpec, ConfigError> {
    let source = Source { path, text };
    let mut file: file::App = toml::from_str(text).map_err(|error| mistake(source.explain(&error)))?;
    for (key, instead) in NOT_HERE {
        if let Some(at) = source.key(key) {
            return Err(mistake(source.at(&at, format!("`{key}` cannot stand here: {instead}"))));
        }
    }
    check_min_slots(&file).map_err(|(span, reason)| mistake(source.at(&span, reason)))?;
    file.resolve_paths(&super::folder_of(path));
    of_file(&mut file, Secrets::Read).map_err(|reason| {
        let at = source.key("settings").unwrap_or(0..0);
        mistake(source.at(&at, reason))
    })
}

impl AppConfig {
    /// An app with these settings: no plugin and no listeners.
    pub fn from_spec(name: AppName, spec: &AppSpec) -> Self {
        let mut app = Self::new(name);
        app.apply(spec);
        app
    }

    /// Takes over what the settings say; the rest stays as it is.
    pub(super) fn apply(&mut self, spec: &AppSpec) {
        set(&mut self.slots, spec.slots.map(count));
        self.min_slots = spec.min_slots.map(count);
        set(&mut self.slot_idle, spec.slot_idle_ms.map(Duration::from_millis));
        set(&mut self.instance.memory_mib, spec.memory_mib.map(count));
        set(&mut self.instance.turn_cpu_ms, spec.turn_cpu_ms);
        set(&mut self.instance.turn_wall_ms, spec.turn_wall_ms);
        set(&mut self.cpu_share, spec.cpu_share_millis.map(|millis| CpuShare::from_millis(count(millis))));
        set(&mut self.turn_output_bytes_max, spec.turn_output_bytes_max.map(size));
        set(&mut self.commands_per_turn_max, spec.commands_per_turn_max.map(size));
        set(&mut self.timers_max, spec.timers_max.map(size));
        set(&mut self.state_bytes_max, spec.state_bytes_max.map(size));
        set(&mut self.module_bytes_max, spec.module_bytes_max);
        set(&mut self.keys_bytes_max, spec.keys_bytes_max);
        set(&mut self.log_lines_per_s, spec.log_lines_per_s.map(count));
        set(&mut self.on_failure, spec.on_failure);
        let limits = &mut self.limits;
        set(&mut limits.connections_max, spec.connections_max.map(size));
        set(&mut limits.payload_bytes_max, spec.payload_bytes_max.map(size));
        set(&mut limits.session_bytes_max, spec.session_bytes_max.map(size));
        set(&mut limits.groups_per_client_max, spec.groups_per_client_max.map(size));
        set(&mut limits.out_bytes_max, spec.out_bytes_max.map(size));
        set(&mut limits.client_events_max, spec.client_events_max.map(count));
        let rates = &mut limits.rates;
        set(&mut rates.client_messages, spec.client_messages_per_s.map(Rate::per_second));
        set(&mut rates.client_bytes, spec.client_bytes_per_s.map(Rate::per_second));
        set(&mut rates.messages, spec.messages_per_s.map(Rate::per_second));
        set(&mut rates.bytes, spec.bytes_per_s.map(Rate::per_second));
        set(&mut rates.connects, spec.connects_per_s.map(Rate::per_second));
        set(&mut rates.client_out_messages, spec.client_out_messages_per_s.map(Rate::per_second));
        set(&mut rates.client_out_bytes, spec.client_out_bytes_per_s.map(Rate::per_second));
        set(&mut rates.out_messages, spec.out_messages_per_s.map(Rate::per_second));
        set(&mut rates.out_bytes, spec.out_bytes_per_s.map(Rate::per_second));
        set(&mut limits.slow_policy, spec.slow_policy);
        self.require.clone_from(&spec.require);
        self.settings.clone_from(&spec.settings);
        self.grants.clone_from(&spec.grants);
    }
}

/// A setting's text, wherever it stands.
pub(super) fn setting(value: SettingValue, secrets: Secrets) -> Result<Setting, String> {
    match (value, secrets) {
        (SettingValue::Text(text), _) => Ok(Setting::Plain(text)),
        (SettingValue::File(_) | SettingValue::Env(_), Secrets::Hide) => Ok(Setting::Hidden),
        (SettingValue::File(path), Secrets::Read) => read_secret(&path).map(Setting::Secret),
        (SettingValue::Env(name), Secrets::Read) => match std::env::var(&name) {
            Ok(text) => Ok(Setting::Secret(Secret::new(text))),
            Err(std::env::VarError::NotPresent) => {
                Err(format!("the environment variable {name} is not set: set it for this process"))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(format!("the environment variable {name} is not UTF-8"))
            }
        },
    }
}

/// The text of a file, without the end of its last line. No error says what is in it.
fn read_secret(path: &Path) -> Result<Secret, String> {
    use std::io::Read;
    let most = limits::SETTINGS_BYTES_MAX;
    let mut text = String::new();
    let opened = std::fs::File::open(path);
    let read = opened.and_then(|file| file.take(most as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() > most {
        return Err(format!("{} has more than {most} bytes: a secret is shorter", path.display()));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Secret::new(line.strip_suffix('\r').unwrap_or(line)))
}

fn set<T>(into: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *into = value;
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tidegate_base::{OriginsSpec, Usage};
    use tidegate_gateway::settings::{Origins, SharedHeartbeat};

    use super::super::listeners::shared_settings;
    use super::*;
    use crate::testing::Folder;

    fn parse(text: &str) -> Result<AppSpec, ConfigError> {
        parse_app_spec(text, Path::new("/etc/tidegate/app.toml"))
    }

    #[test]
    fn a_file_for_one_app_says_what_an_app_table_says() {
        let spec =
            parse("slots = 3\nmemory_mib = 32\nslow_policy = \"drop-oldest\"\n[settings]\na = 1\n").unwrap();
        assert_eq!((spec.slots, spec.memory_mib), (Some(3), Some(32)));
        assert_eq!(spec.settings["a"], Setting::Plain("1".into()));
        let app = AppConfig::from_spec(AppName::new("a").unwrap(), &spec);
        assert_eq!((app.slots, app.instance.memory_mib), (3, 32));
        assert_eq!(parse("").unwrap(), AppSpec::default());
    }

    #[test]
    fn who_may_connect_on_shared_ports_travels_with_the_app() {
        let text = "routes = [\"a.test\"]\norigins = [\"https://A.test:443\", \"http://b:81\"]\nheartbeat = { interval_ms = 5, payload = \"hi\" }\n";
        let spec = parse(text).unwrap();
        let list = ["https://a.test", "http://b:81"].map(str::to_owned).to_vec();
        assert_eq!(spec.origins, Some(OriginsSpec::List(list)));
        let shared = shared_settings(&spec).unwrap();
        assert!(shared.origins.unwrap().allow("https://a.test", None));
        let SharedHeartbeat::Own(own) = shared.heartbeat else { panic!("{:?}", shared.heartbeat) };
        assert_eq!((own.interval.as_millis(), own.misses_max, own.payload), (5, 2, Some(b"hi".to_vec())));
        let off = parse("origins = \"any\"\nheartbeat = { interval_ms = 0 }\n").unwrap();
        let shared = shared_settings(&off).unwrap();
        assert_eq!((shared.origins, shared.heartbeat), (Some(Origins::Any), SharedHeartbeat::Off));
        let bad = AppSpec { origins: Some(OriginsSpec::List(vec!["b".into()])), ..AppSpec::default() };
        assert!(shared_settings(&bad).unwrap_err().contains("scheme://host"));
    }

    #[test]
    fn what_cannot_stand_in_it_is_told_with_its_place_and_the_way_to_go() {
        for (key, instead) in NOT_HERE {
            let value = match key {
                "listen" => "[\"ws://127.0.0.1:1\"]",
                _ => "\"x\"",
            };
            let error = parse(&format!("slots = 1\n{key} = {value}\n")).unwrap_err().to_string();
            assert!(error.contains("app.toml:2:1: ") && error.contains(instead), "{error}");
        }
        let error = parse("slot = 1\n").unwrap_err().to_string();
        assert!(error.contains("app.toml:1:1: slot: ") && error.contains("did you mean `slots`?"), "{error}");
    }

    #[test]
    fn ranges_of_files_and_of_what_comes_another_way_agree() {
        for (key, _, range) in AppSpec::default().numbers() {
            for (number, fits) in [(*range.start(), true), (*range.end(), true), (range.end() + 1, false)] {
                // No more of them than there are.
                let slots = if key == "min_slots" { "slots = 100000\n" } else { "" };
                let read = parse(&format!("{slots}{key} = {number}\n"));
                assert_eq!(read.is_ok(), fits, "{key} = {number}: {read:?}");
            }
            if let Some(below) = range.start().checked_sub(1) {
                assert!(parse(&format!("{key} = {below}\n")).is_err(), "{key} = {below}");
            }
        }
    }

    #[test]
    fn more_slots_that_never_sleep_than_there_are_is_told_where_it_stands() {
        let error = parse("slots = 2\nmin_slots = 3\n").unwrap_err().to_string();
        assert!(
            error.contains("app.toml:2:13: min_slots: `min_slots` is 3, but the app has 2 slots"),
            "{error}"
        );
        assert!(parse("min_slots = 2\n").is_err(), "one slot by default");
        let spec = parse("slots = 3\nmin_slots = 0\nslot_idle_ms = 250\n").unwrap();
        let app = AppConfig::from_spec(AppName::new("a").unwrap(), &spec);
        assert_eq!((app.min_slots, app.slot_idle), (Some(0), Duration::from_millis(250)));
        let app = AppConfig::from_spec(AppName::new("a").unwrap(), &AppSpec::default());
        assert_eq!((app.min_slots, app.slot_idle), (None, Duration::from_secs(60)));
    }

    #[test]
    fn quotas_count_the_defaults_that_an_app_has() {
        let app = AppConfig::new(AppName::new("a").unwrap());
        let usage = Usage::of(&AppSpec::default());
        assert_eq!(usage.slots, u64::from(app.slots));
        assert_eq!(usage.memory_mib, u64::from(app.instance.memory_mib));
        assert_eq!(usage.connections, app.limits.connections_max as u64);
    }

    #[test]
    fn a_secret_is_read_from_a_file_or_a_variable_and_is_never_shown() {
        let folder = Folder::new();
        std::fs::write(folder.path().join("key"), "hunter2\r\n").unwrap();
        let path = folder.path().join("app.toml");
        let text = "[settings]\nkey = { file = \"key\" }\nuser = { env = \"PATH\" }\nopen = \"x\"\n";
        let spec = parse_app_spec(text, &path).unwrap();
        assert_eq!(spec.settings["key"], Setting::Secret(Secret::new("hunter2")));
        assert_eq!(spec.settings["user"].expose(), std::env::var("PATH").ok().as_deref());
        assert!(!format!("{spec:?}").contains("hunter2"));
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_told_without_its_text() {
        let folder = Folder::new();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        std::fs::write(folder.path().join("large"), "hunter2".repeat(10_000)).unwrap();
        for (value, says) in [
            ("{ file = \"none\" }", "cannot read"),
            ("{ file = \"binary\" }", "UTF-8"),
            ("{ file = \"large\" }", "more than 16384 bytes"),
            ("{ env = \"TIDEGATE_NO_SUCH\" }", "TIDEGATE_NO_SUCH is not set"),
            ("{ path = \"x\" }", "file"),
            ("{}", "file"),
            ("{ file = \"a\", env = \"b\" }", "one"),
        ] {
            let text = format!("[settings]\nkey = {value}\n");
            let error = parse_app_spec(&text, &folder.path().join("app.toml")).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("key"), "{value}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
