//! Requests over links in memory and over loopback UDP, with a deployer whose deployments the tests end.

use std::net::SocketAddr;

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_base::{AppName, Label, NodeName, Quotas, Role, Usage};
use tidegate_link::certs::Authority;
use tidegate_link::{Endpoint, LinkSettings, memory_pair};
use tidegate_wire::control::VersionRef;
use tidegate_wire::report::{Audit, Outcome, Progress, SwapReport, Times};
use tidegate_wire::request::{AppOverview, Effect, EntryState, HistoryEntry, Order, TenantOverview, encode};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::*;
use crate::Register;
use crate::deployer::{Answer, Watcher};

fn app() -> AppName {
    AppName::new("chat").unwrap()
}

fn version(module: &[u8]) -> VersionRef {
    VersionRef { number: 2, digest: Digest::of(module) }
}

fn report(version: VersionRef, outcome: Outcome) -> SwapReport {
    SwapReport {
        app: app(),
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

/// Keeps one module. A deployment tells that it began, ends when it may, and commits unless its note is a reason.
#[derive(Default)]
struct Fake {
    orders: Mutex<Vec<String>>,
    module: Mutex<Option<Bytes>>,
    ended: Mutex<Vec<Outcome>>,
    may_end: Notify,
    has_ended: Notify,
}

impl Fake {
    async fn play(&self, module: Bytes, note: String, watcher: Watcher) -> Result<SwapReport, Refusal> {
        let version = version(&module);
        watcher.tell(Progress::Started { version, workers: 1, slots: 1 });
        self.may_end.notified().await;
        let outcome = if note.is_empty() { Outcome::Committed } else { Outcome::RolledBack { reason: note } };
        let report = report(version, outcome.clone());
        watcher.tell(Progress::Ended(Box::new(report.clone())));
        self.ended.lock().push(outcome);
        self.has_ended.notify_one();
        Ok(report)
    }
}

impl Deployer for Fake {
    fn apps(&self) -> Answer<'_, Vec<AppOverview>> {
        let overview =
            AppOverview { app: app(), stable: None, deploying: None, workers: Vec::new(), created: None };
        Box::pin(async { Ok(vec![overview]) })
    }

    fn history(&self, app: AppName, limit: usize) -> Answer<'_, Vec<HistoryEntry>> {
        let entry = |number| HistoryEntry {
            version: VersionRef { number, digest: Digest::of(b"") },
            again: None,
            by: app.to_string(),
            note: "x".repeat(1000),
            at_ms: 0,
            canary: None,
            state: EntryState::Ended(Outcome::Committed),
            report: None,
        };
        let entries = (1..=u32::try_from(limit).unwrap()).rev().map(entry).collect();
        Box::pin(async { Ok(entries) })
    }

    fn deploy(&self, order: DeployOrder, watcher: Watcher) -> Answer<'_, SwapReport> {
        self.orders.lock().push(format!("{:?} by {}", order.module, order.by));
        Box::pin(async move {
            let module = match order.module {
                ModuleRef::Bytes(bytes) => bytes,
                ModuleRef::Digest(digest) => return Err(Refusal::UnknownModule { digest }),
            };
            *self.module.lock() = Some(module.clone());
            self.play(module, order.note, watcher).await
        })
    }

    fn rollback(&self, order: RollbackOrder, _: Watcher) -> Answer<'_, SwapReport> {
        let RollbackOrder { app, to, .. } = order;
        let number = to.unwrap_or_default();
        assert_ne!(number, 13, "a rollback to 13 is a mistake of the deployer");
        Box::pin(async move { Err(Refusal::UnknownVersion { app, number }) })
    }

    fn cancel(&self, app: AppName, by: String) -> Answer<'_, ()> {
        self.orders.lock().push(format!("cancel {app} by {by}"));
        self.may_end.notify_one();
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
        let module = self.module.lock().clone().filter(|module| Digest::of(module) == digest);
        Box::pin(async move { Ok(module) })
    }
}

struct Set {
    register: Register,
    fake: Arc<Fake>,
}

impl Set {
    fn new() -> Self {
        let set = Self { register: Register::start(None, None, &Handle::current()), fake: Arc::default() };
        set.register.serve_deployer(Arc::clone(&set.fake) as Arc<dyn Deployer>);
        set
    }

    fn link(&self, role: Role, name: &str) -> Link {
        let peer = |role, name: &str| Peer { role, name: NodeName::new(name).unwrap(), address: None };
        let (here, there) = memory_pair(peer(role, name), peer(Role::Register, "r"));
        self.register.add_link(there);
        here
    }
}

async fn lane(link: &Link) -> RequestLane {
    RequestLane::asking(link.open_lane().await.unwrap(), STEP_MAX)
}

async fn asked(link: &Link, request: &Request) -> RequestLane {
    let lane = lane(link).await;
    lane.send(request).unwrap();
    lane
}

