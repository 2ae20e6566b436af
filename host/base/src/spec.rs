//! What an app is told to be, apart from its name, its code and its own ports: what a settings file says of it, what the
//! register keeps of one that was made at run time, and what gateways and workers are told.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::grants::{Grants, InvalidGrants};
use crate::id::Label;
use crate::limits;
use crate::secret::Setting;
use crate::share::CpuShare;

/// The settings of an app. None: the default. The keys are those of `[[app]]` in a settings file, with the same meaning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppSpec {
    /// Instances on each worker: 1 to 100,000.
    pub slots: Option<u64>,
    /// So many of them always have an instance: 0 to `slots`. The others sleep while nobody needs them. None: all always
    /// have one.
    pub min_slots: Option<u64>,
    /// How long a slot that may sleep serves nobody before it does, in milliseconds: 100 up to a day.
    pub slot_idle_ms: Option<u64>,
    /// Linear memory of an instance, in MiB: 1 to 4,096.
    pub memory_mib: Option<u64>,
    /// CPU time of a turn, in milliseconds: up to a day.
    pub turn_cpu_ms: Option<u64>,
    /// Time of a turn, in milliseconds: up to a day.
    pub turn_wall_ms: Option<u64>,
    /// Its share of each worker's processors, all slots there together, in thousandths of a core: 10 to 1,024,000. In a
    /// settings file it is `cpu_share`, in cores.
    pub cpu_share_millis: Option<u64>,
    /// Bytes of commands that one turn may ask for: up to 1 GiB.
    pub turn_output_bytes_max: Option<u64>,
    /// Commands and changes of timers that one turn may ask for: 1 to 10,000,000.
    pub commands_per_turn_max: Option<u64>,
    /// Timers of one slot: up to 1,000,000.
    pub timers_max: Option<u64>,
    /// Bytes of state that an instance hands over in a swap: up to 1 GiB.
    pub state_bytes_max: Option<u64>,
    /// Bytes of its component: 1 to 32 MiB.
    pub module_bytes_max: Option<u64>,
    /// Bytes of all its keys and values: 1 to 1 TiB.
    pub keys_bytes_max: Option<u64>,
    /// Lines a second that it may write into a worker's log: 1 to 1,000,000.
    pub log_lines_per_s: Option<u64>,
    /// What becomes of a slot whose instances keep failing.
    pub on_failure: Option<OnFailure>,
    /// Client connections on one gateway: 1 to 100,000,000.
    pub connections_max: Option<u64>,
    /// Events of one client under way: 1 to 1,000,000.
    pub client_events_max: Option<u64>,
    /// Messages a second of one client. 0 means no limit, here and below.
    pub client_messages_per_s: Option<u64>,
    /// Bytes a second of one client.
    pub client_bytes_per_s: Option<u64>,
    /// Messages a second of all clients on one gateway.
    pub messages_per_s: Option<u64>,
    /// Bytes a second of all clients on one gateway.
    pub bytes_per_s: Option<u64>,
    /// Connections a second on one gateway.
    pub connects_per_s: Option<u64>,
    /// Messages a second to one client.
    pub client_out_messages_per_s: Option<u64>,
    /// Bytes a second to one client.
    pub client_out_bytes_per_s: Option<u64>,
    /// Messages a second to all clients on one gateway.
    pub out_messages_per_s: Option<u64>,
    /// Bytes a second to all clients on one gateway.
    pub out_bytes_per_s: Option<u64>,
    /// Bytes of one message: 1 to 32 MiB.
    pub payload_bytes_max: Option<u64>,
    /// Bytes queued for one client: 1 to 1 GiB.
    pub out_bytes_max: Option<u64>,
    /// Bytes of a session: 2 to 16 MiB.
    pub session_bytes_max: Option<u64>,
    /// Groups of one client: up to 1,000,000.
    pub groups_per_client_max: Option<u64>,
    /// What happens when a client's queue is full.
    pub slow_policy: Option<SlowPolicy>,
    /// The hosts and paths under which shared listeners answer for it: `host`, `*.host` or `*`, and a path behind it.
    pub routes: Vec<String>,
    /// Labels that a worker must have to run it.
    pub require: Vec<Label>,
    /// What the plugin reads as its settings.
    pub settings: BTreeMap<String, Setting>,
    /// What the plugin may reach beyond the base.
    pub grants: Grants,
    /// Pages of which origins may connect on ports that apps share. None: as the port says.
    pub origins: Option<OriginsSpec>,
    /// How silent clients are found on ports that apps share. None: as the port does.
    pub heartbeat: Option<HeartbeatSpec>,
}

/// Pages of which origins may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OriginsSpec {
    /// All of them.
    Any,
    /// Those of the host that they connect to.
    Same,
    /// These: `scheme://host` or `scheme://host:port`, at most 64.
    List(Vec<String>),
}

/// How silent clients are found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatSpec {
    /// A client that said nothing for so many milliseconds is asked: up to a day. 0: never.
    pub interval_ms: u64,
    /// How often it may be silent before it is closed; 0: it is only asked. None: the default.
    pub misses_max: Option<u8>,
    /// What it is asked with: up to 1 KiB. None: a WebSocket ping.
    pub payload: Option<String>,
}

