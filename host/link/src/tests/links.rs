use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidegate_base::Role;

use super::{dial, endpoint, identity, loopback, name};
use crate::certs::Authority;
use crate::{
    CONTROL_MESSAGE_BYTES_MAX, ControlError, Endpoint, LaneClosed, LaneRx, LaneTx, Link, LinkError,
    LinkSettings, Peer, code, memory_pair,
};

/// Two ends of one link, and what must live as long.
struct Pair {
    worker: Link,
    gateway: Link,
    endpoints: Vec<Endpoint>,
}

async fn over_quic() -> Pair {
    let authority = Authority::create("prod").unwrap();
    let worker = endpoint(&identity(&authority, Role::Worker, "w-1"));
    let gateway = endpoint(&identity(&authority, Role::Gateway, "g-1"));
    let (dialed, accepted) = dial(&worker, &gateway, Role::Gateway).await;
    Pair { worker: dialed.unwrap(), gateway: accepted.unwrap(), endpoints: vec![worker, gateway] }
}

fn in_memory() -> Pair {
    let peer = |role, text| Peer { role, name: name(text), address: None };
    let (worker, gateway) = memory_pair(peer(Role::Worker, "w-1"), peer(Role::Gateway, "g-1"));
    Pair { worker, gateway, endpoints: Vec::new() }
}