async fn refused(lane: &mut RequestLane) -> Refusal {
    match lane.receive().await.unwrap() {
        Reply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn sent(module: &[u8]) -> Request {
    let sent = Module::Sent { digest: Digest::of(module), bytes: module.len() as u64 };
    Request::Deploy { app: app(), module: sent, canary: None, note: String::new() }
}

/// Deploys and fetches, over whatever link there is.
async fn round(fake: &Fake, operator: &Link, worker: &Link, module: Bytes) {
    let mut deploying = asked(operator, &sent(&module)).await;
    deploying.send_bytes(module.clone()).await.unwrap();
    let news: Reply = deploying.receive().await.unwrap();
    let version = version(&module);
    assert_eq!(news, Reply::News(Progress::Started { version, workers: 1, slots: 1 }));
    fake.may_end.notify_one();
    let ended: Reply = deploying.receive().await.unwrap();
    assert_eq!(ended, Reply::Ended(Box::new(report(version, Outcome::Committed))));
    assert!(deploying.receive::<Reply>().await.is_err(), "nothing comes after the last");

    let mut fetching = asked(worker, &Request::Fetch { digest: version.digest }).await;
    let bytes = module.len() as u64;
    assert_eq!(fetching.receive::<Reply>().await.unwrap(), Reply::Module { bytes });
    let incoming = Incoming::new(version.digest, bytes, MODULE_BYTES_MAX).unwrap();
    assert_eq!(fetching.receive_module(incoming).await.unwrap(), module);
    assert_eq!(fake.orders.lock().pop().unwrap(), format!("{bytes} bytes by ann"));
}

#[tokio::test]
async fn a_module_goes_up_is_deployed_and_comes_down_in_memory() {
    let set = Set::new();
    let (operator, worker) = (set.link(Role::Operator, "ann"), set.link(Role::Worker, "w"));
    for module in [&b""[..], b"module", &vec![7; 3 << 20]] {
        round(&set.fake, &operator, &worker, Bytes::copy_from_slice(module)).await;
    }
}

#[tokio::test]
async fn a_module_goes_up_is_deployed_and_comes_down_over_quic() {
    let authority = Authority::create("prod").unwrap();
    let bind = |role, name: &str| {
        let identity = authority.issue(role, &NodeName::new(name).unwrap(), 1).unwrap();
        Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &identity, &LinkSettings::default()).unwrap()
    };
    let at = bind(Role::Register, "r");
    let register = Register::start(Some(at.clone()), None, &Handle::current());
    let fake: Arc<Fake> = Arc::default();
    register.serve_deployer(Arc::clone(&fake) as Arc<dyn Deployer>);
    let (ann, w) = (bind(Role::Operator, "ann"), bind(Role::Worker, "w"));
    let operator = ann.connect(at.local_addr().unwrap(), Role::Register).await.unwrap();
    let worker = w.connect(at.local_addr().unwrap(), Role::Register).await.unwrap();
    // More than one lane holds before it is read.
    round(&fake, &operator, &worker, vec![7; 5 << 20].into()).await;
}

#[tokio::test]
async fn lists_come_one_by_one_however_long_they_are() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let mut apps = asked(&operator, &Request::Apps).await;
    assert!(matches!(apps.receive().await.unwrap(), Reply::App(overview) if overview.app == app()));
    assert_eq!(apps.receive::<Reply>().await.unwrap(), Reply::Done);
    let mut history = asked(&operator, &Request::History { app: app(), limit: u32::MAX }).await;
    for number in (1..=HISTORY_LIMIT_MAX).rev() {
        let reply = history.receive().await.unwrap();
        assert!(matches!(reply, Reply::Version(entry) if entry.version.number == number));
    }
    assert_eq!(history.receive::<Reply>().await.unwrap(), Reply::Done);
}

#[tokio::test]
async fn a_deployment_goes_on_when_who_asked_is_gone() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let mut deploying = asked(&operator, &sent(b"module")).await;
    deploying.send_bytes(Bytes::from_static(b"module")).await.unwrap();
    assert!(matches!(deploying.receive().await.unwrap(), Reply::News(_)));
    drop(deploying);
    operator.close(0, "gone");
    drop(operator);
    let other = set.link(Role::Operator, "bob");
    let mut cancel = asked(&other, &Request::Cancel { app: app() }).await;
    assert_eq!(cancel.receive::<Reply>().await.unwrap(), Reply::Done);
    set.fake.has_ended.notified().await;
    assert_eq!(*set.fake.ended.lock(), [Outcome::Committed]);
    assert_eq!(set.fake.orders.lock().last().unwrap(), "cancel default/chat by bob");
}

