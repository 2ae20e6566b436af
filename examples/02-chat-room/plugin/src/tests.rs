use serde_json::{Value, json};
use tidegate::testing::{self, FakeGateway};
use tidegate::{ClientId, CloseReason};

use super::ChatRoom;

fn chat() -> FakeGateway<ChatRoom> {
    testing::start()
}

fn say(chat: &mut FakeGateway<ChatRoom>, client: ClientId, message: Value) {
    chat.text(client, message.to_string());
}

/// A client who has come in and read what it got.
fn comer(chat: &mut FakeGateway<ChatRoom>, name: &str) -> ClientId {
    let id = chat.connect();
    say(chat, id, json!({"type": "join", "name": name}));
    chat.received(id);
    id
}

#[test]
fn a_newcomer_is_welcomed_told_to_the_room_and_sees_who_is_there() {
    let mut chat = chat();
    let ann = comer(&mut chat, "Ann");
    let bob = chat.connect();
    assert_eq!(chat.received_json(bob), [json!({"type": "welcome", "id": bob, "rooms": ["lobby"]})]);
    say(&mut chat, bob, json!({"type": "join", "name": " Bob ", "room": "lobby"}));
    let joined = json!({"type": "joined", "id": bob, "name": "Bob", "room": "lobby"});
    let members = json!([{"id": ann, "name": "Ann"}, {"id": bob, "name": "Bob"}]);
    assert_eq!(chat.received_json(ann), std::slice::from_ref(&joined));
    assert_eq!(
        chat.received_json(bob),
        [joined, json!({"type": "who", "room": "lobby", "members": members})]
    );
}

#[test]
fn what_is_said_reaches_the_room_and_no_other() {
    let mut chat = chat();
    let [ann, bob] = ["Ann", "Bob"].map(|name| comer(&mut chat, name));
    let eve = chat.connect();
    say(&mut chat, eve, json!({"type": "join", "name": "Eve", "room": "garden"}));
    [ann, bob, eve].iter().for_each(|id| drop(chat.received(*id)));
    say(&mut chat, ann, json!({"type": "say", "text": " hi "}));
    for id in [ann, bob] {
        let said = chat.received_json(id);
        assert_eq!(said.len(), 1);
        assert_eq!((&said[0]["type"], &said[0]["id"]), (&json!("said"), &json!(ann)));
        assert_eq!((&said[0]["name"], &said[0]["text"]), (&json!("Ann"), &json!("hi")));
        assert!(said[0]["time"].as_u64().unwrap() > 1_600_000_000_000);
    }
    assert!(chat.received(eve).is_empty());
}

#[test]
fn changing_rooms_leaves_the_one_and_joins_the_other() {
    let mut chat = chat();
    let [ann, bob] = ["Ann", "Bob"].map(|name| comer(&mut chat, name));
    chat.received(ann);
    say(&mut chat, bob, json!({"type": "room", "room": "garden"}));
    assert_eq!(chat.received_json(ann), [json!({"type": "left", "id": bob, "name": "Bob", "room": "lobby"})]);
    assert_eq!(chat.groups(bob), ["garden"]);
    let who = json!({"type": "who", "room": "garden", "members": [{"id": bob, "name": "Bob"}]});
    assert_eq!(chat.received_json(bob).last(), Some(&who));
    let eve = chat.connect();
    assert_eq!(chat.received_json(eve)[0]["rooms"], json!(["garden", "lobby"]));
}

#[test]
fn a_new_name_is_told_and_kept() {
    let mut chat = chat();
    let ann = comer(&mut chat, "Ann");
    say(&mut chat, ann, json!({"type": "rename", "name": "Anna"}));
    say(&mut chat, ann, json!({"type": "who"}));
    let expected = [
        json!({"type": "renamed", "id": ann, "name": "Anna", "old": "Ann", "room": "lobby"}),
        json!({"type": "who", "room": "lobby", "members": [{"id": ann, "name": "Anna"}]}),
    ];
    assert_eq!(chat.received_json(ann), expected);
}

#[test]
fn who_goes_is_told_to_those_who_stay_and_a_stranger_is_not() {
    let mut chat = chat();
    let [ann, bob] = ["Ann", "Bob"].map(|name| comer(&mut chat, name));
    chat.received(ann);
    chat.lose(bob, CloseReason::Network);
    let stranger = chat.connect();
    chat.close(stranger);
    assert_eq!(chat.received_json(ann), [json!({"type": "left", "id": bob, "name": "Bob", "room": "lobby"})]);
}

#[test]
fn wrong_requests_get_an_error_and_change_nothing() {
    let mut chat = chat();
    let ann = chat.connect();
    chat.received(ann);
    chat.text(ann, "no json");
    chat.binary(ann, [0xff]);
    say(&mut chat, ann, json!({"type": "dance"}));
    say(&mut chat, ann, json!({"type": "say", "text": "too early"}));
    say(&mut chat, ann, json!({"type": "join", "name": ""}));
    assert_eq!(chat.session(ann), Value::Null);
    say(&mut chat, ann, json!({"type": "join", "name": "Ann"}));
    chat.received_json(ann).iter().take(5).for_each(|answer| assert_eq!(answer["type"], "error"));
    say(&mut chat, ann, json!({"type": "join", "name": "Ann"}));
    say(&mut chat, ann, json!({"type": "room", "room": "lobby"}));
    say(&mut chat, ann, json!({"type": "say", "text": "x".repeat(2_001)}));
    let answers = chat.received_json(ann);
    assert!(answers.len() == 3 && answers.iter().all(|answer| answer["type"] == "error"), "{answers:?}");
}
