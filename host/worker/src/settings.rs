//! What a worker is told.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use tidegate_base::OnFailure;
use tidegate_base::{AppName, CpuShare, Exports, Grants, Label, NodeName, limits};
use tidegate_keys::Keys;
use tidegate_runtime::{CpuBudget, Limits, Module};
use tidegate_wire::Grant;

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Its name, as plugins see it.
    pub name: NodeName,
    /// What it is marked with. It runs no app that requires something else.
    pub labels: Vec<Label>,
    /// Its apps.
    pub apps: Vec<WorkerApp>,
    /// How far events may run ahead of a slot's turns, per gateway. A slot holds at most this many bytes per gateway.
    pub grant: Grant,
    /// Bytes of commands that may wait on one lane before the slot's next turn waits.
    pub command_queue_bytes_max: usize,
    /// How long a query waits for gateways.
    pub query_wait: Duration,
    /// How long a stop may take.
    pub stop_wait: Duration,
    /// Where the keys of its apps are kept. None: its apps have no buckets.
    pub keys: Option<Arc<dyn Keys>>,
    /// Bytes that the states of sleeping slots may take, all apps together. A slot whose state does not fit stays awake.
    pub sleep_state_bytes_max: usize,
}

impl WorkerSettings {
    /// Defaults, without apps.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            labels: Vec::new(),
            apps: Vec::new(),
            grant: Grant { events: 4096, bytes: 4 * 1024 * 1024 },
            command_queue_bytes_max: 8 * 1024 * 1024,
            query_wait: Duration::from_secs(5),
            stop_wait: Duration::from_secs(10),
            keys: None,
            sleep_state_bytes_max: limits::SLEEP_STATE_BYTES_MAX,
        }
    }

    /// The labels that an app requires and the worker does not have. Empty: it may run here.
    pub fn missing_labels(&self, require: &[Label]) -> Vec<Label> {
        require.iter().filter(|label| !self.labels.contains(label)).cloned().collect()
    }
}

/// An app on a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerApp {
    /// Its name.
    pub name: AppName,
    /// Its plugin. None: nothing was deployed yet, and its slots stay empty until something is.
    pub module: Option<Module>,
    /// Its version, from 1. 0: what the worker's own settings name, or nothing yet.
    pub version: u32,
    /// When it was made, as a revision of the register's list: an app of the same name that is made later has another one. 0:
    /// it stands in a settings file.
    pub born: u64,
    /// No other worker runs it, so that the keys which it keeps here are all that it has.
    pub is_only_here: bool,
    /// Labels that a worker must have to run it, all of them.
    pub require: Vec<Label>,
    /// How many slots it has here.
    pub slots: u32,
    /// So many of them, the first ones, always have an instance. The others sleep while nobody needs them. None: all
    /// always have one; so if there are more than `slots`.
    pub min_slots: Option<u32>,
    /// How long a slot that may sleep serves nobody before it does.
    pub slot_idle: Duration,
    /// What each instance may use.
    pub limits: Limits,
    /// What its turns may use of the processors. All slots and versions of the app here share it, and so may several apps.
    pub budget: Arc<CpuBudget>,
    /// Bytes of commands that one turn may ask for.
    pub turn_output_bytes_max: usize,
    /// Commands that one turn may ask for, changes of timers among them.
    pub commands_per_turn_max: usize,
    /// Bytes of one message.
    pub payload_bytes_max: usize,
    /// Bytes of a session.
    pub session_bytes_max: usize,
    /// Timers of one slot.
    pub timers_max: usize,
    /// Bytes of state that an instance hands over in a swap.
    pub state_bytes_max: usize,
    /// Bytes of its component. What runs already may be larger.
    pub module_bytes_max: u64,
    /// Bytes of all its keys and values.
    pub keys_bytes_max: u64,
    /// Lines a second that the app may write into the log, all of its slots here together; twice as many at once.
    pub log_lines_per_s: u32,
    /// What becomes of a slot whose instances keep failing.
    pub on_failure: OnFailure,
    /// The strings that the plugin reads as settings.
    pub settings: PluginSettings,
    /// What the plugin may reach beyond the base.
    pub grants: Grants,
}

