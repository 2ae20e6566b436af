//! New code under live connections: what a worker's slots promise while another version takes them over.

mod effects;
mod exports;
mod failures;
mod load;
mod memory;
mod nodes;
mod slots;
mod timers;

use tidegate_harness::{Client, Cluster};
use tidegate_wire::control::Stage;

/// The answer to a text, and nothing before it.
async fn says(client: &mut Client, text: &str, answer: &str) {
    client.send(text).await;
    assert_eq!(client.text().await, answer);
}

/// The answer to a text; what a watcher hears before it is not looked at.
async fn ask(client: &mut Client, text: &str) -> String {
    client.send(text).await;
    let word = text.split(' ').next().expect("a word").to_owned();
    loop {
        let answer = client.text().await;
        if answer.split(' ').nth(1) == Some(&word) {
            return answer;
        }
    }
}

/// What a watcher has heard so far.
async fn heard(client: &mut Client) -> Vec<String> {
    client.send("weight").await;
    let mut news = Vec::new();
    loop {
        let line = client.text().await;
        if line.split(' ').nth(1) == Some("weight") {
            return news;
        }
        news.push(line);
    }
}

/// A client in each slot of worker 0, on gateway 0, in the slots' order.
async fn one_in_each(cluster: &Cluster, slots: usize) -> Vec<Client> {
    let mut found: Vec<Option<Client>> = (0..slots).map(|_| None).collect();
    while found.iter().any(Option::is_none) {
        let mut client = Client::connect(cluster.ws(0)).await;
        let answer = ask(&mut client, "where").await;
        let slot: usize = answer.rsplit(' ').next().and_then(|slot| slot.parse().ok()).expect("a slot");
        match &mut found[slot] {
            free @ None => *free = Some(client),
            Some(_) => client.close().await,
        }
    }
    found.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_keeps_connections_and_state_and_answers_with_new_code() {
    let mut cluster = Cluster::of("versioned").slots(2).start().await;
    let mut clients = Vec::new();
    for n in 0..4 {
        let mut client = Client::connect(cluster.ws(0)).await;
        says(&mut client, &format!("hello {n}"), &format!("v1 hello {n}")).await;
        clients.push(client);
    }
    let report = cluster.swap(0, "versioned-v2").await;
    assert_eq!(report.failure, None);
    assert_eq!(report.switches.len(), 2, "{report:?}");
    assert!(report.switches.iter().all(|s| s.state_bytes > 0 && s.lost + s.repeated + s.reordered == 0));
    for client in &mut clients {
        says(client, "mine", "v2 mine 1").await;
        says(client, "again", "v2 again").await;
        says(client, "mine", "v2 mine 2").await;
    }
    assert_eq!(cluster.clients(0), 4);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_does_not_start_changes_nothing() {
    let mut cluster = Cluster::of("versioned").slots(2).start().await;
    let mut client = Client::connect(cluster.ws(0)).await;
    says(&mut client, "a", "v1 a").await;
    for variant in ["start-fails", "start-traps", "start-loops"] {
        let report = cluster.swap(0, &format!("versioned-{variant}")).await;
        assert_eq!(report.failure.expect("it cannot start").stage, Stage::Start, "{variant}");
        assert_eq!(report.switches, []);
        says(&mut client, "count", "v1 count 1").await;
    }
    cluster.stop().await;
}
