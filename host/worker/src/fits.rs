//! Whether an app fits a worker, and why not.

use tidegate_base::{AppName, Capability, Label};
use tidegate_runtime::{Engine, Module};
use tidegate_wire::control::{Failure, Stage};

use crate::capacity::NoCapacity;
use crate::settings::{WorkerApp, WorkerSettings};

/// An app that a worker has no room for, or that is not to be there.
#[derive(Debug, thiserror::Error)]
pub enum DoesNotFit {
    /// Too few places for plugin instances are left.
    #[error(transparent)]
    NoCapacity(#[from] NoCapacity),
    /// Its instances may be larger than the places for them.
    #[error(transparent)]
    Memory(#[from] TooMuchMemory),
    /// The worker lacks labels that the app requires.
    #[error(transparent)]
    Labels(#[from] MissingLabels),
    /// Its module is larger than the app's may be.
    #[error(transparent)]
    Module(#[from] ModuleTooLarge),
    /// It is not granted what its module needs.
    #[error(transparent)]
    Grants(#[from] MissingGrant),
    /// Its keys would be in several places.
    #[error(transparent)]
    Keys(#[from] KeysElsewhere),
}

impl DoesNotFit {
    /// Whether an app may be on a worker, places aside.
    pub(crate) fn check(engine: &Engine, worker: &WorkerSettings, app: &WorkerApp) -> Result<(), Self> {
        if let Some(module) = &app.module {
            Self::check_module(app, module)?;
        }
        MissingLabels::check(worker, app)?;
        Ok(TooMuchMemory::check(engine, app)?)
    }

    /// Whether an app may run a module.
    ///
    /// # Errors
    /// The module is too large, or needs what the app is not granted.
    pub fn check_module(app: &WorkerApp, module: &Module) -> Result<(), Self> {
        ModuleTooLarge::check(&app.name, module.component_bytes(), app.module_bytes_max)?;
        if let Some(missing) = module.needs().iter().find(|needed| !app.grants.has(**needed)) {
            return Err(MissingGrant { app: app.name.clone(), missing: *missing }.into());
        }
        match app.is_only_here || !module.needs().contains(&Capability::Keys) {
            true => Ok(()),
            false => Err(KeysElsewhere { app: app.name.clone() }.into()),
        }
    }
}

/// A module that is larger than those of its app may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the module of app {app} has {bytes} bytes, but the app's `module_bytes_max` is {bytes_max}: make the plugin smaller, or \
     raise the limit"
)]
pub struct ModuleTooLarge {
    /// The app.
    pub app: AppName,
    /// How large the component is.
    pub bytes: u64,
    /// How large it may be.
    pub bytes_max: u64,
}

impl ModuleTooLarge {
    /// Whether a component of so many bytes is not too large.
    ///
    /// # Errors
    /// It is.
    pub fn check(app: &AppName, bytes: u64, bytes_max: u64) -> Result<(), Self> {
        match bytes > bytes_max {
            true => Err(Self { app: app.clone(), bytes, bytes_max }),
            false => Ok(()),
        }
    }
}

/// As a deployment is told.
impl From<ModuleTooLarge> for Failure {
    fn from(error: ModuleTooLarge) -> Self {
        Self::new(None, Stage::Verify, error.to_string())
    }
}

/// A module that needs what its app is not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plugin of app {app} needs a grant for {}: write `{}` into [app.grants] (of a file for `apps create`, [grants]), or \
     remove the code or the dependency that uses it",
    missing.purpose(),
    missing.line()
)]
pub struct MissingGrant {
    /// The app.
    pub app: AppName,
    /// What it needs.
    pub missing: Capability,
}

/// An app with keys that may run on several workers, each of which would keep keys of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plugin of app {app} keeps keys, and they live on one worker: name that worker in `require` of the app, as \
     `require = [\"NAME\"]` (every worker has its own name as a label), or take `keys` out of its grants"
)]
pub struct KeysElsewhere {
    /// The app.
    pub app: AppName,
}

/// An app that a worker does not run, since it is not marked with what the app requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "app {app} requires {} of its workers, which this one is not marked with: add it to `labels` of [worker] here, or \
     take it out of `require` of the app",
    shown(missing)
)]
pub struct MissingLabels {
    /// The app.
    pub app: AppName,
    /// What the worker lacks.
    pub missing: Vec<Label>,
}

impl MissingLabels {
    pub(crate) fn check(worker: &WorkerSettings, app: &WorkerApp) -> Result<(), Self> {
        let missing = worker.missing_labels(&app.require);
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Self { app: app.name.clone(), missing }),
        }
    }
}

/// An app whose instances may be larger than a worker's places for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "app {app}: `memory_mib` is {memory_mib}, but this worker's instances have {allowed_mib} at most: lower it, or raise \
     `memory_mib` of [worker]"
)]
pub struct TooMuchMemory {
    /// The app.
    pub app: AppName,
    /// What the app may use.
    pub memory_mib: u32,
    /// What an instance of the worker may have.
    pub allowed_mib: u32,
}

impl TooMuchMemory {
    fn check(engine: &Engine, app: &WorkerApp) -> Result<(), Self> {
        let (allowed_mib, memory_mib) = (engine.settings().memory_mib, app.limits.memory_mib);
        match memory_mib > allowed_mib {
            true => Err(Self { app: app.name.clone(), memory_mib, allowed_mib }),
            false => Ok(()),
        }
    }
}

fn shown(labels: &[Label]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" and ")
}
