//! Every method of the gateway, from every slot of two workers, with clients on both of two gateways.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_harness::{Client, Cluster, LinkKind};

use crate::support::{client_in, sorted};

const API: &str = include_str!("../../../../sdk/rust/API.md");
const FIXTURE: &str = include_str!("../../../fixtures/callbacks/src/lib.rs");

/// What the fixture can do besides, which other stories tell.
const FAULTS: [&str; 7] =
    ["trap", "trap_after_send", "trap_after_query", "fail", "fail_after_query", "spin", "balloon"];

#[tokio::test]
async fn every_method_works_across_gateways_and_workers() {
    let mut world = World::start().await;
    world.messages_reach_exactly_their_audience().await;
    world.uids_are_bound_found_and_unbound().await;
    world.groups_are_joined_listed_and_left().await;
    world.sessions_are_written_and_read().await;
    world.audiences_are_counted_and_listed().await;
    world.what_is_local_to_a_slot_answers().await;
    world.clients_are_closed_and_dropped().await;

    let documented: BTreeSet<String> = methods_of_the_document().difference(&world.called).cloned().collect();
    assert!(documented.is_empty(), "API.md names what no story calls: {documented:?}");
    let callable: BTreeSet<String> = calls_of_the_fixture().difference(&world.called).cloned().collect();
    assert!(callable.is_empty(), "the fixture has calls that no story makes: {callable:?}");
    world.cluster.stop().await;
}

/// A cluster with a client of each slot on each gateway, and the names of all that they called.
struct World {
    cluster: Cluster,
    /// Gateway by gateway, in each the workers, in each the slots.
    clients: Vec<Client>,
    called: BTreeSet<String>,
}

impl World {
    async fn start() -> Self {
        let cluster =
            Cluster::of("callbacks").gateways(2).workers(2).slots(2).link(LinkKind::Quic).start().await;
        let mut clients = Vec::new();
        for n in 0..8 {
            clients.push(client_in(&cluster, n / 4, n / 2 % 2, n as u32 % 2).await);
        }
        Self { cluster, clients, called: BTreeSet::new() }
    }

    fn id(&self, n: usize) -> String {
        self.clients[n].id().to_owned()
    }

    fn ids(&self, numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
        let mut ids: Vec<String> = numbers.into_iter().map(|n| self.id(n)).collect();
        ids.sort();
        ids
    }

    /// Client `n` makes a call.
    async fn ask(&mut self, n: usize, call: &str, arguments: Value) -> Value {
        self.called.insert(call.into());
        for audience in ["to", "of"] {
            let of = &arguments[audience];
            let constructor = [("clients", "client"), ("uids", "uid"), ("groups", "group")];
            let named = constructor.iter().find(|(key, _)| of.get(key).is_some()).map(|(_, name)| *name);
            let all = of.is_string().then_some("all");
            self.called.extend(named.or(all).map(str::to_owned));
        }
        self.clients[n].call(call, arguments).await
    }

    /// Client `n` makes a call; returns when every gateway has done what it asked for.
    async fn done(&mut self, n: usize, call: &str, arguments: Value) {
        assert_eq!(self.ask(n, call, arguments).await, Value::Null);
        self.ask(n, "get_all_client_count", json!({})).await;
    }

    /// Client `n` makes a call, after which exactly these clients have `text`, once each.
    async fn heard(&mut self, n: usize, call: &str, arguments: Value, by: &[usize]) {
        let text = arguments["message"].as_str().map_or("bye".to_owned(), str::to_owned);
        self.done(n, call, arguments).await;
        for (other, client) in self.clients.iter_mut().enumerate() {
            let copies = client.drain().await.iter().filter(|v| *v == &json!(text)).count();
            assert_eq!(copies, usize::from(by.contains(&other)), "client {other} after {call} by {n}");
        }
    }

