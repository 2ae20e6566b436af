//! Every callback runs when it should.

use serde_json::json;
use tidegate_harness::Cluster;

#[tokio::test]
async fn a_message_is_echoed() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut client = cluster.client(0).await;
    client.send("hello").await;
    assert_eq!(client.text().await, "hello");
    cluster.stop().await;
}

#[tokio::test]
async fn a_client_hears_of_others() {
    let cluster = Cluster::of("callbacks").start().await;
    let mut a = cluster.client(0).await;
    a.call("join_group", json!({"groups": ["observers"]})).await;
    let b = cluster.client(0).await;
    let event = a.event("connect").await;
    assert_eq!(event["client"], b.id());
    let id = b.id().to_owned();
    b.close().await;
    let event = a.event("close").await;
    assert_eq!((event["client"].as_str(), event["reason"].as_str()), (Some(&*id), Some("client")));
    cluster.stop().await;
}