/// What becomes of a slot whose instances keep failing. It always waits before it starts another, longer each time, up
/// to half a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It goes on trying.
    #[default]
    Restart,
    /// When it does not get better, it starts none until another version is deployed or the worker restarts.
    Suspend,
}

/// What happens to a message for a client whose queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowPolicy {
    /// The client is cut, with close code 4008.
    Disconnect,
    /// The message is dropped.
    DropNewest,
    /// The oldest queued messages are dropped until it fits.
    DropOldest,
}

const DAY_MS: u64 = 86_400_000;

/// A key of an app's settings, what it says, and what it may say.
type Number = (&'static str, Option<u64>, RangeInclusive<u64>);

impl AppSpec {
    /// Checks what a settings file's reader has checked already, for those that came another way.
    ///
    /// # Errors
    /// The first thing that is out of its range.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        let out_of_range = |(key, value, range): Number| {
            let value = value.filter(|value| !range.contains(value))?;
            Some(InvalidSpec::Number { key, value, min: *range.start(), max: *range.end() })
        };
        let share = (CpuShare::MIN.millis().into(), CpuShare::MAX.millis().into());
        let cpu_share = ("cpu_share_millis", self.cpu_share_millis, share.0..=share.1);
        let interval_ms = self.heartbeat.as_ref().map(|heartbeat| heartbeat.interval_ms);
        let interval = ("heartbeat.interval_ms", interval_ms, 0..=DAY_MS);
        let all = self.numbers().into_iter().chain([cpu_share, interval]);
        if let Some(error) = all.into_iter().find_map(out_of_range) {
            return Err(error);
        }
        let (slots, min_slots) = (self.slots.unwrap_or(limits::SLOTS.into()), self.min_slots.unwrap_or(0));
        if min_slots > slots {
            return Err(InvalidSpec::MinSlots { min_slots, slots });
        }
        let many = |key, count: usize, max: usize| match count > max {
            true => Err(InvalidSpec::Many { key, count, max }),
            false => Ok(()),
        };
        let long = |what, bytes: usize, max: usize| match bytes > max {
            true => Err(InvalidSpec::Long { what, bytes, max }),
            false => Ok(()),
        };
        many("routes", self.routes.len(), limits::ROUTES_MAX)?;
        many("require", self.require.len(), limits::LABELS_MAX)?;
        many("settings", self.settings.len(), limits::SETTINGS_MAX)?;
        if let Some(OriginsSpec::List(origins)) = &self.origins {
            many("origins", origins.len(), limits::ORIGINS_MAX)?;
            let longest = origins.iter().map(String::len).max().unwrap_or(0);
            long("an origin", longest, limits::ORIGIN_BYTES_MAX)?;
        }
        let payload = self.heartbeat.as_ref().and_then(|heartbeat| heartbeat.payload.as_ref());
        long("`heartbeat.payload`", payload.map_or(0, String::len), limits::HEARTBEAT_BYTES_MAX)?;
        let longest = self.routes.iter().map(String::len).max().unwrap_or(0);
        long("a route", longest, limits::ROUTE_BYTES_MAX)?;
        let mut bytes = 0;
        for (key, value) in &self.settings {
            let value = value.expose().ok_or_else(|| InvalidSpec::Hidden { key: key.clone() })?;
            bytes += key.len() + value.len();
        }
        if bytes > limits::SETTINGS_BYTES_MAX {
            return Err(InvalidSpec::Settings { bytes });
        }
        Ok(self.grants.check(&self.settings)?)
    }

    /// Every key that takes a whole number in settings files as well, with its range.
    pub fn numbers(&self) -> [Number; 28] {
        const GIB: u64 = 1 << 30;
        const RATE: RangeInclusive<u64> = 0..=1_000_000_000_000;
        [
            ("slots", self.slots, 1..=100_000),
            ("min_slots", self.min_slots, 0..=100_000),
            ("slot_idle_ms", self.slot_idle_ms, 100..=DAY_MS),
            ("memory_mib", self.memory_mib, 1..=4096),
            ("turn_cpu_ms", self.turn_cpu_ms, 1..=DAY_MS),
            ("turn_wall_ms", self.turn_wall_ms, 1..=DAY_MS),
            ("turn_output_bytes_max", self.turn_output_bytes_max, 1..=GIB),
            ("commands_per_turn_max", self.commands_per_turn_max, 1..=10_000_000),
            ("timers_max", self.timers_max, 0..=1_000_000),
            ("state_bytes_max", self.state_bytes_max, 0..=GIB),
            ("module_bytes_max", self.module_bytes_max, 1..=limits::MODULE_BYTES_MAX),
            ("keys_bytes_max", self.keys_bytes_max, 1..=1024 * GIB),
            ("log_lines_per_s", self.log_lines_per_s, 1..=1_000_000),
            ("connections_max", self.connections_max, 1..=100_000_000),
            ("client_events_max", self.client_events_max, 1..=1_000_000),
            ("client_messages_per_s", self.client_messages_per_s, RATE),
            ("client_bytes_per_s", self.client_bytes_per_s, RATE),
            ("messages_per_s", self.messages_per_s, RATE),
            ("bytes_per_s", self.bytes_per_s, RATE),
            ("connects_per_s", self.connects_per_s, RATE),
            ("client_out_messages_per_s", self.client_out_messages_per_s, RATE),
            ("client_out_bytes_per_s", self.client_out_bytes_per_s, RATE),
            ("out_messages_per_s", self.out_messages_per_s, RATE),
            ("out_bytes_per_s", self.out_bytes_per_s, RATE),
            ("payload_bytes_max", self.payload_bytes_max, 1..=32 << 20),
            ("out_bytes_max", self.out_bytes_max, 1..=GIB),
            ("session_bytes_max", self.session_bytes_max, 2..=16 << 20),
            ("groups_per_client_max", self.groups_per_client_max, 0..=1_000_000),
        ]
    }

    /// The same for anybody's eyes: secrets are hidden.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        for setting in self.settings.values_mut() {
            *setting = std::mem::replace(setting, Setting::Hidden).hide();
        }
        self
    }
}

