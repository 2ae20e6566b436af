//! What a register that deploys promises, with a real store and workers in memory.

mod manage;
mod worker;

use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidegate_base::Digest;
use tidegate_link::memory_pair;
use tidegate_store::{NewVersion, Origin, Outcome as Stored, StoreLimits};
use tidegate_wire::control::Control;
use tidegate_wire::report::{Outcome, Progress};
use tidegate_wire::request::EntryState;
use tokio::sync::mpsc::Receiver;

use self::worker::{Mood, Worker, chat, info, peer};
use super::*;
use crate::Register;
use crate::deployer::{DeployOrder, ModuleRef, RollbackOrder};

/// A component whose on-message has the right type.
const PLUGIN: &str = r#"
    (core module $m
        (memory (export "mem") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 0)
        (func (export "on-message") (param i64 i32 i32 i32 i32)))
    (core instance $c (instantiate $m))
    (import "tidegate:plugin/types@0.1.0" (instance $types
        (type $k (enum "text" "binary" "raw"))
        (export "message-kind" (type (eq $k)))))
    (alias export $types "message-kind" (type $kind))
    (func $on-message (param "gateway" u64) (param "connection" u32) (param "kind" $kind) (param "payload" (list u8))
        (canon lift (core func $c "on-message") (memory $c "mem") (realloc (func $c "realloc"))))
    (instance $message (export "on-message" (func $on-message)))
    (export "tidegate:plugin/message@0.1.0" (instance $message))
"#;

/// A plugin like the others, but for this number.
fn plugin(number: u32) -> Bytes {
    let text = format!("(component {PLUGIN} (core module (func (result i32) i32.const {number})))");
    wat::parse_str(text).unwrap().into()
}

struct Place {
    store: Arc<Store>,
    _folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self::with(StoreLimits::default())
    }

    fn with(limits: StoreLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: Arc::new(Store::open(folder.path(), limits).unwrap()), _folder: folder }
    }

    fn register(&self) -> Register {
        Register::start(None, Some(Arc::clone(&self.store)), &Handle::current())
    }
}

fn order(module: ModuleRef) -> DeployOrder {
    let asked = tokio::time::Instant::now();
    DeployOrder { app: chat(), module, canary: None, note: "why".into(), by: "ann".into(), asked }
}

fn back(to: Option<u32>) -> RollbackOrder {
    let asked = tokio::time::Instant::now();
    RollbackOrder { app: chat(), to, note: String::new(), by: "ann".into(), asked }
}

async fn deploy(register: &Register, number: u32) -> Result<SwapReport, Refusal> {
    register.deployer().deploy(order(ModuleRef::Bytes(plugin(number))), Watcher::new().0).await
}

/// A deployment that goes on, and its news.
fn begin(register: &Register, number: u32) -> (JoinHandle<Result<SwapReport, Refusal>>, Receiver<Progress>) {
    let (watcher, news) = Watcher::new();
    let deployer = register.deployer();
    let deploy = async move { deployer.deploy(order(ModuleRef::Bytes(plugin(number))), watcher).await };
    (tokio::spawn(deploy), news)
}

async fn started(news: &mut Receiver<Progress>) {
    assert!(matches!(news.recv().await, Some(Progress::Started { .. })));
}

