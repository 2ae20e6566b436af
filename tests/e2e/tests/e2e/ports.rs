//! Apps that share a port: the host and path of a request say whose it is.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidegate_base::{AppName, Rate};
use tidegate_gateway::settings::{AppLimits, AppState, Heartbeat, Origins, SharedHeartbeat, SharedSettings};
use tidegate_harness::{Client, Cluster, ClusterBuilder, RawClient, eventually};
use tokio_tungstenite::tungstenite::Error;

use crate::binary::{Node, wasm};
use crate::support::counted;

const ACME: &str = "acme.example.com";
const RIVAL: &str = "rival.example.com";

/// Two apps of two tenants: one has a host and what is below it, the other a host and a path of every host.
fn two_tenants() -> ClusterBuilder {
    Cluster::of("callbacks")
        .apps(&["acme/chat", "rival/chat"])
        .protocols(&[])
        .shared_port()
        .shards(2)
        .on_gateways(|app, settings| {
            let routes = if app == 0 { [ACME, "*.acme.example.com/chat"] } else { [RIVAL, "*/rival"] };
            settings.shared.routes = routes.iter().map(|route| route.parse().unwrap()).collect();
        })
        .app(|app| app.settings = [("app".into(), app.name.to_string())].into_iter().collect())
}

#[tokio::test]
async fn host_and_path_say_whose_client_it_is() {
    let cluster = two_tenants().start().await;
    for (host, path, app) in [
        (ACME, "/", "acme/chat"),
        ("ACME.example.com:8080", "/any/path?rival", "acme/chat"),
        ("eu.acme.example.com", "/chat", "acme/chat"),
        ("a.b.acme.example.com", "/chat/room/1?x=/rival", "acme/chat"),
        (RIVAL, "/", "rival/chat"),
        ("eu.acme.example.com", "/rival", "rival/chat"),
        ("127.0.0.1", "/rival/x", "rival/chat"),
    ] {
        let mut client = Client::of_callbacks_at(cluster.shared(0), host, path).await;
        let answer = client.call("setting", json!({"key": "app"})).await;
        assert_eq!(answer, app, "{host}{path}");
        let upgrade = client.call("session", json!({})).await;
        assert_eq!(upgrade["upgrade"]["path"], path.split('?').next().unwrap(), "it sees the whole path");
        client.close().await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_nobody_has_a_route_for_is_refused_without_a_word_about_others() {
    let cluster = two_tenants().start().await;
    let before = counted("tidegate_gateway_requests_unrouted_total");
    for (host, path) in [("example.com", "/"), ("eu.acme.example.com", "/chatter"), ("localhost", "/rivals")]
    {
        let (status, text) = refusal(connect(&cluster, host, path).await);
        assert_eq!(status, 404, "{host}{path}");
        assert!(!text.contains("acme") && !text.contains("rival"), "{text}");
    }
    assert!(counted("tidegate_gateway_requests_unrouted_total") >= before + 3);
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nHost: acme.example.com\r\nHost: rival.example.com\r\n",
        "GET / HTTP/1.1\r\nHost: acme.example.com/x\r\n",
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let answer = raw(cluster.shared(0), &format!("{head}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Host"), "{head}: {answer}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_suspended_app_is_refused_and_a_removed_one_has_no_route() {
    let cluster = two_tenants().start().await;
    let mut acme = Client::of_callbacks_at(cluster.shared(0), ACME, "/").await;
    let mut rival = Client::of_callbacks_at(cluster.shared(0), RIVAL, "/").await;
    let name = AppName::new("acme/chat").unwrap();
    cluster.gateway(0).set_app_state(&name, AppState::Suspended).unwrap();
    let (status, text) = refusal(connect(&cluster, ACME, "/").await);
    assert!(status == 503 && text.contains("suspended"), "{text}");
    assert_eq!(acme.closed().await.map(|(code, _)| code), Some(1013));
    cluster.gateway(0).set_app_state(&name, AppState::Active).unwrap();
    let mut acme = Client::of_callbacks_at(cluster.shared(0), ACME, "/").await;
    assert!(cluster.gateway(0).remove_app(&name));
    assert_eq!(acme.closed().await.map(|(code, _)| code), Some(1013));
    assert_eq!(refusal(connect(&cluster, ACME, "/").await).0, 404);
    for _ in 0..10 {
        rival.drain().await;
    }
    // What it has left, another one may have.
    let rival_name = AppName::new("rival/chat").unwrap();
    let routes =
        SharedSettings { routes: vec!["*.example.com".parse().unwrap()], ..SharedSettings::default() };
    cluster.gateway(0).configure_app(&rival_name, &AppLimits::default(), &routes).unwrap();
    Client::of_callbacks_at(cluster.shared(0), ACME, "/").await.close().await;
    assert_eq!(refusal(connect(&cluster, "localhost", "/rival").await).0, 404);
    rival.drain().await;
    cluster.stop().await;
}

#[tokio::test]
async fn each_app_keeps_its_own_limits_on_connections() {
    let cluster = two_tenants()
        .on_gateways(|app, settings| {
            settings.shared.routes = vec![format!("*/{app}").parse().unwrap()];
            if app == 0 {
                settings.limits.connections_max = 1;
            } else {
                settings.limits.rates.connects = None;
            }
        })
        .start()
        .await;
    let first = Client::of_callbacks_at(cluster.shared(0), "h", "/0").await;
    let (status, text) = refusal(connect(&cluster, "h", "/0").await);
    assert!(status == 503 && text.contains("as many clients"), "{text}");
    let other = Client::of_callbacks_at(cluster.shared(0), "h", "/1").await;
    first.close().await;
    let is_empty =
        || cluster.gateway(0).census().iter().any(|of| of.app.as_str() == "acme/chat" && of.clients == 0);
    eventually("it has room again", || is_empty().then_some(())).await;
    Client::of_callbacks_at(cluster.shared(0), "h", "/0").await.close().await;
    // One at a time: the next within the same second is refused, and the other app does not notice.
    let name = AppName::new("rival/chat").unwrap();
    let rates = |connects| {
        let mut limits = AppLimits::default();
        limits.rates.connects = connects;
        let shared = SharedSettings { routes: vec!["*/1".parse().unwrap()], ..SharedSettings::default() };
        cluster.gateway(0).configure_app(&name, &limits, &shared).unwrap();
    };
    rates(Rate::per_second(1).map(|rate| rate.with_burst(0)));
    let refused = loop {
        if let Err(Error::Http(response)) = connect(&cluster, "h", "/1").await {
            break response;
        }
    };
    assert_eq!(refused.status(), 503);
    rates(None);
    Client::of_callbacks_at(cluster.shared(0), "h", "/1").await.close().await;
    other.close().await;
    cluster.stop().await;
}

#[tokio::test]
async fn who_does_not_say_what_it_wants_makes_room_for_who_does() {
    let cluster = two_tenants().shards(1).unrouted_max(4).start().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(RawClient::connect(cluster.shared(0)).await);
    }
    for crowded_out in &mut silent[..4] {
        assert!(crowded_out.rest().await.is_empty());
    }
    let mut client = Client::of_callbacks_at(cluster.shared(0), ACME, "/").await;
    // That one took the place of the oldest that was left, and has given its own back.
    assert!(silent[4].rest().await.is_empty());
    silent[7].send(format!("GET / HTTP/1.1\r\nHost: {ACME}\r\n\r\n").as_bytes()).await;
    assert!(silent[7].until(b"\r\n").await.starts_with(b"HTTP/1.1 426 "));
    client.drain().await;
    cluster.stop().await;
}

#[tokio::test]
async fn each_app_says_which_pages_may_connect_and_how_silent_clients_are_found() {
    let mute =
        Heartbeat { interval: Duration::from_millis(20), misses_max: 0, payload: Some(b"there?".to_vec()) };
    let cluster = two_tenants()
        .origins(Origins::Same)
        .on_gateways(move |app, settings| {
            let shared = &mut settings.shared;
            shared.routes = vec![format!("*/{app}").parse().unwrap()];
            if app == 0 {
                shared.origins = Some(Origins::List(vec!["https://a.example.org".parse().unwrap()]));
                shared.heartbeat = SharedHeartbeat::Own(mute.clone());
            }
        })
        .start()
        .await;
    let from = |path: &'static str, origin: &'static str| {
        let headers = [("host", ACME), ("origin", origin)];
        let address = cluster.shared(0);
        async move { Client::connect_to(address, path, &headers).await }
    };
    let mut asked = from("/0", "https://a.example.org").await.unwrap();
    asked.event("connect").await;
    assert_eq!(asked.text().await, "there?");
    assert_eq!(refusal(from("/0", "https://acme.example.com").await).0, 403);
    from("/1", "https://acme.example.com").await.unwrap();
    assert_eq!(refusal(from("/1", "https://a.example.org").await).0, 403);
    cluster.stop().await;
}

#[tokio::test]
async fn files_of_two_apps_are_answered_by_route_also_on_one_connection() {
    let folder = tempfile::tempdir().unwrap();
    for app in ["0", "1"] {
        std::fs::create_dir_all(folder.path().join(app).join("sub")).unwrap();
        write(folder.path(), &format!("{app}/index.html"), &format!("page {app}\n"));
        write(folder.path(), &format!("{app}/sub/index.html"), &format!("sub {app}\n"));
    }
    let root = folder.path().to_owned();
    let cluster = two_tenants()
        .on_gateways(move |app, settings| {
            let route = if app == 0 { "*/zero" } else { "one.example.com" };
            settings.shared.routes = vec![route.parse().unwrap()];
            settings.web = Some(root.join(app.to_string()));
        })
        .start()
        .await;
    let mut keep = RawClient::connect(cluster.shared(0)).await;
    for (host, path, status, says) in [
        ("h", "/zero/", "200", "page 0"),
        ("one.example.com", "/", "200", "page 1"),
        ("h", "/zero/sub/", "200", "sub 0"),
        ("h", "/zero", "307", "location: /zero/\r\n"),
        ("h", "/zero/sub", "307", "location: /zero/sub/\r\n"),
        ("one.example.com", "/sub", "307", "location: /sub/\r\n"),
        ("one.example.com", "/zero/", "404", ""),
        ("h", "/", "404", "nothing here"),
        ("h", "/zero/../../etc/passwd", "404", ""),
    ] {
        keep.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await;
        let answer = answer(&mut keep).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}{path}: {answer}");
        assert!(answer.contains(says), "{host}{path}: {answer}");
    }
    // Also of an app that is suspended meanwhile.
    cluster.gateway(0).set_app_state(&AppName::new("acme/chat").unwrap(), AppState::Suspended).unwrap();
    keep.send(b"GET /zero/ HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer(&mut keep).await.starts_with("HTTP/1.1 503 "));
    let mut client = Client::of_callbacks_at(cluster.shared(0), "one.example.com", "/ws").await;
    client.drain().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_settings_file_names_a_port_and_the_routes_of_its_apps() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("web")).unwrap();
    write(folder.path(), "web/index.html", "the shop\n");
    let app = |tenant: &str, more: &str| {
        format!(
            "[[app]]\nname = \"chat\"\ntenant = \"{tenant}\"\nplugin = \"{}\"\n{more}\n",
            wasm("callbacks")
        )
    };
    let text = format!(
        "[node]\ndata_dir = \"data\"\n[[listener]]\naddress = \"ws://127.0.0.1:0\"\n{}{}",
        app("acme", "routes = [\"acme.example.com\"]"),
        app("rival", "routes = [\"*/shop\"]\nweb = \"web\""),
    );
    write(folder.path(), "tidegate.toml", &text);
    let node = Node::start(folder.path(), &["up", "--json"]);
    let port = node.listener("ws");
    let mut acme = Client::of_callbacks_at(port, ACME, "/").await;
    let mut rival = Client::of_callbacks_at(port, "localhost", "/shop").await;
    rival.tell("send_to_all", json!({"message": "sale"})).await;
    assert_eq!(rival.text().await, "sale");
    assert!(acme.drain().await.is_empty());
    let page = raw(port, "GET /shop/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(page.ends_with("the shop\n"), "{page}");
    let nothing = raw(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(nothing.starts_with("HTTP/1.1 404 "), "{nothing}");
    acme.close().await;
    rival.close().await;
    assert_eq!(node.process.terminate(), Some(0));
}

async fn connect(cluster: &Cluster, host: &str, path: &str) -> Result<Client, Error> {
    Client::connect_to(cluster.shared(0), path, &[("host", host)]).await
}

fn refusal(answer: Result<Client, Error>) -> (u16, String) {
    match answer {
        Err(Error::Http(response)) => {
            let text =
                response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            (response.status().as_u16(), text)
        }
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

/// What a port answers to these bytes until it closes the connection.
async fn raw(address: SocketAddr, head: &str) -> String {
    let mut client = RawClient::connect(address).await;
    client.send(head.as_bytes()).await;
    String::from_utf8_lossy(&client.rest().await).into_owned()
}

/// One answer of a connection that stays open, with as much body as it says.
async fn answer(client: &mut RawClient) -> String {
    let head = String::from_utf8_lossy(&client.until(b"\r\n\r\n").await).into_owned();
    let lower = head.to_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let body = client.take(length.map_or(0, |length| length.parse().unwrap())).await;
    head + &String::from_utf8_lossy(&body)
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}