/// Runs a story on both kinds of link.
macro_rules! on_both_kinds {
    ($($story:ident)*) => {
        mod quic { $( #[tokio::test] async fn $story() { super::$story(super::over_quic().await).await } )* }
        mod memory { $( #[tokio::test] async fn $story() { super::$story(super::in_memory()).await } )* }
    };
}

on_both_kinds! {
    each_end_knows_the_other
    a_million_small_frames_arrive_in_order_both_ways
    large_batches_arrive_whole_beside_small_ones
    a_sender_waits_until_its_queue_is_short
    a_finished_lane_delivers_everything_and_then_says_so
    dropping_the_last_sender_finishes_the_lane
    a_reset_lane_is_lost_to_its_reader_and_closed_to_its_sender
    a_reader_that_goes_away_closes_the_lane_to_its_sender
    a_lane_that_nobody_reads_leaves_the_others_alone
    a_lane_whose_queue_overflows_is_given_up
    control_messages_arrive_whole_and_in_order
    an_oversized_control_message_is_refused_and_the_link_lives
    control_is_taken_once_by_each_end
    unread_control_messages_close_the_link
    a_control_message_of_an_impossible_length_closes_the_link
    a_close_reaches_everybody_with_its_code_and_reason
    lanes_and_control_end_with_the_link
    dropping_every_handle_of_one_end_closes_the_link
    waiting_for_a_lane_can_be_given_up
    lanes_are_accepted_in_the_order_in_which_they_spoke
}

/// Opens a lane at one end and accepts it at the other, with a first byte.
async fn lane(from: &Link, to: &Link) -> ((LaneTx, LaneRx), (LaneTx, LaneRx)) {
    let opened = from.open_lane().await.unwrap();
    opened.0.send(Bytes::from_static(b"!")).unwrap();
    let mut accepted = to.accept_lane().await.unwrap();
    assert_eq!(accepted.1.recv().await.unwrap(), "!");
    (opened, accepted)
}

async fn below(tx: &LaneTx, bytes: usize) {
    poll_fn(|cx| tx.poll_below(cx, bytes)).await.unwrap();
}

/// Everything until the lane ends.
async fn read_to_end(rx: &mut LaneRx) -> (Vec<u8>, LaneClosed) {
    let mut all = Vec::new();
    loop {
        match rx.recv().await {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(closed) => return (all, closed),
        }
    }
}

async fn each_end_knows_the_other(pair: Pair) {
    let (from, to) = (pair.worker.peer(), pair.gateway.peer());
    assert_eq!((from.role, from.name.as_str()), (Role::Gateway, "g-1"));
    assert_eq!((to.role, to.name.as_str()), (Role::Worker, "w-1"));
    let bound = pair.endpoints.iter().map(|endpoint| endpoint.local_addr().unwrap()).collect::<Vec<_>>();
    assert_eq!(to.address, bound.first().copied());
    assert_eq!(from.address, bound.last().copied());
}

const FRAMES: u64 = 1_000_000;

async fn send_frames(tx: LaneTx) {
    let mut next = 0;
    while next < FRAMES {
        let batch: Vec<u8> = (next..(next + 100).min(FRAMES)).flat_map(u64::to_le_bytes).collect();
        next += 100;
        below(&tx, 1 << 20).await;
        tx.send(batch.into()).unwrap();
    }
    assert!(tx.finish().await);
}

async fn expect_frames(mut rx: LaneRx) {
    let (mut next, mut part) = (0, Vec::new());
    let closed = loop {
        match rx.recv().await {
            Ok(bytes) => part.extend_from_slice(&bytes),
            Err(closed) => break closed,
        }
        let (frames, rest) = part.as_chunks::<8>();
        for frame in frames {
            assert_eq!(u64::from_le_bytes(*frame), next);
            next += 1;
        }
        part = rest.to_vec();
    };
    assert_eq!((next, closed), (FRAMES, LaneClosed::Finished));
}

async fn a_million_small_frames_arrive_in_order_both_ways(pair: Pair) {
    let ((there, from_there), (back, from_back)) = lane(&pair.worker, &pair.gateway).await;
    tokio::join!(send_frames(there), send_frames(back), expect_frames(from_there), expect_frames(from_back));
}

async fn large_batches_arrive_whole_beside_small_ones(pair: Pair) {
    let ((tx, _rx), (_tx, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    let mut sent = Vec::new();
    for (n, length) in [1, 3_000_000, 5, 7, 8 * 1024, 300_000, 2].into_iter().enumerate() {
        let batch: Vec<u8> = (0..length).map(|i| (i % 251 + n) as u8).collect();
        sent.extend_from_slice(&batch);
        tx.send(batch.into()).unwrap();
    }
    let (finished, (got, closed)) = tokio::join!(tx.finish(), read_to_end(&mut rx));
    assert!(finished && got == sent && closed == LaneClosed::Finished);
}

async fn a_sender_waits_until_its_queue_is_short(pair: Pair) {
    let ((tx, _rx), (_tx, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    let mut sent = 0;
    // More than QUIC takes on by itself.
    while tx.queued_bytes() < 20_000_000 {
        tx.send(vec![7; 1_000_000].into()).unwrap();
        sent += 1_000_000;
    }
    assert!(tx.poll_below(&mut Context::from_waker(Waker::noop()), 1_000_000).is_pending());
    let mut got = 0;
    let reading = async {
        while got < sent {
            got += rx.recv().await.unwrap().len();
        }
    };
    tokio::join!(below(&tx, 1_000_000), reading);
    below(&tx, 0).await;
    assert_eq!((got, tx.queued_bytes()), (sent, 0));
}

async fn a_finished_lane_delivers_everything_and_then_says_so(pair: Pair) {
    let ((tx, mut back), (answer, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    tx.send(Bytes::from_static(b"last words")).unwrap();
    let (finished, (got, closed)) = tokio::join!(tx.finish(), read_to_end(&mut rx));
    assert!(finished);
    assert_eq!((&got[..], closed), (&b"last words"[..], LaneClosed::Finished));
    assert_eq!(rx.recv().await, Err(LaneClosed::Finished), "again");
    assert!(tx.send(Bytes::from_static(b"x")).unwrap_err().to_string().contains("finished"));
    // The other direction goes on.
    answer.send(Bytes::from_static(b"yes")).unwrap();
    assert_eq!(back.recv().await.unwrap(), "yes");
}

async fn dropping_the_last_sender_finishes_the_lane(pair: Pair) {
    let ((tx, _back), (_tx, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    let other = tx.clone();
    tx.send(Bytes::from_static(b"one")).unwrap();
    drop(tx);
    other.send(Bytes::from_static(b"two")).unwrap();
    drop(other);
    let (got, closed) = read_to_end(&mut rx).await;
    assert_eq!((&got[..], closed), (&b"onetwo"[..], LaneClosed::Finished));
}

async fn a_reset_lane_is_lost_to_its_reader_and_closed_to_its_sender(pair: Pair) {
    let ((tx, _back), (_tx, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    // The writer is stuck in the middle of this when the reset comes.
    tx.send(vec![1; 30_000_000].into()).unwrap();
    let finishing = tokio::join!(tx.finish(), async { tx.reset() }).0;
    assert!(!finishing);
    let (_, closed) = read_to_end(&mut rx).await;
    assert!(matches!(&closed, LaneClosed::Lost(why) if why.contains("reset")), "{closed}");
    assert!(tx.send(Bytes::from_static(b"x")).unwrap_err().to_string().contains("reset here"));
    assert_eq!(tx.queued_bytes(), 0);
}

async fn a_reader_that_goes_away_closes_the_lane_to_its_sender(pair: Pair) {
    let ((tx, _back), (_tx, rx)) = lane(&pair.worker, &pair.gateway).await;
    tx.send(vec![1; 30_000_000].into()).unwrap();
    drop(rx);
    let closed = poll_fn(|cx| tx.poll_below(cx, 1)).await.unwrap_err();
    assert!(closed.to_string().contains("stopped reading"), "{closed}");

    // The same when the sender is idle.
    let ((tx, _back), (_tx, rx)) = lane(&pair.worker, &pair.gateway).await;
    drop(rx);
    while tx.send(Bytes::from_static(b"?")).is_ok() {
        tokio::task::yield_now().await;
    }
}

async fn a_lane_that_nobody_reads_leaves_the_others_alone(pair: Pair) {
    let ((stuck, _), (_tx, _unread)) = lane(&pair.worker, &pair.gateway).await;
    stuck.send(vec![1; 30_000_000].into()).unwrap();
    let ((tx, _), (_tx2, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    for _ in 0..100 {
        tx.send(Bytes::from_static(b"hello")).unwrap();
        assert_eq!(rx.recv().await.unwrap(), "hello");
    }
    assert!(stuck.queued_bytes() > 10_000_000);
}

async fn a_lane_whose_queue_overflows_is_given_up(pair: Pair) {
    let ((tx, _back), (_tx, mut rx)) = lane(&pair.worker, &pair.gateway).await;
    let limit = LinkSettings::default().lane_queue_bytes;
    let big = Bytes::from(vec![0; limit / 4]);
    let refused = (0..5).find_map(|_| tx.send(big.clone()).err()).unwrap();
    assert!(refused.to_string().contains("too slowly"), "{refused}");
    let (_, closed) = read_to_end(&mut rx).await;
    assert!(matches!(&closed, LaneClosed::Lost(why) if why.contains("too many bytes")), "{closed}");
    assert_eq!(pair.worker.close_error(), None, "the link lives on");
}

async fn control_messages_arrive_whole_and_in_order(pair: Pair) {
    let (tx, _rx) = pair.worker.take_control().unwrap();
    let (answer, mut rx) = pair.gateway.take_control().unwrap();
    let messages = [vec![], vec![1; 100], vec![2; CONTROL_MESSAGE_BYTES_MAX], vec![3]];
    let other = tx.clone();
    for message in &messages {
        other.send(message.clone()).unwrap();
    }
    for message in &messages {
        assert!(rx.recv().await.unwrap() == *message);
    }
    drop((tx, other));
    assert_eq!(rx.recv().await, Err(LaneClosed::Finished));
    answer.send(vec![4]).unwrap();
}

async fn an_oversized_control_message_is_refused_and_the_link_lives(pair: Pair) {
    let (tx, _rx) = pair.worker.take_control().unwrap();
    let (_tx, mut rx) = pair.gateway.take_control().unwrap();
    let size = CONTROL_MESSAGE_BYTES_MAX + 1;
    assert_eq!(tx.send(vec![0; size]), Err(ControlError::TooLong(size)));
    tx.send(b"still here".to_vec()).unwrap();
    assert_eq!(rx.recv().await.unwrap(), b"still here");
}

async fn control_is_taken_once_by_each_end(pair: Pair) {
    for link in [&pair.worker, &pair.gateway] {
        let taken = link.take_control();
        assert!(taken.is_some() && link.clone().take_control().is_none());
    }
}

async fn unread_control_messages_close_the_link(pair: Pair) {
    let (tx, _rx) = pair.worker.take_control().unwrap();
    let _unread = pair.gateway.take_control().unwrap();
    // What QUIC takes on by itself does not count, so this is more than the limit in one go.
    let refused = (0..8).find_map(|_| tx.send(vec![0; CONTROL_MESSAGE_BYTES_MAX]).err()).unwrap();
    assert!(refused.to_string().contains("too slowly"), "{refused}");
    let (here, there) = tokio::join!(pair.worker.closed(), pair.gateway.closed());
    assert!(matches!(here, LinkError::ClosedHere { code: code::CONTROL_OVERFLOW, .. }), "{here}");
    assert!(matches!(there, LinkError::ClosedByPeer { code: code::CONTROL_OVERFLOW, .. }), "{there}");
}

async fn a_control_message_of_an_impossible_length_closes_the_link(pair: Pair) {
    let (raw, _rx) = pair.worker.steal_control();
    let (_tx, mut rx) = pair.gateway.take_control().unwrap();
    raw.send(Bytes::from_static(&[0xff; 4])).unwrap();
    assert!(matches!(rx.recv().await, Err(LaneClosed::Lost(_))));
    let there = pair.worker.closed().await;
    assert!(matches!(there, LinkError::ClosedByPeer { code: code::CONTROL_BROKEN, .. }), "{there}");
}

async fn a_close_reaches_everybody_with_its_code_and_reason(pair: Pair) {
    assert_eq!(pair.gateway.close_error(), None);
    let waiting = pair.gateway.clone();
    let waiters = async { tokio::join!(waiting.closed(), pair.gateway.closed(), pair.gateway.accept_lane()) };
    let closing = async { pair.worker.close(code::FIRST_FREE + 1, "time to go") };
    let ((first, second, accepted), ()) = tokio::join!(waiters, closing);
    let there = LinkError::ClosedByPeer { code: 17, reason: "time to go".into() };
    assert_eq!((first, second), (there.clone(), there.clone()));
    assert_eq!(accepted.err(), Some(there.clone()));
    assert_eq!(pair.gateway.open_lane().await.err(), Some(there.clone()));

    pair.worker.close(99, "the second does not count");
    let here = LinkError::ClosedHere { code: 17, reason: "time to go".into() };
    assert_eq!(pair.worker.closed().await, here);
    assert_eq!(pair.worker.close_error(), Some(here.clone()));
    assert_eq!(pair.worker.open_lane().await.err(), Some(here));
}

async fn lanes_and_control_end_with_the_link(pair: Pair) {
    let ((tx, mut rx), (far_tx, mut far_rx)) = lane(&pair.worker, &pair.gateway).await;
    let (control, _) = pair.worker.take_control().unwrap();
    let (_, mut far_control) = pair.gateway.take_control().unwrap();
    pair.worker.close(20, "over");
    let reads = tokio::join!(rx.recv(), far_rx.recv(), far_control.recv());
    for read in [reads.0.err(), reads.1.err(), reads.2.err()] {
        assert!(matches!(&read, Some(LaneClosed::Lost(_))), "{read:?}");
    }
    assert!(!tx.finish().await && !far_tx.finish().await);
    assert!(control.send(vec![1]).is_err());
}

async fn dropping_every_handle_of_one_end_closes_the_link(pair: Pair) {
    let Pair { worker, gateway, endpoints } = pair;
    let ((tx, rx), (_far_tx, mut far_rx)) = lane(&worker, &gateway).await;
    let control = worker.take_control().unwrap();
    drop((worker, control.1));
    tx.send(Bytes::from_static(b"the lane keeps the link")).unwrap();
    assert_eq!(far_rx.recv().await.unwrap(), "the lane keeps the link");
    drop((tx, rx, control.0));
    assert_eq!(far_rx.recv().await, Err(LaneClosed::Finished));
    let closed = gateway.closed().await;
    assert!(matches!(closed, LinkError::ClosedByPeer { code: code::DROPPED, .. }), "{closed}");
    drop(endpoints);
}

async fn waiting_for_a_lane_can_be_given_up(pair: Pair) {
    for _ in 0..3 {
        let mut accept = std::pin::pin!(pair.gateway.accept_lane());
        let mut closed = std::pin::pin!(pair.gateway.closed());
        poll_fn(|cx| {
            assert!(accept.as_mut().poll(cx).is_pending() && closed.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    lane(&pair.worker, &pair.gateway).await;
}

async fn lanes_are_accepted_in_the_order_in_which_they_spoke(pair: Pair) {
    let mut opened = Vec::new();
    for n in 0..200_u8 {
        let (tx, rx) = pair.worker.open_lane().await.unwrap();
        tx.send(vec![n].into()).unwrap();
        opened.push((tx, rx));
    }
    for n in 0..200_u8 {
        let (tx, mut rx) = pair.gateway.accept_lane().await.unwrap();
        assert_eq!(rx.recv().await.unwrap(), vec![n]);
        tx.send(vec![n, n].into()).unwrap();
        assert_eq!(opened[usize::from(n)].1.recv().await.unwrap(), vec![n, n]);
    }
}

/// A shard of its own thread accepts the node, and serves its lanes there.
#[tokio::test]
async fn a_node_may_be_accepted_on_another_runtime_than_the_endpoints() {
    let authority = Authority::create("prod").unwrap();
    let worker = endpoint(&identity(&authority, Role::Worker, "w-1"));
    let gateway = endpoint(&identity(&authority, Role::Gateway, "g-1"));
    let (hand, handed) = tokio::sync::oneshot::channel::<crate::Incoming>();
    let shard = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let link = handed.await.unwrap().accept().await.unwrap();
            let (tx, mut rx) = link.accept_lane().await.unwrap();
            while let Ok(bytes) = rx.recv().await {
                tx.send(bytes).unwrap();
            }
            assert!(tx.finish().await);
            link.closed().await
        })
    });
    let addr = gateway.local_addr().unwrap();
    let accepting = async { hand.send(gateway.accept().await.unwrap()).unwrap() };
    let (link, ()) = tokio::join!(worker.connect(addr, Role::Gateway), accepting);
    let link = link.unwrap();
    let (tx, rx) = link.open_lane().await.unwrap();
    tokio::join!(send_frames(tx), expect_frames(rx));
    link.close(30, "done");
    let closed = tokio::task::spawn_blocking(move || shard.join().unwrap()).await.unwrap();
    assert_eq!(closed, LinkError::ClosedByPeer { code: 30, reason: "done".into() });
}

#[tokio::test]
async fn a_lane_whose_runtime_stops_is_closed_at_both_ends() {
    let pair = over_quic().await;
    let gateway = pair.gateway.clone();
    let (hand, handed) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = hand.send(runtime.block_on(gateway.accept_lane()));
    });
    let (tx, mut rx) = pair.worker.open_lane().await.unwrap();
    tx.send(Bytes::from_static(b"!")).unwrap();
    let (far_tx, _far_rx) = handed.await.unwrap().unwrap();
    assert!(matches!(rx.recv().await, Err(LaneClosed::Lost(_))));
    assert!(!far_tx.finish().await);
    assert!(far_tx.send(Bytes::from_static(b"x")).is_err());
}

#[tokio::test]
async fn opening_waits_when_the_peer_has_enough_lanes() {
    let authority = Authority::create("prod").unwrap();
    let settings = LinkSettings { max_lanes: 2, ..LinkSettings::default() };
    let worker = endpoint(&identity(&authority, Role::Worker, "w-1"));
    let few = Endpoint::bind(loopback(), &identity(&authority, Role::Gateway, "g-1"), &settings).unwrap();
    let (dialed, accepted) = dial(&worker, &few, Role::Gateway).await;
    let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap());
    let one = lane(&dialed, &accepted).await;
    let _two = lane(&dialed, &accepted).await;
    let mut third = std::pin::pin!(lane(&dialed, &accepted));
    let stuck = poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await;
    assert!(stuck);
    drop(one);
    third.await;
}

#[tokio::test]
async fn closing_an_endpoint_tells_the_peers_and_ends_accepting() {
    let pair = over_quic().await;
    let gateway = pair.endpoints[1].clone();
    let ((), closed) = tokio::join!(gateway.close(), pair.worker.closed());
    assert!(matches!(closed, LinkError::ClosedByPeer { code: code::ENDPOINT_CLOSED, .. }), "{closed}");
    assert!(matches!(pair.gateway.closed().await, LinkError::ClosedHere { code: code::ENDPOINT_CLOSED, .. }));
    assert!(gateway.accept().await.is_none());
    assert!(matches!(gateway.connect(loopback(), Role::Worker).await, Err(LinkError::Dial { .. })));
}

#[tokio::test]
async fn an_open_link_tells_how_its_path_does_and_an_ended_one_does_not() {
    let authority = Authority::create("prod").unwrap();
    // The list is the process's, and so the names are of this test alone.
    let worker = endpoint(&identity(&authority, Role::Worker, "path-worker"));
    let gateway = endpoint(&identity(&authority, Role::Gateway, "path-gateway"));
    let (dialed, accepted) = dial(&worker, &gateway, Role::Gateway).await;
    let (dialed, accepted) = (dialed.unwrap(), accepted.unwrap());
    let paths = crate::paths_of(&name("path-worker"));
    let [path] = &paths[..] else { panic!("{paths:?}") };
    assert_eq!((path.peer_role, &path.peer), (Role::Gateway, &name("path-gateway")));
    assert!(path.sent_packets > 0 && path.congestion_window_bytes > 0 && !path.rtt.is_zero(), "{path:?}");
    let [back] = &crate::paths_of(&name("path-gateway"))[..] else { panic!("one link has two ends") };
    assert_ne!(back.number, path.number);
    dialed.close(code::FIRST_FREE, "over");
    accepted.closed().await;
    assert_eq!(crate::paths_of(&name("path-worker")), []);
    assert_eq!(crate::paths_of(&name("path-gateway")), []);
}
