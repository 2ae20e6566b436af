//! The HTTP API's way to the register's deployer.

use std::sync::Arc;

use tidegate_admin::Later;
use tidegate_admin::steering::{Answer, Deploy, Module, News, RollBack, Steering, Underway};
use tidegate_base::AppName;
use tidegate_register::deployer::{DeployOrder, Deployer, Job, ModuleRef, Next, RollbackOrder};
use tidegate_wire::request::{AppOverview, HistoryEntry};

/// Steers by a deployer.
pub(super) struct Steers(pub Arc<dyn Deployer>);

impl Steering for Steers {
    fn apps(&self) -> Answer<'_, Vec<AppOverview>> {
        self.0.apps()
    }

    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>> {
        self.0.history(app, limit)
    }

    fn deploy(&self, order: Deploy) -> Box<dyn Underway> {
        let Deploy { app, module, canary, note, by, asked } = order;
        let module = match module {
            Module::Bytes(bytes) => ModuleRef::Bytes(bytes),
            Module::Kept(digest) => ModuleRef::Digest(digest),
        };
        let order = DeployOrder { app, module, canary, note, by, asked };
        Box::new(Going(Job::deploy(Arc::clone(&self.0), order)))
    }

    fn roll_back(&self, order: RollBack) -> Box<dyn Underway> {
        let RollBack { app, to, note, by, asked } = order;
        let order = RollbackOrder { app, to, note, by, asked };
        Box::new(Going(Job::rollback(Arc::clone(&self.0), order)))
    }

    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()> {
        self.0.cancel(app, by)
    }
}

struct Going(Job);

impl Underway for Going {
    fn next(&mut self) -> Later<'_, News> {
        Box::pin(async {
            match self.0.next().await {
                Next::News(progress) => News::Progress(progress),
                Next::Ended(ended) => News::Ended(ended),
            }
        })
    }
}
