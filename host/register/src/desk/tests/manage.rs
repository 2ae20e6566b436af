//! Tenants and apps that are made at run time, with a real store and nodes in memory.

use tidegate_base::{AppSpec, NodeName, Quotas, Secret, Setting};
use tidegate_link::{ControlRx, ControlTx, Link};
use tidegate_wire::control::{self, CatalogParts, FixedApp, NodeInfo, Trouble};
use tidegate_wire::request::{AppDeed, Effect, Order, TenantDeed};

use super::*;

fn tenant(name: &str, deed: TenantDeed) -> Order {
    Order::Tenant { name: Label::new(name).unwrap(), deed }
}

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn order_app(name: &str, deed: AppDeed) -> Order {
    Order::App { name: app(name), deed }
}

async fn manage(register: &Register, order: Order) -> Result<Effect, Refusal> {
    register.deployer().manage(order, "ann".into()).await
}

/// A node that hears of apps and says when it does what it heard.
struct Member {
    _link: Link,
    control: ControlTx,
    messages: ControlRx,
    parts: CatalogParts,
}

impl Member {
    async fn join(register: &Register, role: Role, name: &str) -> Self {
        let (link, there) = memory_pair(peer(role, name), peer(Role::Register, "r"));
        register.add_link(there);
        let (control, messages) = link.take_control().unwrap();
        let gateway = (role == Role::Gateway).then(|| tidegate_base::GatewayId::new(7));
        control.send(Control::Announce(NodeInfo { gateway, ..info(role, name) }).to_bytes()).unwrap();
        Self { _link: link, control, messages, parts: CatalogParts::default() }
    }

    /// The next list.
    async fn list(&mut self) -> control::Catalog {
        loop {
            let message = Control::from_bytes(&self.messages.recv().await.unwrap()).unwrap();
            if let Control::Catalog(part) = message
                && let Some(list) = self.parts.push(part)
            {
                return list;
            }
        }
    }

    fn applied(&self, revision: u64, troubles: Vec<Trouble>) {
        self.control.send(Control::CatalogApplied { revision, troubles }.to_bytes()).unwrap();
    }
}

#[tokio::test]
async fn an_order_is_answered_when_nodes_do_it_and_secrets_are_for_workers_only() {
    let place = Place::new();
    let register = place.register();
    let mut worker = Member::join(&register, Role::Worker, "w").await;
    let mut gateway = Member::join(&register, Role::Gateway, "g").await;
    for node in [&mut worker, &mut gateway] {
        assert_eq!(node.list().await, control::Catalog::default(), "even an empty list is told");
        node.applied(0, Vec::new());
    }
    let effect = manage(&register, tenant("acme", TenantDeed::Create(Quotas::default())));
    let applied = async {
        for node in [&mut worker, &mut gateway] {
            let list = node.list().await;
            node.applied(list.revision, Vec::new());
        }
    };
    let (effect, ()) = tokio::join!(effect, applied);
    assert_eq!(effect.unwrap(), Effect { revision: 1, ..Effect::default() });
    let settings = [("key".to_owned(), Setting::Secret(Secret::new("hunter2")))].into();
    let spec = AppSpec { settings, ..AppSpec::default() };
    let effect = manage(&register, order_app("acme/a", AppDeed::Create(Box::new(spec.clone()))));
    let applied = async {
        let list = worker.list().await;
        assert_eq!((&list.apps[0].spec, list.apps[0].born), (&spec, 2));
        worker.applied(2, vec![Trouble::new(app("acme/a"), "no room".into())]);
        let list = gateway.list().await;
        assert_eq!(list.apps[0].spec, spec.clone().without_secrets());
        gateway.applied(2, Vec::new());
    };
    let (effect, ()) = tokio::join!(effect, applied);
    let effect = effect.unwrap();
    assert_eq!((effect.apps, effect.behind.len()), (vec![app("acme/a")], 0));
    assert_eq!(effect.troubles[0].reason, "no room");
    let overview = register.deployer().apps().await.unwrap().remove(0);
    let shown = serde_json::to_string(&overview).unwrap() + &format!("{overview:?}");
    assert!(!shown.contains("hunter2") && shown.contains("no room"), "{shown}");
}

#[tokio::test]
async fn a_node_has_one_list_under_way_and_then_the_newest_and_who_is_gone_is_not_waited_for() {
    let place = Place::new();
    let register = Arc::new(place.register());
    let mut worker = Member::join(&register, Role::Worker, "w").await;
    worker.list().await;
    let create = |name: &'static str| {
        let register = Arc::clone(&register);
        tokio::spawn(async move { manage(&register, order_app(name, AppDeed::Create(Box::default()))).await })
    };
    let orders = ["a", "b", "c"].map(create);
    while register.deployer().apps().await.unwrap().len() < 3 {
        tokio::task::yield_now().await;
    }
    worker.applied(0, Vec::new());
    let list = worker.list().await;
    assert_eq!((list.revision, list.apps.len()), (3, 3));
    assert!(orders.iter().all(|order| !order.is_finished()));
    drop(worker);
    for order in orders {
        assert!(order.await.unwrap().unwrap().behind.is_empty());
    }
}