/// Asks the register until it knows that things are so.
async fn until(register: &Register, is: impl Fn(&AppOverview) -> bool) -> AppOverview {
    loop {
        let apps = register.deployer().apps().await.unwrap();
        match apps.into_iter().find(|overview| overview.app == chat()) {
            Some(overview) if is(&overview) => return overview,
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Workers that have joined, started their slots and said so.
async fn joined<const N: usize>(register: &Register, names: [(&str, Mood); N]) -> [Worker; N] {
    let workers = names.map(|(name, mood)| Worker::join(register, name, mood));
    let up = |overview: &AppOverview| {
        let started =
            |worker: &&tidegate_wire::request::WorkerOverview| worker.slots.iter().all(Option::is_some);
        overview.workers.iter().filter(started).count() == N
    };
    until(register, up).await;
    workers
}

async fn history(register: &Register) -> Vec<(u32, String)> {
    let entries = register.deployer().history(chat(), 100).await.unwrap();
    entries.iter().map(|entry| (entry.version.number, entry.state.as_str().to_owned())).collect()
}

/// A gateway with five clients.
fn gateway(register: &Register) {
    let (link, there) = memory_pair(peer(Role::Gateway, "g"), peer(Role::Register, "r"));
    register.add_link(there);
    tokio::spawn(async move {
        let (control, mut messages) = link.take_control().unwrap();
        control.send(Control::Announce(info(Role::Gateway, "g")).to_bytes()).unwrap();
        while let Ok(message) = messages.recv().await {
            if let Control::Census { number } = Control::from_bytes(&message).unwrap() {
                let apps =
                    vec![AppClients { app: chat(), clients: 5, opened: 9, closed: 4, events: 50, lost: 0 }];
                control.send(Control::Counted { number, apps }.to_bytes()).unwrap();
            }
        }
    });
}

#[tokio::test]
async fn a_deployment_commits_is_reported_and_stays_in_the_history() {
    let place = Place::new();
    let register = place.register();
    gateway(&register);
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    let (watcher, mut news) = Watcher::new();
    let deployer = register.deployer();
    let mut order = order(ModuleRef::Bytes(plugin(1)));
    order.asked = order.asked.checked_sub(Duration::from_secs(1)).unwrap();
    let report = deployer.deploy(order, watcher).await.unwrap();
    assert!(report.times.total_us >= 1_000_000, "it was asked for a second before");
    assert_eq!((&report.outcome, report.switched, report.workers), (&Outcome::Committed, 2, 1));
    assert_eq!(
        report.clients.map(|clients| (clients.before, clients.after, clients.closed)),
        Some((5, 5, 0))
    );
    started(&mut news).await;
    worker.runs(1).await;
    let overview = until(&register, |overview| overview.deploying.is_none()).await;
    assert_eq!(overview.stable.unwrap().digest, Digest::of(&plugin(1)));
    assert_eq!(overview.workers[0].slots, [Some(1), Some(1)]);
    let entries = deployer.history(chat(), 10).await.unwrap();
    assert_eq!((entries[0].by.as_str(), entries[0].note.as_str()), ("ann", "why"));
    assert_eq!(entries[0].state, EntryState::Ended(Outcome::Committed));
    assert_eq!(entries[0].report.as_deref(), Some(&report), "it is stored as it was told");
}

#[tokio::test]
async fn a_version_that_does_not_start_is_rolled_back_with_the_reason() {
    let place = Place::new();
    let register = place.register();
    let [mut good, bad] = joined(&register, [("a", Mood::Willing), ("b", Mood::Willing)]).await;
    assert_eq!(deploy(&register, 1).await.unwrap().outcome, Outcome::Committed);
    bad.set_mood(Mood::FailsToStart("no such table"));
    let report = deploy(&register, 2).await.unwrap();
    let Outcome::RolledBack { reason } = report.outcome else { panic!("{report:?}") };
    assert!(reason.contains("b: slot ") && reason.contains("on-worker-start: no such table"), "{reason}");
    assert_eq!(report.switched, 0);
    good.runs(1).await;
    let lines = [(2, "rolled back".to_owned()), (1, "committed".to_owned())];
    assert_eq!(history(&register).await, lines);
}

#[tokio::test]
async fn a_second_deployment_is_refused_until_the_first_is_cancelled() {
    let place = Place::new();
    let register = place.register();
    let [worker] = joined(&register, [("w", Mood::Waits)]).await;
    let (first, mut news) = begin(&register, 1);
    started(&mut news).await;
    let refusal = deploy(&register, 2).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Busy { by, .. } if **by == *"ann"), "{refusal}");
    assert_eq!(history(&register).await, [(1, "preparing".to_owned())]);
    register.deployer().cancel(chat(), "bob".into()).await.unwrap();
    worker.set_mood(Mood::Willing);
    let report = first.await.unwrap().unwrap();
    assert_eq!(report.outcome.reason(), Some("cancelled by bob"));
    let refusal = register.deployer().cancel(chat(), "bob".into()).await.unwrap_err();
    assert_eq!(refusal, Refusal::NotRunning { app: chat() });
    assert_eq!(deploy(&register, 2).await.unwrap().version.number, 2);
}

#[tokio::test]
async fn a_deployment_goes_on_when_whoever_wanted_it_goes_away() {
    let place = Place::new();
    let register = place.register();
    let [mut worker] = joined(&register, [("w", Mood::Waits)]).await;
    let (asking, mut news) = begin(&register, 1);
    started(&mut news).await;
    asking.abort();
    drop((asking.await, news));
    worker.set_mood(Mood::Willing);
    worker.runs(1).await;
    until(&register, |overview| overview.deploying.is_none()).await;
    assert_eq!(history(&register).await, [(1, "committed".to_owned())]);
}

#[tokio::test]
async fn a_worker_that_dies_on_the_way_does_not_hold_up_the_others() {
    let place = Place::new();
    let register = place.register();
    let [mut stays, dies] = joined(&register, [("a", Mood::Willing), ("b", Mood::Waits)]).await;
    let (asking, mut news) = begin(&register, 1);
    started(&mut news).await;
    dies.link.close(0, "it died");
    let report = asking.await.unwrap().unwrap();
    assert_eq!((report.outcome, report.workers), (Outcome::Committed, 1));
    stays.runs(1).await;
}

#[tokio::test]
async fn a_register_that_starts_again_goes_on_with_a_deployment() {
    let place = Place::new();
    let register = place.register();
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    assert_eq!(deploy(&register, 1).await.unwrap().outcome, Outcome::Committed);
    worker.runs(1).await;
    worker.set_mood(Mood::Waits);
    let (asking, mut news) = begin(&register, 2);
    started(&mut news).await;
    let deployer = register.deployer();
    drop(register);
    assert!(matches!(asking.await.unwrap(), Err(Refusal::Unavailable { .. })));
    assert!(matches!(deployer.apps().await, Err(Refusal::Unavailable { .. })));

    let register = place.register();
    let mut worker = Worker::join(&register, "w", Mood::Willing);
    worker.runs(2).await;
    until(&register, |overview| overview.deploying.is_none()).await;
    let lines = [(2, "committed".to_owned()), (1, "committed".to_owned())];
    assert_eq!(history(&register).await, lines);
}

#[tokio::test]
async fn a_worker_that_comes_later_starts_with_the_committed_version() {
    let place = Place::new();
    let register = place.register();
    let [_first] = joined(&register, [("a", Mood::Willing)]).await;
    assert_eq!(deploy(&register, 1).await.unwrap().outcome, Outcome::Committed);
    let mut late = Worker::join(&register, "b", Mood::Willing);
    late.runs(1).await;
    let desired = late.seen.borrow().desired.clone().unwrap();
    assert_eq!((desired.stable.unwrap().number, desired.rollout), (1, None));
}

#[tokio::test]
async fn a_store_without_room_refuses_the_module_and_nothing_changes() {
    let place = Place::with(StoreLimits { total_bytes_max: 100, ..StoreLimits::default() });
    let register = place.register();
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    let refusal = deploy(&register, 1).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NoRoom { .. }), "{refusal}");
    assert!(history(&register).await.is_empty());
    worker.runs(0).await;
}

