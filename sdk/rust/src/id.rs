//! The name of a client.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest number of a gateway: ids have 48 bits for it.
const GATEWAY_MAX: u64 = (1 << 48) - 1;

/// A client, anywhere in the cluster.
///
/// An id is never given to somebody else: the gateway's number is fresh at every start of a gateway, the connection's
/// counts up within it. It works only inside its own app, so it is a name and not a credential. Its text form, also in
/// serde's text formats, is 20 lower-case hex digits: 12 of the gateway and 8 of the connection. Binary formats get the two numbers.
///
/// Everything that one client can be told or asked is a method, so an id kept in the plugin's memory is all that it
/// takes to reach it later. Commands to a client that is gone do nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    gateway: u64,
    connection: u32,
}

impl ClientId {
    /// The id of a gateway's number (48 bits) and a connection's; none if the gateway's number is larger.
    #[must_use]
    pub fn new(gateway: u64, connection: u32) -> Option<Self> {
        (gateway <= GATEWAY_MAX).then_some(Self { gateway, connection })
    }

    // What the host says is within its own range already.
    #[cfg(any(target_family = "wasm", test))]
    pub(crate) const fn trusted(gateway: u64, connection: u32) -> Self {
        Self { gateway, connection }
    }

    /// The number of the gateway that holds the connection.
    #[must_use]
    pub const fn gateway(self) -> u64 {
        self.gateway
    }

    /// The number of the connection within its gateway.
    #[must_use]
    pub const fn connection(self) -> u32 {
        self.connection
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}{:08x}", self.gateway, self.connection)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseClientIdError;

impl fmt::Display for ParseClientIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client id is 20 lower-case hex digits, as the one that a callback gets")
    }
}

impl std::error::Error for ParseClientIdError {}

impl FromStr for ClientId {
    type Err = ParseClientIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // One id has one text: no sign, no upper case, no other length.
        let well_formed = text.len() == 20 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (gateway, connection) =
            text.split_at_checked(12).filter(|_| well_formed).ok_or(ParseClientIdError)?;
        Ok(Self {
            gateway: u64::from_str_radix(gateway, 16).map_err(|_| ParseClientIdError)?,
            connection: u32::from_str_radix(connection, 16).map_err(|_| ParseClientIdError)?,
        })
    }
}

impl Serialize for ClientId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.gateway, self.connection).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ClientId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            let (gateway, connection) = Deserialize::deserialize(deserializer)?;
            Self::new(gateway, connection)
                .ok_or_else(|| serde::de::Error::custom("a gateway's number has 48 bits"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_text_of_an_id_leads_back_to_it(gateway in 0..=GATEWAY_MAX, connection: u32) {
            let id = ClientId::new(gateway, connection).unwrap();
            prop_assert_eq!(id.to_string().len(), 20);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(&json, &format!("\"{id}\""));
            prop_assert_eq!(serde_json::from_str::<ClientId>(&json).unwrap(), id);
        }

        #[test]
        fn any_text_parses_or_is_refused_and_never_panics(text in "\\PC{0,24}|[0-9a-fA-F+ ]{20}") {
            if let Ok(id) = text.parse::<ClientId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn the_text_is_the_gateway_then_the_connection() {
        let id = ClientId::new(0x7f00_0001_0b54, 1).unwrap();
        assert_eq!(id.to_string(), "7f0000010b5400000001");
        assert_eq!(ClientId::new(1 << 48, 1), None);
    }
}
