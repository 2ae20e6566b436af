//! What this crate's tests share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_base::{AppName, Digest, Label, Quotas, Usage};
use tidegate_register::deployer::{Answer, DeployOrder, Deployer, ModuleRef, RollbackOrder, Watcher};
use tidegate_wire::control::VersionRef;
use tidegate_wire::report::{Audit, Outcome, Progress, SwapReport, Times};
use tidegate_wire::request::{AppOverview, Effect, EntryState, HistoryEntry, Order, Refusal, TenantOverview};

/// A private folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tidegate-node-{}-{count}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A deployer that keeps one module and writes down what it is asked. A deployment commits unless its note is a reason
/// not to; version 9 it does not know.
#[derive(Default)]
pub(crate) struct Fake {
    pub orders: Mutex<Vec<String>>,
    /// So many deployments are refused first.
    pub busy: AtomicU32,
    module: Mutex<Bytes>,
}

impl Fake {
    fn play(&self, app: AppName, note: String, watcher: &Watcher) -> SwapReport {
        let version = VersionRef { number: 2, digest: Digest::of(&self.module.lock()) };
        watcher.tell(Progress::Started { version, workers: 1, slots: 1 });
        let outcome = if note.is_empty() { Outcome::Committed } else { Outcome::RolledBack { reason: note } };
        SwapReport {
            app,
            version,
            at_ms: 0,
            again: None,
            previous: None,
            outcome,
            away: Vec::new(),
            workers: 1,
            slots: 1,
            switched: 1,
            switched_back: 0,
            clients: None,
            pauses: None,
            audit: Audit::default(),
            timers_carried: 0,
            states_lost: 0,
            turns: Vec::new(),
            timers_dropped: 0,
            state_bytes: 0,
            waiting_events: 0,
            times: Times::default(),
            canary: None,
        }
    }
}

impl Deployer for Fake {
    fn apps(&self) -> Answer<'_, Vec<AppOverview>> {
        let app = AppName::new("chat").unwrap();
        let overview = AppOverview { app, stable: None, deploying: None, workers: Vec::new(), created: None };
        Box::pin(async { Ok(vec![overview]) })
    }

    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>> {
        let entry = |number| HistoryEntry {
            version: VersionRef { number, digest: Digest::of(b"") },
            again: None,
            by: app.to_string(),
            note: String::new(),
            at_ms: 0,
            canary: None,
            state: EntryState::Ended(Outcome::Committed),
            report: None,
        };
        let entries = (1..=u32::try_from(limit).unwrap()).rev().map(entry).collect();
        Box::pin(async { Ok(entries) })
    }

    fn deploy(&self, order: DeployOrder, watcher: Watcher) -> Answer<'_, SwapReport> {
        self.orders.lock().push(format!("deploy {:?} by {}", order.module, order.by));
        let less = |busy: u32| busy.checked_sub(1);
        let is_busy = self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        Box::pin(async move {
            if is_busy {
                let version = VersionRef { number: 1, digest: Digest::of(b"") };
                let (by, doing) = ("bob".into(), "switching".into());
                return Err(Refusal::Busy { app: order.app, version, by, since_s: 1, doing });
            }
            match order.module {
                ModuleRef::Bytes(bytes) => *self.module.lock() = bytes,
                ModuleRef::Digest(digest) => return Err(Refusal::UnknownModule { digest }),
            }
            Ok(self.play(order.app, order.note, &watcher))
        })
    }

    fn rollback(&self, order: RollbackOrder, watcher: Watcher) -> Answer<'_, SwapReport> {
        Box::pin(async move {
            match order.to {
                Some(9) => Err(Refusal::UnknownVersion { app: order.app, number: 9 }),
                _ => Ok(self.play(order.app, order.note, &watcher)),
            }
        })
    }

    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()> {
        self.orders.lock().push(format!("cancel {app} by {by}"));
        Box::pin(async { Ok(()) })
    }

    fn tenants(&self) -> Answer<'_, Vec<TenantOverview>> {
        let tenant = Label::new("acme").unwrap();
        let (quotas, usage) = (Quotas::default(), Usage::default());
        Box::pin(
            async move { Ok(vec![TenantOverview { tenant, fixed: false, suspended: false, quotas, usage }]) },
        )
    }

    fn manage(&self, order: Order, by: String) -> Answer<'_, Effect> {
        self.orders.lock().push(format!("{} by {by}", order.name()));
        Box::pin(async { Ok(Effect { revision: 3, ..Effect::default() }) })
    }

    fn module(&self, digest: Digest) -> Answer<'_, Option<Bytes>> {
        let module = self.module.lock().clone();
        Box::pin(async move { Ok((Digest::of(&module) == digest).then_some(module)) })
    }
}