/// An app's settings break a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A number is out of its range.
    #[error("`{key}` is {value}: write a whole number from {min} to {max}")]
    Number {
        /// The key.
        key: &'static str,
        /// What it says.
        value: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// More slots than there are would always have an instance.
    #[error("`min_slots` is {min_slots}, but the app has {slots} slots: lower it, or raise `slots`")]
    MinSlots {
        /// What `min_slots` says.
        min_slots: u64,
        /// The app's slots.
        slots: u64,
    },
    /// A list is too long.
    #[error("`{key}` has {count} entries, at most {max} are allowed")]
    Many {
        /// The key.
        key: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A text is too long.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    Long {
        /// What.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// The plugin's settings are too large.
    #[error(
        "`settings` has {bytes} bytes, keys and values together, at most {} are allowed: put large data into the plugin",
        limits::SETTINGS_BYTES_MAX
    )]
    Settings {
        /// How large they are.
        bytes: usize,
    },
    /// What is granted breaks a rule.
    #[error(transparent)]
    Grants(#[from] InvalidGrants),
    /// A secret's text is missing.
    #[error(
        "the setting `{key}` is a secret whose text is not here: give it as a file, an environment variable or a text"
    )]
    Hidden {
        /// The key.
        key: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_spec_of_nothing_is_all_defaults_and_unknown_keys_are_refused() {
        assert_eq!(serde_json::from_str::<AppSpec>("{}").unwrap(), AppSpec::default());
        assert_eq!(AppSpec::default().check(), Ok(()));
        assert!(serde_json::from_str::<AppSpec>("{\"slot\":1}").is_err());
    }

    #[test]
    fn what_is_out_of_its_range_is_named() {
        let says = |spec: AppSpec| spec.check().unwrap_err().to_string();
        assert!(says(AppSpec { slots: Some(0), ..AppSpec::default() }).contains("`slots` is 0"));
        assert!(
            says(AppSpec { slot_idle_ms: Some(99), ..AppSpec::default() }).contains("from 100 to 86400000")
        );
        let min = |slots, min_slots| AppSpec { slots, min_slots: Some(min_slots), ..AppSpec::default() };
        assert!(says(min(None, 2)).contains("`min_slots` is 2, but the app has 1 slots"));
        assert_eq!((min(Some(3), 3).check(), min(None, 0).check()), (Ok(()), Ok(())));
        let many = vec![Label::new("a").unwrap(); limits::LABELS_MAX + 1];
        assert!(says(AppSpec { require: many, ..AppSpec::default() }).contains("`require` has 33"));
        let routes = vec!["x".repeat(limits::ROUTE_BYTES_MAX + 1)];
        assert!(says(AppSpec { routes, ..AppSpec::default() }).contains("513 bytes"));
        let with = |setting| AppSpec { settings: [("k".to_owned(), setting)].into(), ..AppSpec::default() };
        let large = "x".repeat(limits::SETTINGS_BYTES_MAX);
        assert!(says(with(Setting::Plain(large.clone()))).contains("16385 bytes"));
        assert!(says(with(Setting::Hidden)).contains("`k` is a secret"));
        let text = says(with(Setting::Secret(Secret::new(large))));
        assert!(!text.contains("xx"), "{text}");
    }

    proptest! {
        #[test]
        fn whoever_lists_a_spec_never_sees_a_secret(keys in prop::collection::btree_map("[a-z]{1,8}", any::<bool>(), 0..20)) {
            let setting = |secret| match secret {
                true => Setting::Secret(Secret::new("hunter2")),
                false => Setting::Plain("open".into()),
            };
            let settings = keys.into_iter().map(|(key, secret)| (key, setting(secret))).collect();
            let spec = AppSpec { settings, ..AppSpec::default() };
            let shown = format!("{spec:?}");
            prop_assert!(!shown.contains("hunter2"));
            let listed = spec.clone().without_secrets();
            prop_assert!(!serde_json::to_string(&listed).unwrap().contains("hunter2"));
            prop_assert!(listed.settings.keys().eq(spec.settings.keys()));
        }
    }
}
