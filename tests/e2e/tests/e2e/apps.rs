//! Apps that come and go while their gateways run.

use std::net::SocketAddr;

use serde_json::json;
use tidegate_base::{AppName, Protocol};
use tidegate_gateway::settings::{
    AppLimits, AppSettings, AppState, ListenerSettings, Origins, SharedSettings,
};
use tidegate_harness::{Client, Cluster, LinkKind, RawClient, component, eventually};
use tidegate_worker::WorkerApp;
use tokio_tungstenite::tungstenite::Error;

/// 1013: try again later.
const TRY_AGAIN: u16 = 1013;

#[tokio::test]
async fn an_app_that_is_removed_says_good_bye_to_its_clients_and_leaves_those_of_others_alone() {
    let cluster = Cluster::of("callbacks").apps(&["goes", "stays"]).gateways(2).shards(2).start().await;
    let mut witness = client(&cluster, 1, 0).await;
    witness.call("join_group", json!({"groups": ["observers"]})).await;
    let (mut goes, mut stays) = (client(&cluster, 0, 0).await, client(&cluster, 0, 1).await);
    goes.call("bind_uid", json!({"uid": "ann"})).await;
    assert!(cluster.gateway(0).remove_app(&name("goes")));
    assert_eq!(goes.closed().await, Some((TRY_AGAIN, "This app was removed.".into())));
    // Its on-close event is done, and the slot knows what the client had.
    let event = witness.event("close").await;
    assert_eq!((&event["client"], &event["uid"]), (&json!(goes.id()), &json!("ann")));
    witness.drain().await;
    assert!(!cluster.gateway(0).remove_app(&name("goes")), "it is gone already");
    assert!(connect(cluster.listener(0, 0, 0)).await.is_err(), "nobody listens there any more");
    assert_eq!(cluster.gateway(0).apps(), [name("stays")]);
    assert_eq!(cluster.gateway(0).bound().len(), 1);
    for _ in 0..10 {
        stays.drain().await;
    }
    assert_eq!(cluster.gateway(0).census().len(), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn an_app_that_is_added_later_has_the_slots_that_were_announced_before() {
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let cluster = Cluster::of("callbacks").apps(&["a", "b"]).shards(2).slots(2).link(link).start().await;
        // Nobody has needed a lane yet: what is known of its slots is what the worker said when it was linked.
        assert!(cluster.gateway(0).remove_app(&name("b")));
        cluster.gateway(0).add_app(&settings("b")).unwrap();
        assert_eq!(cluster.gateway(0).load(&name("b")), [0; 2]);
        let mut first = Client::of_callbacks(address(&cluster, "b")).await;
        first.send("hello").await;
        assert_eq!(first.text().await, "hello");
        // With lanes that are open it is the same: they end with the app, and the worker offers others.
        assert!(cluster.gateway(0).remove_app(&name("b")));
        assert_eq!(first.closed().await.map(|(code, _)| code), Some(TRY_AGAIN));
        cluster.gateway(0).add_app(&settings("b")).unwrap();
        let mut second = Client::of_callbacks(address(&cluster, "b")).await;
        second.send("again").await;
        assert_eq!(second.text().await, "again");
        assert_ne!(first.id(), second.id());
        cluster.stop().await;
    }
}

#[tokio::test]
async fn a_suspended_app_closes_and_refuses_clients_until_it_goes_on() {
    let cluster = Cluster::of("callbacks")
        .apps(&["a", "b"])
        .protocols(&[Protocol::Ws, Protocol::Text])
        .shards(2)
        .start()
        .await;
    let (mut of_a, mut of_b) = (client(&cluster, 0, 0).await, client(&cluster, 0, 1).await);
    let mut line = RawClient::connect(cluster.listener(0, 0, 1)).await;
    line.until(b"}\n").await;
    cluster.gateway(0).set_app_state(&name("a"), AppState::Suspended).unwrap();
    let closed = of_a.closed().await.expect("a close frame");
    assert_eq!(closed, (TRY_AGAIN, "This app is suspended: try again later.".into()));
    assert!(line.rest().await.is_empty());
    assert_eq!(status(connect(cluster.listener(0, 0, 0)).await), 503);
    assert!(RawClient::connect(cluster.listener(0, 0, 1)).await.rest().await.is_empty());
    // Once more is the same.
    cluster.gateway(0).set_app_state(&name("a"), AppState::Suspended).unwrap();
    assert_eq!(status(connect(cluster.listener(0, 0, 0)).await), 503);
    of_b.drain().await;
    cluster.gateway(0).set_app_state(&name("a"), AppState::Active).unwrap();
    let mut of_a = client(&cluster, 0, 0).await;
    of_a.drain().await;
    let unknown = cluster.gateway(0).set_app_state(&name("c"), AppState::Active).unwrap_err().to_string();
    assert!(unknown.contains("default/c"), "{unknown}");
    cluster.stop().await;
}

#[tokio::test]
async fn an_app_without_a_version_refuses_clients_at_once_and_takes_them_as_soon_as_a_slot_is_up() {
    let mut cluster = Cluster::of("callbacks").later(&["a"]).shards(2).start().await;
    let worker = cluster.worker(0);
    worker.add_app(WorkerApp::empty(name("a"))).await.unwrap();
    let set = |state| cluster.gateway(0).set_app_state(&name("a"), state).unwrap();
    // Whoever waits already is told.
    let address = cluster.ws_of(0, "a");
    let of_a = || cluster.gateway(0).census().into_iter().find(|app| app.app == name("a")).unwrap();
    let waits = tokio::spawn(connect(address));
    eventually("it waits", || (of_a().clients == 1).then_some(())).await;
    set(AppState::Empty);
    for refused in [waits.await.unwrap(), connect(address).await] {
        let Err(Error::Http(response)) = refused else { panic!("{refused:?}") };
        assert_eq!(
            (response.status().as_u16(), &response.headers()["retry-after"]),
            (503, &"10".parse().unwrap())
        );
        let text = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
        assert!(text.contains("Nothing was deployed to this app yet"), "{text}");
    }
    // The slots may be there before the word that there is a version.
    let mut swapper = cluster.swapper(0).of_empty("a");
    eventually("the worker knows it", || swapper.is_known().then_some(())).await;
    let report = swapper.swap(component("callbacks")).await;
    assert_eq!(report.failure, None);
    eventually("the slot is up", || (cluster.gateway(0).load(&name("a")).len() == 1).then_some(())).await;
    let mut client = Client::of_callbacks(address).await;
    client.drain().await;
    cluster.gateway(0).set_app_state(&name("a"), AppState::Active).unwrap();
    client.drain().await;
    cluster.stop().await;
}

#[tokio::test]
async fn clients_whose_slot_does_not_answer_are_forgotten_with_their_app() {
    let cluster = Cluster::of("callbacks")
        .apps(&["a", "b"])
        .times(|times| times.app_end = std::time::Duration::from_millis(200))
        .app(|app| app.limits.turn_cpu_ms = 3_000)
        .start()
        .await;
    let mut spinning = client(&cluster, 0, 0).await;
    spinning.tell("spin", json!({})).await;
    assert!(cluster.gateway(0).remove_app(&name("a")));
    assert_eq!(spinning.closed().await.map(|(code, _)| code), Some(TRY_AGAIN));
    // Its lane is reset: another app of that name has the slot's next one, and it waits for its turn as ever.
    cluster.gateway(0).add_app(&settings("a")).unwrap();
    eventually("the slot offers another lane", || {
        (cluster.gateway(0).load(&name("a")).len() == 1).then_some(())
    })
    .await;
    let mut other = client(&cluster, 0, 1).await;
    other.drain().await;
    cluster.stop().await;
}

#[tokio::test]
async fn limits_change_under_the_clients() {
    let cluster = Cluster::of("callbacks").apps(&["a"]).start().await;
    let mut client = client(&cluster, 0, 0).await;
    let text = "x".repeat(1000);
    client.send(text.clone()).await;
    assert_eq!(client.text().await, text);
    let configure = |limits: AppLimits| {
        cluster.gateway(0).configure_app(&name("a"), &limits, &SharedSettings::default()).unwrap();
    };
    configure(AppLimits { connections_max: 1, groups_per_client_max: 1, ..AppLimits::default() });
    assert!(connect(cluster.listener(0, 0, 0)).await.is_err(), "it has as many clients as it may");
    client.call("join_group", json!({"groups": ["one"]})).await;
    client.call("join_group", json!({"groups": ["two"]})).await;
    let info = client.call("select", json!({"of": "all", "fields": ["groups"]})).await;
    assert_eq!(info[0]["groups"], json!(["one"]));
    configure(AppLimits { payload_bytes_max: 999, ..AppLimits::default() });
    client.send(text).await;
    assert_eq!(client.closed().await.map(|(code, _)| code), Some(1009));
    let unknown =
        cluster.gateway(0).configure_app(&name("c"), &AppLimits::default(), &SharedSettings::default());
    assert!(unknown.unwrap_err().to_string().contains("default/c"));
    cluster.stop().await;
}

async fn client(cluster: &Cluster, gateway: usize, app: usize) -> Client {
    Client::of_callbacks(cluster.listener(gateway, app, 0)).await
}

async fn connect(address: SocketAddr) -> Result<Client, Error> {
    Client::connect_to(address, "/", &[]).await
}

fn status(answer: Result<Client, Error>) -> u16 {
    match answer {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("a status was expected, not {other:?}"),
    }
}

fn name(app: &str) -> AppName {
    AppName::new(app).unwrap()
}

/// An app with a port of its own.
fn settings(app: &str) -> AppSettings {
    let listener = ListenerSettings {
        protocol: Protocol::Ws,
        address: "127.0.0.1:0".parse().unwrap(),
        origins: Origins::Any,
        heartbeat: None,
    };
    AppSettings { listeners: vec![listener], ..AppSettings::new(name(app)) }
}

/// Where an app listens now.
fn address(cluster: &Cluster, app: &str) -> SocketAddr {
    let bound = cluster.gateway(0).bound();
    bound.iter().find(|bound| bound.app.as_ref() == Some(&name(app))).expect("a port").address
}