    async fn messages_reach_exactly_their_audience(&mut self) {
        let everybody: Vec<usize> = (0..8).collect();
        for n in 0..8 {
            self.done(n, "bind_uid", json!({"uid": format!("u{}", n % 3)})).await;
            self.done(n, "join_group", json!({"groups": [format!("g{}", n % 2), format!("h{}", n / 4)]}))
                .await;
        }
        self.heard(0, "send_to_all", json!({"message": "m"}), &everybody).await;
        self.heard(5, "send_to_client", json!({"client": self.id(2), "message": "m"}), &[2]).await;
        self.heard(2, "send_to_client", json!({"client": self.id(5), "message": "m"}), &[5]).await;
        self.heard(3, "send_to_current_client", json!({"message": "m"}), &[3]).await;
        self.heard(1, "send_to_uid", json!({"uids": ["u0"], "message": "m"}), &[0, 3, 6]).await;
        self.heard(6, "send_to_uid", json!({"uids": ["u0", "u2"], "message": "m"}), &[0, 2, 3, 5, 6]).await;
        self.heard(7, "send_to_group", json!({"groups": ["g1"], "message": "m"}), &[1, 3, 5, 7]).await;
        // Clients 1 and 3 are in both.
        self.heard(4, "send_to_group", json!({"groups": ["g1", "h0"], "message": "m"}), &[0, 1, 2, 3, 5, 7])
            .await;
        let except = json!([self.id(0), self.id(7)]);
        self.heard(0, "send", json!({"to": "all", "except": except, "message": "m"}), &[1, 2, 3, 4, 5, 6])
            .await;
        let to = json!({"clients": [self.id(0), self.id(1), self.id(6), self.id(7), self.id(1)]});
        self.heard(3, "send", json!({"to": to, "except": except, "message": "m"}), &[1, 6]).await;
        let to = json!({"uids": ["u0", "u1", "nobody"]});
        self.heard(3, "send", json!({"to": to, "except": except, "message": "m"}), &[1, 3, 4, 6]).await;
        let to = json!({"groups": ["g0", "h1", "empty"]});
        self.heard(3, "send", json!({"to": to, "except": except, "message": "m"}), &[2, 4, 5, 6]).await;
        self.heard(3, "send", json!({"to": {"clients": []}, "message": "m"}), &[]).await;
        for n in 0..8 {
            self.done(n, "unbind_uid", json!({})).await;
            self.done(n, "leave_group", json!({"groups": [format!("g{}", n % 2), format!("h{}", n / 4)]}))
                .await;
        }
        self.done(0, "send_many", json!({"to": {"clients": []}, "count": 3, "bytes": 10})).await;
    }

    async fn uids_are_bound_found_and_unbound(&mut self) {
        // From a slot of the other worker, for clients of both gateways.
        for (n, uid) in [(0, "0"), (1, "ann"), (5, "ann"), (6, "bob")] {
            self.done(7 - n, "bind_uid", json!({"client": self.id(n), "uid": uid})).await;
        }
        for n in [0, 3, 4, 7] {
            assert_eq!(self.ask(n, "is_uid_online", json!({"uids": ["0"]})).await, true);
            assert_eq!(self.ask(n, "is_uid_online", json!({"uids": ["eve", "bob"]})).await, true);
            assert_eq!(self.ask(n, "is_uid_online", json!({"uids": ["eve"]})).await, false);
            let online = self.ask(n, "is_uids_online", json!({"uids": ["0", "ann", "eve"]})).await;
            assert_eq!(online, json!({"0": true, "ann": true, "eve": false}));
            let of_ann = self.ask(n, "get_client_id_by_uid", json!({"uids": ["ann"]})).await;
            assert_eq!(sorted(&of_ann), self.ids([1, 5]));
            let of_two = self.ask(n, "get_client_id_by_uid", json!({"uids": ["0", "ann"]})).await;
            assert_eq!(sorted(&of_two), self.ids([0, 1, 5]));
            let batch =
                self.ask(n, "batch_get_client_id_by_uid", json!({"uids": ["ann", "bob", "eve"]})).await;
            assert_eq!(sorted(&batch["ann"]), self.ids([1, 5]));
            assert_eq!((&batch["bob"], &batch["eve"]), (&json!([self.id(6)]), &json!([])));
            assert_eq!(self.ask(n, "get_uid_by_client_id", json!({"client": self.id(5)})).await, "ann");
            let none = self.ask(n, "get_uid_by_client_id", json!({"client": self.id(2)})).await;
            assert_eq!(none, Value::Null);
            assert_eq!(self.ask(n, "get_all_uid_list", json!({})).await, json!(["0", "ann", "bob"]));
            assert_eq!(self.ask(n, "get_all_uid_count", json!({})).await, 3);
        }
        // A new uid takes the place of the old one.
        self.done(2, "bind_uid", json!({"client": self.id(5), "uid": "eve"})).await;
        self.done(3, "unbind_uid", json!({"client": self.id(6)})).await;
        self.done(3, "unbind_uid", json!({"client": self.id(7)})).await;
        assert_eq!(self.ask(4, "get_all_uid_list", json!({})).await, json!(["0", "ann", "eve"]));
        for n in [0, 1, 5] {
            self.done(n, "unbind_uid", json!({})).await;
        }
        assert_eq!(self.ask(0, "get_all_uid_count", json!({})).await, 0);
    }

