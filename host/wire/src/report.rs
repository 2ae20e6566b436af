//! What a deployment came to: the report that is printed, stored and sent, and the news on the way to it.

mod people;

use serde::{Deserialize, Serialize};
use tidegate_base::{AppName, NodeName};

use crate::control::{Canary, Failure, Step, VersionRef, VersionTally};

/// Workers that a report names as away, at most.
pub const AWAY_MAX: usize = 256;

/// How a deployment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every slot runs the new version, of all workers that the register can reach; the others move to it when they
    /// return.
    Committed,
    /// No slot runs the new version, of all workers that the register can reach; the others leave it when they return.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Some slots run one version, some another: going back failed too, or took too long.
    Mixed {
        /// Why, and which slots run what.
        reason: String,
    },
}

impl Outcome {
    /// The name in lists.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::RolledBack { .. } => "rolled back",
            Self::Mixed { .. } => "mixed",
        }
    }

    /// Why it did not commit.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Committed => None,
            Self::RolledBack { reason } | Self::Mixed { reason } => Some(reason),
        }
    }
}

/// The facts of one deployment. `Display` is for people, serde for programs; times have their unit in their name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapReport {
    /// The app.
    pub app: AppName,
    /// What was deployed.
    pub version: VersionRef,
    /// The earlier version that it deployed again.
    pub again: Option<u32>,
    /// What was stable before; None: nothing had been deployed.
    pub previous: Option<VersionRef>,
    /// When it was asked for: milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Workers that took part until the end.
    pub workers: u32,
    /// Workers that took part and were away at the end, by name, [`AWAY_MAX`] of them at most: what they run is not known.
    /// When they return they are told what they should.
    #[serde(default)]
    pub away: Vec<NodeName>,
    /// The slots of those that were there.
    pub slots: u32,
    /// Switches of slots to the new version, those of workers that are gone too.
    pub switched: u32,
    /// Switches of slots away from it.
    pub switched_back: u32,
    /// The clients. None: no gateway counted both before and after.
    pub clients: Option<ClientCounts>,
    /// How long slots paused for their switches. None: no slot switched.
    pub pauses: Option<Pauses>,
    /// What the lanes saw around the switches, by the numbers of their events.
    pub audit: Audit,
    /// Timers that went on in a new instance.
    pub timers_carried: u64,
    /// Timers that are gone, since the version that took over has no callback for them. Reports that were stored before
    /// this was counted say 0.
    #[serde(default)]
    pub timers_dropped: u64,
    /// Bytes of state handed over by all slots.
    pub state_bytes: u64,
    /// Slots that went back without what they knew: the new version could not hand it over, or the old one not take it.
    /// They have what they handed over when they left the old version, or nothing.
    pub states_lost: u32,
    /// Which slot ran which version, by the numbers of its turns, as logs have them: the first 1,024 switches.
    pub turns: Vec<SwitchedAt>,
    /// Events that waited at the end of a pause, all slots together.
    pub waiting_events: u64,
    /// How long everything took.
    pub times: Times,
    /// The canary, if there was one.
    pub canary: Option<CanaryReport>,
}

/// The clients of an app over a deployment, summed over the gateways that counted both before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClientCounts {
    /// Gateways that counted.
    pub gateways: u32,
    /// Gateways that did not: they came, went, or were too slow. Their clients are not in the numbers.
    pub gateways_missing: u32,
    /// Clients that were connected at the beginning.
    pub before: u64,
    /// Clients that were connected at the end.
    pub after: u64,
    /// Connections opened meanwhile.
    pub opened: u64,
    /// Connections closed meanwhile, for whatever reason.
    pub closed: u64,
    /// Events accepted meanwhile.
    pub events: u64,
    /// Events given up on meanwhile.
    pub lost: u64,
}

/// Where in a slot's turns it switched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchedAt {
    /// The worker.
    pub worker: NodeName,
    /// Its slot.
    pub slot: u32,
    /// What it ran before; None: nothing.
    pub from: Option<u32>,
    /// What it ran then.
    pub to: u32,
    /// The slot's last turn on the version before. Turns are counted from the start of the worker on.
    pub after_turn: u64,
}

