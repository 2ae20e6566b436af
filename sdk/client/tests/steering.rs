//! Deployments and administration against a real cluster: besides what `cluster` needs, the environment has
//! TIDEGATE_OPERATOR_TOKEN, of role `admin` for all tenants, and TIDEGATE_MODULE, a component to deploy.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod recording;

use std::time::Duration;

use recording::{Recorder, described};
use serde_json::json;
use tidegate_client::{App, Canary, Deploy, Error, Outcome, RollBack, State, Tenant, Tidegate};
use tokio::time::{Instant, timeout};

fn of(name: &str) -> String {
    std::env::var(name).expect(name)
}

fn kind<T: std::fmt::Debug>(refused: Result<T, Error>) -> String {
    refused.unwrap_err().kind().map(str::to_owned).unwrap_or_default()
}

/// It goes on until it is cancelled: the traffic that it waits for does not come.
fn canary() -> Canary {
    Canary { for_ms: 3_600_000, events_min: 7, ..Canary::percent(50) }
}

#[tokio::test]
async fn every_operation_that_is_no_push_does_what_it_says() {
    let Ok(token) = std::env::var("TIDEGATE_OPERATOR_TOKEN") else {
        println!("skipped: TIDEGATE_OPERATOR_TOKEN does not name an operator");
        return;
    };
    let recorder = Recorder::start(&of("TIDEGATE_API")).await;
    let tidegate = Tidegate::new(&recorder.address, &token).unwrap();
    let name = format!("rs-{}", std::process::id());
    let (tenant, app) = (tidegate.tenant(&name), tidegate.app(&name, "chat"));
    let path = format!("{name}/chat");
    let module = std::fs::read(of("TIDEGATE_MODULE")).unwrap();

    tenants(&tidegate, &tenant, &name).await;
    apps(&tidegate, &app, &path).await;
    deployments(&app, &path, &module).await;
    canaries(&app, &module).await;

    let status = tidegate.status().await.unwrap();
    assert!(status.ready && !status.roles.is_empty());
    let pusher = Tidegate::new(&of("TIDEGATE_API"), &of("TIDEGATE_TOKEN")).unwrap();
    assert_eq!(kind(pusher.app(&name, "chat").delete().await), "forbidden");
    assert_eq!(app.delete().await.unwrap().apps, [path]);
    assert_eq!(kind(app.info().await), "no-such-app");
    tenant.delete().await.unwrap();
    assert!(!tidegate.tenants().await.unwrap().iter().any(|info| info.tenant == name));

    let others = described(&tidegate.openapi().await.unwrap(), false);
    assert!(others.len() >= 22, "{others:?}");
    let asked = recorder.asked();
    assert_eq!(others.difference(&asked).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

async fn tenants(tidegate: &Tidegate, tenant: &Tenant, name: &str) {
    assert!(tenant.create(json!({"apps_max": 2, "slots_max": 6})).await.unwrap().behind.is_empty());
    assert_eq!(kind(tenant.create(json!({})).await), "exists");
    tenant.configure(json!({"apps_max": null, "slots_max": 5})).await.unwrap();
    let info = tenant.info().await.unwrap();
    assert_eq!((info.quotas.len(), info.quotas["slots_max"], info.suspended), (1, 5, false));
    assert!(tidegate.tenants().await.unwrap().iter().any(|info| info.tenant == name));
    tenant.suspend().await.unwrap();
    assert!(tenant.info().await.unwrap().suspended);
    tenant.resume().await.unwrap();
    assert_eq!(kind(tidegate.tenant("none").info().await), "no-such-tenant");
    let nodes = tidegate.nodes().await.unwrap();
    assert!(
        ["gateway", "worker"].iter().all(|role| nodes.iter().any(|node| node.role == *role)),
        "{nodes:?}"
    );
}

async fn apps(tidegate: &Tidegate, app: &App, path: &str) {
    let settings = json!({"colour": {"plain": "red"}, "key": {"secret": "s3"}});
    assert_eq!(app.create(json!({"slots": 2, "settings": settings})).await.unwrap().apps, [path]);
    let created = app.info().await.unwrap().created.unwrap();
    assert_eq!(created.spec["settings"], json!({"colour": {"plain": "red"}, "key": "hidden"}));
    assert_eq!(kind(app.configure(json!({"slots": 6})).await), "quota");
    app.configure(json!({"slots": 3})).await.unwrap();
    app.configure(json!({"slots": 2})).await.unwrap();
    app.suspend().await.unwrap();
    assert!(app.info().await.unwrap().created.unwrap().suspended);
    app.resume().await.unwrap();
    assert!(tidegate.apps().await.unwrap().iter().any(|info| info.app == path));
    let fixed = tidegate.app("default", &of("TIDEGATE_APP"));
    assert_eq!(kind(fixed.suspend().await), "fixed");
}

async fn deployments(app: &App, path: &str, module: &[u8]) {
    assert_eq!(app.deploying().await.unwrap(), None);
    assert_eq!(kind(app.cancel().await), "not-deploying");
    assert_eq!(kind(app.deploy(vec![1]).await), "bad-module");
    let note = "the first, \u{e0} 100 %";
    let report = app.deploy(Deploy::from(module.to_vec()).note(note)).await.unwrap();
    assert_eq!((&*report.app, &report.outcome, report.slots), (path, &Outcome::Committed, report.switched));
    assert_eq!((report.audit.lost, report.audit.repeated, report.audit.reordered), (0, 0, 0));
    let (first, number) = (&report.version, report.version.number);
    // By its number, and by its digest.
    let mut deployment = app.deploy_and_watch(number).await.unwrap();
    let mut heard = Vec::new();
    while let Some(news) = deployment.next().await.unwrap() {
        heard.push(news);
    }
    assert_eq!((&*heard[0].news, &*heard[heard.len() - 1].news), ("started", "ended"));
    assert!(heard.iter().all(|news| !news.text.is_empty()));
    assert_eq!(deployment.next().await.unwrap(), None);
    assert_eq!(app.deploy(first).await.unwrap().previous, heard[0].version);
    assert_eq!(app.info().await.unwrap().stable.unwrap().number, number + 2);
    let again = app.roll_back(RollBack::before().note("back")).await.unwrap();
    assert_eq!((again.version.number, again.again), (number + 3, Some(number + 1)));
    let deployment = app.roll_back_and_watch(RollBack::to(number)).await.unwrap();
    assert_eq!(deployment.wait().await.unwrap().again, Some(number));
    let connections = app.connections(10, Some("nobody")).await.unwrap();
    assert!(connections.total == 0 && connections.connections.is_empty() && connections.missing.is_empty());
    let logs = app.logs(1000, None).await.unwrap();
    assert!(logs.lines.iter().any(|line| line.version == number), "{logs:?}");
    assert!(logs.missed == 0 && logs.missing.is_empty(), "{logs:?}");
    assert!(app.logs(10, Some(&logs.next)).await.unwrap().lines.is_empty());
    let versions = app.versions(2).await.unwrap();
    assert_eq!((versions[0].version.number, versions[1].version.number), (number + 4, number + 3));
    assert_eq!((versions.len(), &*versions[1].note, &versions[1].report), (2, "back", &None));
    let version = app.version(number).await.unwrap();
    assert_eq!((&*version.note, &version.state), (note, &State::Ended(Outcome::Committed)));
    assert_eq!(version.report.as_ref(), Some(&report));
    assert_eq!(kind(app.version(number + 1000).await), "no-such-version");
}

async fn canaries(app: &App, module: &[u8]) {
    let deploy = Deploy::from(module.to_vec()).canary(canary());
    let mut deployment = app.deploy_and_watch(deploy).await.unwrap();
    while deployment.next().await.unwrap().unwrap().news != "canary" {}
    let deploying = app.deploying().await.unwrap().unwrap();
    assert_eq!(kind(app.deploy_and_leave(module.to_vec()).await), "deploying");
    app.cancel().await.unwrap();
    let refused = deployment.wait().await.unwrap_err();
    assert!(refused.kind() == Some("rolled-back") && refused.to_string().contains("cancelled"), "{refused}");
    let version = app.version(deploying.deploying.version.number).await.unwrap();
    assert_eq!(version.canary, Some(canary()));
    assert!(matches!(version.state, State::Ended(Outcome::RolledBack { .. })));
    // Nobody waits for the end of these.
    let began = app.deploy_and_leave(Deploy::from(1).canary(canary())).await.unwrap();
    assert_eq!(began.news, "started");
    app.cancel().await.unwrap();
    assert!(matches!(followed(app).await, State::Ended(Outcome::RolledBack { .. })));
    assert_eq!(app.roll_back_and_leave(RollBack::to(1)).await.unwrap().news, "started");
    assert_eq!(followed(app).await, State::Ended(Outcome::Committed));
    // Who goes away hears no more; it goes on.
    drop(timeout(Duration::from_secs(60), app.deploy_and_watch(1)).await.unwrap().unwrap());
    assert_eq!(followed(app).await, State::Ended(Outcome::Committed));
}

/// How the deployment that goes on ends, by asking.
async fn followed(app: &App) -> State {
    let deadline = Instant::now() + Duration::from_secs(60);
    while app.deploying().await.unwrap().is_some() {
        assert!(Instant::now() < deadline);
    }
    app.versions(1).await.unwrap().remove(0).state
}
