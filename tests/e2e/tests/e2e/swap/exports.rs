//! Versions with other callbacks than the one before.

use tidegate_harness::{Client, Cluster, held};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_get_an_on_close_as_soon_as_a_version_has_one() {
    let _compiled = (held("broadcast"), held("minimal-chat"));
    let mut cluster = Cluster::of("broadcast").gateways(2).shards(2).slots(2).start().await;
    let mut observer = Client::connect(cluster.ws(0)).await;
    observer.send("up").await;
    assert_eq!(observer.text().await, "up");
    for round in 0..4 {
        let mut silent = Vec::new();
        for n in 0..4 {
            silent.push(Client::connect(cluster.ws(n % 2)).await);
        }
        // With on-close: they are told though they never said a word.
        assert_eq!(cluster.swap(0, "minimal-chat").await.failure, None);
        for client in silent {
            client.drop_connection();
            let news = observer.text().await;
            assert!(news.ends_with(" logout"), "round {round}: {news}");
        }
        let late = Client::connect(cluster.ws(1)).await;
        assert!(observer.text().await.ends_with(" login"));
        // Without: nobody is told, and nothing waits for an answer that never comes.
        assert_eq!(cluster.swap(0, "broadcast").await.failure, None);
        late.close().await;
        observer.send("on").await;
        assert_eq!(observer.text().await, "on");
    }
    drop(observer);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_are_decided_by_the_version_that_runs() {
    let _compiled = (held("broadcast"), held("callbacks"));
    let mut cluster = Cluster::of("broadcast").slots(2).start().await;
    for _ in 0..3 {
        let open = Client::connect_to(cluster.ws(0), "/refuse", &[]).await.unwrap();
        assert_eq!(cluster.swap(0, "callbacks").await.failure, None);
        Client::connect_to(cluster.ws(0), "/refuse", &[]).await.unwrap_err();
        assert_eq!(cluster.swap(0, "broadcast").await.failure, None);
        open.close().await;
    }
    cluster.stop().await;
}
