//! What the catalog promises.

use proptest::prelude::*;
use tidegate_base::{NodeName, Quota, Role, Secret, Setting};
use tidegate_store::CatalogRecords;
use tidegate_wire::control::FixedApp;
use tidegate_wire::request::{NodeRef, Refusal};

use super::*;

fn label(name: &str) -> Label {
    Label::new(name).unwrap()
}

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

fn tenant_order(name: &str, deed: TenantDeed) -> Order {
    Order::Tenant { name: label(name), deed }
}

fn app_order(name: &str, deed: AppDeed) -> Order {
    Order::App { name: app(name), deed }
}

fn slots(slots: u64) -> Box<AppSpec> {
    Box::new(AppSpec { slots: Some(slots), ..AppSpec::default() })
}

fn routes(routes: &[&str]) -> Box<AppSpec> {
    let routes = routes.iter().map(|route| (*route).to_owned()).collect();
    Box::new(AppSpec { routes, ..AppSpec::default() })
}

fn done(catalog: &mut Catalog, order: &Order) -> Change {
    let change = catalog.plan(order).unwrap();
    catalog.apply(&change);
    catalog.check_invariants().unwrap();
    change
}

fn refused(catalog: &Catalog, order: &Order) -> String {
    Refusal::from(catalog.plan(order).unwrap_err()).to_string()
}

/// A catalog with a tenant that may have four slots.
fn acme() -> Catalog {
    let mut catalog = Catalog::default();
    let quotas = Quotas { slots_max: Some(4), ..Quotas::default() };
    done(&mut catalog, &tenant_order("acme", TenantDeed::Create(quotas)));
    catalog
}

#[test]
fn a_quota_refuses_with_what_it_would_come_to_and_how_to_mend_it() {
    let mut catalog = acme();
    done(&mut catalog, &app_order("acme/a", AppDeed::Create(slots(3))));
    let text = refused(&catalog, &app_order("acme/b", AppDeed::Create(slots(2))));
    assert!(text.contains("tenant acme may have 4 slots, and with app acme/b it would have 5"), "{text}");
    assert!(text.contains("tidegate tenants configure acme --slots-max 5"), "{text}");
    let text = refused(&catalog, &app_order("acme/a", AppDeed::Configure(slots(5))));
    assert!(text.contains("it would have 5"), "its own slots count once: {text}");
    done(&mut catalog, &app_order("acme/a", AppDeed::Configure(slots(4))));
    let lower = TenantDeed::Configure(vec![(Quota::SlotsMax, Some(3))]);
    let text = refused(&catalog, &tenant_order("acme", lower));
    assert!(text.contains("has 4 slots already, so `slots_max` cannot be 3"), "{text}");
    done(&mut catalog, &tenant_order("acme", TenantDeed::Configure(vec![(Quota::SlotsMax, None)])));
    done(&mut catalog, &app_order("acme/b", AppDeed::Create(slots(100))));
}

#[test]
fn an_app_needs_a_tenant_and_a_name_is_given_once() {
    let mut catalog = acme();
    let text = refused(&catalog, &app_order("acne/a", AppDeed::Create(slots(1))));
    assert!(text.contains("there is no tenant acne; tenants here: acme, default"), "{text}");
    done(&mut catalog, &app_order("acme/a", AppDeed::Create(slots(1))));
    for order in [
        app_order("acme/a", AppDeed::Create(slots(1))),
        tenant_order("acme", TenantDeed::Create(Quotas::default())),
    ] {
        let text = refused(&catalog, &order);
        assert!(text.contains("already") && text.contains("configure"), "{text}");
    }
    let text = refused(&catalog, &app_order("acme/b", AppDeed::Suspend));
    assert!(text.contains("no app acme/b; apps here: acme/a"), "{text}");
    done(&mut catalog, &app_order("free", AppDeed::Create(slots(9))));
}

#[test]
fn what_stands_in_a_settings_file_is_refused_and_counts() {
    let mut catalog = acme();
    let node = NodeRef { role: Role::Worker, name: NodeName::new("w-1").unwrap() };
    let usage = Usage { apps: 1, slots: 3, memory_mib: 192, ..Usage::default() };
    let fixed = ["acme/fixed", "other/fixed"].map(|name| FixedApp { app: app(name), usage });
    catalog.fixed_apps(7, node, fixed.into());
    for deed in [AppDeed::Create(slots(1)), AppDeed::Configure(slots(1)), AppDeed::Suspend, AppDeed::Delete] {
        let text = refused(&catalog, &app_order("acme/fixed", deed));
        assert!(text.contains("stands in the settings file of worker w-1: commands do not"), "{text}");
    }
    let text = refused(&catalog, &tenant_order("other", TenantDeed::Suspend));
    assert!(text.contains("with app other/fixed"), "{text}");
    let text = refused(&catalog, &app_order("acme/b", AppDeed::Create(slots(2))));
    assert!(text.contains("it would have 5"), "{text}");
    done(&mut catalog, &app_order("other/b", AppDeed::Create(slots(2))));
    // Its node is away: what was made stays as it is, and can be changed.
    catalog.node_gone(7);
    for order in
        [app_order("acme/b", AppDeed::Create(slots(2))), app_order("other/b", AppDeed::Configure(slots(3)))]
    {
        let change = catalog.plan(&order).unwrap();
        catalog.apply(&change);
    }
    let text = refused(&catalog, &tenant_order("default", TenantDeed::Delete));
    assert!(text.contains("is always there"), "{text}");
}

