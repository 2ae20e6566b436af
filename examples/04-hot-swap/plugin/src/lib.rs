//! One counter for everybody. Version 1 of the code: it counts.
//!
//! What the counter holds is in `self`, and [`Game`] is the part of it that the next version gets: `save` hands it over,
//! `restore` takes it up, between two clicks. Nobody is disconnected, no click is lost.
//!
//! # The protocol
//! One JSON object per message. A client sends `{"type":"name","name":"Ann"}` and `{"type":"click"}`; it gets
//! [`ToClient`].

use serde::{Deserialize, Serialize};
use tidegate::*;

/// What the page calls this code.
pub const CODE: &str = "v1";

/// How many characters of a name are kept.
const NAME_CHARS_MAX: usize = 24;

/// The plugin.
#[derive(Default)]
pub struct Counter {
    game: Game,
    /// The number of the deployment that this instance belongs to.
    version: u32,
}

/// What outlives this version of the code. Another shape of it needs another `SCHEMA`: see version 2.
#[derive(Serialize, Deserialize, Default)]
struct Game {
    total: u64,
}

impl State for Game {}

/// What a client's session holds; the gateway keeps it, whatever code runs.
#[derive(Serialize, Deserialize)]
struct Player {
    name: String,
}

/// What a client asks for.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromClient {
    Name { name: String },
    Click,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToClient<'a> {
    /// How things are: to a new client, and to everybody when new code has taken over.
    Now {
        /// The number of the deployment.
        version: u32,
        /// What the code calls itself.
        code: &'a str,
        /// All clicks.
        total: u64,
    },
    /// To everybody: somebody clicked.
    Clicked {
        /// Who.
        name: &'a str,
        /// All clicks, with this one.
        total: u64,
        /// The number of the deployment that counted it.
        version: u32,
    },
    /// To who sent what is not understood.
    Error {
        /// What is wrong, for people to read.
        message: String,
    },
}

#[tidegate::plugin]
impl Plugin for Counter {
    fn on_worker_start(&mut self, start: StartInfo) -> Result {
        self.version = start.version;
        Ok(())
    }

    fn on_connect(&mut self, client: Client) -> Result {
        client.send_json(&self.now());
        Ok(())
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        match message.json() {
            Ok(FromClient::Name { name }) => client.set_session(&Player { name: tidy(&name) }),
            Ok(FromClient::Click) => self.click(client)?,
            Err(error) => client.send_json(&ToClient::Error { message: format!("Not understood: {error}.") }),
        }
        Ok(())
    }

    fn save(&self) -> Result<Saved> {
        Saved::of(&self.game)
    }

    fn restore(&mut self, saved: Saved) -> Result {
        self.game = saved.into_state()?;
        // Leaves when this code has taken over, before anything that it does afterwards.
        gateway::all().send_json(&self.now());
        Ok(())
    }
}

impl Counter {
    fn click(&mut self, client: Client) -> Result {
        let player: Option<Player> = client.session()?;
        let name = player.map_or_else(|| "Somebody".to_owned(), |player| player.name);
        self.game.total += 1;
        let (total, version) = (self.game.total, self.version);
        gateway::all().send_json(&ToClient::Clicked { name: &name, total, version });
        Ok(())
    }

    fn now(&self) -> ToClient<'static> {
        ToClient::Now { version: self.version, code: CODE, total: self.game.total }
    }
}

/// A name as it is shown: bounded, on one line, never empty.
fn tidy(name: &str) -> String {
    let shown: String = name.trim().chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    if shown.is_empty() { "Somebody".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLICK: &str = r#"{"type":"click"}"#;

    #[test]
    fn everybody_sees_who_clicks() {
        let mut gateway = testing::start::<Counter>();
        let (ann, bob) = (gateway.connect(), gateway.connect());
        gateway.text(ann, r#"{"type":"name","name":"  Ann\n "}"#);
        gateway.text(ann, CLICK);
        gateway.text(bob, CLICK);
        let clicked =
            |name: &str, total: u64| json!({"type": "clicked", "name": name, "total": total, "version": 1});
        let now = json!({"type": "now", "version": 1, "code": "v1", "total": 0});
        assert_eq!(gateway.received_json(bob), [now, clicked("Ann", 1), clicked("Somebody", 2)]);
    }

    #[test]
    fn the_count_goes_on_when_new_code_takes_over() {
        let mut gateway = testing::start::<Counter>();
        let ann = gateway.connect();
        gateway.text(ann, CLICK);
        gateway.received(ann);
        let mut gateway = gateway.swap::<Counter>();
        gateway.text(ann, CLICK);
        let news = gateway.received_json(ann);
        assert_eq!(news[0], json!({"type": "now", "version": 2, "code": "v1", "total": 1}));
        assert_eq!((&news[1]["total"], &news[1]["version"]), (&json!(2), &json!(2)));
    }

    #[test]
    fn what_is_not_understood_gets_an_error() {
        let mut gateway = testing::start::<Counter>();
        let ann = gateway.connect();
        gateway.text(ann, "click");
        assert_eq!(gateway.received_json(ann)[1]["type"], "error");
    }

    #[test]
    fn names_are_bounded_and_never_empty() {
        assert_eq!(tidy(&"é".repeat(30)), "é".repeat(24));
        assert_eq!(tidy(" \u{7} "), "Somebody");
    }
}
