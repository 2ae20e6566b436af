//! Exit codes: 0 done; 64 wrong arguments; 65 a plugin that does not build or does not fit; 69 something that is needed
//! is not there (a port, a node, a register); 70 a failure at run time, or a deployment that
//! was rolled back; 73 a file that would have to be overwritten, or a name that is taken;
//! 77 a quota of the tenant; 78 wrong settings, or a name that stands in a settings file; 128 and the signal's number after a second signal.

use std::fmt::Display;
use std::process::ExitCode;

use tidegate_node::steer::SteerError;
use tidegate_node::{ConfigError, NodeError, PluginError};
use tidegate_wire::request::Refusal;

use crate::output::note;

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

pub(crate) type Outcome = Result<(), Failure>;

impl Failure {
    pub const USAGE: u8 = 64;
    pub const DATA: u8 = 65;
    pub const UNAVAILABLE: u8 = 69;
    pub const SOFTWARE: u8 = 70;
    pub const CANNOT_CREATE: u8 = 73;
    pub const NO_PERMISSION: u8 = 77;
    pub const CONFIG: u8 = 78;

    /// For `map_err`.
    pub fn with<E: Display>(code: u8) -> impl Fn(E) -> Self {
        move |error| Self { code, message: error.to_string() }
    }

    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn report(self) -> ExitCode {
        note(format_args!("error: {}", self.message));
        ExitCode::from(self.code)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Self::CONFIG, error.to_string())
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::DataDir(_)
            | NodeError::Store(_)
            | NodeError::Keys(_)
            | NodeError::Tokens(_)
            | NodeError::TokenFile { .. }
            | NodeError::Engine(_)
            | NodeError::Plugin(PluginError::Cache(_)) => Self::CONFIG,
            NodeError::Plugin(_) | NodeError::Worker(_) | NodeError::Versions(_) => Self::DATA,
            NodeError::Listen { .. }
            | NodeError::ListenShared { .. }
            | NodeError::ListenMetrics { .. }
            | NodeError::Admin { .. }
            | NodeError::Bridge(_)
            | NodeError::Gateway(_)
            | NodeError::Link(_) => Self::UNAVAILABLE,
            NodeError::Control { .. } | NodeError::System { .. } | NodeError::Panicked(_) => Self::SOFTWARE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SteerError> for Failure {
    fn from(error: SteerError) -> Self {
        let code = match &error {
            SteerError::Refused(refusal) => of_refusal(refusal),
            SteerError::Node(_) | SteerError::Register(_) | SteerError::OutOfSight { .. } => {
                Self::UNAVAILABLE
            }
            SteerError::System(_) => Self::SOFTWARE,
        };
        Self::new(code, error.to_string())
    }
}

/// Whose fault it is decides.
fn of_refusal(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::UnknownApp { .. }
        | Refusal::UnknownVersion { .. }
        | Refusal::UnknownModule { .. }
        | Refusal::NoEarlier { .. }
        | Refusal::NotRunning { .. }
        | Refusal::UnknownTenant { .. }
        | Refusal::UnknownNode { .. }
        | Refusal::Wish { .. } => Failure::USAGE,
        Refusal::Exists { .. } => Failure::CANNOT_CREATE,
        Refusal::Quota { .. } => Failure::NO_PERMISSION,
        Refusal::Fixed { .. } => Failure::CONFIG,
        Refusal::BadModule { .. } => Failure::DATA,
        Refusal::NoWorkers { .. }
        | Refusal::Busy { .. }
        | Refusal::Ending { .. }
        | Refusal::NoCapacity { .. }
        | Refusal::NotAllowed { .. }
        | Refusal::TooMuch { .. }
        | Refusal::Suspended { .. }
        | Refusal::Unavailable { .. } => Failure::UNAVAILABLE,
        Refusal::Transfer { .. }
        | Refusal::NoRoom { .. }
        | Refusal::Store { .. }
        | Refusal::Broken { .. }
        | Refusal::Internal { .. } => Failure::SOFTWARE,
    }
}

/// Help and version are no failure; everything else of clap's is a wrong argument.
pub(crate) fn of_arguments(error: &clap::Error) -> ExitCode {
    // A closed terminal cannot be told anything.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Failure::USAGE) } else { ExitCode::SUCCESS }
}
