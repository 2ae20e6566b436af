//! The plugin runtime: engine, pools, limits, host functions, compilation. The only crate that names wasmtime, and no
//! wasmtime type crosses its API.
//!
//! ```text
//!  Engine ---- one per process: pools of instances, the Ticker that interrupts guests
//!    |
//!  Modules --- bytes -> compile (child process) -> ModuleCache -> Module
//!    |
//!  Template -- a Module linked against a PluginHost, its callbacks found once
//!    |
//!  Instance -- one plugin instance; each callback is one turn, bounded by Limits
//!
//!  CpuBudget - what the turns of all instances of an app may use; over it they wait
//!
//!  SlowPool -- low-priority threads; a slot's whole future moves there while its turn needs the CPU for long
//! ```
//!
//! An instance runs in the tokio runtime of its shard (current_thread, time enabled). See [`SlowPool`] for how a turn
//! leaves and comes back.

mod budget;
mod cache;
mod clock;
pub mod compile;
mod counters;
mod engine;
mod fair_queue;
mod fault;
mod host;
mod host_functions;
mod instance;
mod limits;
mod module;
mod movable;
mod place;
mod slow_pool;
mod start;
mod stdio;
mod template;
mod ticker;
mod turn;

pub use budget::{Budget, CpuBudget, CpuUse};
pub use cache::{CacheError, CacheSettings, ModuleCache};
pub use clock::LongTurn;
pub use compile::{ChildCompiler, CompileError, CompileLimits, Compiler};
pub use engine::{Engine, EngineError, EngineSettings, PoolUse};
pub use fault::{Fault, SaveError, StartError};
pub use host::{KeyBucket, LogLevel, PluginHost};
pub use instance::Instance;
pub use limits::Limits;
pub use module::{LoadError, Module, Modules};
pub use movable::Movable;
pub use slow_pool::{SlowPool, SlowPoolSettings, SlowPoolStats};
pub use start::{StartInfo, StartReason, StopReason};
pub use template::{Template, TemplateError};
