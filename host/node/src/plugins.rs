//! From what an app names as its plugin to a compiled module.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tidegate_base::{AppName, Digest, Setting};
use tidegate_build::{BuildError, BuildRequest, Progress, Silent, Terminal, build, inspect};
use tidegate_runtime::{CacheError, CacheSettings, Engine, LoadError, Module, ModuleCache, Modules};
use tidegate_store::{Store, StoreError};
use tidegate_wire::control::VersionRef;
use tidegate_worker::{DoesNotFit, ModuleTooLarge, WorkerApp};

use crate::config::{AppConfig, BuildOutput, Config, Place, Plugin, Solitude};
use crate::tenants::TenantBudgets;

/// Why an app's plugin cannot run.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It does not build, or is not a component that a host would run.
    #[error("app {app}: {error}")]
    Build {
        /// The app.
        app: AppName,
        /// What is wrong.
        error: Box<BuildError>,
    },
    /// The component cannot be read.
    #[error("app {app}: cannot read {}: {error}", path.display())]
    Read {
        /// The app.
        app: AppName,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A worker of a cluster was given source.
    #[error(
        "app {app}: {0} is a folder, and a worker of a cluster builds no source: run `tidegate build {0} -o {1}.wasm` \
         and name that file as `plugin`",
        path.display(),
        app.app()
    )]
    Source {
        /// The app.
        app: AppName,
        /// The folder.
        path: PathBuf,
    },
    /// It is larger than the app's may be.
    #[error(transparent)]
    TooLarge(#[from] ModuleTooLarge),
    /// The app may not run it.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    /// A module is named by its digest.
    #[error(
        "app {app}: sha256:{digest} is not in the store of this node's data folder: name the .wasm file as `plugin`"
    )]
    Digest {
        /// The app.
        app: AppName,
        /// The name.
        digest: Digest,
    },
    /// It does not compile for this machine.
    #[error("app {app}: {error}")]
    Load {
        /// The app.
        app: AppName,
        /// What is wrong.
        error: LoadError,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no place for compiled modules.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Plugins as the settings name them, compiled.
pub(crate) struct Loaded {
    pub modules: Arc<Modules>,
    pub apps: Vec<LoadedApp>,
    /// Apps that require labels which this worker does not have: nothing of them is built or run here.
    pub elsewhere: Vec<WorkerApp>,
    /// What the budgets of the apps are parts of.
    pub tenants: Arc<TenantBudgets>,
}

/// One app's plugin.
pub(crate) struct LoadedApp {
    pub app: WorkerApp,
    /// The component that it is compiled from.
    pub component: Bytes,
}

/// Builds, checks and compiles the plugin of every app, each plugin once however many apps name it. Blocks, for seconds or
/// minutes. Modules that are named by their digest come from the store.
pub(crate) fn load(config: &Config, engine: &Engine, store: Option<&Store>) -> Result<Loaded, PluginError> {
    let cache = ModuleCache::open(CacheSettings::new(config.data_dir.join("modules")))?;
    let modules = Modules::new(engine.clone(), config.worker.compiler.clone(), Some(cache));
    let (here, elsewhere): (Vec<_>, Vec<_>) = config.apps.iter().partition(|app| config.runs_here(app));
    let tenants = Arc::new(TenantBudgets::default());
    let solitude = config.solitude();
    let mut loader = Loader { config, solitude, store, modules: &modules, known: HashMap::new() };
    let apps = here.into_iter().map(|app| {
        loader.app(app).map(|mut loaded| {
            loaded.iter_mut().for_each(|it| it.app.budget = tenants.budget_of(&app.name, app.cpu_share));
            loaded
        })
    });
    let apps = apps.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let elsewhere = elsewhere
        .into_iter()
        .map(|app| WorkerApp { require: app.require.clone(), ..WorkerApp::empty(app.name.clone()) });
    Ok(Loaded { modules: Arc::new(modules), apps, elsewhere: elsewhere.collect(), tenants })
}

/// Compiles the version that an app is to run instead of the one that its settings name. Blocks.
pub(crate) fn replace(
    loaded: &mut LoadedApp,
    modules: &Modules,
    version: VersionRef,
    component: Bytes,
) -> Result<(), PluginError> {
    if loaded.app.module.as_ref().is_none_or(|module| module.digest() != version.digest) {
        let app = loaded.app.name.clone();
        ModuleTooLarge::check(&app, component.len() as u64, loaded.app.module_bytes_max)?;
        let module =
            modules.load(&component).map_err(|error| PluginError::Load { app: app.clone(), error })?;
        DoesNotFit::check_module(&loaded.app, &module)?;
        loaded.app.module = Some(module);
        tracing::info!(%app, %version, "the version that was deployed last is loaded instead");
        loaded.component = component;
    }
    loaded.app.version = version.number;
    Ok(())
}

/// An app as a worker is told of it; its module, version and budget stay as they are.
pub(crate) fn worker_app(app: &AppConfig, solitude: &Solitude, mut worker: WorkerApp) -> WorkerApp {
    worker.is_only_here = solitude.is_only_here(app);
    worker.require = app.require.clone();
    worker.slots = app.slots;
    worker.min_slots = app.min_slots;
    worker.slot_idle = app.slot_idle;
    worker.limits = app.instance;
    worker.turn_output_bytes_max = app.turn_output_bytes_max;
    worker.commands_per_turn_max = app.commands_per_turn_max;
    worker.payload_bytes_max = app.limits.payload_bytes_max;
    worker.session_bytes_max = app.limits.session_bytes_max;
    worker.timers_max = app.timers_max;
    worker.state_bytes_max = app.state_bytes_max;
    worker.module_bytes_max = app.module_bytes_max;
    worker.keys_bytes_max = app.keys_bytes_max;
    worker.log_lines_per_s = app.log_lines_per_s;
    worker.on_failure = app.on_failure;
    let exposed = |(key, value): (&String, &Setting)| Some((key.clone(), value.expose()?.to_owned()));
    worker.settings = app.settings.iter().filter_map(exposed).collect();
    worker.grants.clone_from(&app.grants);
    worker
}

/// Loads plugins, and knows those that it has loaded.
struct Loader<'a> {
    config: &'a Config,
    solitude: Solitude,
    store: Option<&'a Store>,
    modules: &'a Modules,
    known: HashMap<&'a Plugin, (Module, Bytes)>,
}

