//! One counter for everybody. Version 2 of the code: it counts for each name, too.
//!
//! [`Game`] has another shape than version 1 left, so it has another schema, and `migrate` makes it out of the old one.
//!
//! # The protocol
//! One JSON object per message. A client sends `{"type":"name","name":"Ann"}` and `{"type":"click"}`; it gets
//! [`ToClient`].

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate::*;

/// What the page calls this code.
pub const CODE: &str = "v2";

/// How many characters of a name are kept.
const NAME_CHARS_MAX: usize = 24;

/// How many names are counted; a new one takes the place of the lowest.
const NAMES_MAX: usize = 100;

/// How many of them are shown.
const SHOWN: usize = 5;

/// The plugin.
#[derive(Default)]
pub struct Counter {
    game: Game,
    /// The number of the deployment that this instance belongs to.
    version: u32,
}

/// What outlives this version of the code.
#[derive(Serialize, Deserialize, Default)]
struct Game {
    total: u64,
    /// Clicks by name. New with schema 2.
    scores: BTreeMap<String, u64>,
}

impl State for Game {
    const SCHEMA: u32 = 2;

    fn migrate(old: Saved) -> Result<Self> {
        match old.schema() {
            // Version 1 did not keep who clicked: its clicks are in the total, and on nobody's account.
            1 => Ok(Self { total: old.read::<Schema1>()?.total, scores: BTreeMap::new() }),
            other => bail!("this code reads the schemas 1 and 2, not {other}"),
        }
    }
}

/// What version 1 left.
#[derive(Deserialize)]
struct Schema1 {
    total: u64,
}

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
        /// The names with the most clicks.
        scores: Vec<Score<'a>>,
    },
    /// To everybody: somebody clicked.
    Clicked {
        /// Who.
        name: &'a str,
        /// All clicks, with this one.
        total: u64,
        /// The number of the deployment that counted it.
        version: u32,
        /// The names with the most clicks.
        scores: Vec<Score<'a>>,
    },
    /// To who sent what is not understood.
    Error {
        /// What is wrong, for people to read.
        message: String,
    },
}

/// A line of the high-score list.
#[derive(Serialize)]
pub struct Score<'a> {
    name: &'a str,
    clicks: u64,
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
        self.game.count(&name);
        let (total, version, scores) = (self.game.total, self.version, self.game.highest());
        gateway::all().send_json(&ToClient::Clicked { name: &name, total, version, scores });
        Ok(())
    }

    fn now(&self) -> ToClient<'_> {
        let scores = self.game.highest();
        ToClient::Now { version: self.version, code: CODE, total: self.game.total, scores }
    }
}

impl Game {
    fn count(&mut self, name: &str) {
        self.total += 1;
        if self.scores.len() >= NAMES_MAX && !self.scores.contains_key(name) {
            let lowest = self.scores.iter().min_by_key(|(_, clicks)| **clicks).map(|(name, _)| name.clone());
            lowest.map(|name| self.scores.remove(&name));
        }
        *self.scores.entry(name.to_owned()).or_default() += 1;
    }

    fn highest(&self) -> Vec<Score<'_>> {
        let mut all: Vec<_> =
            self.scores.iter().map(|(name, clicks)| Score { name, clicks: *clicks }).collect();
        all.sort_by_key(|score| Reverse(score.clicks));
        all.truncate(SHOWN);
        all
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
    fn clicks_are_counted_for_each_name() {
        let mut gateway = testing::start::<Counter>();
        let (ann, bob) = (gateway.connect(), gateway.connect());
        gateway.text(ann, r#"{"type":"name","name":"Ann"}"#);
        [bob, ann, ann].into_iter().for_each(|client| gateway.text(client, CLICK));
        let last = gateway.received_json(bob).pop().unwrap_or_default();
        let scores = json!([{"name": "Ann", "clicks": 2}, {"name": "Somebody", "clicks": 1}]);
        assert_eq!((&last["total"], &last["scores"]), (&json!(3), &scores));
    }

    #[test]
    fn the_total_of_version_1_is_kept() {
        let game: Game = Saved::new(1, &7_u64).and_then(Saved::into_state).unwrap();
        assert_eq!((game.total, game.scores.len()), (7, 0));
        assert!(Saved::new(3, &7_u64).unwrap().into_state::<Game>().is_err());
    }

    #[test]
    fn the_list_is_bounded_and_the_lowest_goes() {
        let mut game = Game::default();
        (0..NAMES_MAX).for_each(|number| game.count(&format!("name {number}")));
        game.count("name 0");
        game.count("one more");
        assert_eq!((game.scores.len(), game.total), (NAMES_MAX, NAMES_MAX as u64 + 2));
        assert_eq!((game.scores["name 0"], game.scores["one more"]), (2, 1));
        assert_eq!((game.highest().len(), game.highest()[0].name), (SHOWN, "name 0"));
    }
}