#[tokio::test]
async fn modules_that_nobody_needs_make_room_for_the_next_one() {
    let place = Place::with(StoreLimits { modules_max: 2, ..StoreLimits::default() });
    let register = place.register();
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    deploy(&register, 1).await.unwrap();
    worker.set_mood(Mood::FailsToStart("no"));
    for number in 2..=6 {
        let report = deploy(&register, number).await.unwrap();
        assert!(matches!(report.outcome, Outcome::RolledBack { .. }), "{number}: {}", report.outcome);
    }
    // One that somebody has just sent is not taken away from them, whoever else needs room.
    let sent = disk::put(&place.store, b"sent", task::wall_ms()).unwrap();
    let refusal = deploy(&register, 7).await.unwrap_err();
    assert!(matches!(refusal, Refusal::NoRoom { .. }), "{refusal}");
    assert!(place.store.has(sent).unwrap());
    worker.runs(1).await;
}

#[tokio::test]
async fn a_deployment_that_cannot_be_written_down_is_refused_and_the_next_one_is_not() {
    let place = Place::new();
    let register = place.register();
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    // Something else wrote the history: what the register believes is old.
    let digest = place.store.put(&plugin(9), task::wall_ms()).unwrap();
    let new = NewVersion {
        digest,
        at_ms: 0,
        by: String::new(),
        note: String::new(),
        again: None,
        origin: Origin::Deploy,
        progress: Vec::new(),
    };
    place.store.begin(&chat(), new.clone()).unwrap();
    place.store.finish(&chat(), 1, Stored::RolledBack { reason: String::new() }, None).unwrap();
    let refusal = deploy(&register, 1).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Store { reason } if reason.contains("version 2")), "{refusal}");
    worker.runs(0).await;
    let report = deploy(&register, 1).await.unwrap();
    assert_eq!((report.outcome, report.version.number), (Outcome::Committed, 3));
    worker.runs(3).await;
}

