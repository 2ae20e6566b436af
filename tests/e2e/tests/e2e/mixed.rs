//! Everything at once, at random: what the gateways know is what the clients have seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, LinkKind};

use crate::support::sorted;

const CLIENTS: usize = 24;
const STEPS: usize = 1500;
const GROUPS: [&str; 4] = ["red", "green", "blue", "grey"];
const UIDS: [&str; 5] = ["0", "ann", "bob", "cid", "dot"];

/// A small generator: the same seed makes the same run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// A client with what it has asked for.
struct Member {
    client: Client,
    groups: BTreeSet<&'static str>,
    uid: Option<&'static str>,
    /// The broadcasts that it must hear.
    due: Vec<String>,
}

impl Member {
    async fn connect(cluster: &Cluster, gateway: usize) -> Self {
        let client = cluster.client(gateway).await;
        Self { client, groups: BTreeSet::new(), uid: None, due: Vec::new() }
    }
}

struct World {
    cluster: Cluster,
    random: Random,
    members: Vec<Member>,
    broadcasts: usize,
}

impl World {
    /// One thing that one client does. Clients change only themselves, or everything would be a race.
    async fn step(&mut self) {
        let at = self.random.below(CLIENTS);
        let (group, uid) = (self.random.of(&GROUPS), self.random.of(&UIDS));
        let member = &mut self.members[at];
        match self.random.below(14) {
            0..=2 => {
                member.client.tell("join_group", json!({"groups": [group]})).await;
                member.groups.insert(group);
            }
            3..=4 => {
                member.client.tell("leave_group", json!({"groups": [group]})).await;
                member.groups.remove(group);
            }
            5 => {
                member.client.tell("bind_uid", json!({"uid": uid})).await;
                member.uid = Some(uid);
            }
            6 => {
                member.client.tell("unbind_uid", json!({})).await;
                member.uid = None;
            }
            7..=9 => self.broadcast(at).await,
            10 => {
                // It goes and another one comes, on any gateway.
                let gateway = self.random.below(2);
                let fresh = Member::connect(&self.cluster, gateway).await;
                let left = std::mem::replace(&mut self.members[at], fresh);
                if self.random.below(2) == 0 {
                    left.client.close().await;
                } else {
                    left.client.drop_connection();
                }
            }
            11 => {
                member.client.tell("close_current_client_with", json!({"code": 4000})).await;
                assert_eq!(member.client.closed().await.map(|(code, _)| code), Some(4000));
                let gateway = self.random.below(2);
                self.members[at] = Member::connect(&self.cluster, gateway).await;
            }
            _ => {
                // Its own groups, as its gateway has them.
                let seen =
                    member.client.call("groups", json!({"of": {"clients": [member.client.id()]}})).await;
                let groups: Vec<String> = member.groups.iter().map(ToString::to_string).collect();
                assert_eq!(sorted(&seen), groups);
            }
        }
    }

    /// Sends to everybody in a group and notes who must hear it. Nobody changes meanwhile.
    async fn broadcast(&mut self, from: usize) {
        self.settle().await;
        self.broadcasts += 1;
        let (text, group) = (format!("broadcast {}", self.broadcasts), self.random.of(&GROUPS));
        let sender = &mut self.members[from].client;
        let except = if self.broadcasts.is_multiple_of(3) { vec![sender.id().to_owned()] } else { vec![] };
        let send = json!({"to": {"groups": [group]}, "except": except, "message": text});
        sender.call("send", send).await;
        // A query comes back when every gateway has done what was asked before.
        sender.call("get_all_client_count", json!({})).await;
        for (n, member) in self.members.iter_mut().enumerate() {
            if member.groups.contains(group) && (n != from || except.is_empty()) {
                member.due.push(text.clone());
            }
        }
    }

    /// Waits until everything that anybody asked for is done.
    async fn settle(&mut self) {
        for member in &mut self.members {
            let heard = member.client.drain().await;
            let heard: Vec<&str> = heard.iter().filter_map(Value::as_str).collect();
            assert_eq!(heard, member.due, "{}", member.client.id());
            member.due.clear();
        }
    }

    /// What every gateway together know, and what the clients believe.
    async fn compare(&mut self) {
        self.settle().await;
        // Those who left without a word may still be on their way out.
        while self.ask("get_all_client_count", json!({})).await != CLIENTS {
            tokio::task::yield_now().await;
        }
        for group in GROUPS {
            let count = self.members.iter().filter(|m| m.groups.contains(group)).count();
            assert_eq!(
                self.ask("get_client_count_by_group", json!({"groups": [group]})).await,
                count,
                "{group}"
            );
        }
        let mut by_uid: BTreeMap<&str, Vec<String>> = UIDS.iter().map(|uid| (*uid, Vec::new())).collect();
        for member in &self.members {
            if let Some(ids) = member.uid.and_then(|uid| by_uid.get_mut(uid)) {
                ids.push(member.client.id().to_owned());
            }
        }
        for (uid, mut ids) in by_uid {
            ids.sort();
            let found = self.ask("get_client_id_by_uid", json!({"uids": [uid]})).await;
            assert_eq!(sorted(&found), ids, "{uid}");
        }
        self.cluster.check_invariants();
    }

    async fn ask(&mut self, call: &str, arguments: Value) -> Value {
        let at = self.random.below(CLIENTS);
        self.members[at].client.call(call, arguments).await
    }
}

async fn run(seed: u64, link: LinkKind) {
    let cluster = Cluster::of("callbacks").gateways(2).workers(2).slots(2).shards(2).link(link).start().await;
    let mut members = Vec::new();
    for n in 0..CLIENTS {
        members.push(Member::connect(&cluster, n % 2).await);
    }
    let mut world = World { cluster, random: Random(seed), members, broadcasts: 0 };
    for step in 0..STEPS {
        world.step().await;
        if step % 500 == 499 {
            world.compare().await;
        }
    }
    assert!(world.broadcasts > 100);
    let World { cluster, members, .. } = world;
    let loads: usize = (0..2).map(|gateway| cluster.load(gateway).iter().sum::<usize>()).sum();
    assert_eq!(loads, CLIENTS, "every client is bound to one slot, and nobody else is");
    drop(members);
    cluster.stop().await;
}

#[tokio::test]
async fn what_gateways_know_is_what_clients_have_seen_in_memory() {
    run(0x5eed_0001, LinkKind::Memory).await;
}

#[tokio::test]
async fn what_gateways_know_is_what_clients_have_seen_over_quic() {
    run(0x5eed_0002, LinkKind::Quic).await;
}
