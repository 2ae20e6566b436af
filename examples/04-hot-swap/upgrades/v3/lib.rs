//! One counter for everybody. Version 3 of the code: every 20 seconds there is a rush, in which a click counts double.
//!
//! Timers belong to the instance: `on_worker_start` sets the rule's own again, and what was under way (the end of a rush)
//! is carried over to the next version by itself.
//!
//! # The protocol
//! One JSON object per message. A client sends `{"type":"name","name":"Ann"}` and `{"type":"click"}`; it gets
//! [`ToClient`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::*;

/// What the page calls this code.
pub const CODE: &str = "v3";

/// The timer of the next rush, and how often there is one.
const RUSH: &str = "rush";
const RUSH_EVERY: Duration = Duration::from_secs(20);

/// The timer of a rush's end, and how long it lasts.
const CALM: &str = "calm";
const RUSH_LASTS: Duration = Duration::from_secs(6);

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
    /// Points by name. New with schema 2.
    scores: BTreeMap<String, u64>,
    /// Whether there is a rush: the next version must know, it gets the timer that ends it. New with schema 3.
    rush: bool,
}

impl State for Game {
    const SCHEMA: u32 = 3;

    fn migrate(old: Saved) -> Result<Self> {
        match old.schema() {
            1 => Ok(Self { total: old.read::<Schema1>()?.total, ..Self::default() }),
            2 => {
                let Schema2 { total, scores } = old.read()?;
                Ok(Self { total, scores, rush: false })
            }
            other => bail!("this code reads the schemas 1 to 3, not {other}"),
        }
    }
}

/// What version 1 left.
#[derive(Deserialize)]
struct Schema1 {
    total: u64,
}

/// What version 2 left.
#[derive(Deserialize)]
struct Schema2 {
    total: u64,
    scores: BTreeMap<String, u64>,
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
        /// All points.
        total: u64,
        /// The names with the most points.
        scores: Vec<Score<'a>>,
        /// Whether there is a rush.
        rush: bool,
    },
    /// To everybody: a rush begins or ends.
    Rush {
        /// Whether it begins.
        rush: bool,
        /// How many seconds it lasts.
        seconds: u64,
    },
    /// To everybody: somebody clicked.
    Clicked {
        /// Who.
        name: &'a str,
        /// For how many points.
        points: u64,
        /// All points, with these.
        total: u64,
        /// The number of the deployment that counted it.
        version: u32,
        /// The names with the most points.
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
        timers::every(RUSH, RUSH_EVERY);
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

    fn on_timer(&mut self, key: String) -> Result {
        self.game.rush = key == RUSH;
        if self.game.rush {
            timers::set(CALM, RUSH_LASTS);
        }
        let (rush, seconds) = (self.game.rush, RUSH_LASTS.as_secs());
        gateway::all().send_json(&ToClient::Rush { rush, seconds });
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
        let points = self.game.count(&name);
        let (total, version, scores) = (self.game.total, self.version, self.game.highest());
        gateway::all().send_json(&ToClient::Clicked { name: &name, points, total, version, scores });
        Ok(())
    }

    fn now(&self) -> ToClient<'_> {
        let Game { total, rush, .. } = self.game;
        ToClient::Now { version: self.version, code: CODE, total, scores: self.game.highest(), rush }
    }
}

impl Game {
    /// Counts a click; the points that it was worth.
    fn count(&mut self, name: &str) -> u64 {
        let points = if self.rush { 2 } else { 1 };
        self.total += points;
        if self.scores.len() >= NAMES_MAX && !self.scores.contains_key(name) {
            let lowest = self.scores.iter().min_by_key(|(_, clicks)| **clicks).map(|(name, _)| name.clone());
            lowest.map(|name| self.scores.remove(&name));
        }
        *self.scores.entry(name.to_owned()).or_default() += points;
        points
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
    fn a_click_in_a_rush_counts_double() {
        let mut gateway = testing::start::<Counter>();
        let ann = gateway.connect();
        gateway.text(ann, CLICK);
        gateway.received(ann);
        gateway.advance(RUSH_EVERY);
        gateway.text(ann, CLICK);
        gateway.advance(RUSH_LASTS);
        gateway.text(ann, CLICK);
        let got = gateway.received_json(ann);
        let what: Vec<_> = got.iter().map(|m| (&m["type"], &m["rush"], &m["points"], &m["total"])).collect();
        let (null, rush, clicked) = (json!(null), json!("rush"), json!("clicked"));
        let wanted = [
            (&rush, &json!(true), &null, &null),
            (&clicked, &null, &json!(2), &json!(3)),
            (&rush, &json!(false), &null, &null),
            (&clicked, &null, &json!(1), &json!(4)),
        ];
        assert_eq!(what, wanted);
    }

    #[test]
    fn a_rush_goes_on_in_the_next_version_and_ends_on_time() {
        let mut gateway = testing::start::<Counter>();
        let ann = gateway.connect();
        gateway.advance(RUSH_EVERY + RUSH_LASTS / 2);
        gateway.received(ann);
        let mut gateway = gateway.swap::<Counter>();
        gateway.advance(RUSH_LASTS / 2);
        let got = gateway.received_json(ann);
        assert_eq!((&got[0]["type"], &got[0]["rush"]), (&json!("now"), &json!(true)));
        assert_eq!((&got[1]["type"], &got[1]["rush"]), (&json!("rush"), &json!(false)));
    }

    #[test]
    fn the_games_of_versions_1_and_2_are_kept() {
        let game: Game = Saved::new(1, &7_u64).and_then(Saved::into_state).unwrap();
        assert_eq!((game.total, game.scores.len(), game.rush), (7, 0, false));
        let scores = BTreeMap::from([("Ann".to_owned(), 4_u64)]);
        let game: Game = Saved::new(2, &(9_u64, &scores)).and_then(Saved::into_state).unwrap();
        assert_eq!((game.total, game.scores, game.rush), (9, scores, false));
        assert!(Saved::new(4, &7_u64).unwrap().into_state::<Game>().is_err());
    }
}