#[tokio::test]
async fn a_deployment_whose_progress_cannot_be_written_down_goes_back() {
    let place = Place::new();
    let register = place.register();
    let [worker] = joined(&register, [("w", Mood::Waits)]).await;
    let (asking, mut news) = begin(&register, 1);
    started(&mut news).await;
    place.store.finish(&chat(), 1, Stored::RolledBack { reason: String::new() }, None).unwrap();
    worker.set_mood(Mood::Willing);
    let report = asking.await.unwrap().unwrap();
    let reason = report.outcome.reason().unwrap();
    assert!(reason.contains("cannot write down the deployment"), "{reason}");
    assert_eq!(worker.seen.borrow().slots, [Some(0), Some(0)]);
    assert_eq!(deploy(&register, 2).await.unwrap().version.number, 2);
}

#[tokio::test]
async fn modules_are_checked_kept_and_given_by_digest() {
    let place = Place::new();
    let register = place.register();
    let [_worker] = joined(&register, [("w", Mood::Willing)]).await;
    let deployer = register.deployer();
    let nonsense = order(ModuleRef::Bytes(Bytes::from_static(b"nonsense")));
    let refusal = deployer.deploy(nonsense, Watcher::new().0).await.unwrap_err();
    let is_explained = |reason: &str| reason.contains("this is not a WebAssembly component");
    assert!(matches!(&refusal, Refusal::BadModule { reason } if is_explained(reason)), "{refusal}");
    let digest = Digest::of(&plugin(1));
    let unknown = deployer.deploy(order(ModuleRef::Digest(digest)), Watcher::new().0).await.unwrap_err();
    assert_eq!(unknown, Refusal::UnknownModule { digest });
    assert_eq!(deployer.module(digest).await, Ok(None));
    deploy(&register, 1).await.unwrap();
    assert_eq!(deployer.module(digest).await, Ok(Some(plugin(1))));
    let again = deployer.deploy(order(ModuleRef::Digest(digest)), Watcher::new().0).await.unwrap();
    assert_eq!((again.version.number, again.outcome), (2, Outcome::Committed));
}

#[tokio::test]
async fn a_rollback_is_the_next_deployment_with_an_earlier_module() {
    let place = Place::new();
    let register = place.register();
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    let rollback = async |to| register.deployer().rollback(back(to), Watcher::new().0).await;
    assert_eq!(rollback(None).await, Err(Refusal::NoEarlier { app: chat() }));
    for number in [1, 2] {
        deploy(&register, number).await.unwrap();
    }
    let report = rollback(None).await.unwrap();
    assert_eq!((report.version.number, report.again, report.outcome), (3, Some(1), Outcome::Committed));
    assert_eq!(report.version.digest, Digest::of(&plugin(1)));
    worker.runs(3).await;
    assert_eq!(rollback(Some(2)).await.unwrap().version.digest, Digest::of(&plugin(2)));
    assert_eq!(rollback(Some(9)).await, Err(Refusal::UnknownVersion { app: chat(), number: 9 }));
    let entries = register.deployer().history(chat(), 2).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.again).collect::<Vec<_>>(), [Some(2), Some(1)]);
}

#[tokio::test]
async fn an_app_that_nobody_has_is_refused_with_those_that_are_there() {
    let place = Place::new();
    let register = place.register();
    let [_worker] = joined(&register, [("w", Mood::Willing)]).await;
    let order = DeployOrder { app: AppName::new("chta").unwrap(), ..order(ModuleRef::Bytes(plugin(1))) };
    let refusal = register.deployer().deploy(order, Watcher::new().0).await.unwrap_err();
    assert!(matches!(refusal, Refusal::UnknownApp { known, .. } if known == [chat()]));
}

fn named(app: AppName, number: u32) -> Named {
    let module = plugin(number);
    Named { app, digest: Digest::of(&module), module }
}

async fn adopt(register: &Register, number: u32, precedence: Precedence) -> Result<Adopted, Refusal> {
    let adopted = register.adopt(vec![named(chat(), number)], precedence).await?;
    let [adopted] = adopted.try_into().expect("as many as were named");
    Ok(adopted)
}

