//! Slots that sleep while nobody needs them.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_base::AppName;
use tidegate_harness::{Client, Cluster, LinkKind, component, eventually, held};
use tidegate_wire::control::{RolloutPhase, Stage, Step};
use tidegate_worker::{AppStatus, WorkerApp};

use crate::binary::{Node, Operator, cluster_folder_of, run, said, says, wasm};
use crate::support::counted;

const IDLE: Duration = Duration::from_millis(100);

/// None of its slots needs an instance while nobody is there.
fn sleeps(app: &mut WorkerApp) {
    (app.min_slots, app.slot_idle) = (Some(0), IDLE);
}

fn status(cluster: &Cluster, app: &str) -> AppStatus {
    cluster.worker(0).status().into_iter().find(|of| of.name.app() == app).unwrap()
}

async fn until_asleep(cluster: &Cluster, app: &str, slots: u32) {
    let there = || (status(cluster, app).asleep == slots).then_some(());
    eventually(&format!("{slots} slots of {app} are asleep"), there).await;
}

/// A client that is alone says so many words, and leaves.
async fn visit(cluster: &Cluster, version: &str, words: usize) {
    let mut client = Client::connect(cluster.ws(0)).await;
    for n in 0..words {
        says(&mut client, &format!("word {n}"), &format!("{version} word {n}")).await;
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_instance_starts_before_the_first_message_and_what_it_knew_goes_on_after_it_slept() {
    for link in [LinkKind::Memory, LinkKind::Quic] {
        let cluster = Cluster::of("versioned").link(link).app(sleeps).start().await;
        let AppStatus { slots, asleep, turns, .. } = status(&cluster, "test");
        assert_eq!((slots, asleep, turns), (1, 1, 0));
        let mut client = Client::connect(cluster.ws(0)).await;
        says(&mut client, "hello", "v1 hello").await;
        assert_eq!(status(&cluster, "test").asleep, 0);
        client.close().await;
        for round in 2..5 {
            until_asleep(&cluster, "test", 1).await;
            let mut client = Client::connect(cluster.ws(0)).await;
            says(&mut client, "hello", "v1 hello").await;
            says(&mut client, "count", &format!("v1 count {round}")).await;
            client.close().await;
        }
        let AppStatus { restarts, failed, .. } = status(&cluster, "test");
        assert_eq!((restarts, failed), (0, 0), "to sleep is no fault");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_save_a_slot_begins_anew_when_it_wakes() {
    let cluster = Cluster::of("callbacks").app(sleeps).start().await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        until_asleep(&cluster, "test", 1).await;
        let mut client = cluster.client(0).await;
        let instance = client.call("instance", json!({})).await;
        seen.push((instance["reason"].clone(), instance["turns"].as_u64().unwrap()));
        client.close().await;
    }
    assert!(seen.iter().all(|of| *of == seen[0]) && seen[0].0 == "new", "{seen:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_connected_and_a_timer_keep_a_slot_awake() {
    let cluster = Cluster::of("versioned").apps(&["quiet", "ticks", "busy"]).app(sleeps).start().await;
    let mut quiet = Client::connect(cluster.ws_of(0, "quiet")).await;
    says(&mut quiet, "hello", "v1 hello").await;
    let mut ticks = Client::connect(cluster.ws_of(0, "ticks")).await;
    says(&mut ticks, "timer beat 20", "v1 timer beat").await;
    ticks.close().await;
    // So long, at least, nobody says anything to the two.
    for n in 1..4 {
        let mut busy = Client::connect(cluster.ws_of(0, "busy")).await;
        says(&mut busy, "hello", "v1 hello").await;
        says(&mut busy, "count", &format!("v1 count {n}")).await;
        busy.close().await;
        until_asleep(&cluster, "busy", 1).await;
        assert_eq!(status(&cluster, "quiet").asleep, 0);
    }
    let turns = status(&cluster, "ticks").turns;
    eventually("the timer goes on", || (status(&cluster, "ticks").turns > turns + 20).then_some(())).await;
    assert_eq!(status(&cluster, "ticks").asleep, 0);
    quiet.close().await;
    until_asleep(&cluster, "quiet", 1).await;
    // It is not that nobody could have looked.
    assert_eq!(status(&cluster, "quiet").restarts, 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_sees_a_slot_stop_start_and_restore_and_nothing_that_comes_meanwhile_is_lost() {
    const CLIENTS: usize = 8;
    // Slot 0 always has an instance, which is where the watcher is.
    let cluster =
        Cluster::of("versioned").slots(2).app(|app| (app.min_slots, app.slot_idle) = (Some(1), IDLE));
    let cluster = cluster.start().await;
    assert_eq!(status(&cluster, "test").asleep, 1);
    let mut watcher = client_in(&cluster, 0).await;
    says(&mut watcher, "watch", "v1 watch").await;
    let mut client = client_in(&cluster, 1).await;
    says(&mut client, "once mark 0", "v1 once mark").await;
    while watcher.text().await != "v1 tick mark 1" {}
    client.close().await;
    assert_eq!(watcher.text().await, "v1 stopped shutdown");
    until_asleep(&cluster, "test", 1).await;
    let mut total = 0;
    for round in 0..3 {
        let mut clients = Vec::new();
        for n in 0..CLIENTS {
            let mut client = Client::connect(cluster.ws(0)).await;
            client.send(format!("word {n}")).await;
            clients.push(client);
        }
        assert_eq!(watcher.text().await, "v1 started new 1", "round {round}");
        let restored = watcher.text().await;
        assert!(restored.starts_with("v1 restored "), "round {round}: {restored}");
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.text().await, format!("v1 word {n}"));
        }
        for client in clients {
            client.close().await;
        }
        assert_eq!(watcher.text().await, "v1 stopped shutdown", "round {round}");
        until_asleep(&cluster, "test", 1).await;
        total += CLIENTS;
    }
    let mut sum = 0;
    for slot in 0..2 {
        let mut client = client_in(&cluster, slot).await;
        client.send("count").await;
        sum += client.text().await.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        client.close().await;
    }
    assert_eq!(sum, total, "no message was counted twice or not at all");
    cluster.stop().await;
}

/// A client that is bound to this slot.
async fn client_in(cluster: &Cluster, slot: u32) -> Client {
    loop {
        let mut client = Client::connect(cluster.ws(0)).await;
        client.send("where").await;
        if client.text().await == format!("v1 where worker-0 {slot}") {
            return client;
        }
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_while_slots_sleep_is_committed_and_they_keep_what_they_knew() {
    let _compiled = (held("versioned"), held("versioned-v2"));
    let mut cluster = Cluster::of("versioned").app(sleeps).start().await;
    let report = cluster.swap(0, "versioned-twin").await;
    assert_eq!(report.failure, None);
    assert_eq!(report.switches[0].state_bytes, 0, "it has never been awake");
    until_asleep(&cluster, "test", 1).await;
    visit(&cluster, "twin", 3).await;
    until_asleep(&cluster, "test", 1).await;
    let report = cluster.swap(0, "versioned-v2").await;
    assert_eq!(report.failure, None);
    assert!(report.switches[0].state_bytes > 0 && !report.switches[0].state_lost);
    until_asleep(&cluster, "test", 1).await;
    visit(&cluster, "v2", 1).await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "count", "v2 count 4").await;
    let AppStatus { version, restarts, failed, .. } = status(&cluster, "test");
    assert_eq!((version, restarts, failed), (3, 0, 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_fails_while_a_slot_sleeps_leaves_it_asleep_with_what_it_knew() {
    let _compiled = held("versioned");
    let mut cluster = Cluster::of("versioned").app(sleeps).start().await;
    visit(&cluster, "v1", 5).await;
    until_asleep(&cluster, "test", 1).await;
    for (plugin, stage) in [
        ("versioned-restore-fails", Stage::Restore),
        ("versioned-restore-traps", Stage::Restore),
        ("versioned-start-traps", Stage::Start),
    ] {
        let failure = cluster.swap(0, plugin).await.failure.expect("it fails");
        assert_eq!(failure.stage, stage, "{plugin}");
        assert_eq!(status(&cluster, "test").asleep, 1, "{plugin}");
    }
    // One that goes back after it has switched takes along what came meanwhile, asleep or not.
    let version = cluster.swapper(0).shelve(component("versioned-twin"));
    for (phase, step) in
        [(RolloutPhase::Prepare, Step::Prepared), (RolloutPhase::Switch { slots: 1 }, Step::Switched)]
    {
        assert_eq!(cluster.swapper(0).order(version, phase, step).await.failure, None);
    }
    visit(&cluster, "twin", 2).await;
    until_asleep(&cluster, "test", 1).await;
    cluster.swapper(0).order(version, RolloutPhase::Back, Step::Back).await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "count", "v1 count 7").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_cannot_sleep_stays_awake_with_what_it_knows_and_one_that_cannot_restore_begins_anew() {
    const KEPT: usize = 100_000;
    let cluster = Cluster::of("versioned")
        .app(sleeps)
        .worker(|worker| worker.sleep_state_bytes_max = KEPT)
        .apps(&["fails", "large", "test"])
        .start()
        .await;
    for (app, spoil, mend) in
        [("fails", "poison save-fails", "poison none"), ("large", "ballast 200000", "ballast 0")]
    {
        let failed = counted("tidegate_worker_slot_sleeps_failed_total");
        let mut client = Client::connect(cluster.ws_of(0, app)).await;
        says(&mut client, "hello", "v1 hello").await;
        says(&mut client, spoil, &format!("v1 {spoil}")).await;
        client.close().await;
        let counts = || counted("tidegate_worker_slot_sleeps_failed_total");
        eventually("it has tried", || (counts() >= failed + 2).then_some(())).await;
        assert_eq!(status(&cluster, app).asleep, 0, "{app}");
        let mut client = Client::connect(cluster.ws_of(0, app)).await;
        says(&mut client, "count", "v1 count 1").await;
        says(&mut client, mend, &format!("v1 {mend}")).await;
        client.close().await;
        until_asleep(&cluster, app, 1).await;
        let AppStatus { restarts, waiting, .. } = status(&cluster, app);
        assert_eq!((restarts, waiting), (0, 0), "{app}");
    }

    for fault in ["restore-fails", "restore-traps"] {
        let restores = counted("tidegate_worker_slot_restores_failed_total");
        let mut client = Client::connect(cluster.ws_of(0, "test")).await;
        says(&mut client, "hello", "v1 hello").await;
        says(&mut client, &format!("poison {fault}"), &format!("v1 poison {fault}")).await;
        client.close().await;
        until_asleep(&cluster, "test", 1).await;
        let mut client = Client::connect(cluster.ws_of(0, "test")).await;
        says(&mut client, "count", "v1 count 0").await;
        assert!(counted("tidegate_worker_slot_restores_failed_total") > restores);
        client.close().await;
        until_asleep(&cluster, "test", 1).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_hold_at_once_and_an_app_with_sleeping_slots_is_removed_and_comes_again() {
    let cluster = Cluster::of("versioned").slots(3).shards(2).app(sleeps).start().await;
    let worker = cluster.worker(0);
    let test = AppName::new("test").unwrap();
    let mut app = cluster.app_of("test", "versioned");
    (app.slots, app.slot_idle) = (3, IDLE);
    for (min_slots, asleep) in [(Some(2), 1), (Some(0), 3), (None, 0), (Some(1), 2)] {
        app.min_slots = min_slots;
        assert!(!worker.configure_app(&app).await.unwrap());
        until_asleep(&cluster, "test", asleep).await;
    }
    // One that goes may be asleep, and one that comes sleeps when it has started.
    for slots in [2, 3] {
        app.slots = slots;
        worker.configure_app(&app).await.unwrap();
        let all = || (cluster.slots_of(0, "test") == slots as usize).then_some(());
        eventually("the gateway knows", all).await;
        until_asleep(&cluster, "test", slots - 1).await;
    }
    visit(&cluster, "v1", 1).await;
    until_asleep(&cluster, "test", 2).await;
    assert!(worker.remove_app(&test).await);
    app.min_slots = Some(0);
    worker.add_app(app).await.unwrap();
    // The gateway may not have noticed yet that the visitor has left: then it waits for a slot, and wakes one.
    until_asleep(&cluster, "test", 3).await;
    eventually("the gateway knows", || (cluster.slots_of(0, "test") == 3).then_some(())).await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "hello", "v1 hello").await;
    says(&mut client, "count", "v1 count 1").await;
    cluster.stop().await;
}

#[tokio::test]
async fn slots_of_separate_nodes_sleep_wake_and_are_deployed_to_over_quic() {
    let folder = cluster_folder_of("versioned");
    let at = folder.path();
    let settings = std::fs::read_to_string(at.join("worker.toml")).unwrap();
    let sleeps = "min_slots = 0\nslot_idle_ms = 100\n";
    std::fs::write(at.join("worker.toml"), settings.replace("slots = 2\n", &format!("slots = 1\n{sleeps}")))
        .unwrap();
    let register = Node::start(at, &["register", "-c", "register.toml", "--json"]);
    let registers = register.register();
    let gateway = Node::of_cluster(at, "gateway", "gateway.toml", &registers);
    let worker = Node::of_cluster(at, "worker", "worker.toml", &registers);
    assert_eq!(slots(at, "data/w1", "default/test")["asleep"], 1);
    let mut client = Client::connect(gateway.listener("ws")).await;
    says(&mut client, "hello", "v1 hello").await;
    client.close().await;
    falls_asleep(at, "data/w1", "default/test").await;

    let operator = Operator::of_cluster(at, &registers);
    let report = said(&operator.run(&["deploy", "test", &wasm("versioned-v2"), "--json"]));
    assert_eq!(report["outcome"], "committed", "{report}");
    falls_asleep(at, "data/w1", "default/test").await;
    let mut client = Client::connect(gateway.listener("ws")).await;
    says(&mut client, "count", "v2 count 1").await;
    client.close().await;
    falls_asleep(at, "data/w1", "default/test").await;
    let status = run(at, &["status", "--data-dir", "data/w1"]);
    assert!(status.stdout.contains(", 1 asleep"), "{}", status.stdout);
    for node in [gateway, worker, register] {
        assert_eq!(node.process.terminate(), Some(0));
    }
}

#[tokio::test]
async fn more_apps_than_the_pool_has_places_are_served_one_after_the_other() {
    for slot_idle_ms in [100, 3_600_000] {
        one_after_the_other(slot_idle_ms).await;
    }
}

/// However long an idle slot would keep its place, it gives it to one that waits.
async fn one_after_the_other(slot_idle_ms: u32) {
    const APPS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let app = |n: usize| {
        format!(
            "[[app]]\nname = \"app-{n}\"\nplugin = \"{}\"\nroutes = [\"app-{n}.test\"]\nmin_slots = 0\nslot_idle_ms = {slot_idle_ms}\n",
            wasm("callbacks")
        )
    };
    // Two that are awake, and room to swap one that sleeps: that takes two.
    let text = "[worker]\ninstances = 4\n[[listener]]\naddress = \"ws://127.0.0.1:0\"\n".to_owned()
        + &(0..APPS).map(app).collect::<String>();
    std::fs::write(at.join("tidegate.toml"), text).unwrap();
    let node = Node::start(at, &["up", "--json"]);
    let address = node.listener("ws");
    let of_app = |n: usize| slots(at, "data", &format!("default/app-{n}"));
    let mut stays = Client::of_callbacks_at(address, "app-0.test", "/").await;
    assert_eq!(stays.call("instance", json!({})).await["turns"], 1);
    let mut before = Client::of_callbacks_at(address, "app-1.test", "/").await;
    for n in 2..APPS {
        let host = format!("app-{n}.test");
        let connect = async move { Client::of_callbacks_at(address, &host, "/").await };
        let next = tokio::spawn(connect);
        eventually("it waits for a place", || (of_app(n)["without_place"] == 1).then_some(())).await;
        let status = run(at, &["status", "--data-dir", "data"]);
        assert!(status.stdout.contains(", 1 waits for a place"), "{}", status.stdout);
        // Who has one is served.
        before.call("instance", json!({})).await;
        before.close().await;
        before = next.await.unwrap();
        before.call("instance", json!({})).await;
        assert_eq!((&of_app(n)["without_place"], &of_app(n - 1)["asleep"]), (&json!(0), &json!(1)));
    }
    // Who is connected keeps its instance, however long it says nothing.
    assert_eq!(stays.call("instance", json!({})).await["turns"], 2);
    assert_eq!(node.process.terminate(), Some(0));
}

/// What a node says of an app's slots.
fn slots(folder: &Path, data_dir: &str, app: &str) -> Value {
    let status = said(&run(folder, &["status", "--data-dir", data_dir, "--json"]));
    let of_app = status["apps"].as_array().unwrap().iter().find(|of| of["name"] == app);
    of_app.unwrap()["slots"].clone()
}

async fn falls_asleep(folder: &Path, data_dir: &str, app: &str) {
    eventually("it is asleep", || (slots(folder, data_dir, app)["asleep"] == 1).then_some(())).await;
}