impl<'a> Loader<'a> {
    fn app(&mut self, app: &'a AppConfig) -> Result<Option<LoadedApp>, PluginError> {
        let Some(plugin) = &app.plugin else { return Ok(None) };
        let (module, component) = match self.known.get(plugin) {
            Some(known) => known.clone(),
            None => self.load(app, plugin)?,
        };
        let mut worker = worker_app(app, &self.solitude, WorkerApp::new(app.name.clone(), module.clone()));
        // Of apps with the same plugin, one may have less.
        DoesNotFit::check_module(&worker, &module)?;
        tracing::info!(app = %app.name, digest = %module.digest(), "plugin loaded");
        worker.version = 0;
        Ok(Some(LoadedApp { app: worker, component }))
    }

    fn load(&mut self, app: &AppConfig, plugin: &'a Plugin) -> Result<(Module, Bytes), PluginError> {
        let component = component(self.config, app, plugin, self.store)?;
        let module = self.modules.load(&component);
        let module = module.map_err(|error| PluginError::Load { app: app.name.clone(), error })?;
        self.known.insert(plugin, (module.clone(), component.clone()));
        Ok((module, component))
    }
}

fn component(
    config: &Config,
    app: &AppConfig,
    plugin: &Plugin,
    store: Option<&Store>,
) -> Result<Bytes, PluginError> {
    let failed = |error| PluginError::Build { app: app.name.clone(), error: Box::new(error) };
    let path = match plugin {
        Plugin::Folder(path) if matches!(config.place, Place::AllInOne) => {
            build_folder(path, config.worker.build).map_err(failed)?
        }
        Plugin::Folder(path) => {
            return Err(PluginError::Source { app: app.name.clone(), path: path.clone() });
        }
        Plugin::Wasm(path) => {
            inspect(path).map_err(failed)?;
            path.clone()
        }
        Plugin::Digest(digest) => {
            let stored = store.map(|store| store.get(*digest)).transpose()?.flatten();
            return match stored {
                Some(bytes) => Ok(bytes.into()),
                None => Err(PluginError::Digest { app: app.name.clone(), digest: *digest }),
            };
        }
    };
    let read = std::fs::read(&path);
    read.map(Bytes::from).map_err(|error| PluginError::Read { app: app.name.clone(), path, error })
}

fn build_folder(path: &Path, output: BuildOutput) -> Result<PathBuf, BuildError> {
    let mut progress: Box<dyn Progress> = match output {
        BuildOutput::Stderr => Box::new(Terminal::stderr()),
        BuildOutput::Silent => Box::new(Silent),
    };
    build(&BuildRequest::new(path), &mut *progress).map(|built| built.wasm)
}