    async fn groups_are_joined_listed_and_left(&mut self) {
        self.done(0, "join_group", json!({"client": self.id(4), "groups": ["red", "blue"]})).await;
        self.done(7, "join_group", json!({"client": self.id(1), "groups": ["red"]})).await;
        self.done(5, "join_group", json!({"groups": ["blue", "0"]})).await;
        for (n, uid) in [(4, "ann"), (1, "ann"), (5, "bob")] {
            self.done(n, "bind_uid", json!({"uid": uid})).await;
        }
        for n in [0, 3, 4, 7] {
            assert_eq!(self.ask(n, "get_all_group_id_list", json!({})).await, json!(["0", "blue", "red"]));
            let uids = self.ask(n, "get_all_group_uid_list", json!({})).await;
            assert_eq!(uids, json!({"0": ["bob"], "blue": ["ann", "bob"], "red": ["ann"]}));
            let uids = self.ask(n, "get_all_group_uid_count", json!({})).await;
            assert_eq!(uids, json!({"0": 1, "blue": 2, "red": 1}));
            let clients = self.ask(n, "get_all_group_client_id_list", json!({})).await;
            assert_eq!(sorted(&clients["red"]), self.ids([1, 4]));
            assert_eq!(sorted(&clients["blue"]), self.ids([4, 5]));
            let clients = self.ask(n, "get_all_group_client_id_count", json!({})).await;
            assert_eq!(clients, json!({"0": 1, "blue": 2, "red": 2}));
            let red = json!({"groups": ["red"]});
            let both = json!({"groups": ["red", "blue", "empty"]});
            let of_red = self.ask(n, "get_client_id_list_by_group", red.clone()).await;
            assert_eq!(sorted(&of_red), self.ids([1, 4]));
            let of_both = self.ask(n, "get_client_id_list_by_group", both.clone()).await;
            assert_eq!(sorted(&of_both), self.ids([1, 4, 5]));
            assert_eq!(self.ask(n, "get_client_count_by_group", both.clone()).await, 3);
            assert_eq!(self.ask(n, "get_uid_list_by_group", both.clone()).await, json!(["ann", "bob"]));
            assert_eq!(self.ask(n, "get_uid_count_by_group", red).await, 1);
            let each = self.ask(n, "batch_get_client_id_count_by_group", both).await;
            assert_eq!(each, json!({"red": 2, "blue": 2, "empty": 0}));
        }
        self.done(2, "leave_group", json!({"client": self.id(4), "groups": ["red", "unknown"]})).await;
        self.done(3, "ungroup", json!({"groups": ["blue", "unknown"]})).await;
        assert_eq!(self.ask(6, "get_all_group_id_list", json!({})).await, json!(["0", "red"]));
        self.done(3, "ungroup", json!({"groups": ["red", "0"]})).await;
        assert_eq!(self.ask(6, "get_all_group_client_id_count", json!({})).await, json!({}));
        for n in [1, 4, 5] {
            self.done(n, "unbind_uid", json!({})).await;
        }
    }

