//! The modules of versions: from the register to what slots can run.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_base::{AppName, Digest};
use tidegate_register::deployer::Deployer;
use tidegate_runtime::{Module, Modules};
use tidegate_wire::control::{Failure, Stage, VersionRef};
use tidegate_worker::{Loading, ModuleSource, ModuleTooLarge};

use crate::duty::WorkerDuty;
use crate::requests;

/// Gets the bytes of a module; what they are named by is checked by whoever asks.
pub(crate) type Fetch = Box<dyn Fn(Digest) -> Fetching + Send + Sync>;
pub(crate) type Fetching = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// Fetches, checks and compiles modules for a worker.
pub(crate) struct Versions {
    modules: Arc<Modules>,
    fetch: Fetch,
}

impl Versions {
    pub fn new(modules: Arc<Modules>, fetch: Fetch) -> Arc<Self> {
        Arc::new(Self { modules, fetch })
    }
}

impl ModuleSource for Versions {
    fn load(&self, app: &AppName, version: VersionRef, bytes_max: u64) -> Loading {
        let (fetching, modules) = ((self.fetch)(version.digest), Arc::clone(&self.modules));
        let app = app.clone();
        Box::pin(async move {
            let failed = |stage, reason| Failure::new(None, stage, reason);
            // What was compiled here before was checked then, and need not come over again.
            let compiled = Arc::clone(&modules);
            let compiled = tokio::task::spawn_blocking(move || compiled.load_compiled(version.digest)).await;
            if let Ok(Some(module)) = compiled {
                tracing::info!(%app, %version, "plugin loaded");
                return Ok(module);
            }
            let bytes = fetching.await.map_err(|reason| failed(Stage::Fetch, reason))?;
            ModuleTooLarge::check(&app, bytes.len() as u64, bytes_max)?;
            // Checking and compiling take time: not on a thread that serves others.
            let prepared =
                tokio::task::spawn_blocking(move || check_and_compile(&modules, version, &bytes)).await;
            let module = prepared.unwrap_or_else(|error| Err(failed(Stage::Worker, error.to_string())))?;
            tracing::info!(%app, %version, "plugin loaded");
            Ok(module)
        })
    }
}

/// From the register of this node.
pub(crate) fn from_deployer(deployer: Arc<dyn Deployer>) -> Fetch {
    Box::new(move |digest| {
        let deployer = Arc::clone(&deployer);
        Box::pin(async move {
            let module = deployer.module(digest).await.map_err(|refusal| refusal.to_string())?;
            module.ok_or_else(|| {
                format!("the register does not have sha256:{digest} any more: deploy it again")
            })
        })
    })
}

/// Over the link to the register that keeps versions.
pub(crate) fn from_keeper(keeper: Arc<OnceLock<Weak<WorkerDuty>>>) -> Fetch {
    Box::new(move |digest| {
        let keeper = Arc::clone(&keeper);
        Box::pin(async move {
            let until = Instant::now() + FETCH_WAIT;
            loop {
                let link = keeper.get().and_then(Weak::upgrade).and_then(|duty| duty.link());
                let why = match link {
                    Some(link) => match requests::fetch_module(&link, digest).await {
                        Ok(module) => return Ok(module),
                        Err(error) if error.is_final() => return Err(error.to_string()),
                        Err(error) => error.to_string(),
                    },
                    None => "there is no link to the register that keeps the versions".to_owned(),
                };
                // It may be back in a moment, and goes on with the deployment then.
                if Instant::now() >= until {
                    return Err(why);
                }
                tokio::time::sleep(FETCH_AGAIN).await;
            }
        })
    })
}

fn check_and_compile(modules: &Modules, version: VersionRef, bytes: &[u8]) -> Result<Module, Failure> {
    let failed = |stage, reason| Failure::new(None, stage, reason);
    if Digest::of(bytes) != version.digest {
        return Err(failed(Stage::Fetch, format!("what came is not sha256:{}", version.digest)));
    }
    tidegate_contract::check(bytes).map_err(|error| failed(Stage::Verify, error.to_string()))?;
    modules.load(bytes).map_err(|error| failed(Stage::Compile, error.to_string()))
}

/// How long a register may be away while a module is fetched: less than a deployment has to prepare.
const FETCH_WAIT: Duration = Duration::from_secs(60);
const FETCH_AGAIN: Duration = Duration::from_millis(250);