#[test]
fn tenants_of_the_registers_own_file_have_quotas_and_take_apps() {
    let mut catalog = Catalog::default();
    let quotas = Quotas { apps_max: Some(1), ..Quotas::default() };
    catalog.fixed_tenants([(label("zed"), quotas)].into());
    done(&mut catalog, &app_order("zed/a", AppDeed::Create(slots(1))));
    let text = refused(&catalog, &app_order("zed/b", AppDeed::Create(slots(1))));
    assert!(text.contains("1 apps") && text.contains("`apps_max` in its [[tenant]]"), "{text}");
    let text = refused(&catalog, &tenant_order("zed", TenantDeed::Create(quotas)));
    assert!(text.contains("[[tenant]]"), "{text}");
}

#[test]
fn a_route_has_one_app() {
    let mut catalog = acme();
    done(&mut catalog, &app_order("acme/a", AppDeed::Create(routes(&["chat.example.org/x/", "*"]))));
    for taken in ["CHAT.example.org/x", "*/"] {
        let text = refused(&catalog, &app_order("free", AppDeed::Create(routes(&[taken]))));
        assert!(text.contains("taken by another app") && !text.contains("acme"), "{text}");
    }
    done(&mut catalog, &app_order("acme/a", AppDeed::Configure(routes(&["chat.example.org/x"]))));
    done(&mut catalog, &app_order("free", AppDeed::Create(routes(&["*", "chat.example.org/y"]))));
}

#[test]
fn who_is_suspended_and_who_goes_has_its_apps_ended() {
    let mut catalog = acme();
    for name in ["acme/a", "acme/b", "free"] {
        done(&mut catalog, &app_order(name, AppDeed::Create(slots(1))));
    }
    assert_eq!(done(&mut catalog, &app_order("acme/a", AppDeed::Suspend)).ended, [app("acme/a")]);
    assert!(done(&mut catalog, &app_order("acme/a", AppDeed::Suspend)).is_empty());
    assert_eq!(done(&mut catalog, &tenant_order("acme", TenantDeed::Suspend)).ended, [app("acme/b")]);
    assert_eq!(catalog.list().apps.iter().filter(|app| app.suspended).count(), 2);
    let created = catalog.created(&app("acme/b")).unwrap();
    assert!(!created.suspended && created.tenant_suspended);
    assert!(done(&mut catalog, &tenant_order("acme", TenantDeed::Resume)).ended.is_empty());
    assert_eq!(
        (catalog.is_active(&app("acme/a")), catalog.is_active(&app("acme/b"))),
        (Some(false), Some(true))
    );
    let gone = done(&mut catalog, &tenant_order("acme", TenantDeed::Delete));
    assert!(gone.deletes(&app("acme/a")) && !gone.deletes(&app("free")));
    assert_eq!(catalog.apps().collect::<Vec<_>>(), [&app("free")]);
}

#[test]
fn an_app_of_the_same_name_is_another_one() {
    let mut catalog = acme();
    done(&mut catalog, &app_order("acme/a", AppDeed::Create(slots(1))));
    let first = catalog.list().apps[0].born;
    done(&mut catalog, &app_order("acme/a", AppDeed::Configure(slots(2))));
    assert_eq!(catalog.list().apps[0].born, first);
    done(&mut catalog, &app_order("acme/a", AppDeed::Delete));
    done(&mut catalog, &app_order("acme/a", AppDeed::Create(slots(2))));
    assert!(catalog.list().apps[0].born > first);
}

#[test]
fn the_settings_of_all_apps_together_have_a_limit() {
    let mut catalog = Catalog::default();
    let text = "x".repeat(tidegate_base::limits::SETTINGS_BYTES_MAX - 1);
    let settings = [("k".to_owned(), Setting::Plain(text))].into();
    let spec = Box::new(AppSpec { settings, ..AppSpec::default() });
    let refusal = (0..1000).find_map(|n| {
        let order = app_order(&format!("a{n}"), AppDeed::Create(spec.clone()));
        let change = catalog.plan(&order);
        change.map(|change| catalog.apply(&change)).err()
    });
    assert!(matches!(refusal, Some(CatalogError::TooLarge { .. })), "{refusal:?}");
    let bytes: usize = catalog.list().apps.iter().map(CatalogApp::bytes).sum();
    assert!(bytes <= CATALOG_BYTES_MAX);
}

