//! What register, workers and gateways say about the versions of apps: what should run, what does run, and the counts
//! that prove that a swap lost nothing.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, Digest};

/// Bytes that the reason of a failure has at most: enough for a wasm backtrace.
pub const REASON_BYTES_MAX: usize = 8 * 1024;

/// One version of an app: the n-th deployment and the module that it deployed.
///
/// Every deployment takes the next number, a rollback too, so a number stands for one module and one moment. Number 0 is
/// the plugin that a worker's own settings name: no register deployed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionRef {
    /// Which deployment, from 1.
    pub number: u32,
    /// The module.
    pub digest: Digest,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.digest.to_string();
        write!(f, "version {} (sha256:{})", self.number, digest.get(..12).unwrap_or_default())
    }
}

/// Register to worker: what one app should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredApp {
    /// The app.
    pub app: AppName,
    /// What slots run and start with. None: nothing was deployed yet, so what the worker's own settings name.
    pub stable: Option<VersionRef>,
    /// The deployment that goes on.
    pub rollout: Option<DesiredRollout>,
}

/// What a deployment asks of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredRollout {
    /// The new version.
    pub version: VersionRef,
    /// How far to go.
    pub phase: RolloutPhase,
}

/// How far a deployment goes on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RolloutPhase {
    /// Have an instance of the new version ready beside each slot's own.
    Prepare,
    /// The first so many slots run the new version; the others keep it ready.
    Switch {
        /// How many slots of this worker; more than it has means all.
        slots: u32,
    },
    /// Every slot runs the stable version, and nothing of the new one is left.
    Back,
}

/// Worker to register: how one app does there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// The app.
    pub app: AppName,
    /// The version that each slot runs, or runs again as soon as it has restarted. None: nothing yet. 0: what the
    /// worker's own settings name.
    pub slots: Vec<Option<u32>>,
    /// How the worker moves to another version. None: every slot runs what it should.
    pub rollout: Option<RolloutReport>,
    /// What the versions that run here have done since the worker started.
    pub judged: Vec<VersionTally>,
    /// Slots that sleep, since nobody needs them.
    pub asleep: u32,
}

/// How a worker moves an app to another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// The version of the deployment; the stable one if there is no deployment and the worker only catches up.
    pub version: u32,
    /// How far it is.
    pub step: Step,
    /// The first thing that went wrong on the way.
    pub failure: Option<Failure>,
    /// Every switch of a slot since the deployment began, back ones too, in order.
    pub switches: Vec<SlotSwitch>,
}

/// How far a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The module comes over the link.
    Fetching,
    /// The module is checked and compiled.
    Compiling,
    /// Fresh instances start.
    Starting,
    /// Every slot has its fresh instance ready.
    Prepared,
    /// Slots switch, one after the other.
    Switching,
    /// As many slots as wanted have switched.
    Switched,
    /// Slots return to the stable version.
    GoingBack,
    /// They have, and nothing of the new version is left.
    Back,
    /// A slot cannot return: it keeps what it runs.
    Stuck,
}

impl Step {
    /// What people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetching => "fetching the module",
            Self::Compiling => "compiling",
            Self::Starting => "starting instances",
            Self::Prepared => "prepared",
            Self::Switching => "switching",
            Self::Switched => "switched",
            Self::GoingBack => "going back",
            Self::Back => "back",
            Self::Stuck => "stuck",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What went wrong with a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The slot, if it is one slot's.
    pub slot: Option<u32>,
    /// Doing what.
    pub stage: Stage,
    /// Why, with the wasm backtrace if there is one. At most [`REASON_BYTES_MAX`] bytes.
    pub reason: String,
}

impl Failure {
    /// A failure; a reason that is too long is cut.
    pub fn new(slot: Option<u32>, stage: Stage, reason: String) -> Self {
        Self { slot, stage, reason: cut_reason(reason) }
    }
}

/// Cuts a reason at [`REASON_BYTES_MAX`] bytes, and says so at its end.
pub fn cut_reason(mut reason: String) -> String {
    if reason.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX - CUT.len();
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        reason.push_str(CUT);
    }
    reason
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "slot {slot}, {}: {}", self.stage.as_str(), self.reason),
            None => write!(f, "{}: {}", self.stage.as_str(), self.reason),
        }
    }
}

/// What was being done when something went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Getting the module's bytes.
    Fetch,
    /// Checking the module and what it imports.
    Verify,
    /// Compiling it.
    Compile,
    /// Finding room for its instances.
    Capacity,
    /// `on-worker-start` of a fresh instance.
    Start,
    /// `save` in the old instance.
    Save,
    /// `restore` in the new one.
    Restore,
    /// `on-worker-stop` of the old one.
    Stop,
    /// It took too long.
    Time,
    /// The worker itself failed.
    Worker,
}