    async fn sessions_are_written_and_read(&mut self) {
        for n in 0..8 {
            self.done(7 - n, "set_session", json!({"client": self.id(n), "session": {"n": n}})).await;
        }
        self.done(1, "update_session", json!({"client": self.id(6), "patch": {"more": [1]}})).await;
        self.done(6, "clear_session", json!({"client": self.id(1)})).await;
        for n in [0, 7] {
            self.done(n, "join_group", json!({"groups": ["pair"]})).await;
        }
        for n in [0, 3, 4, 7] {
            let session = self.ask(n, "get_session", json!({"client": self.id(6)})).await;
            assert_eq!(session, json!({"n": 6, "more": [1]}));
            assert_eq!(self.ask(n, "get_session", json!({"client": self.id(1)})).await, Value::Null);
            assert_eq!(self.ask(n, "session", json!({})).await, json!({"n": n}));
            let all = self.ask(n, "get_all_client_sessions", json!({})).await;
            assert_eq!(all.as_object().unwrap().len(), 8);
            assert_eq!((&all[self.id(1)], &all[self.id(5)]), (&Value::Null, &json!({"n": 5})));
            let pair = self.ask(n, "get_client_sessions_by_group", json!({"groups": ["pair"]})).await;
            assert_eq!(pair, json!({self.id(0): {"n": 0}, self.id(7): {"n": 7}}));
        }
        self.done(2, "ungroup", json!({"groups": ["pair"]})).await;
    }

    async fn audiences_are_counted_and_listed(&mut self) {
        self.done(0, "bind_uid", json!({"uid": "ann"})).await;
        self.done(6, "bind_uid", json!({"uid": "ann"})).await;
        self.done(6, "join_group", json!({"groups": ["b", "a"]})).await;
        let nobody = "00000000000000000001";
        for n in [1, 6] {
            assert_eq!(self.ask(n, "get_all_client_count", json!({})).await, 8);
            let all = self.ask(n, "get_all_client_id_list", json!({})).await;
            assert_eq!(sorted(&all), self.ids(0..8));
            assert!(
                sorted(&all)
                    .iter()
                    .all(|id| id.len() == 20 && !id.contains(|c: char| !c.is_ascii_hexdigit()))
            );
            let some = json!([self.id(3), nobody, self.id(4), self.id(4)]);
            let online = self.ask(n, "get_online_client_ids", json!({"clients": some})).await;
            assert_eq!(sorted(&online), self.ids([3, 4]));
            assert_eq!(self.ask(n, "is_online", json!({"client": self.id(4)})).await, true);
            assert_eq!(self.ask(n, "is_online", json!({"client": nobody})).await, false);

            for (of, clients) in [
                (json!("all"), (0..8).collect()),
                (json!({"clients": some}), vec![3, 4]),
                (json!({"uids": ["ann", "eve"]}), vec![0, 6]),
                (json!({"groups": ["a", "b"]}), vec![6]),
            ] {
                assert_eq!(self.ask(n, "count", json!({"of": of})).await, clients.len(), "{of}");
                let ids = self.ask(n, "client_ids", json!({"of": of})).await;
                assert_eq!(sorted(&ids), self.ids(clients), "{of}");
            }
            assert_eq!(self.ask(n, "count_uids", json!({"of": "all"})).await, 1);
            let uids = self.ask(n, "uids", json!({"of": {"clients": [self.id(0), self.id(6)]}})).await;
            assert_eq!(uids, json!(["ann"]));
            assert_eq!(self.ask(n, "groups", json!({"of": {"uids": ["ann"]}})).await, json!(["a", "b"]));
            let of = json!({"clients": [self.id(6)]});
            let fields = json!(["uid", "groups", "session"]);
            let mut info = self.ask(n, "select", json!({"of": of, "fields": fields})).await;
            assert_eq!(sorted(&info[0]["groups"].take()), ["a", "b"]);
            let rest =
                json!({"client": self.id(6), "uid": "ann", "groups": null, "session": {"n": 6, "more": [1]}});
            assert_eq!(info, json!([rest]));
            let info = self.ask(n, "select", json!({"of": of, "fields": []})).await;
            let rest = json!({"client": self.id(6), "uid": null, "groups": [], "session": null});
            assert_eq!(info, json!([rest]));
        }
    }

