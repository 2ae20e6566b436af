//! Plugins whose source is watched: when it changes, it is built and deployed, and whoever is connected stays so.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tidegate_base::AppName;
use tidegate_build::{BuildError, BuildRequest, Terminal, WatchStop, Watcher, Woken, build};
use tidegate_register::deployer::{DeployOrder, Deployer, Job, ModuleRef, Next};
use tidegate_wire::report::SwapReport;
use tidegate_wire::request::Refusal;
use tokio::runtime::Handle;

use crate::Config;
use crate::config::Plugin;

/// What became of a change.
#[derive(Debug)]
pub enum Changed {
    /// Something was saved: it is being built.
    Building {
        /// The app.
        app: AppName,
        /// What was saved.
        paths: Vec<PathBuf>,
    },
    /// It does not build: the code that ran goes on.
    Broken {
        /// The app.
        app: AppName,
        /// What the compiler or the check says.
        error: Box<BuildError>,
    },
    /// What was built cannot be read.
    Unread {
        /// The app.
        app: AppName,
        /// The component.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It builds to what runs already.
    Same {
        /// The app.
        app: AppName,
    },
    /// It was deployed; the report says how that ended.
    Deployed(Box<SwapReport>),
    /// It could not be deployed: the code that ran goes on.
    Refused {
        /// The app.
        app: AppName,
        /// Why.
        refusal: Box<Refusal>,
    },
}

/// The watched plugins of a node, from before its first build on. Nothing is done until [`Watch::start`].
pub struct Watch {
    apps: Vec<Watched>,
}

struct Watched {
    app: AppName,
    request: BuildRequest,
    watcher: Watcher,
}

/// Watching goes on until this is dropped. What is being built or deployed then is let go.
pub struct Watching {
    stops: Vec<WatchStop>,
    _threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Looks at the sources of every app whose plugin is a folder.
    ///
    /// # Errors
    /// A folder has no plugin.
    pub fn new(config: &Config) -> Result<Self, BuildError> {
        let mut apps = Vec::new();
        for app in &config.apps {
            if let Some(Plugin::Folder(folder)) = &app.plugin {
                let request = BuildRequest::new(folder);
                let watcher = Watcher::new(&request)?;
                apps.push(Watched { app: app.name.clone(), request, watcher });
            }
        }
        Ok(Self { apps })
    }

    /// Builds and deploys whatever changes from now on, and tells what became of it: one thread for each app, so that
    /// changes of one app follow each other. Within a tokio runtime.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        self,
        deployer: &Arc<dyn Deployer>,
        tell: impl Fn(Changed) + Send + Sync + 'static,
    ) -> std::io::Result<Watching> {
        let tell: Arc<dyn Fn(Changed) + Send + Sync> = Arc::new(tell);
        let (mut stops, mut threads) = (Vec::new(), Vec::new());
        for mut watched in self.apps {
            if let Some(limits) = watched.watcher.limits() {
                tracing::warn!(app = %watched.app, "{limits}");
            }
            stops.push(watched.watcher.stopper());
            let (deployer, tell) = (Arc::clone(deployer), Arc::clone(&tell));
            let runtime = Handle::current();
            let name = "tidegate-watch".to_owned();
            let run = move || {
                while let Woken::Changed(change) = watched.watcher.wait(None) {
                    let app = watched.app.clone();
                    tell(Changed::Building { app, paths: change.paths });
                    tell(watched.renew(&deployer, &runtime));
                }
            };
            threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(Watching { stops, _threads: threads })
    }
}

impl Watched {
    fn renew(&self, deployer: &Arc<dyn Deployer>, runtime: &Handle) -> Changed {
        let app = self.app.clone();
        let built = match build(&self.request, &mut Terminal::stderr()) {
            Ok(built) => built,
            Err(error) => return Changed::Broken { app, error: Box::new(error) },
        };
        let runs = runtime.block_on(deployer.apps()).unwrap_or_default();
        let stable = runs.into_iter().find(|it| it.app == app).and_then(|it| it.stable);
        if stable.is_some_and(|version| version.digest == built.digest) {
            return Changed::Same { app };
        }
        let component = match std::fs::read(&built.wasm) {
            Ok(component) => component,
            Err(error) => return Changed::Unread { app, path: built.wasm, error },
        };
        let order = DeployOrder {
            app: app.clone(),
            module: ModuleRef::Bytes(Bytes::from(component)),
            canary: None,
            note: "a file was saved".into(),
            by: "dev".into(),
        };
        let deployer = Arc::clone(deployer);
        let ended = runtime.block_on(async move {
            let mut job = Job::deploy(deployer, order);
            loop {
                if let Next::Ended(ended) = job.next().await {
                    return *ended;
                }
            }
        });
        match ended {
            Ok(report) => Changed::Deployed(Box::new(report)),
            Err(refusal) => Changed::Refused { app, refusal: Box::new(refusal) },
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.apps.iter().map(|watched| &watched.app)).finish()
    }
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").field("apps", &self.stops.len()).finish()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stops.iter().for_each(WatchStop::stop);
    }
}
