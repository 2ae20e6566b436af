//! The devices of a shop's customers: each logs in with a ticket of the shop, and then hears what the shop pushes.
//!
//! A ticket is `USER.EXPIRES.SIGNATURE`: who, until when in seconds since 1970, and the HMAC-SHA256 of `USER.EXPIRES` in hex,
//! made by the shop, which knows its users, with the secret that it shares with this plugin (`secret` in `[app.settings]`).
//! So nobody has to ask the shop when a device comes back. A user is 1 to 64 letters, digits, `-` and `_`.
//!
//! | | one JSON object per text message |
//! | --- | --- |
//! | client to server | `{"type":"login","ticket":"…"}` |
//! | server to client | `{"type":"welcome","user":"ann"}`: its uid is `ann` from now on; or `{"type":"error","message":"…"}` |
//! | pushed by the shop | whatever it sends to the uid; `shop.py` sends `{"type":"parcel","text":"…","order":1}` |

use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tidegate::*;

const USER_BYTES_MAX: usize = 64;

/// The plugin. It remembers nothing: the gateways know who is bound to which uid.
#[derive(Default)]
pub struct Push;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromClient {
    Login { ticket: String },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ToClient<'a> {
    Welcome { user: &'a str },
    Error { message: &'a str },
}

#[tidegate::plugin]
impl Plugin for Push {
    fn on_message(&mut self, client: Client, message: Message) -> Result {
        let Ok(FromClient::Login { ticket }) = message.json() else {
            client.send_json(&ToClient::Error { message: "Not understood: log in with a ticket." });
            return Ok(());
        };
        let Some(secret) = settings::get("secret") else {
            bail!("`secret` is not set: name it in [app.settings]");
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        match user_of(&ticket, secret.as_bytes(), now) {
            Some(user) => {
                client.bind_uid(user);
                client.send_json(&ToClient::Welcome { user });
            }
            None => {
                client.send_json(&ToClient::Error { message: "The ticket does not hold: get another one." })
            }
        }
        Ok(())
    }
}

/// Whose ticket this is, if the shop made it and it still holds.
fn user_of<'t>(ticket: &'t str, secret: &[u8], now: u64) -> Option<&'t str> {
    let (signed, signature) = ticket.rsplit_once('.')?;
    let (user, expires) = signed.split_once('.')?;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(signed.as_bytes());
    // Compares in a time that says nothing about how much of it is right.
    mac.verify_slice(&bytes_of(signature)?).ok()?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let named = (1..=USER_BYTES_MAX).contains(&user.len()) && user.bytes().all(is_name);
    (named && now < expires.parse().ok()?).then_some(user)
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| (*digit as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| if let [a, b] = pair { Some(digit(a)? << 4 | digit(b)?) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // By `shop.py`: ticket("ann", 4102444800), and the same until 1970.
    const TICKET: &str = "ann.4102444800.850b003374a3d6bf709ca52b8f1e23440ca7589408c806617e2843f7ca0950dc";
    const EXPIRED: &str = "ann.1.9f7839700f451aa5fc22d7479eabcb4d23afa9fbd394c321d8260e3862dd7be1";

    fn started() -> testing::FakeGateway<Push> {
        testing::Setup::new().setting("secret", "s").start()
    }

    fn login(gateway: &mut testing::FakeGateway<Push>, ticket: &str) -> (ClientId, String) {
        let client = gateway.connect();
        gateway.text(client, format!(r#"{{"type":"login","ticket":"{ticket}"}}"#));
        let kind = gateway.received_json(client)[0]["type"].as_str().unwrap_or_default().to_owned();
        (client, kind)
    }

    #[test]
    fn who_has_a_ticket_of_the_shop_is_bound_to_its_user() {
        let mut gateway = started();
        let (ann, kind) = login(&mut gateway, TICKET);
        assert_eq!((gateway.uid(ann), &*kind), (Some("ann"), "welcome"));
    }

    #[test]
    fn a_ticket_that_is_changed_expired_or_none_binds_nobody() {
        let mut gateway = started();
        let longer = TICKET.replace("4102444800", "4102444801");
        let other = TICKET.replace("ann", "bob");
        let cut = &TICKET[..TICKET.len() - 1];
        for ticket in [&longer, &other, cut, &TICKET[..TICKET.len() - 64], EXPIRED, "", ".", "..", "ann"] {
            let (client, kind) = login(&mut gateway, ticket);
            assert_eq!((gateway.uid(client), &*kind), (None, "error"), "{ticket}");
        }
    }

    #[test]
    fn nonsense_is_told_so() {
        let mut gateway = started();
        let client = gateway.connect();
        gateway.text(client, "hello");
        assert_eq!(gateway.received_json(client)[0]["type"], "error");
        assert!(gateway.is_open(client));
    }
}
