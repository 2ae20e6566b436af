//! The store against a simple model in memory: whatever is asked, in whatever order, with restarts in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "outside of `#[test]` functions, but for tests only")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_base::{AppName, Digest, Label};
use tidegate_store::{
    CatalogChange, CatalogRecords, KEPT_COMMITTED, KEPT_FRESH_MS, NewVersion, Origin, Outcome, StoreError,
    VersionRecord, VersionUse,
};

use common::{app, folder, open};

#[derive(Debug, Clone)]
enum Step {
    Put { module: u8 },
    Begin { app: u8, module: u8, again: Option<u32>, origin: Origin },
    Progress { app: u8, number: u32, progress: Vec<u8> },
    Finish { app: u8, number: u32, outcome: Outcome, report: Option<String> },
    File { app: u8, module: u8 },
    Forget { app: u8 },
    Catalog { ahead: u64, tenants: Vec<(u8, Option<Vec<u8>>)>, apps: Vec<(u8, Option<Vec<u8>>)> },
    Wait { ms: u64 },
    Collect,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (apps, modules, numbers) = (|| 0..3_u8, || 0..6_u8, || 1..8_u32);
    let origin = prop_oneof![Just(Origin::File), Just(Origin::Deploy), Just(Origin::Rollback)];
    let outcome = prop_oneof![
        4 => Just(Outcome::Committed),
        1 => Just(Outcome::RolledBack { reason: "slow".to_owned() }),
        1 => Just(Outcome::Mixed { reason: "stuck".to_owned() }),
    ];
    let again = prop_oneof![3 => Just(None), 1 => numbers().prop_map(Some)];
    prop_oneof![
        4 => modules().prop_map(|module| Step::Put { module }),
        8 => (apps(), modules(), again, origin)
            .prop_map(|(app, module, again, origin)| Step::Begin { app, module, again, origin }),
        2 => (apps(), numbers(), any::<Vec<u8>>())
            .prop_map(|(app, number, progress)| Step::Progress { app, number, progress }),
        8 => (apps(), 0..3_u32, outcome, any::<Option<String>>())
            .prop_map(|(app, number, outcome, report)| Step::Finish { app, number, outcome, report }),
        1 => (apps(), modules()).prop_map(|(app, module)| Step::File { app, module }),
        1 => apps().prop_map(|app| Step::Forget { app }),
        4 => (0..3_u64, prop::collection::vec((0..2_u8, any::<Option<Vec<u8>>>()), 0..3),
              prop::collection::vec((apps(), any::<Option<Vec<u8>>>()), 0..3))
            .prop_map(|(ahead, tenants, apps)| Step::Catalog { ahead, tenants, apps }),
        2 => (0..KEPT_FRESH_MS).prop_map(|ms| Step::Wait { ms }),
        2 => Just(Step::Collect),
        2 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Default, Clone)]
struct App {
    records: Vec<VersionRecord>,
    progress: Option<Vec<u8>>,
    file: Option<Digest>,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    /// Module to when it was stored.
    modules: BTreeMap<Digest, u64>,
    /// Those of which no deployment has begun since.
    awaited: BTreeSet<Digest>,
    apps: BTreeMap<AppName, App>,
    revision: u64,
    tenants: BTreeMap<Label, Vec<u8>>,
    specs: BTreeMap<AppName, Vec<u8>>,
}

/// What a refusal is about.
#[derive(Debug, PartialEq)]
enum Refusal {
    Module,
    Version,
    Busy,
    NotRunning,
    OldCatalog,
}

fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::UnknownModule { .. } => Refusal::Module,
        StoreError::UnknownVersion { .. } => Refusal::Version,
        StoreError::Busy { .. } => Refusal::Busy,
        StoreError::NotRunning { .. } => Refusal::NotRunning,
        StoreError::OldCatalog { .. } => Refusal::OldCatalog,
        other => panic!("{other}"),
    }
}

impl Model {
    fn begin(&mut self, app: &AppName, new: &NewVersion) -> Result<VersionRecord, Refusal> {
        let known = self.apps.get(app).cloned().unwrap_or_default();
        if known.progress.is_some() {
            return Err(Refusal::Busy);
        }
        if !self.modules.contains_key(&new.digest) {
            return Err(Refusal::Module);
        }
        let same = |record: &VersionRecord| Some(record.number) == new.again && record.digest == new.digest;
        if new.again.is_some() && !known.records.iter().any(same) {
            return Err(Refusal::Version);
        }
        let record = VersionRecord {
            number: known.records.len() as u32 + 1,
            digest: new.digest,
            at_ms: new.at_ms,
            by: new.by.clone(),
            note: new.note.clone(),
            again: new.again,
            origin: new.origin,
            outcome: None,
            report: None,
        };
        let app = self.apps.entry(app.clone()).or_default();
        app.records.push(record.clone());
        app.progress = Some(new.progress.clone());
        if new.origin == Origin::File {
            app.file = Some(new.digest);
        }
        self.awaited.remove(&new.digest);
        Ok(record)
    }

