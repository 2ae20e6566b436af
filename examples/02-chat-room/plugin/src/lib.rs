//! A chat with names, rooms and who is online.
//!
//! Rooms are groups and a member's name and room are its session, so everything that the room needs is kept by the
//! gateways: any number of slots and workers serve one chat, and a crash of this plugin loses nothing.
//!
//! # The protocol
//! One JSON object per text message, over WebSocket or any other listener.
//!
//! | client to server | |
//! | --- | --- |
//! | `{"type":"join","name":"Ann","room":"lobby"}` | comes in; the room may be left out: `lobby` |
//! | `{"type":"say","text":"hi"}` | says something to the room |
//! | `{"type":"rename","name":"Anna"}` | has another name from now on |
//! | `{"type":"room","room":"garden"}` | goes to another room |
//! | `{"type":"who"}` | asks who is in the room |
//!
//! | server to client | |
//! | --- | --- |
//! | `{"type":"welcome","id":"…","rooms":["lobby",…]}` | first of all: the client's own id, and the rooms in order of name |
//! | `{"type":"joined","id":"…","name":"Ann","room":"lobby"}` | to the room, the newcomer included, who gets a `who` next |
//! | `{"type":"left","id":"…","name":"Ann","room":"lobby"}` | to those who stay |
//! | `{"type":"renamed","id":"…","name":"Anna","old":"Ann","room":"lobby"}` | to the room |
//! | `{"type":"said","id":"…","name":"Ann","text":"hi","time":1700000000000}` | to the room, the speaker included; milliseconds since 1970 |
//! | `{"type":"who","room":"lobby","members":[{"id":"…","name":"Ann"},…]}` | in order of name |
//! | `{"type":"error","message":"…"}` | to who asked: what was wrong, for people to read |
//!
//! Names have 1 to 24 characters, rooms 1 to 32, what is said 1 to 2,000; white space around them is taken off, control
//! characters are refused in names and rooms. Names need not be unique: ids are.

mod protocol;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tidegate::*;

use protocol::{Complaint, FromClient, Member, ToClient};

/// The room that is always there.
const LOBBY: &str = "lobby";

/// The plugin. It remembers nothing: see the crate's documentation.
#[derive(Default)]
pub struct ChatRoom;

/// What the session of a client who has come in holds.
#[derive(Serialize, Deserialize, Clone)]
struct Person {
    name: String,
    room: String,
}

#[tidegate::plugin]
impl Plugin for ChatRoom {
    fn on_connect(&mut self, client: Client) -> Result {
        let mut rooms: BTreeSet<_> =
            gateway::get_all_group_id_list().whatever_answered().into_iter().collect();
        rooms.insert(LOBBY.into());
        client.send_json(&ToClient::Welcome { id: client.id(), rooms });
        Ok(())
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let person = client.session::<Person>()?;
        let request = message.json().map_err(|error| Complaint(format!("Not understood: {error}.")));
        if let Err(Complaint(message)) = request.and_then(|request| serve(client, person, request)) {
            client.send_json(&ToClient::Error { message });
        }
        Ok(())
    }

    fn on_close(&mut self, client: Client, gone: CloseInfo) -> Result {
        if let Some(Person { name, room }) = gone.session.read()? {
            gateway::group(&room).send_json(&ToClient::Left { id: client.id(), name: &name, room: &room });
        }
        Ok(())
    }
}

fn serve(client: Client, person: Option<Person>, request: FromClient) -> Result<(), Complaint> {
    match (request, person) {
        (FromClient::Join { .. }, Some(_)) => Err(Complaint("You are in already.".into())),
        (FromClient::Join { name, room }, None) => {
            let room = protocol::room(room.as_deref().unwrap_or(LOBBY))?;
            enter(client, Person { name: protocol::name(&name)?, room });
            Ok(())
        }
        (_, None) => Err(Complaint("Join first: {\"type\":\"join\",\"name\":…}.".into())),
        (FromClient::Say { text }, Some(person)) => say(client, &person, &protocol::text(&text)?),
        (FromClient::Rename { name }, Some(person)) => {
            rename(client, &person, protocol::name(&name)?);
            Ok(())
        }
        (FromClient::Room { room }, Some(person)) => {
            let room = protocol::room(&room)?;
            if room == person.room {
                return Err(Complaint(format!("You are in {room} already.")));
            }
            leave(client, &person);
            enter(client, Person { room, ..person });
            Ok(())
        }
        (FromClient::Who, Some(person)) => {
            who(client, &person.room);
            Ok(())
        }
    }
}

fn enter(client: Client, person: Person) {
    client.set_session(&person);
    client.join_group(&person.room);
    gateway::group(&person.room).send_json(&ToClient::Joined {
        id: client.id(),
        name: &person.name,
        room: &person.room,
    });
    who(client, &person.room);
}

fn leave(client: Client, person: &Person) {
    client.leave_group(&person.room);
    gateway::group(&person.room).send_json(&ToClient::Left {
        id: client.id(),
        name: &person.name,
        room: &person.room,
    });
}

fn rename(client: Client, person: &Person, name: String) {
    client.set_session(&Person { name: name.clone(), room: person.room.clone() });
    gateway::group(&person.room).send_json(&ToClient::Renamed {
        id: client.id(),
        name: &name,
        old: &person.name,
        room: &person.room,
    });
}

fn say(client: Client, person: &Person, text: &str) -> Result<(), Complaint> {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Complaint("The server's clock is wrong.".into()))?;
    gateway::group(&person.room).send_json(&ToClient::Said {
        id: client.id(),
        name: &person.name,
        text,
        time: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(())
}

// Shows those whom it can see: a list without a gateway that is slow to answer is better than none.
fn who(client: Client, room: &str) {
    let found = gateway::group(room).select(Fields::SESSION).whatever_answered();
    let member = |info: ClientInfo| {
        let person: Person = info.session.read().ok()??;
        Some(Member { name: person.name, id: info.client })
    };
    let mut members: Vec<_> = found.into_iter().filter_map(member).collect();
    members.sort();
    client.send_json(&ToClient::Who { room, members });
}

#[cfg(test)]
mod tests;
