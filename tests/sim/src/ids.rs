//! Names of what comes and goes.

/// A slot in one life of its worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotId {
    pub worker: usize,
    pub life: u64,
    /// The app's number.
    pub app: usize,
    pub slot: u32,
}

/// A lane between a slot and a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneId {
    pub gateway: usize,
    pub slot: SlotId,
    /// Grows with every lane.
    pub generation: u64,
}