#[tokio::test]
async fn gateways_are_told_which_apps_have_no_version_and_workers_need_not_know() {
    let place = Place::new();
    let register = Arc::new(place.register());
    let mut gateway = Member::join(&register, Role::Gateway, "g").await;
    let mut worker = Member::join(&register, Role::Worker, "w").await;
    for member in [&mut gateway, &mut worker] {
        let revision = member.list().await.revision;
        member.applied(revision, Vec::new());
    }
    let create = {
        let register = Arc::clone(&register);
        tokio::spawn(
            async move { manage(&register, order_app("chat", AppDeed::Create(Box::default()))).await },
        )
    };
    let empty = |list: &control::Catalog| list.apps.iter().map(|app| app.empty).collect::<Vec<_>>();
    let list = gateway.list().await;
    assert_eq!(empty(&list), [true]);
    assert_eq!(empty(&worker.list().await), [false]);
    worker.applied(list.revision, Vec::new());
    let (_deploy, mut news) = begin(&register, 1);
    started(&mut news).await;
    // One list is under way to it: the next one follows its word.
    gateway.applied(list.revision, Vec::new());
    let next = gateway.list().await;
    assert_eq!((next.revision, empty(&next)), (list.revision, vec![false]));
    assert!(create.await.unwrap().unwrap().behind.is_empty());
}

#[tokio::test]
async fn a_register_that_starts_again_knows_all_and_a_name_of_a_file_is_refused() {
    let place = Place::new();
    let register = place.register();
    manage(&register, tenant("acme", TenantDeed::Create(Quotas::default()))).await.unwrap();
    manage(&register, order_app("acme/a", AppDeed::Create(Box::default()))).await.unwrap();
    manage(&register, tenant("acme", TenantDeed::Suspend)).await.unwrap();
    drop(register);
    let register = place.register();
    let mut worker = Member::join(&register, Role::Worker, "w").await;
    let list = worker.list().await;
    assert_eq!((list.revision, list.apps[0].suspended), (3, true));
    worker.applied(3, Vec::new());
    let usage = tidegate_base::Usage { apps: 1, slots: 1, ..Default::default() };
    let fixed = vec![FixedApp { app: app("acme/fixed"), usage }];
    worker.control.send(Control::FixedApps(fixed).to_bytes()).unwrap();
    let tenants = loop {
        let tenants = register.deployer().tenants().await.unwrap();
        let acme = tenants.iter().find(|tenant| tenant.tenant.as_str() == "acme").unwrap().clone();
        if acme.usage.apps == 2 {
            break acme;
        }
        tokio::task::yield_now().await;
    };
    assert!(tenants.suspended && !tenants.fixed);
    let refusal = manage(&register, order_app("acme/fixed", AppDeed::Delete)).await.unwrap_err();
    assert!(refusal.to_string().contains("settings file of worker w"), "{refusal}");
}

#[tokio::test]
async fn of_two_that_make_the_same_app_at_once_one_is_refused() {
    let place = Place::new();
    let register = place.register();
    let create = || manage(&register, order_app("a", AppDeed::Create(Box::default())));
    let (one, other) = tokio::join!(create(), create());
    let refused = [one, other].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(&refused[..], [Refusal::Exists { .. }]), "{refused:?}");
}

#[tokio::test]
async fn a_deleted_app_has_no_history_and_a_suspended_one_takes_no_deployment() {
    let place = Place::new();
    let register = place.register();
    manage(&register, order_app("chat", AppDeed::Create(Box::default()))).await.unwrap();
    let report = deploy(&register, 1).await.unwrap();
    assert_eq!((report.version.number, report.outcome), (1, Outcome::Committed));
    manage(&register, order_app("chat", AppDeed::Suspend)).await.unwrap();
    let refusal = deploy(&register, 2).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Suspended { .. }), "{refusal}");
    assert_eq!(history(&register).await.len(), 1);
    manage(&register, order_app("chat", AppDeed::Delete)).await.unwrap();
    assert!(matches!(deploy(&register, 2).await, Err(Refusal::UnknownApp { .. })));
    manage(&register, order_app("chat", AppDeed::Create(Box::default()))).await.unwrap();
    assert_eq!(deploy(&register, 2).await.unwrap().version.number, 1);
}

#[tokio::test]
async fn without_a_store_nothing_is_made() {
    let register = Register::start(None, None, &Handle::current());
    let refusal = manage(&register, order_app("a", AppDeed::Create(Box::default()))).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }), "{refusal}");
    let name = NodeName::new("w").unwrap();
    let mut worker = Member::join(&register, Role::Worker, name.as_str()).await;
    assert_eq!(worker.list().await.revision, 0);
}
