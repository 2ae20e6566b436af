//! The fake gateway swaps a plugin for its next version as a worker does.

use std::time::Duration;

use tidegate::serde::{Deserialize, Serialize};
use tidegate::testing::{self, FakeGateway};
use tidegate::*;

/// The first version: counts messages, and does what a message says.
#[derive(Default, Serialize, Deserialize)]
#[serde(crate = "tidegate::serde")]
struct First {
    said: u64,
    on_save: String,
    on_restore: String,
}

impl State for First {}

#[tidegate::plugin]
impl Plugin for First {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        self.said += 1;
        let text = message.to_string();
        match text.split_once(' ') {
            Some(("save", what)) => self.on_save = what.into(),
            Some(("restore", what)) => self.on_restore = what.into(),
            Some(("timer", key)) => timers::every(key, Duration::from_secs(10)),
            _ => client.send(format!("first {}", self.said)),
        }
        Ok(())
    }

    fn on_timer(&mut self, key: String) -> Result {
        gateway::send_to_all(format!("first {key}"));
        Ok(())
    }

    fn on_worker_stop(&mut self, reason: StopReason) -> Result {
        gateway::send_to_all(format!("first stops: {}", reason.as_str()));
        Ok(())
    }

    fn save(&self) -> Result<Saved> {
        match self.on_save.as_str() {
            "send" => gateway::send_to_all("from save"),
            "timer" => timers::set("late", Duration::from_secs(1)),
            "cancel" => timers::cancel("kept"),
            "ask" => drop(gateway::get_all_client_count()),
            "fail" => bail!("nothing to save"),
            "huge" => return Saved::new(1, &"x".repeat(17 << 20)),
            _ => {}
        }
        Saved::of(self)
    }

    fn restore(&mut self, saved: Saved) -> Result {
        *self = saved.into_state()?;
        Ok(())
    }
}

/// The second version: keeps the count only.
#[derive(Default, Serialize, Deserialize)]
#[serde(crate = "tidegate::serde")]
struct Second {
    count: u32,
}

impl State for Second {
    const SCHEMA: u32 = 2;

    fn migrate(old: Saved) -> Result<Self> {
        let old: First = old.into_state()?;
        match old.on_restore.as_str() {
            "ask" => drop(gateway::get_all_client_count()),
            "fail" => bail!("it does not fit"),
            _ => {}
        }
        Ok(Self { count: u32::try_from(old.said)? })
    }
}

#[tidegate::plugin]
impl Plugin for Second {
    fn on_worker_start(&mut self, start: StartInfo) -> Result {
        assert_eq!((start.version, start.reason), (2, StartReason::Swap));
        let online = gateway::get_all_client_count()?;
        gateway::send_to_all(format!("second starts with {online}"));
        timers::set("reset", Duration::from_secs(3));
        timers::cancel("gone");
        Ok(())
    }

    fn on_message(&mut self, client: Client, _: Message) -> Result {
        self.count += 1;
        client.send(format!("second {}", self.count));
        Ok(())
    }

    fn on_timer(&mut self, key: String) -> Result {
        gateway::send_to_all(format!("second {key}"));
        Ok(())
    }

    fn save(&self) -> Result<Saved> {
        Saved::of(self)
    }

    fn restore(&mut self, saved: Saved) -> Result {
        *self = saved.into_state()?;
        gateway::send_to_all(format!("second restored {}", self.count));
        Ok(())
    }
}

/// Another program altogether, without state and without timers.
#[derive(Default)]
struct Bare;

#[tidegate::plugin]
impl Plugin for Bare {
    fn on_message(&mut self, client: Client, _: Message) -> Result {
        client.send("bare");
        Ok(())
    }
}

fn first() -> (FakeGateway<First>, ClientId) {
    let mut gateway = testing::start::<First>();
    let client = gateway.connect();
    (gateway, client)
}

#[test]
fn state_timers_and_clients_go_on_in_the_next_version() {
    let (mut t, ann) = first();
    for text in ["timer kept", "timer reset", "timer gone", "hi"] {
        t.text(ann, text);
    }
    t.advance(Duration::from_secs(4));
    assert_eq!(t.received(ann), ["first 4"]);
    let mut t = t.swap::<Second>();
    // What it asked for while the first version still served comes after the switch, and before the first one stops.
    assert_eq!(t.received(ann), ["second starts with 1", "second restored 4", "first stops: swap"]);
    assert_eq!(t.timers(), ["kept", "reset"]);
    t.text(ann, "hi");
    t.advance(Duration::from_secs(6));
    // `reset` was set anew and is due after 3 s, once; `kept` had 6 of its 10 s left.
    assert_eq!(t.received(ann), ["second 5", "second reset", "second kept"]);
    assert_eq!(t.timers(), ["kept"]);
}

#[test]
fn a_swap_to_a_version_without_state_or_timers_starts_empty() {
    let (mut t, ann) = first();
    t.text(ann, "timer kept");
    let mut t = t.swap::<Bare>();
    t.text(ann, "hi");
    assert_eq!(t.received(ann), ["first stops: swap", "bare"]);
    assert!(t.timers().is_empty());
    let mut t = t.swap::<First>();
    t.text(ann, "hi");
    assert_eq!(t.received(ann), ["first 1"]);
}

#[test]
fn a_refused_swap_leaves_the_old_version_as_it_was() {
    for (message, says) in [
        ("save send", "must change nothing"),
        ("save timer", "must change nothing"),
        ("save cancel", "must change nothing"),
        ("save ask", "must not ask the gateways"),
        ("save fail", "nothing to save"),
        ("save huge", "at most 16777216 are allowed"),
        ("restore ask", "must not ask the gateways"),
        ("restore fail", "it does not fit"),
    ] {
        let (mut t, ann) = first();
        t.text(ann, "timer kept");
        t.text(ann, message);
        let refused = t.try_swap::<Second>().unwrap_err();
        assert!(refused.reason.contains(says), "{message}: {refused:?}");
        let mut t = refused.gateway;
        t.text(ann, "hi");
        assert_eq!(t.received(ann), ["first 3"], "{message}");
        assert_eq!(t.timers(), ["kept"]);
        t.text(ann, "timer works");
    }
}

#[test]
fn a_way_back_without_a_migration_is_refused_and_says_which_schema_is_missing() {
    let (t, _) = first();
    let refused = t.swap::<Second>().try_swap::<First>().unwrap_err();
    assert!(refused.reason.contains("schema 2"), "{refused:?}");
    assert!(refused.reason.contains("is schema 1: write State::migrate"), "{refused:?}");
}

#[test]
#[should_panic(expected = "the swap is refused: nothing to save")]
fn a_swap_that_must_succeed_fails_the_test_with_the_reason() {
    let (mut t, ann) = first();
    t.text(ann, "save fail");
    drop(t.swap::<Second>());
}
