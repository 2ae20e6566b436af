//! The walk of the README: one game through three versions of the code.

#[path = "../../upgrades/v2/lib.rs"]
pub mod v2;
#[path = "../../upgrades/v3/lib.rs"]
pub mod v3;

use serde_json::{Value, json};
use tidegate::testing::{self, FakeGateway};
use tidegate::{ClientId, Plugin};

/// Clicks; what the client got since the last time.
fn click<P: Plugin>(gateway: &mut FakeGateway<P>, client: ClientId) -> Vec<Value> {
    gateway.text(client, r#"{"type":"click"}"#);
    gateway.received_json(client)
}

#[test]
fn one_game_goes_through_all_versions_and_its_players_stay() {
    if hot_swap::CODE != "v1" {
        return; // The walk has begun: `plugin/src/lib.rs` is another version by now.
    }
    let mut gateway = testing::start::<hot_swap::Counter>();
    let ann = gateway.connect();
    gateway.text(ann, r#"{"type":"name","name":"Ann"}"#);
    assert_eq!(click(&mut gateway, ann).last().unwrap()["total"], 1);

    let mut gateway = gateway.swap::<v2::Counter>();
    let got = click(&mut gateway, ann);
    assert_eq!(got[0], json!({"type": "now", "version": 2, "code": v2::CODE, "total": 1, "scores": []}));
    let scores = json!([{"name": "Ann", "clicks": 1}]);
    assert_eq!((&got[1]["total"], &got[1]["scores"], &got[1]["name"]), (&json!(2), &scores, &json!("Ann")));

    let mut gateway = gateway.swap::<v3::Counter>();
    let got = click(&mut gateway, ann);
    assert_eq!((&got[0]["code"], &got[0]["scores"]), (&json!(v3::CODE), &scores));
    assert_eq!((&got[1]["total"], &got[1]["version"]), (&json!(3), &json!(3)));
    assert!(gateway.is_open(ann));
}

#[test]
fn a_version_that_cannot_read_the_game_is_refused_and_the_game_goes_on() {
    let mut gateway = testing::start::<v3::Counter>();
    let ann = gateway.connect();
    click(&mut gateway, ann);
    let refused = gateway.try_swap::<v2::Counter>().err().unwrap();
    assert!(refused.reason.contains("schemas 1 and 2, not 3"), "{}", refused.reason);
    let mut gateway = refused.gateway;
    assert_eq!(click(&mut gateway, ann).last().unwrap()["total"], 2);
}
