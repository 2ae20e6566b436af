//! Three places for state, and how long each lasts.
//!
//! | where | who sees it | how long |
//! | --- | --- | --- |
//! | `self` | this slot | until the instance ends: a panic or an endless loop costs it |
//! | timers | this slot | the same; `on_worker_start` sets them again |
//! | the session | every slot that meets the client | as long as the client is connected |
//!
//! A client sends the text `visit`, which counts in both places, or `crash`, which panics: what the slot has counted is
//! lost then, what the session has counted is not. Every second each slot tells everybody what it has counted. What the
//! plugin sends is JSON, one object per message: `hello`, `visited`, `tick` and `error` ([`ToClient`]).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate::*;

/// The key of the timer.
const TICK: &str = "tick";

/// The plugin: one value per slot, made when its instance starts.
#[derive(Default)]
pub struct State {
    worker: String,
    slot: u32,
    restarted: bool,
    ticks: u64,
    visits: u64,
}

/// What a client's session holds. New fields need `#[serde(default)]`: sessions outlive the version of the plugin that
/// wrote them.
#[derive(Serialize, Deserialize, Default)]
struct Visitor {
    visits: u64,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToClient<'a> {
    /// First of all: the client's id, and the slot that it is bound to.
    Hello {
        /// The client.
        id: ClientId,
        /// The slot's worker.
        worker: &'a str,
        /// The slot's number there.
        slot: u32,
    },
    /// The answer to `visit`.
    Visited {
        /// The visits of this client, out of its session.
        yours: u64,
        /// The visits of all clients since this instance of the plugin started, out of its memory.
        here: u64,
    },
    /// Every second from every slot.
    Tick {
        /// The slot's worker.
        worker: &'a str,
        /// The slot's number there.
        slot: u32,
        /// Whether this instance took the place of one that crashed.
        restarted: bool,
        /// The seconds since it started, as its timer counts them.
        ticks: u64,
        /// The visits since it started.
        visits: u64,
    },
    /// The text was none of those that this plugin knows.
    Error {
        /// What was wrong, for people to read.
        message: &'a str,
    },
}

#[tidegate::plugin]
impl Plugin for State {
    fn on_worker_start(&mut self, start: StartInfo) -> Result {
        self.restarted = start.reason == StartReason::Restart;
        self.worker = start.worker;
        self.slot = start.slot;
        timers::every(TICK, Duration::from_secs(1));
        Ok(())
    }

    fn on_connect(&mut self, client: Client) -> Result {
        client.send_json(&ToClient::Hello { id: client.id(), worker: &self.worker, slot: self.slot });
        Ok(())
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        match message.as_text() {
            Some("visit") => self.visit(client)?,
            Some("crash") => crash(),
            _ => client.send_json(&ToClient::Error { message: "Send `visit` or `crash`." }),
        }
        Ok(())
    }

    fn on_close(&mut self, client: Client, gone: CloseInfo) -> Result {
        // The client is gone, its last session came along with the news.
        let visitor: Visitor = gone.session.read()?.unwrap_or_default();
        info!("{client} came {} times", visitor.visits);
        Ok(())
    }

    fn on_timer(&mut self, _key: String) -> Result {
        self.ticks += 1;
        gateway::all().send_json(&ToClient::Tick {
            worker: &self.worker,
            slot: self.slot,
            restarted: self.restarted,
            ticks: self.ticks,
            visits: self.visits,
        });
        Ok(())
    }
}

impl State {
    fn visit(&mut self, client: Client) -> Result {
        let mut visitor: Visitor = client.session()?.unwrap_or_default();
        visitor.visits += 1;
        self.visits += 1;
        client.set_session(&visitor);
        client.send_json(&ToClient::Visited { yours: visitor.visits, here: self.visits });
        Ok(())
    }
}

#[expect(
    clippy::panic,
    reason = "the example shows what a panic costs: this slot's memory, and nothing else"
)]
fn crash() {
    panic!("a client asked for it");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_visit_counts_in_the_session_and_in_the_slot() {
        let mut gateway = testing::start::<State>();
        let (ann, bob) = (gateway.connect(), gateway.connect());
        gateway.text(ann, "visit");
        gateway.text(bob, "visit");
        gateway.text(ann, "visit");
        let hello = json!({"type": "hello", "id": ann, "worker": "test", "slot": 0});
        let visited = |yours: u64, here: u64| json!({"type": "visited", "yours": yours, "here": here});
        assert_eq!(gateway.received_json(ann), [hello, visited(1, 1), visited(2, 3)]);
        assert_eq!(gateway.received_json(bob).last(), Some(&visited(1, 2)));
        assert_eq!(gateway.session(ann), json!({"visits": 2}));
    }

    #[test]
    fn every_second_everybody_hears_of_the_slot() {
        let mut gateway = testing::start::<State>();
        let ann = gateway.connect();
        gateway.received(ann);
        gateway.advance(Duration::from_millis(2_500));
        let tick = |ticks: u64| json!({"type": "tick", "worker": "test", "slot": 0, "restarted": false, "ticks": ticks, "visits": 0});
        assert_eq!(gateway.received_json(ann), [tick(1), tick(2)]);
    }

    #[test]
    fn a_fresh_instance_after_a_crash_says_so() {
        let start =
            StartInfo { slot: 1, slots: 2, worker: "w".into(), version: 1, reason: StartReason::Restart };
        let mut gateway = testing::Setup::new().start_info(start).start::<State>();
        let ann = gateway.connect();
        gateway.advance(Duration::from_secs(1));
        let tick = gateway.received_json(ann).pop().unwrap_or_default();
        assert_eq!((&tick["restarted"], &tick["slot"]), (&json!(true), &json!(1)));
    }

    #[test]
    fn the_log_has_how_often_a_client_came() {
        let mut gateway = testing::start::<State>();
        let ann = gateway.connect();
        gateway.text(ann, "visit");
        gateway.close(ann);
        assert_eq!(gateway.log(), [(log::Level::Info, format!("{ann} came 1 times"))]);
    }

    #[test]
    fn other_messages_get_an_error() {
        let mut gateway = testing::start::<State>();
        let ann = gateway.connect();
        gateway.received(ann);
        gateway.binary(ann, *b"visit");
        gateway.text(ann, "visits");
        let error = json!({"type": "error", "message": "Send `visit` or `crash`."});
        assert_eq!(gateway.received_json(ann), [error.clone(), error]);
    }
}