    fn running(&mut self, app: &AppName, number: u32) -> Result<&mut App, Refusal> {
        let app = self.apps.get_mut(app).ok_or(Refusal::NotRunning)?;
        let runs = app.progress.is_some() && app.records.len() as u32 == number;
        if runs { Ok(app) } else { Err(Refusal::NotRunning) }
    }

    fn progress(&mut self, app: &AppName, number: u32, progress: &[u8]) -> Result<(), Refusal> {
        self.running(app, number)?.progress = Some(progress.to_vec());
        Ok(())
    }

    fn finish(
        &mut self,
        app: &AppName,
        number: u32,
        outcome: Outcome,
        report: Option<String>,
    ) -> Result<VersionRecord, Refusal> {
        let app = self.running(app, number)?;
        app.progress = None;
        let record = app.records.last_mut().unwrap();
        (record.outcome, record.report) = (Some(outcome), report);
        Ok(record.clone())
    }

    fn forget(&mut self, app: &AppName) -> Result<(), Refusal> {
        if self.apps.get(app).is_some_and(|app| app.progress.is_some()) {
            return Err(Refusal::Busy);
        }
        self.apps.remove(app);
        Ok(())
    }

    fn catalog(&mut self, change: &CatalogChange) -> Result<(), Refusal> {
        if change.revision <= self.revision {
            return Err(Refusal::OldCatalog);
        }
        let gone = |name: &AppName| change.apps.iter().any(|(app, body)| app == name && body.is_none());
        if self.apps.iter().any(|(name, app)| gone(name) && app.progress.is_some()) {
            return Err(Refusal::Busy);
        }
        self.apps.retain(|name, _| !gone(name));
        self.revision = change.revision;
        for (name, body) in &change.tenants {
            set(&mut self.tenants, name, body.as_ref());
        }
        for (name, body) in &change.apps {
            set(&mut self.specs, name, body.as_ref());
        }
        Ok(())
    }

    fn collect(&mut self) -> Vec<Digest> {
        let mut kept = BTreeSet::new();
        for app in self.apps.values() {
            let committed = || app.records.iter().rev().filter(|record| is_committed(record));
            kept.extend(committed().take(KEPT_COMMITTED).map(|record| record.digest));
            let current = committed().next().map_or(0, |record| record.number);
            let since = app.records.iter().filter(|record| record.number > current);
            let maybe_runs =
                since.filter(|record| !matches!(record.outcome, Some(Outcome::RolledBack { .. })));
            kept.extend(maybe_runs.map(|record| record.digest));
        }
        let gone = |(digest, stored): &(&Digest, &u64)| {
            let fresh = self.awaited.contains(digest) && self.now - **stored < KEPT_FRESH_MS;
            !kept.contains(digest) && !fresh
        };
        let gone: Vec<_> = self.modules.iter().filter(gone).map(|(digest, _)| *digest).collect();
        self.modules.retain(|digest, _| !gone.contains(digest));
        gone
    }
}

fn set<K: Ord + Clone>(map: &mut BTreeMap<K, Vec<u8>>, name: &K, body: Option<&Vec<u8>>) {
    match body {
        Some(body) => map.insert(name.clone(), body.clone()),
        None => map.remove(name),
    };
}

fn is_committed(record: &VersionRecord) -> bool {
    record.outcome == Some(Outcome::Committed)
}

fn bytes_of(module: u8) -> Vec<u8> {
    // Some of several pieces, one of none.
    vec![module; usize::from(module) * 30_000]
}