#[tokio::test]
async fn what_a_role_may_not_ask_is_refused_and_its_link_lives_on() {
    let set = Set::new();
    let worker = set.link(Role::Worker, "w");
    let mut lane = asked(&worker, &sent(b"module")).await;
    let refusal = refused(&mut lane).await;
    assert!(matches!(&refusal, Refusal::NotAllowed { reason } if reason.contains("worker w")), "{refusal}");
    let digest = Digest::of(b"none");
    let mut lane = asked(&worker, &Request::Fetch { digest }).await;
    assert_eq!(refused(&mut lane).await, Refusal::UnknownModule { digest });
    assert!(set.fake.orders.lock().is_empty() && worker.close_error().is_none());
}

#[tokio::test]
async fn modules_that_are_cut_short_too_large_or_others_are_refused() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let announce = |digest, bytes| {
        let module = Module::Sent { digest, bytes };
        Request::Deploy { app: app(), module, canary: None, note: String::new() }
    };

    let mut large = asked(&operator, &announce(Digest::of(b""), MODULE_BYTES_MAX + 1)).await;
    assert!(matches!(refused(&mut large).await, Refusal::BadModule { .. }));

    let mut wrong = asked(&operator, &announce(Digest::of(b"one"), 3)).await;
    wrong.send_bytes(Bytes::from_static(b"two")).await.unwrap();
    let refusal = refused(&mut wrong).await.to_string();
    assert!(refusal.contains(&Digest::of(b"two").to_string()), "{refusal}");

    let (tx, rx) = operator.open_lane().await.unwrap();
    tx.send(encode(&announce(Digest::of(b"three"), 5), 100).unwrap()).unwrap();
    tx.send(Bytes::from_static(b"thr")).unwrap();
    assert!(tx.finish().await);
    let refusal = refused(&mut RequestLane::asking((tx, rx), STEP_MAX)).await.to_string();
    assert!(refusal.contains("3 of 5 bytes"), "{refusal}");
    assert!(set.fake.orders.lock().is_empty());
}

#[tokio::test]
async fn nonsense_is_answered() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    for bytes in [&[255, 255, 255, 255][..], &[1, 0, 0, 0, 99]] {
        let (tx, rx) = operator.open_lane().await.unwrap();
        tx.send(Bytes::copy_from_slice(bytes)).unwrap();
        let refusal = refused(&mut RequestLane::asking((tx, rx), STEP_MAX)).await;
        assert!(matches!(refusal, Refusal::Broken { .. }), "{refusal}");
    }
}

#[tokio::test]
async fn refusals_of_the_deployer_and_its_mistakes_come_back() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let back = |to| Request::Rollback { app: app(), to: Some(to), note: String::new() };
    let mut lane = asked(&operator, &back(9)).await;
    assert_eq!(refused(&mut lane).await, Refusal::UnknownVersion { app: app(), number: 9 });
    let mut lane = asked(&operator, &back(13)).await;
    assert!(matches!(refused(&mut lane).await, Refusal::Internal { .. }));
}

#[tokio::test]
async fn a_register_without_a_store_deploys_nothing_and_says_so() {
    let register = Register::start(None, None, &Handle::current());
    let set = Set { register, fake: Arc::default() };
    let operator = set.link(Role::Operator, "ann");
    let mut lane = asked(&operator, &sent(b"module")).await;
    lane.send_bytes(Bytes::from_static(b"module")).await.unwrap();
    assert!(matches!(refused(&mut lane).await, Refusal::UnknownApp { .. }));
    let mut lane = asked(&operator, &Request::Fetch { digest: Digest::of(b"") }).await;
    assert!(matches!(refused(&mut lane).await, Refusal::Unavailable { .. }));
}

#[tokio::test]
async fn one_link_has_so_many_requests_at_a_time() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let mut open = Vec::new();
    for _ in 0..REQUESTS_PER_LINK_MAX {
        open.push(lane(&operator).await);
    }
    let mut one_more = lane(&operator).await;
    assert!(matches!(refused(&mut one_more).await, Refusal::TooMuch { .. }));
    // Each of the others may still ask.
    let first = open.first_mut().unwrap();
    first.send(&Request::Apps).unwrap();
    assert!(matches!(first.receive().await.unwrap(), Reply::App(_)));
}

#[tokio::test]
async fn an_end_that_is_silent_is_given_up() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let step = Duration::from_millis(1);
    let mut lane = RequestLane::asking(operator.open_lane().await.unwrap(), step);
    assert_eq!(lane.receive::<Reply>().await, Err(LaneFailure::Late(step)));
}

#[tokio::test]
async fn an_operator_who_only_asks_on_lanes_is_not_silent() {
    let set = Set::new();
    let operator = set.link(Role::Operator, "ann");
    let mut lane = asked(&operator, &Request::Apps).await;
    assert!(matches!(lane.receive().await.unwrap(), Reply::App(_)));
    // One that came later and says nothing is refused first by the clock.
    set.link(Role::Operator, "bob").closed().await;
    let mut lane = asked(&operator, &Request::Apps).await;
    assert!(matches!(lane.receive().await.unwrap(), Reply::App(_)));
}
