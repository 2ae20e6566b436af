/// Why an instance starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartReason {
    /// The slot is new.
    New,
    /// A new version of the plugin takes the slot over.
    Swap,
    /// The instance before trapped or overran.
    Restart,
}

/// What an instance learns when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartInfo {
    /// The slot's number on its worker, from 0.
    pub slot: u32,
    /// How many slots the app has on this worker.
    pub slots: u32,
    /// The worker's name.
    pub worker: String,
    /// The version of the app, from 1; 0 is the plugin that a worker's own settings name.
    pub version: u32,
    /// Why.
    pub reason: StartReason,
}

/// Why an instance stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// A new version takes the slot over.
    Swap,
    /// The worker shuts down or the app leaves it.
    Shutdown,
}
