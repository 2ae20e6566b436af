//! Plugins whose source is watched: when it changes, it is built and deployed, and whoever is connected stays so.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_base::{AppName, Digest};
use tidegate_build::{BuildError, BuildRequest, Terminal, WatchStop, Watcher, Woken, build};
use tidegate_register::deployer::{DeployOrder, Deployer, Job, ModuleRef, Next};
use tidegate_wire::report::SwapReport;
use tidegate_wire::request::Refusal;
use tokio::runtime::Handle;

use crate::Config;
use crate::config::Plugin;

/// How often a deployment is tried again while another one goes on.
const AGAIN: Duration = Duration::from_secs(1);

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
    /// Something else is being deployed: it is tried again until that is over, or something newer is saved. Told once.
    Waiting {
        /// The app.
        app: AppName,
        /// What goes on.
        refusal: Box<Refusal>,
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
                let reach = Reach { deployer: &deployer, runtime: &runtime, tell: &*tell };
                let mut woken = watched.watcher.wait(None);
                while let Woken::Changed(change) = woken {
                    let app = watched.app.clone();
                    tell(Changed::Building { app, paths: change.paths });
                    woken = watched.renew(&reach);
                }
            };
            threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        }
        Ok(Watching { stops, _threads: threads })
    }
}

/// What a thread that watches speaks to.
struct Reach<'a> {
    deployer: &'a Arc<dyn Deployer>,
    runtime: &'a Handle,
    tell: &'a dyn Fn(Changed),
}

impl Watched {
    /// Builds and deploys; ends with what comes after that.
    fn renew(&mut self, reach: &Reach<'_>) -> Woken {
        match self.build() {
            Ok(built) => built.bring(reach, |deadline| self.watcher.wait(deadline)),
            Err(changed) => {
                (reach.tell)(changed);
                self.watcher.wait(None)
            }
        }
    }

    fn build(&self) -> Result<Built, Changed> {
        let app = self.app.clone();
        let built = match build(&self.request, &mut Terminal::stderr()) {
            Ok(built) => built,
            Err(error) => return Err(Changed::Broken { app, error: Box::new(error) }),
        };
        match std::fs::read(&built.wasm) {
            Ok(component) => Ok(Built { app, digest: built.digest, component: component.into() }),
            Err(error) => Err(Changed::Unread { app, path: built.wasm, error }),
        }
    }
}

/// What was saved, as a component.
struct Built {
    app: AppName,
    digest: Digest,
    component: Bytes,
}

impl Built {
    /// Deploys it, if need be when what is being deployed by somebody else is over; unless something newer is saved
    /// before. Ends with what comes after that.
    fn bring(&self, reach: &Reach<'_>, mut wait: impl FnMut(Option<Instant>) -> Woken) -> Woken {
        let mut told = false;
        loop {
            let refusal = match self.deploy(reach) {
                Changed::Refused { refusal, .. } if matches!(*refusal, Refusal::Busy { .. }) => refusal,
                changed => {
                    (reach.tell)(changed);
                    return wait(None);
                }
            };
            if !std::mem::replace(&mut told, true) {
                (reach.tell)(Changed::Waiting { app: self.app.clone(), refusal });
            }
            match wait(Some(Instant::now() + AGAIN)) {
                Woken::Deadline => {}
                woken => return woken,
            }
        }
    }

    fn deploy(&self, reach: &Reach<'_>) -> Changed {
        let app = self.app.clone();
        let deployer = Arc::clone(reach.deployer);
        let apps = reach.runtime.block_on(deployer.apps()).unwrap_or_default();
        // What is being deployed may become what runs.
        let settled = apps.into_iter().find(|it| it.app == app && it.deploying.is_none());
        let stable = settled.and_then(|it| it.stable);
        if stable.is_some_and(|version| version.digest == self.digest) {
            return Changed::Same { app };
        }
        let order = DeployOrder {
            app: app.clone(),
            module: ModuleRef::Bytes(self.component.clone()),
            canary: None,
            note: "a file was saved".into(),
            by: "dev".into(),
            asked: tokio::time::Instant::now(),
        };
        let ended = reach.runtime.block_on(async move {
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::Ordering;

    use parking_lot::Mutex;
    use tidegate_build::Change;

    use super::*;
    use crate::testing::Fake;

    /// Brings a component to a deployer that is busy so many times; `woken` is what waiting ends with. What was told, and
    /// what came after.
    fn brought(busy: u32, woken: Vec<Woken>) -> (Vec<&'static str>, Woken) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let fake = Arc::new(Fake::default());
        fake.busy.store(busy, Ordering::Relaxed);
        let deployer = Arc::clone(&fake) as Arc<dyn Deployer>;
        let told = Mutex::new(Vec::new());
        let tell = |changed| {
            told.lock().push(match changed {
                Changed::Waiting { .. } => "waiting",
                Changed::Deployed(_) => "deployed",
                _ => "something else",
            });
        };
        let reach = Reach { deployer: &deployer, runtime: runtime.handle(), tell: &tell };
        let component = Bytes::from_static(b"component");
        let app = AppName::new("chat").unwrap();
        let built = Built { app, digest: Digest::of(&component), component };
        let mut woken = woken.into_iter();
        let last = built.bring(&reach, |_| woken.next().unwrap());
        (told.into_inner(), last)
    }

    #[test]
    fn what_was_saved_is_deployed_when_another_deployment_is_over() {
        let woken = vec![Woken::Deadline, Woken::Deadline, Woken::Deadline, Woken::Stopped];
        assert_eq!(brought(3, woken), (vec!["waiting", "deployed"], Woken::Stopped));
        assert_eq!(brought(0, vec![Woken::Stopped]), (vec!["deployed"], Woken::Stopped));
    }

    #[test]
    fn what_is_saved_while_it_waits_replaces_what_was_saved_before() {
        let newer = Woken::Changed(Change { paths: vec![PathBuf::from("src/lib.rs")] });
        let woken = vec![Woken::Deadline, newer.clone()];
        assert_eq!(brought(9, woken), (vec!["waiting"], newer));
    }
}
