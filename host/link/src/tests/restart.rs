use std::net::SocketAddr;
use std::time::Duration;

use tidegate_base::Role;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::{identity, loopback};
use crate::certs::{Authority, Identity};
use crate::{Endpoint, Link, LinkError, LinkSettings};

/// Far longer than a test may take: a link does not end because nothing is heard.
fn patient() -> LinkSettings {
    let hour = Duration::from_secs(3600);
    LinkSettings { idle_timeout: hour, keep_alive: hour / 2, ..LinkSettings::default() }
}

/// A worker links to a gateway, which is then killed without a word. Its address is free again.
async fn killed(worker: &Endpoint, gateway: &Identity) -> (Link, SocketAddr) {
    let (up, is_up) = oneshot::channel();
    let (kill, is_killed) = oneshot::channel::<()>();
    let gateway = gateway.clone();
    let life = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let held = runtime.block_on(async {
            let endpoint = Endpoint::bind(loopback(), &gateway, &patient()).unwrap();
            up.send(endpoint.local_addr().unwrap()).unwrap();
            let link = endpoint.accept().await.unwrap().accept().await.unwrap();
            is_killed.await.unwrap();
            (link, endpoint)
        });
        // Without its runtime nothing can say good-bye.
        drop(runtime);
        drop(held);
    });
    let address = is_up.await.unwrap();
    let link = worker.connect(address, Role::Gateway).await.unwrap();
    kill.send(()).unwrap();
    tokio::task::spawn_blocking(move || life.join().unwrap()).await.unwrap();
    (link, address)
}

#[tokio::test]
async fn a_node_that_was_killed_and_runs_again_ends_the_links_of_its_earlier_life_at_once() {
    let authority = Authority::create("prod").unwrap();
    let worker = identity(&authority, Role::Worker, "w-1");
    let worker = Endpoint::bind(loopback(), &worker, &patient()).unwrap();
    let gateway = identity(&authority, Role::Gateway, "g-1");
    let (link, address) = killed(&worker, &gateway).await;
    let second = Endpoint::bind(address, &gateway, &patient()).unwrap();
    assert_eq!(link.close_error(), None);
    link.take_control().unwrap().0.send(b"is anybody there?".to_vec()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), link.closed()).await.unwrap();
    assert!(matches!(&ended, LinkError::Lost(why) if why.contains("restarted")), "{ended}");
    // And it takes new ones.
    let accept = async { second.accept().await.unwrap().accept().await };
    let (dialed, accepted) = tokio::join!(worker.connect(address, Role::Gateway), accept);
    assert!(dialed.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn another_node_at_the_address_proves_nothing() {
    let authority = Authority::create("prod").unwrap();
    let worker = identity(&authority, Role::Worker, "w-1");
    let worker = Endpoint::bind(loopback(), &worker, &patient()).unwrap();
    let (link, address) = killed(&worker, &identity(&authority, Role::Gateway, "g-1")).await;
    let another = identity(&authority, Role::Gateway, "g-1");
    let second = Endpoint::bind(address, &another, &patient()).unwrap();
    link.take_control().unwrap().0.send(b"is anybody there?".to_vec()).unwrap();
    // By the time that a link over the same two sockets is up, an answer to the earlier packet has come.
    let accept = async { second.accept().await.unwrap().accept().await };
    let (dialed, accepted) = tokio::join!(worker.connect(address, Role::Gateway), accept);
    assert!(dialed.is_ok() && accepted.is_ok());
    assert_eq!(link.close_error(), None);
}
