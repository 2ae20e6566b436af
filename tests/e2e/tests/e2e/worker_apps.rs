//! Apps come to a worker and leave it while it serves others.

use std::time::Duration;

use serde_json::json;
use tidegate_base::{AppName, Label};
use tidegate_harness::{Client, Cluster, DEADLINE, LinkKind, SilentGateway, component, eventually};
use tidegate_wire::control::{RolloutPhase, Stage, Step};
use tidegate_worker::{AddAppError, DoesNotFit, NoCapacity, Worker, WorkerApp, WorkerSettings};

use crate::support::echo_in_order;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_deployment_of_an_app_that_was_added_serves_the_clients_that_wait_for_it() {
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let mut cluster =
            Cluster::of("callbacks").later(&["acme/chat"]).shards(2).gateways(2).link(link).start().await;
        let worker = cluster.worker(0);
        worker.add_app(WorkerApp { slots: 3, ..WorkerApp::empty(app("acme/chat")) }).await.unwrap();
        assert!(worker.is_ready());
        assert_eq!(slots(&worker, "acme/chat"), Some((0, 0)), "it has nothing to run");
        assert_eq!([0, 1].map(|gateway| cluster.slots_of(gateway, "acme/chat")), [0, 0]);
        let address = cluster.ws_of(1, "acme/chat");
        let early = tokio::spawn(async move {
            let mut client = Client::of_callbacks(address).await;
            client.call("instance", json!({})).await
        });
        let mut old = cluster.client(0).await;

        let mut swapper = cluster.swapper(0).of_empty("acme/chat");
        let report = swapper.swap(component("callbacks")).await;
        assert_eq!(report.failure, None);
        let switches: Vec<_> = report.switches.iter().map(|switch| (switch.from, switch.to)).collect();
        assert_eq!(switches, [(None, 1); 3]);
        let instance = early.await.unwrap();
        assert_eq!((&instance["version"], &instance["reason"]), (&json!(1), &json!("new")));
        assert_eq!(slots(&worker, "acme/chat"), Some((1, 3)));
        for gateway in 0..2 {
            let all_known = || (cluster.slots_of(gateway, "acme/chat") == 3).then_some(());
            eventually("every gateway knows every slot", all_known).await;
        }
        let report = swapper.swap(component("callbacks")).await;
        assert_eq!(report.failure, None);
        let mut late = Client::of_callbacks(cluster.ws_of(0, "acme/chat")).await;
        let instance = late.call("instance", json!({})).await;
        assert_eq!((&instance["version"], &instance["reason"]), (&json!(2), &json!("swap")));
        // Who was there before did not notice.
        assert_eq!(old.call("instance", json!({})).await["turns"], 1);
        assert_eq!(old.call("get_all_client_count", json!({})).await, 1);
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_version_that_does_not_start_or_goes_back_leaves_empty_slots_for_the_next() {
    let mut cluster = Cluster::of("callbacks").later(&["chat"]).start().await;
    let worker = cluster.worker(0);
    worker.add_app(WorkerApp { slots: 2, ..WorkerApp::empty(app("chat")) }).await.unwrap();
    let mut swapper = cluster.swapper(0).of_empty("chat");
    eventually("the conductor knows it", || swapper.is_known().then_some(())).await;
    let report = swapper.swap(component("versioned-start-traps")).await;
    assert_eq!((report.failure.map(|failure| failure.stage), report.step), (Some(Stage::Start), Step::Back));
    assert_eq!(slots(&worker, "chat"), Some((0, 0)));

    // A canary of one slot, which somebody uses, and then not.
    let version = swapper.shelve(component("versioned"));
    swapper.order(version, RolloutPhase::Prepare, Step::Prepared).await;
    swapper.order(version, RolloutPhase::Switch { slots: 1 }, Step::Switched).await;
    let mut client = Client::connect(cluster.ws_of(0, "chat")).await;
    client.send("say a").await;
    assert_eq!(client.text().await, "v1 say a 1 1");
    client.send("timer beat 3600000").await;
    assert_eq!(client.text().await, "v1 timer beat");
    swapper.order(version, RolloutPhase::Back, Step::Back).await;
    assert_eq!(slots(&worker, "chat"), Some((0, 0)));
    assert_eq!(swapper.report().slots, [None, None]);
    eventually("the gateway knows", || (cluster.slots_of(0, "chat") == 0).then_some(())).await;
    client.send("say b").await;
    let report = swapper.swap(component("versioned-v2")).await;
    assert_eq!((report.failure, report.switches.len()), (None, 2));
    assert_eq!(client.text().await, "v2 say b 1 1", "what the slot knew is gone");
    client.send("ticks beat").await;
    assert_eq!(client.text().await, "v2 ticks beat 0");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_removed_hands_its_clients_to_other_workers_and_nobody_else_notices() {
    const MESSAGES: usize = 2000;
    let mut cluster =
        Cluster::of("callbacks").apps(&["quiet", "chat"]).workers(2).slots(2).shards(2).start().await;
    let mut quiet = Client::of_callbacks(cluster.ws_of(0, "quiet")).await;
    let before = quiet.call("instance", json!({})).await;
    let mut busy = Vec::new();
    for _ in 0..4 {
        let mut client = Client::of_callbacks(cluster.ws_of(0, "chat")).await;
        busy.push(tokio::spawn(async move {
            echo_in_order(&mut client, MESSAGES, 64, |n| format!("message {n}")).await;
            client
        }));
    }
    let worker = cluster.worker(0);
    assert!(worker.remove_app(&app("chat")).await);
    assert!(!worker.remove_app(&app("chat")).await, "it is gone");
    assert_eq!(slots(&worker, "chat"), None);
    assert!(worker.is_ready());
    for client in busy {
        let mut client = client.await.unwrap();
        assert_eq!(client.call("instance", json!({})).await["worker"], "worker-1");
    }
    eventually("the gateway knows", || (cluster.slots_of(0, "chat") == 2).then_some(())).await;
    let after = quiet.call("instance", json!({})).await;
    let who = |instance: &serde_json::Value| [instance["worker"].clone(), instance["slot"].clone()];
    assert_eq!(who(&before), who(&after));
    assert_eq!(after["turns"].as_u64(), before["turns"].as_u64().map(|turns| turns + 1));

    // It may come again, with another number of slots and another module.
    let mut again = cluster.app_of("chat", "versioned");
    again.slots = 3;
    worker.add_app(again.clone()).await.unwrap();
    worker.add_app(again).await.unwrap();
    eventually("the gateway knows", || (cluster.slots_of(0, "chat") == 5).then_some(())).await;
    assert!(cluster.worker(1).remove_app(&app("chat")).await);
    let mut client = Client::connect(cluster.ws_of(0, "chat")).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "v1 hello");
    for number in 0..2 {
        assert!(cluster.worker(number).remove_app(&app("quiet")).await);
    }
    cluster.stop_worker(1).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_worker_stop_runs_when_an_app_is_removed_and_a_turn_that_waits_is_ended_in_time() {
    let cluster = Cluster::of("callbacks")
        .worker(|worker| (worker.stop_wait, worker.query_wait) = (SHORT, Duration::from_secs(3600)))
        .app(|app| app.limits.turn_wall_ms = 3_600_000)
        .apps(&["watched", "stuck"])
        .start()
        .await;
    let worker = cluster.worker(0);
    let mut watcher = Client::of_callbacks(cluster.ws_of(0, "watched")).await;
    watcher.call("join_group", json!({"groups": ["observers"]})).await;
    assert!(worker.remove_app(&app("watched")).await);
    assert_eq!(watcher.event("worker_stop").await["reason"], "shutdown");

    let mut silent = SilentGateway::join(&cluster, 0).await;
    let mut stuck = Client::of_callbacks(cluster.ws_of(0, "stuck")).await;
    stuck.tell("get_all_client_count", json!({})).await;
    silent.asked().await;
    let name = app("stuck");
    let going = tokio::join!(worker.remove_app(&name), worker.remove_app(&name));
    assert_eq!(going, (true, true), "who comes later waits as well");
    assert_eq!(worker.status(), []);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_come_and_go_while_another_is_deployed() {
    let mut cluster = Cluster::of("versioned").slots(2).later(&["other"]).start().await;
    let worker = cluster.worker(0);
    let version = cluster.swapper(0).shelve(component("versioned-v2"));
    cluster.swapper(0).order(version, RolloutPhase::Prepare, Step::Prepared).await;
    let other = cluster.swapper(0).of_empty("other");
    for _ in 0..20 {
        worker.add_app(WorkerApp { slots: 2, ..WorkerApp::empty(app("other")) }).await.unwrap();
        worker.remove_app(&app("other")).await;
    }
    worker.add_app(cluster.app_of("other", "versioned")).await.unwrap();
    let all = RolloutPhase::Switch { slots: 2 };
    let report = cluster.swapper(0).order(version, all, Step::Switched).await;
    assert_eq!((report.failure, report.switches.len()), (None, 2));
    // One goes in the middle of its own deployment.
    let mut other = other;
    let version = other.shelve(component("versioned-v2"));
    other.begin(version, RolloutPhase::Prepare).await;
    worker.remove_app(&app("other")).await;
    eventually("nobody conducts it", || (!other.is_known()).then_some(())).await;
    let mut client = Client::connect(cluster.ws(0)).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "v2 hello");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_an_app_change_while_it_runs_and_its_own_settings_with_the_next_version() {
    let mut cluster = Cluster::of("callbacks").start().await;
    let worker = cluster.worker(0);
    let mut client = cluster.client(0).await;
    let mut now = WorkerApp::empty(app("test"));
    now.payload_bytes_max = 100;
    assert!(!worker.configure_app(&now).await.unwrap());
    until_echoes(&mut client, false).await;
    // What is ready beside the slot when settings change has them as well.
    let version = cluster.swapper(0).shelve(component("callbacks"));
    cluster.swapper(0).order(version, RolloutPhase::Prepare, Step::Prepared).await;
    now.payload_bytes_max = 1000;
    now.settings = [("color".into(), "blue".into())].into_iter().collect();
    assert!(worker.configure_app(&now).await.unwrap(), "the plugin's own settings wait");
    until_echoes(&mut client, true).await;
    let all = RolloutPhase::Switch { slots: 1 };
    cluster.swapper(0).order(version, all, Step::Switched).await;
    cluster.swapper(0).commit(version).await;
    until_echoes(&mut client, true).await;
    assert_eq!(client.call("setting", json!({"key": "color"})).await, json!(null));
    let report = cluster.swapper(0).swap(component("callbacks")).await;
    assert_eq!(report.failure, None);
    assert_eq!(client.call("setting", json!({"key": "color"})).await, "blue");
    let missing = worker.configure_app(&WorkerApp::empty(app("nobody"))).await.unwrap_err();
    assert!(missing.to_string().contains("add it first"), "{missing}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_gets_more_slots_and_fewer_while_it_serves() {
    let mut cluster = Cluster::of("callbacks").shards(2).start().await;
    let worker = cluster.worker(0);
    let address = cluster.ws(0);
    let busy = tokio::spawn(async move {
        let mut client = Client::of_callbacks(address).await;
        echo_in_order(&mut client, 2000, 64, |n| format!("message {n}")).await;
    });
    for count in [4, 2, 3, 1] {
        let now = WorkerApp { slots: count, ..WorkerApp::empty(app("test")) };
        assert!(!worker.configure_app(&now).await.unwrap());
        let count = count as usize;
        eventually("the gateway knows", || (cluster.slots_of(0, "test") == count).then_some(())).await;
        // Its conductor hears of it beside the gateway, and says so when it has a turn.
        let reported = || (cluster.swapper(0).report().slots.len() == count).then_some(());
        eventually("the register knows", reported).await;
    }
    busy.await.unwrap();
    let report = cluster.swapper(0).swap(component("callbacks")).await;
    assert_eq!((report.failure, report.switches.len()), (None, 1));
    let too_many = WorkerApp { slots: 1_000_000, ..WorkerApp::empty(app("test")) };
    let refused = worker.configure_app(&too_many).await.unwrap_err();
    assert!(refused.to_string().contains("raise `instances`"), "{refused}");
    assert_eq!(slots(&worker, "test"), Some((2, 1)));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_register_said_of_an_app_before_it_was_here_counts() {
    let mut cluster = Cluster::of("callbacks").later(&["chat"]).start().await;
    let mut swapper = cluster.swapper(0).of_empty("chat");
    let version = swapper.shelve(component("versioned"));
    swapper.say_stable(version).await;
    let worker = cluster.worker(0);
    worker.add_app(WorkerApp { slots: 2, ..WorkerApp::empty(app("chat")) }).await.unwrap();
    let mut client = Client::connect(cluster.ws_of(0, "chat")).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "v1 hello");
    eventually("all slots run", || (slots(&worker, "chat") == Some((1, 2))).then_some(())).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_is_refused_with_what_to_do_about_it() {
    let cluster = Cluster::of("callbacks").slots(2).start().await;
    let worker = cluster.worker(0);
    let other = |slots, change: fn(&mut WorkerApp)| {
        let mut app = WorkerApp { slots, ..WorkerApp::empty(app("other")) };
        change(&mut app);
        app
    };
    let refused = worker.add_app(other(1_000_000, |_| {})).await.unwrap_err();
    let no_places = |refused: &AddAppError| {
        let AddAppError::DoesNotFit(DoesNotFit::NoCapacity(no)) = refused else { return false };
        matches!(no, NoCapacity::Slots { taken: 2, .. })
    };
    assert!(no_places(&refused), "{refused}");
    assert!(refused.to_string().contains("raise `instances`"), "{refused}");
    let refused = worker.add_app(other(1, |app| app.limits.memory_mib = 1 << 20)).await.unwrap_err();
    assert!(refused.to_string().contains("raise `memory_mib` of [worker]"), "{refused}");
    worker.add_app(other(1, |_| {})).await.unwrap();
    worker.add_app(other(1, |_| {})).await.unwrap();
    let refused = worker.add_app(other(2, |_| {})).await.unwrap_err();
    assert!(matches!(refused, AddAppError::Different { .. }), "{refused}");
    worker.stop().await;
    assert!(!worker.is_ready());
    assert!(matches!(worker.add_app(other(1, |_| {})).await, Err(AddAppError::Stopping)));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_runs_only_where_all_labels_are_that_it_requires() {
    let label = |label: &str| Label::new(label).unwrap();
    let marked = move |worker: &mut WorkerSettings| {
        worker.labels = vec![label("eu")];
        worker.apps[1].require = vec![label("eu"), label("gpu")];
    };
    let cluster = Cluster::of("callbacks").worker(marked).later(&["there"]);
    // Nobody waits for the slots of an app that is elsewhere.
    let cluster = cluster.apps(&["here"]).also_on_workers(&["elsewhere"]).start().await;
    let worker = cluster.worker(0);
    assert!(worker.is_ready());
    let status = worker.status();
    let elsewhere = status.iter().find(|status| status.name == app("elsewhere")).unwrap();
    assert_eq!((elsewhere.slots, &elsewhere.missing_labels), (0, &vec![label("gpu")]));
    assert_eq!(slots(&worker, "here"), Some((1, 1)));
    let mut there = cluster.app_of("there", "callbacks");
    there.require = vec![label("gpu")];
    assert_eq!(worker.missing_labels(&there.require), there.require);
    let refused = worker.add_app(there.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("add it to `labels` of [worker]"), "{refused}");
    there.require = vec![label("eu")];
    worker.add_app(there).await.unwrap();
    let mut client = Client::of_callbacks(cluster.ws_of(0, "there")).await;
    assert_eq!(client.call("instance", json!({})).await["slots"], 1);
    cluster.stop().await;
}

const SHORT: Duration = Duration::from_millis(200);

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

/// Until a text of 200 bytes comes back, or does not any more: what changes does so between two turns.
async fn until_echoes(client: &mut Client, wanted: bool) {
    let text = "x".repeat(200);
    let looking = async {
        loop {
            client.feed(text.clone()).await;
            client.send("mark").await;
            let echoed = client.text().await == text;
            if echoed {
                assert_eq!(client.text().await, "mark");
            }
            if echoed == wanted {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("the other limit");
}

/// The version of an app on a worker, and how many slots run something.
fn slots(worker: &Worker, name: &str) -> Option<(u32, u32)> {
    let status = worker.status().into_iter().find(|status| status.name == app(name))?;
    Some((status.version, status.slots))
}
