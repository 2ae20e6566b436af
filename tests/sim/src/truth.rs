//! What is really in a worker's slots, whatever the machines believe.

use tidegate_wire::control::VersionRef;
use tidegate_wire::rollout::{Do, Rollout};

/// The instances of one slot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SlotTruth {
    pub runs: Option<VersionRef>,
    pub beside: Option<VersionRef>,
    /// It was asked to do something and has not answered.
    pub busy: bool,
}

/// What carrying out a thing to do makes of its slot.
pub(crate) fn done(slot: &mut SlotTruth, what: Do) -> Result<(), String> {
    let before = *slot;
    let fits = match what {
        Do::Start { version, .. } => {
            slot.runs = Some(version);
            before.runs.is_none() && before.beside.is_none()
        }
        Do::Prepare { version, .. } => {
            slot.beside = Some(version);
            before.beside.is_none()
        }
        Do::Switch { version, .. } => {
            *slot = SlotTruth { runs: before.beside, ..SlotTruth::default() };
            before.beside == Some(version)
        }
        Do::Discard { .. } => {
            slot.beside = None;
            before.beside.is_some()
        }
        // Every app here has a plugin of its own to go back to.
        Do::Empty { .. } => false,
        Do::Load(_) | Do::Unload(_) | Do::Report => true,
    };
    if fits { Ok(()) } else { Err(format!("{what:?} in a slot with {before:?}")) }
}

/// Whether the machine knows what its slots run.
pub(crate) fn agrees(rollout: &Rollout, slots: &[SlotTruth]) -> bool {
    rollout.slots().eq(slots.iter().map(|slot| slot.runs))
}