/// The strings that a plugin reads as settings. Some may be secret, so none is ever printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PluginSettings(Vec<(String, String)>);

impl PluginSettings {
    /// The string of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// All keys with their strings.
    pub fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

impl FromIterator<(String, String)> for PluginSettings {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(settings: I) -> Self {
        Self(settings.into_iter().collect())
    }
}

/// The keys alone.
impl fmt::Debug for PluginSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(key, _)| key)).finish()
    }
}

impl WorkerApp {
    /// Defaults: version 1, one slot.
    pub fn new(name: AppName, module: Module) -> Self {
        Self { module: Some(module), version: 1, ..Self::empty(name) }
    }

    /// Defaults for an app that has no version yet: one slot, which is empty until the first deployment.
    pub fn empty(name: AppName) -> Self {
        Self {
            name,
            module: None,
            version: 0,
            born: 0,
            is_only_here: true,
            require: Vec::new(),
            slots: 1,
            min_slots: None,
            slot_idle: Duration::from_millis(limits::SLOT_IDLE_MS),
            limits: Limits::default(),
            budget: Arc::new(CpuBudget::new(CpuShare::default())),
            turn_output_bytes_max: limits::TURN_OUTPUT_BYTES_MAX,
            commands_per_turn_max: limits::COMMANDS_PER_TURN_MAX,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            session_bytes_max: limits::SESSION_BYTES_MAX,
            timers_max: limits::TIMERS_MAX,
            state_bytes_max: limits::STATE_BYTES_MAX,
            module_bytes_max: limits::MODULE_BYTES_MAX,
            keys_bytes_max: limits::KEYS_BYTES_MAX,
            log_lines_per_s: limits::LOG_LINES_PER_S,
            on_failure: OnFailure::default(),
            settings: PluginSettings::default(),
            grants: Grants::default(),
        }
    }

    /// The callbacks that its plugin exports; none if it has no plugin yet.
    pub fn exports(&self) -> Exports {
        self.module.as_ref().map(Module::exports).unwrap_or_default()
    }

    /// Slots that always have an instance, the first ones.
    pub fn slots_awake(&self) -> u32 {
        self.min_slots.map_or(self.slots, |min| min.min(self.slots))
    }

    /// Whether some of its slots may sleep.
    pub(crate) fn has_sleepers(&self) -> bool {
        self.slots_awake() < self.slots
    }

    /// Whether the other app is set up as this one, whatever is deployed and whoever keeps its budget.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let other = Self { budget: Arc::clone(&self.budget), ..other.without_module() };
        self.without_module() == other
    }

    /// The same version with those of the settings `now` that hold at once, in instances that run. The others are the
    /// plugin's own strings, which it may have read when it started, and what an instance is made with.
    pub(crate) fn with_live(&self, now: &Self) -> Self {
        Self {
            module: self.module.clone(),
            version: self.version,
            limits: self.limits,
            budget: Arc::clone(&self.budget),
            settings: self.settings.clone(),
            ..now.clone()
        }
    }

    /// Whether some of the settings `now` would hold only in instances to come.
    pub(crate) fn waits_for(&self, now: &Self) -> bool {
        self.limits != now.limits
            || self.settings != now.settings
            || self.grants.environment != now.grants.environment
    }

    /// The settings alone, without what is deployed.
    pub(crate) fn without_module(&self) -> Self {
        Self { module: None, version: 0, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_reads_is_never_printed() {
        let settings: PluginSettings = [("key".to_owned(), "hunter2".to_owned())].into_iter().collect();
        let app = WorkerApp { settings, ..WorkerApp::empty(AppName::new("a").unwrap()) };
        let printed = format!("{app:?}");
        assert!(printed.contains("key") && !printed.contains("hunter2"), "{printed}");
        assert_eq!((app.settings.get("key"), app.settings.get("k")), (Some("hunter2"), None));
    }
}
