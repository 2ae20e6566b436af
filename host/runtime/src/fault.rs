use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use crate::Limits;
use crate::clock::Overrun;

/// How a turn ended badly. The instance is unusable afterwards and must be replaced.
///
/// A turn that breaks a rule of the contract and ends is no fault: the [`PluginHost`](crate::PluginHost) knows of it, and
/// the instance lives on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The plugin trapped: it panicked, ran out of memory, or did what wasm forbids.
    #[error("the plugin trapped: {message}{backtrace}")]
    Trap {
        /// What happened, with a note if the instance had been refused memory before.
        message: String,
        /// The wasm functions on the stack, innermost first, one a line; empty if there were none.
        backtrace: String,
    },
    /// The turn used up its CPU time.
    #[error(
        "the turn was stopped after {limit_ms} ms of CPU time (turn_cpu_ms): do less in one callback, or raise the \
         limit{backtrace}"
    )]
    CpuLimit {
        /// The limit, in milliseconds.
        limit_ms: u64,
        /// What ran when it was stopped.
        backtrace: String,
    },
    /// The turn took too long from its begin to its end.
    #[error(
        "the turn was given up after {limit_ms} ms (turn_wall_ms): it waited too long, or the machine is overloaded"
    )]
    WallLimit {
        /// The limit, in milliseconds.
        limit_ms: u64,
    },
    /// The turn broke a rule, and ran on and on after it.
    #[error("{reason}; the turn did not end then and was stopped{backtrace}")]
    Rule {
        /// The rule.
        reason: String,
        /// What ran when it was stopped.
        backtrace: String,
    },
    /// The host failed, not the plugin.
    #[error("the host failed during the turn: {0}; this is a bug of Tidegate")]
    Host(String),
    /// A callback was called on an instance that had a fault before or whose call was dropped.
    #[error("the instance is not usable any more: start a new one")]
    Unusable,
}

impl Fault {
    /// A short name for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Trap { .. } => "trap",
            Self::CpuLimit { .. } => "cpu-limit",
            Self::WallLimit { .. } => "wall-limit",
            Self::Rule { .. } => "rule",
            Self::Host(_) => "host",
            Self::Unusable => "unusable",
        }
    }

    pub(crate) fn overrun(overrun: Overrun, limits: &Limits, error: Option<&wasmtime::Error>) -> Self {
        match overrun {
            Overrun::Cpu => Self::CpuLimit {
                limit_ms: limits.turn_cpu_ms,
                backtrace: error.map_or(String::new(), backtrace),
            },
            Overrun::Wall => Self::WallLimit { limit_ms: limits.turn_wall_ms },
            // The host knows which one; whoever has it at hand tells it.
            Overrun::Rule => Self::rule(SOME_RULE, error),
        }
    }

    pub(crate) fn rule(reason: &str, error: Option<&wasmtime::Error>) -> Self {
        Self::Rule { reason: reason.to_owned(), backtrace: error.map_or(String::new(), backtrace) }
    }

    pub(crate) fn from_error(error: &wasmtime::Error, note: Option<String>) -> Self {
        if let Some(failure) = error.downcast_ref::<HostFailure>() {
            return Self::Host(failure.0.clone());
        }
        let mut message = match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => format!("it exited with code {code}; a plugin must not exit"),
            None => error.root_cause().to_string(),
        };
        if let Some(note) = note {
            message.push_str(" (");
            message.push_str(&note);
            message.push(')');
        }
        Self::Trap { message, backtrace: backtrace(error) }
    }
}

/// Why an instance did not hand over its state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaveError {
    /// The turn ended badly.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is too much of it. The instance lives on.
    #[error(
        "the plugin's state has {bytes} bytes, the app may hand over {bytes_max} (state_bytes_max): keep less in \
         memory, or raise the limit"
    )]
    TooLarge {
        /// What `save` returned, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
}

/// Why an instance did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Every place of the engine's pools is taken.
    #[error("no room for another plugin instance: {0}; raise the engine's `instances` or use fewer slots")]
    NoRoom(String),
    /// The plugin needs more memory to begin with than it may have.
    #[error("the plugin does not fit: {0}")]
    Memory(String),
    /// The plugin failed while it was initialised.
    #[error("the plugin failed while it was initialised: {0}")]
    Fault(#[from] Fault),
    /// A callback does not have the type that the contract says.
    #[error("`{callback}` does not have the type of the contract: {reason}; build the plugin with the SDK")]
    WrongType {
        /// The callback.
        callback: &'static str,
        /// What differs.
        reason: String,
    },
}

/// The rule that was broken, if the host does not know which it was.
pub(crate) const SOME_RULE: &str = "the turn broke a rule";

/// An error of the host's own making, to be told from a plugin's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HostFailure(pub(crate) String);

/// Most lines of a backtrace that are kept: an endless recursion has hundreds of thousands.
const BACKTRACE_LINES_MAX: usize = 40;

fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let text = backtrace.to_string();
    let mut lines = String::new();
    // The first line only says that a backtrace follows.
    for line in text.lines().skip(1).take(BACKTRACE_LINES_MAX) {
        lines.push_str("\n  ");
        lines.push_str(line.trim_start());
    }
    lines
}
