//! The HTTP API's way to the register's deployer.

use std::sync::{Arc, OnceLock, Weak};

use tidegate_admin::Later;
use tidegate_admin::steering::{
    Answer, AppStatus, Deploy, Module, News, NodeStatus, RollBack, Steering, Underway,
};
use tidegate_base::AppName;
use tidegate_register::Register;
use tidegate_register::deployer::{DeployOrder, Deployer, Job, ModuleRef, Next, RollbackOrder};
use tidegate_register::questions::Asker;
use tidegate_wire::control::NodeInfo;
use tidegate_wire::question::{ConnectionFilter, Connections, LogFilter, Logs, NodeQuestion};
use tidegate_wire::request::{AppDeed, AppOverview, Effect, HistoryEntry, Order, Refusal, TenantOverview};

use crate::config::shared_settings;
use crate::inquiry;
use crate::node::Shared;
use crate::status::Status;

/// Steers by a deployer.
pub(super) struct Steers {
    pub deployer: Arc<dyn Deployer>,
    /// The node, once it runs. Weak: its API must not keep a dropped node's roles.
    pub node: Arc<OnceLock<Weak<Shared>>>,
}

impl Steers {
    fn node(&self) -> Option<Arc<Shared>> {
        self.node.get().and_then(Weak::upgrade)
    }

    fn asker(&self) -> Result<Asker, Refusal> {
        self.node().ok_or_else(starting)?.of_register(Register::asker)
    }
}

impl Steering for Steers {
    fn apps(&self) -> Answer<'_, Vec<AppOverview>> {
        self.deployer.apps()
    }

    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>> {
        self.deployer.history(app, limit)
    }

    fn deploy(&self, order: Deploy) -> Box<dyn Underway> {
        let Deploy { app, module, canary, note, by, asked } = order;
        let module = match module {
            Module::Bytes(bytes) => ModuleRef::Bytes(bytes),
            Module::Kept(digest) => ModuleRef::Digest(digest),
        };
        let order = DeployOrder { app, module, canary, note, by, asked };
        Box::new(Going(Job::deploy(Arc::clone(&self.deployer), order)))
    }

    fn roll_back(&self, order: RollBack) -> Box<dyn Underway> {
        let RollBack { app, to, note, by, asked } = order;
        let order = RollbackOrder { app, to, note, by, asked };
        Box::new(Going(Job::rollback(Arc::clone(&self.deployer), order)))
    }

    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()> {
        self.deployer.cancel(app, by)
    }

    fn tenants(&self) -> Answer<'_, Vec<TenantOverview>> {
        self.deployer.tenants()
    }

    fn manage(&self, order: Order, by: String) -> Answer<'_, Effect> {
        let routes = match &order {
            Order::App { deed: AppDeed::Create(spec) | AppDeed::Configure(spec), .. } => {
                shared_settings(spec).map(drop)
            }
            _ => Ok(()),
        };
        match routes {
            Ok(()) => self.deployer.manage(order, by),
            // A settings file's reader would have said it.
            Err(reason) => Box::pin(async { Err(Refusal::Wish { reason }) }),
        }
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        let node = self.node();
        node.and_then(|node| node.register.read().as_ref().map(Register::nodes)).unwrap_or_default()
    }

    fn connections(&self, of: ConnectionFilter) -> Answer<'_, Connections> {
        let asker = self.asker();
        Box::pin(async move {
            let limit = of.limit;
            Ok(inquiry::connections(asker?.ask(NodeQuestion::Connections(of), None).await?, limit))
        })
    }

    fn logs(&self, of: LogFilter) -> Answer<'_, Logs> {
        let asker = self.asker();
        Box::pin(
            async move { Ok(inquiry::logs(asker?.ask(NodeQuestion::Logs(of.clone()), None).await?, &of)) },
        )
    }

    fn status(&self) -> Result<NodeStatus, Refusal> {
        let node = self.node().ok_or_else(starting)?;
        let Status { node, roles, version, uptime_s, ready, apps, .. } = node.status();
        let apps = apps.into_iter().filter_map(|entry| {
            let slots = entry.slots.as_ref();
            Some(AppStatus {
                app: AppName::new(&entry.name).ok()?,
                clients: entry.clients.map(|clients| clients as u64),
                slots: slots.map(|slots| slots.count),
                asleep: slots.map(|slots| slots.asleep),
                turns: slots.map(|slots| slots.turns),
                failed: slots.map(|slots| slots.failed),
            })
        });
        Ok(NodeStatus { node, roles, version, uptime_s, ready, apps: apps.collect() })
    }
}

fn starting() -> Refusal {
    Refusal::Unavailable { reason: "this node is starting or stopping: ask again when it runs".to_owned() }
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