/// How long slots paused, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pauses {
    /// The longest.
    pub longest_us: u64,
    /// Where that was.
    pub longest_worker: NodeName,
    /// Which slot there.
    pub longest_slot: u32,
    /// 99 of 100 switches paused no longer (the longest, if there are fewer than 100).
    pub p99_us: u64,
}

/// What the numbers of events say of the slots' lanes, from each slot's switch before to the end of the deployment. All
/// zero: every event that was delivered had one turn, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Audit {
    /// Numbers that never came.
    pub lost: u64,
    /// Numbers that came twice.
    pub repeated: u64,
    /// Numbers that came too late.
    pub reordered: u64,
}

/// How long the parts of a deployment took, as the register's clock saw them, in microseconds. They count from the wish:
/// when the register had read the question, before the module was sent to it, checked and stored. If the register was
/// started anew on the way, times are from the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times {
    /// From the wish to the last instance that was ready.
    pub prepare_us: u64,
    /// Switching, the canary's slots too, without the time of the canary itself.
    pub switch_us: u64,
    /// The canary.
    pub canary_us: u64,
    /// Going back.
    pub back_us: u64,
    /// From the wish to the end.
    pub total_us: u64,
    /// From the wish to the news that a first turn on new code had ended. None: no event came.
    pub first_event_us: Option<u64>,
}

/// What versions did while they were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryReport {
    /// What was asked for.
    pub asked: Canary,
    /// Slots that ran the new version.
    pub slots: u32,
    /// What the other slots did meanwhile.
    pub old: Tally,
    /// What these slots did.
    pub new: Tally,
    /// What came of it.
    pub verdict: String,
}

/// What one version did in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Callbacks run, failed ones too.
    pub turns: u64,
    /// Callbacks that ended with an error of the plugin's own.
    pub errors: u64,
    /// Callbacks that trapped.
    pub traps: u64,
    /// Callbacks that overran a limit.
    pub overruns: u64,
}

impl Tally {
    /// Callbacks that did not end well.
    pub const fn failures(&self) -> u64 {
        self.errors.saturating_add(self.traps).saturating_add(self.overruns)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            turns: self.turns.saturating_add(other.turns),
            errors: self.errors.saturating_add(other.errors),
            traps: self.traps.saturating_add(other.traps),
            overruns: self.overruns.saturating_add(other.overruns),
        }
    }

    /// What came in since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            turns: self.turns.saturating_sub(before.turns),
            errors: self.errors.saturating_sub(before.errors),
            traps: self.traps.saturating_sub(before.traps),
            overruns: self.overruns.saturating_sub(before.overruns),
        }
    }
}

impl From<&VersionTally> for Tally {
    fn from(tally: &VersionTally) -> Self {
        let VersionTally { turns, errors, traps, overruns, .. } = *tally;
        Self { turns, errors, traps, overruns }
    }
}

/// News of a deployment, for whoever watches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// It is stored, and the workers prepare.
    Started {
        /// What is deployed.
        version: VersionRef,
        /// Workers that run the app.
        workers: u32,
        /// Their slots.
        slots: u32,
    },
    /// A worker got on.
    Worker {
        /// Which.
        worker: NodeName,
        /// How far it is.
        step: Step,
        /// Its slots that run the new version.
        switched: u32,
        /// Its slots.
        slots: u32,
    },
    /// The first slots switch, to be judged.
    Canary {
        /// How many.
        slots: u32,
        /// How many there are in all.
        of: u32,
    },
    /// The canary's verdict is to go on, or there is none: all slots switch.
    Switching {
        /// What was found, if there was a canary.
        verdict: Option<String>,
    },
    /// Something went wrong on a worker.
    Failed {
        /// Where.
        worker: NodeName,
        /// What.
        failure: Failure,
    },
    /// All slots return to the stable version.
    GoingBack {
        /// Why.
        reason: String,
    },
    /// The register cannot write down how far the deployment is; if it is the end, it tries again until it can.
    NotStored {
        /// Why.
        reason: String,
    },
    /// It is over.
    Ended(Box<SwapReport>),
}