impl Stage {
    /// What people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetching the module",
            Self::Verify => "checking the module",
            Self::Compile => "compiling",
            Self::Capacity => "finding room for its instances",
            Self::Start => "on-worker-start",
            Self::Save => "save in the old version",
            Self::Restore => "restore in the new version",
            Self::Stop => "on-worker-stop",
            Self::Time => "out of time",
            Self::Worker => "the worker",
        }
    }
}

/// What one version has done on one worker, from the worker's start on: the numbers only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionTally {
    /// The version.
    pub version: u32,
    /// Callbacks run, failed ones too.
    pub turns: u64,
    /// Callbacks that ended with an error of the plugin's own.
    pub errors: u64,
    /// Callbacks that trapped.
    pub traps: u64,
    /// Callbacks that overran a limit.
    pub overruns: u64,
    /// Slots on which it trapped or overran at least once.
    pub slots_trapped: u32,
}

/// One slot's move from one version to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SlotSwitch {
    /// The slot.
    pub slot: u32,
    /// What it ran before; None: nothing.
    pub from: Option<u32>,
    /// What it runs now.
    pub to: u32,
    /// How long it took no turn, in microseconds.
    pub pause_us: u64,
    /// Events that had come in by the end of the pause and had no turn yet.
    pub waiting_events: u32,
    /// The number of the slot's last turn on old code: turns are counted from the start of the
    /// worker on, and what has a higher number ran on new code.
    pub after_turn: u64,
    /// Bytes that were handed to `restore`.
    pub state_bytes: u64,
    /// What the old instance knew could not be handed over: the new one has what the slot handed over when it left this
    /// version, or nothing.
    pub state_lost: bool,
    /// Timers of the old instance that go on in the new one.
    pub timers_carried: u32,
    /// Timers that the new instance has set itself.
    pub timers_set: u32,
    /// Timers of the old instance that are gone, since the new version has no callback for them.
    pub timers_dropped: u32,
    /// Events that the slot's lanes had delivered before the switch.
    pub lane_events_before: u64,
    /// Events' numbers that its lanes never saw: since the slot's switch before this one, or its start, until the next
    /// one, or now.
    pub lost: u32,
    /// Numbers that they saw twice, in the same time.
    pub repeated: u32,
    /// Numbers that they saw too late, in the same time.
    pub reordered: u32,
    /// From the switch to the end of the first turn on new code, in microseconds; None: no turn yet.
    pub first_event_us: Option<u64>,
}

impl SlotSwitch {
    /// Whether both tell of the same switch: what comes in after it may differ.
    pub fn is_same(&self, other: &Self) -> bool {
        let identity = |it: &Self| (it.slot, it.from, it.to, it.pause_us, it.lane_events_before);
        identity(self) == identity(other)
    }
}

/// How many clients a gateway holds and held for one app, since it started: all but `clients` only grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppClients {
    /// The app.
    pub app: AppName,
    /// Clients that are connected now.
    pub clients: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that ended, for whatever reason.
    pub closed: u64,
    /// Events that were accepted for the app.
    pub events: u64,
    /// Events that were given up on: counted failures.
    pub lost: u64,
}

/// A share of the slots that runs the new version first, and is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The share of the slots in percent, 1 to 99; at least one slot, and never all.
    pub percent: u8,
    /// How long the two versions are compared, in milliseconds. At most four times as long, while there are too few turns.
    pub for_ms: u64,
    /// Turns that each version must have run to be judged.
    pub events_min: u64,
}

impl Canary {
    /// The least turns to judge a version by, unless somebody says otherwise.
    pub const EVENTS_MIN: u64 = 100;

    /// How long the versions are compared.
    pub const fn window(&self) -> Duration {
        Duration::from_millis(self.for_ms)
    }
}

/// Ends a reason that was cut.
const CUT: &str = "\n[cut here]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_at_a_character_and_says_so() {
        let failure = Failure::new(None, Stage::Start, "é".repeat(REASON_BYTES_MAX));
        assert!(failure.reason.len() <= REASON_BYTES_MAX);
        assert!(failure.reason.ends_with(CUT));
        let short = Failure::new(Some(3), Stage::Save, "it trapped".into());
        assert_eq!(short.to_string(), "slot 3, save in the old version: it trapped");
    }

    #[test]
    fn a_version_is_shown_with_the_first_digits_of_its_module() {
        let version = VersionRef { number: 7, digest: Digest::of(b"") };
        assert_eq!(version.to_string(), "version 7 (sha256:e3b0c44298fc)");
    }
}
