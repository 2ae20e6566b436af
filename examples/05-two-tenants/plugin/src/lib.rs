//! A chat of one company, which can be told to attack the machine that it runs on.
//!
//! Two tenants run it, and only one has the setting `attacks = "allowed"`: so the page can show what an attack of one costs
//! the other.
//!
//! # The protocol
//! One JSON object per message: [`FromClient`] and [`ToClient`].

use std::hint::black_box;

use serde::{Deserialize, Serialize};
use tidegate::*;

/// How many bytes of what is said are passed on.
const TEXT_BYTES_MAX: usize = 500;
/// So many messages of a kilobyte a flood asks for, if nobody stops it.
const FLOOD: usize = 1_000_000;

/// The plugin. It remembers nothing.
#[derive(Default)]
pub struct CompanyChat;

/// What a client asks for.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromClient {
    /// To be answered at once, with the same number: the page measures how long that takes.
    Ping {
        /// The client's own number.
        number: u64,
    },
    /// Says something to everybody of the company.
    Say {
        /// At most 500 bytes; what is more is cut.
        text: String,
    },
    /// An attack, where the company's setting `attacks` is `allowed`.
    Attack {
        /// Which.
        how: Attack,
    },
}

/// What a plugin may come to do, by malice or by mistake. None of them returns.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attack {
    /// Runs for ever.
    Loop,
    /// Takes memory for ever.
    Memory,
    /// Calls itself for ever.
    Recursion,
    /// Panics.
    Panic,
    /// Sends a kilobyte to everybody a million times.
    Flood,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToClient<'a> {
    /// First of all.
    Welcome {
        /// Whose chat it is.
        company: &'a str,
    },
    /// The answer to a ping.
    Pong {
        /// Its number.
        number: u64,
    },
    /// Somebody said something.
    Said {
        /// What.
        text: &'a str,
    },
    /// What was wrong, for people to read.
    Error {
        /// See above.
        message: &'a str,
    },
}

#[tidegate::plugin]
impl Plugin for CompanyChat {
    fn on_connect(&mut self, client: Client) -> Result {
        let company = settings::get("company").unwrap_or_default();
        client.send_json(&ToClient::Welcome { company: &company });
        Ok(())
    }

    fn on_message(&mut self, client: Client, message: Message) -> Result {
        match message.json() {
            Ok(FromClient::Ping { number }) => client.send_json(&ToClient::Pong { number }),
            Ok(FromClient::Say { text }) => {
                let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
                gateway::all().send_json(&ToClient::Said { text });
            }
            Ok(FromClient::Attack { how }) if settings::get("attacks").as_deref() == Some("allowed") => {
                run(how)
            }
            Ok(FromClient::Attack { .. }) => {
                client.send_json(&ToClient::Error { message: "This company is not attacked." });
            }
            Err(error) => {
                client.send_json(&ToClient::Error { message: &format!("Not understood: {error}.") })
            }
        }
        Ok(())
    }
}

fn run(attack: Attack) {
    match attack {
        Attack::Loop => loop {
            black_box(());
        },
        Attack::Memory => {
            let mut taken = Vec::new();
            loop {
                taken.push(black_box(vec![1_u8; 1024 * 1024]));
            }
        }
        Attack::Recursion => {
            black_box(deeper(0));
        }
        #[expect(clippy::panic, reason = "the page asked for it")]
        Attack::Panic => panic!("the page asked for it"),
        Attack::Flood => {
            let text = "x".repeat(1024);
            for _ in 0..FLOOD {
                gateway::all().send_json(&ToClient::Said { text: &text });
            }
        }
    }
}

#[expect(unconditional_recursion, reason = "that is the attack")]
fn deeper(depth: u64) -> u64 {
    black_box(deeper(black_box(depth + 1))) + 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_reaches_everybody_and_a_ping_only_who_sent_it() {
        let mut gateway = testing::Setup::new().setting("company", "Acme").start::<CompanyChat>();
        let (ann, bob) = (gateway.connect(), gateway.connect());
        gateway.text(ann, r#"{"type":"say","text":"hello"}"#);
        gateway.text(ann, r#"{"type":"ping","number":7}"#);
        let welcome = json!({"type": "welcome", "company": "Acme"});
        let said = json!({"type": "said", "text": "hello"});
        assert_eq!(gateway.received_json(bob), [welcome.clone(), said.clone()]);
        assert_eq!(gateway.received_json(ann), [welcome, said, json!({"type": "pong", "number": 7})]);
    }

    #[test]
    fn a_company_that_allows_no_attacks_is_not_attacked() {
        let mut gateway = testing::start::<CompanyChat>();
        let ann = gateway.connect();
        gateway.text(ann, r#"{"type":"attack","how":"loop"}"#);
        assert_eq!(gateway.received_json(ann)[1]["type"], "error");
    }
}