#[tokio::test]
async fn the_plugins_of_many_apps_are_taken_at_once_and_each_goes_on_with_what_is_its_own() {
    let place = Place::new();
    let register = place.register();
    adopt(&register, 1, Precedence::Deployed).await.unwrap();
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    worker.runs(1).await;
    deploy(&register, 2).await.unwrap();
    drop(register);
    let register = place.register();
    let name = |number: u32| AppName::new(&format!("app-{number}")).unwrap();
    let all = || (0..50).map(|number| named(name(number), 1 + number % 2)).chain([named(chat(), 1)]);
    let adopted = register.adopt(all().collect(), Precedence::Deployed).await.unwrap();
    let (chats, others) = adopted.split_last().unwrap();
    assert_eq!((chats.version.number, &chats.module), (2, &plugin(2)), "what was deployed since");
    for (number, other) in (0..).zip(others) {
        assert_eq!((other.version.number, &other.module), (1, &plugin(1 + number % 2)));
    }
    let again = register.adopt(all().collect(), Precedence::Deployed).await.unwrap();
    assert_eq!(again, adopted);
    assert_eq!(register.deployer().apps().await.unwrap().len(), 51);
}

#[tokio::test]
async fn the_plugin_of_the_settings_is_a_version_until_another_is_deployed_or_named() {
    let place = Place::new();
    let register = place.register();
    let first = adopt(&register, 1, Precedence::Deployed).await.unwrap();
    assert_eq!((first.version.number, &first.module), (1, &plugin(1)));
    assert_eq!(adopt(&register, 1, Precedence::Deployed).await, Ok(first));
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    worker.runs(1).await;
    deploy(&register, 2).await.unwrap();
    drop(register);

    // The settings are what they were: what was deployed since runs.
    let register = place.register();
    let deployed = adopt(&register, 1, Precedence::Deployed).await.unwrap();
    assert_eq!((deployed.version.number, deployed.module), (2, plugin(2)));
    let mut worker = Worker::join(&register, "w", Mood::Waits);
    worker.runs(2).await;
    let (_asking, mut news) = begin(&register, 3);
    started(&mut news).await;
    drop(register);

    // They name another plugin: nobody wants any more what was being deployed.
    let register = place.register();
    let named = adopt(&register, 4, Precedence::Deployed).await.unwrap();
    assert_eq!((named.version.number, named.module), (4, plugin(4)));
    let mut worker = Worker::join(&register, "w", Mood::Willing);
    worker.runs(4).await;
    let states: Vec<_> = history(&register).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["committed", "rolled back", "committed", "committed"]);
}

#[tokio::test]
async fn settings_with_precedence_are_what_runs_whatever_was_deployed() {
    let place = Place::new();
    let by_settings = async |register: &Register, number| {
        let adopted = adopt(register, number, Precedence::Settings).await.unwrap();
        assert_eq!(adopted.module, plugin(number));
        adopted.version.number
    };
    let register = place.register();
    assert_eq!(by_settings(&register, 1).await, 1);
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    worker.runs(1).await;
    deploy(&register, 2).await.unwrap();
    drop(register);

    // The source is as it was before.
    let register = place.register();
    assert_eq!(by_settings(&register, 1).await, 3);
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    worker.runs(3).await;
    deploy(&register, 4).await.unwrap();
    worker.set_mood(Mood::Waits);
    let (_asking, mut news) = begin(&register, 5);
    started(&mut news).await;
    drop(register);

    // What was saved last runs, not what was on its way.
    let register = place.register();
    assert_eq!(by_settings(&register, 4).await, 4);
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    worker.runs(4).await;
    let states: Vec<_> = history(&register).await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["rolled back", "committed", "committed", "committed", "committed"]);
    drop(register);
    // And is what the settings name, for whoever goes by that.
    let register = place.register();
    let adopted = adopt(&register, 4, Precedence::Deployed).await.unwrap();
    assert_eq!(adopted.version.number, 4);
}

#[tokio::test]
async fn without_a_store_workers_run_their_own_and_nothing_is_deployed() {
    let register = Register::start(None, None, &Handle::current());
    let adopted = adopt(&register, 1, Precedence::Deployed).await.unwrap();
    assert_eq!((adopted.version.number, adopted.module), (0, plugin(1)));
    let [mut worker] = joined(&register, [("w", Mood::Willing)]).await;
    worker.runs(0).await;
    let refusal = deploy(&register, 1).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Unavailable { reason } if reason.contains("data_dir")), "{refusal}");
}