    async fn what_is_local_to_a_slot_answers(&mut self) {
        assert_eq!(self.ask(2, "remember", json!({"key": "k", "value": [1, {"a": 2}]})).await, Value::Null);
        assert_eq!(self.ask(2, "recall", json!({"key": "k"})).await, json!([1, {"a": 2}]));
        // Client 6 is bound to the same slot on the other gateway, client 3 is not.
        assert_eq!(self.ask(6, "recall", json!({"key": "k"})).await, json!([1, {"a": 2}]));
        assert_eq!(self.ask(3, "recall", json!({"key": "k"})).await, Value::Null);
        assert_eq!(self.ask(3, "instance", json!({})).await["slots"], 2);
        assert_eq!(self.ask(3, "addresses", json!({})).await["protocol"], "ws");
        assert_eq!(self.ask(3, "setting", json!({"key": "k"})).await, Value::Null);
        assert_eq!(self.ask(3, "settings", json!({})).await, json!({}));
        self.done(3, "set_timer", json!({"key": "k", "after_ms": 100_000})).await;
        self.done(3, "cancel_timer", json!({"key": "k"})).await;
        for level in ["error", "warn", "info", "debug", "trace"] {
            self.done(3, "log", json!({"level": level, "line": "a line"})).await;
        }
        self.called.insert("batch".into());
        let calls = json!([{"call": "instance", "tag": "in a batch"}]);
        self.clients[3].tell("batch", json!({ "calls": calls })).await;
        assert_eq!(self.clients[3].json_where(|v| v["tag"] == "in a batch").await["ok"], true);
    }

    /// Each closes one of the other gateway, so that few are left at the end.
    async fn clients_are_closed_and_dropped(&mut self) {
        let how = json!({"code": 4321, "reason": "the reason", "farewell": "bye"});
        let with = |clients: Value| {
            let mut how = how.clone();
            how["clients"] = clients;
            how
        };
        self.ask(0, "close_client_with", with(json!([self.id(7), "00000000000000000001"]))).await;
        assert_eq!(self.clients[7].text().await, "bye");
        assert_eq!(self.clients[7].closed().await, Some((4321, "the reason".into())));
        self.ask(5, "close_client", json!({"clients": [self.id(0)]})).await;
        assert_eq!(self.clients[0].closed().await, Some((1000, String::new())));
        self.ask(5, "destroy_client", json!({"clients": [self.id(1)]})).await;
        assert_eq!(self.clients[1].closed().await, None);
        self.called.insert("close_current_client".into());
        self.clients[2].tell("close_current_client", json!({})).await;
        assert_eq!(self.clients[2].closed().await, Some((1000, String::new())));
        self.called.insert("close_current_client_with".into());
        self.clients[3].tell("close_current_client_with", how.clone()).await;
        assert_eq!(self.clients[3].text().await, "bye");
        assert_eq!(self.clients[3].closed().await, Some((4321, "the reason".into())));
        self.called.insert("destroy_current_client".into());
        self.clients[4].tell("destroy_current_client", json!({})).await;
        assert_eq!(self.clients[4].closed().await, None);
        assert_eq!(sorted(&self.ask(5, "get_all_client_id_list", json!({})).await), self.ids([5, 6]));

        let mut more = [self.cluster.client(0).await, self.cluster.client(1).await];
        let to = json!({"to": "all", "except": [self.id(5), self.id(6)], "code": 3000, "farewell": "bye"});
        self.ask(5, "close", to).await;
        for client in &mut more {
            assert_eq!(client.text().await, "bye");
            assert_eq!(client.closed().await, Some((3000, String::new())));
        }
        self.ask(5, "destroy", json!({"to": {"uids": ["ann"]}, "except": [self.id(5)]})).await;
        assert_eq!(self.clients[6].closed().await, None);
        assert_eq!(self.ask(5, "get_all_client_id_list", json!({})).await, json!([self.id(5)]));
    }
}

/// The functions of `gateway::` that API.md names.
fn methods_of_the_document() -> BTreeSet<String> {
    let names = API.split("gateway::").skip(1).map(snake_case_at_the_start);
    let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 40, "API.md is not read any more: {names:?}");
    names
}

/// The calls that the fixture's documentation names.
fn calls_of_the_fixture() -> BTreeSet<String> {
    let rows = FIXTURE.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let names = rows.flat_map(|row| {
        let cell = row.split(" | ").next().unwrap_or_default();
        cell.split("`, `").map(snake_case_at_the_start).collect::<Vec<_>>()
    });
    let names: BTreeSet<String> = names.filter(|name| !FAULTS.contains(&&**name)).collect();
    assert_eq!(names.len(), 63, "the fixture's documentation is not read any more: {names:?}");
    names
}

fn snake_case_at_the_start(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
}
