//! The worker role: it runs plugins. It holds no client socket; one tenant's plugin cannot see, starve or crash
//! another's.
//!
//! ```text
//!   lanes -> intake -> slot: one turn at a time -> outbox -> lanes
//!                        |  ^
//!                        v  | host functions
//!                      plugin instance (runtime)
//! ```

mod app_log;
mod apps;
mod buckets;
mod capacity;
mod conducted;
mod conductor;
mod core;
mod counters;
mod edition;
mod fits;
mod held;
mod host;
mod inbox;
mod intake;
mod lane;
mod links;
mod log_ring;
mod offers;
mod outbox;
mod places;
mod prepare;
mod query;
mod queue;
mod roster;
mod rules;
mod settings;
mod slot;
mod stored;
mod table;
mod timers;
mod worker;

pub use self::apps::{AddAppError, ConfigureAppError};
pub use self::capacity::NoCapacity;
pub use self::conductor::{Loading, ModuleSource, Orders};
pub use self::fits::{DoesNotFit, MissingGrant, MissingLabels, ModuleTooLarge, TooMuchMemory};
pub use self::links::is_stopped;
pub use self::settings::{OnFailure, PluginSettings, WorkerApp, WorkerSettings};
pub use self::slot::SlotStartError;
pub use self::worker::{AppStatus, Worker, WorkerError};