fn same(store: &tidegate_store::Store, model: &Model) {
    assert_eq!(store.apps().unwrap(), model.apps.keys().cloned().collect::<Vec<_>>());
    let mut running = Vec::new();
    let mut uses: BTreeMap<Digest, Vec<VersionUse>> = BTreeMap::new();
    for (name, app) in &model.apps {
        let newest_first: Vec<_> = app.records.iter().rev().cloned().collect();
        assert_eq!(store.history(name, usize::MAX).unwrap(), newest_first);
        let current = newest_first.iter().find(|record| is_committed(record));
        assert_eq!(store.current(name).unwrap().as_ref(), current);
        assert_eq!(store.file_digest(name).unwrap(), app.file);
        running.extend(app.progress.as_ref().map(|progress| (name.clone(), progress.clone())));
        for record in &app.records {
            let of_module = uses.entry(record.digest).or_default();
            of_module.push(VersionUse { app: name.clone(), number: record.number });
        }
    }
    let catalog = CatalogRecords {
        revision: model.revision,
        tenants: model.tenants.clone().into_iter().collect(),
        apps: model.specs.clone().into_iter().collect(),
    };
    assert_eq!(store.catalog().unwrap(), catalog);
    let found = store.running().unwrap().into_iter();
    assert_eq!(found.map(|running| (running.app, running.progress)).collect::<Vec<_>>(), running);
    let listed: Vec<_> = store.list().unwrap();
    let listed = listed.into_iter().map(|module| (module.digest, module.stored_ms, module.used_by));
    let expected = model
        .modules
        .iter()
        .map(|(digest, stored)| (*digest, *stored, uses.get(digest).cloned().unwrap_or_default()));
    assert_eq!(listed.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60)) {
        let folder = folder();
        let mut store = open(folder.path());
        let mut model = Model { now: 1, ..Model::default() };
        let apps = ["chat", "acme/chat", "z"].map(app);
        let name = |index: u8| &apps[usize::from(index)];
        let digest = |module| Digest::of(&bytes_of(module));
        for step in steps {
            match step {
                Step::Put { module } => {
                    prop_assert_eq!(store.put(&bytes_of(module), model.now).unwrap(), digest(module));
                    model.modules.insert(digest(module), model.now);
                    model.awaited.insert(digest(module));
                }
                Step::Begin { app, module, again, origin } => {
                    let new = NewVersion {
                        digest: digest(module),
                        at_ms: model.now,
                        by: "ada".to_owned(),
                        note: "note".to_owned(),
                        again,
                        origin,
                        progress: vec![module],
                    };
                    let expected = model.begin(name(app), &new);
                    prop_assert_eq!(store.begin(name(app), new).map_err(refusal), expected);
                }
                Step::Progress { app, number, progress } => {
                    let expected = model.progress(name(app), number, &progress);
                    prop_assert_eq!(store.set_progress(name(app), number, &progress).map_err(refusal), expected);
                }
                Step::Finish { app, number, outcome, report } => {
                    // Mostly the one that may run.
                    let newest = model.apps.get(name(app)).map_or(1, |app| app.records.len() as u32);
                    let number = newest.saturating_sub(number / 2);
                    let expected = model.finish(name(app), number, outcome.clone(), report.clone());
                    let found = store.finish(name(app), number, outcome, report.as_deref());
                    prop_assert_eq!(found.map_err(refusal), expected);
                }
                Step::File { app, module } => {
                    store.set_file_digest(name(app), digest(module)).unwrap();
                    model.apps.entry(name(app).clone()).or_default().file = Some(digest(module));
                }
                Step::Forget { app } => {
                    let expected = model.forget(name(app));
                    prop_assert_eq!(store.forget(name(app)).map_err(refusal), expected);
                }
                Step::Catalog { ahead, tenants, apps } => {
                    let labels = ["acme", "zed"].map(|label| Label::new(label).unwrap());
                    let tenants = tenants.into_iter().map(|(n, body)| (labels[usize::from(n)].clone(), body));
                    let apps = apps.into_iter().map(|(n, body)| (name(n).clone(), body));
                    let (tenants, apps) = (tenants.collect(), apps.collect());
                    let change = CatalogChange { revision: model.revision + ahead, tenants, apps };
                    let expected = model.catalog(&change);
                    prop_assert_eq!(store.change_catalog(&change).map_err(refusal), expected);
                }
                Step::Wait { ms } => model.now += ms,
                Step::Collect => {
                    let removed = store.collect(model.now).unwrap().modules;
                    let removed: Vec<_> = removed.into_iter().map(|module| module.digest).collect();
                    prop_assert_eq!(removed, model.collect());
                }
                Step::Reopen => {
                    drop(store);
                    store = open(folder.path());
                    same(&store, &model);
                }
            }
        }
        same(&store, &model);
        for module in 0..6 {
            let expected = model.modules.contains_key(&digest(module)).then(|| bytes_of(module));
            prop_assert_eq!(store.get(digest(module)).unwrap(), expected);
        }
    }
}