#[test]
fn operators_see_no_secrets() {
    let mut catalog = acme();
    let settings = [("key".to_owned(), Setting::Secret(Secret::new("hunter2")))].into();
    let spec = Box::new(AppSpec { settings, ..AppSpec::default() });
    let change = done(&mut catalog, &app_order("acme/a", AppDeed::Create(spec)));
    let created = serde_json::to_string(&catalog.created(&app("acme/a"))).unwrap();
    assert!(!created.contains("hunter2") && !format!("{catalog:?} {change:?}").contains("hunter2"));
    let mut cut = change.to_store();
    cut.apps[0].1.as_mut().unwrap().pop();
    let records = CatalogRecords {
        revision: 1,
        tenants: Vec::new(),
        apps: vec![(app("acme/a"), cut.apps[0].1.clone().unwrap())],
    };
    let error = catalog.restore(&records).unwrap_err();
    assert!(error.contains("acme/a") && !error.contains("hunter2"), "{error}");
}

fn order() -> impl Strategy<Value = Order> {
    let tenant = (0..3_u8).prop_map(|n| label(["acme", "zed", "file"][usize::from(n)]));
    let quota = prop::option::of(0..6_u64);
    let quotas = (quota.clone(), quota.clone(), quota.clone()).prop_map(|(apps_max, slots_max, gib)| {
        Quotas { apps_max, slots_max, memory_mib_max: gib.map(|gib| gib * 64), ..Quotas::default() }
    });
    let one = (0..4_usize, quota).prop_map(|(n, max)| (Quota::ALL[n], max));
    let tenant_deed = prop_oneof![
        3 => quotas.prop_map(TenantDeed::Create),
        3 => prop::collection::vec(one, 0..3).prop_map(TenantDeed::Configure),
        1 => Just(TenantDeed::Suspend),
        1 => Just(TenantDeed::Resume),
        1 => Just(TenantDeed::Delete),
    ];
    let name = (0..5_u8).prop_map(|n| app(["acme/a", "acme/b", "zed/a", "file/a", "fixed"][usize::from(n)]));
    let spec = || {
        let spec = |(slots, routes): (u64, Vec<u8>)| {
            let routes = routes.iter().map(|n| format!("host-{n}")).collect();
            Box::new(AppSpec { slots: Some(slots), routes, ..AppSpec::default() })
        };
        (0..4_u64, prop::collection::vec(0..4_u8, 0..2)).prop_map(spec)
    };
    let app_deed = prop_oneof![
        4 => spec().prop_map(AppDeed::Create),
        3 => spec().prop_map(AppDeed::Configure),
        1 => Just(AppDeed::Suspend),
        1 => Just(AppDeed::Resume),
        1 => Just(AppDeed::Delete),
    ];
    prop_oneof![
        2 => (tenant, tenant_deed).prop_map(|(name, deed)| Order::Tenant { name, deed }),
        3 => (name, app_deed).prop_map(|(name, deed)| Order::App { name, deed }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_ordered_quotas_hold_and_what_is_deleted_is_gone(orders in prop::collection::vec(order(), 0..80)) {
        let mut catalog = Catalog::default();
        let quotas = Quotas { slots_max: Some(2), ..Quotas::default() };
        catalog.fixed_tenants([(label("file"), quotas)].into());
        let node = NodeRef { role: Role::Worker, name: NodeName::new("w").unwrap() };
        let usage = Usage { apps: 1, slots: 1, memory_mib: 64, ..Usage::default() };
        catalog.fixed_apps(1, node, vec![FixedApp { app: app("fixed"), usage }]);
        let mut records = CatalogRecords::default();
        for order in orders {
            let before = catalog.clone();
            let Ok(change) = catalog.plan(&order) else {
                prop_assert_eq!(&catalog, &before);
                continue;
            };
            catalog.apply(&change);
            prop_assert_eq!(catalog.check_invariants(), Ok(()));
            prop_assert_eq!(catalog.revision(), before.revision() + u64::from(!change.is_empty()));
            prop_assert!(!catalog.apps().any(|name| *name == app("fixed")));
            let tenant_gone = matches!(&order, Order::Tenant { deed: TenantDeed::Delete, .. });
            if let (true, Order::Tenant { name, .. }) = (tenant_gone, &order) {
                prop_assert!(!catalog.apps().any(|app| app.tenant_label() == *name));
                prop_assert!(catalog.tenants().iter().all(|tenant| tenant.tenant != *name));
            }
            for ended in &change.ended {
                prop_assert_eq!(before.is_active(ended), Some(true));
                prop_assert!(catalog.is_active(ended) != Some(true));
            }
            if !change.is_empty() {
                let to_store = change.to_store();
                records.revision = to_store.revision;
                for (name, body) in to_store.tenants {
                    records.tenants.retain(|(known, _)| *known != name);
                    records.tenants.extend(body.map(|body| (name, body)));
                }
                for (name, body) in to_store.apps {
                    records.apps.retain(|(known, _)| *known != name);
                    records.apps.extend(body.map(|body| (name, body)));
                }
            }
            prop_assert_eq!(&catalog.restore(&records).unwrap(), &catalog);
        }
    }
}
