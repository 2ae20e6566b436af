//! Values that check themselves while they are read, so that an error points at the very place in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use tidegate_base::{CpuShare, OnFailure, Protocol, Role, SlowPolicy};
use tidegate_bridge::Doors;
use tidegate_gateway::settings::{Origins, Route};
use tidegate_telemetry::{InvalidFilter, LogFilter};

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Within<MIN, MAX> {
    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    fn check(number: i128) -> Result<Self, String> {
        match u64::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{number} is out of range: write a whole number from {MIN} to {MAX}")),
        }
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Within<MIN, MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().map_err(|_| format!("write a whole number from {MIN} to {MAX}"))?;
        Self::check(number)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Within<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Number<MIN, MAX> {
            type Value = Within<MIN, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from {MIN} to {MAX}")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                Within::check(number.into()).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                Within::check(number.into()).map_err(E::custom)
            }
        }
        from.deserialize_any(Number)
    }
}

/// Milliseconds, up to a day.
pub type Millis = Within<1, 86_400_000>;
/// Bytes, up to 1 GiB.
pub type Bytes = Within<1, 0x4000_0000>;

/// Where an app's clients connect: `ws://127.0.0.1:7272`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(80).collect();
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            format!("`{shown}` names no protocol: write ws://IP:PORT, text://IP:PORT, frame://IP:PORT or tcp://IP:PORT")
        })?;
        let protocol = match scheme {
            "ws" => Protocol::Ws,
            "text" => Protocol::Text,
            "frame" => Protocol::Frame,
            "tcp" => Protocol::Tcp,
            "wss" => {
                return Err(
                    "TLS comes with a later version: listen on ws:// and put a TLS proxy before it".into()
                );
            }
            "http" | "https" => {
                return Err(format!(
                    "`{shown}`: pages are answered on the WebSocket port: write ws://, and name their folder in `web`"
                ));
            }
            other => {
                let other: String = other.chars().take(20).collect();
                return Err(format!("`{other}` is not a protocol: write ws, text, frame or tcp"));
            }
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        Ok(Self { protocol, address: address.parse::<Address>()?.0 })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme(self.protocol), self.address)
    }
}

/// The scheme of a protocol in addresses.
pub fn scheme(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Ws => "ws",
        Protocol::Text => "text",
        Protocol::Frame => "frame",
        Protocol::Tcp => "tcp",
    }
}

/// An IP address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            format!("`{shown}` is not an address: write IP:PORT, such as 127.0.0.1:7272 or [::1]:7272, not a host name")
        })
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq)]
pub struct Log(pub LogFilter);

impl FromStr for Log {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: InvalidFilter| error.to_string())
    }
}

/// Where PHP finds gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeDoors(pub Doors);

impl FromStr for BridgeDoors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: tidegate_bridge::InvalidDoors| error.to_string())
    }
}

/// A role of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeRole(pub Role);

impl FromStr for NodeRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Role>() {
            Ok(Role::Operator) => Err("an operator is not a node: use register, gateway or worker".into()),
            Ok(role) => Ok(Self(role)),
            Err(_) => {
                let shown: String = text.chars().take(40).collect();
                Err(format!("`{shown}` is not a role: use register, gateway or worker"))
            }
        }
    }
}

/// A label: the name of a node, a cluster or a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(pub tidegate_base::NodeName);

impl Label {
    /// The same for tenants and for what workers are marked with.
    pub fn get(&self) -> Result<tidegate_base::Label, String> {
        tidegate_base::Label::new(self.0.as_str()).map_err(|error| error.to_string())
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        tidegate_base::NodeName::new(text).map(Self).map_err(|error| error.to_string())
    }
}

/// What happens to messages for a slow client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow(pub SlowPolicy);

impl FromStr for Slow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(match text {
            "disconnect" => SlowPolicy::Disconnect,
            "drop-newest" => SlowPolicy::DropNewest,
            "drop-oldest" => SlowPolicy::DropOldest,
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(format!("`{shown}` is not a policy: use disconnect, drop-newest or drop-oldest"));
            }
        }))
    }
}

/// What becomes of a slot whose instances keep failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing(pub OnFailure);

impl FromStr for Failing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "restart" => Ok(Self(OnFailure::Restart)),
            "suspend" => Ok(Self(OnFailure::Suspend)),
            other => {
                let shown: String = other.chars().take(40).collect();
                Err(format!("`{shown}` is not what a slot can do: use restart or suspend"))
            }
        }
    }
}

/// How many cores an app may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(pub CpuShare);

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Cores;
        impl Visitor<'_> for Cores {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of cores such as 0.5")
            }

            fn visit_f64<E: de::Error>(self, cores: f64) -> Result<Share, E> {
                CpuShare::from_cores(cores).map(Share).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, cores: i64) -> Result<Share, E> {
                // What has more digits than fit is out of range in any case.
                #[expect(clippy::cast_precision_loss, reason = "see above")]
                self.visit_f64(cores as f64)
            }
        }
        from.deserialize_any(Cores)
    }
}

/// Which requests on shared ports are for an app: `chat.example.com`, `*.example.com/chat`, `*/chat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRoute(pub Route);

impl FromStr for AppRoute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: tidegate_gateway::settings::InvalidRoute| error.to_string())
    }
}

/// `sha256:` and 64 hex digits, a path of a `.wasm` file, or that of a folder with source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Plugin {
    /// A module by its name.
    Digest(tidegate_base::Digest),
    /// A component.
    Wasm(std::path::PathBuf),
    /// Source.
    Folder(std::path::PathBuf),
}

impl FromStr for Plugin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(digest) = text.strip_prefix("sha256:") {
            return digest.parse().map(Self::Digest).map_err(|error| error.to_string());
        }
        if text.is_empty() {
            return Err("it is empty: write the folder of a plugin, or the path of its .wasm file".into());
        }
        let is_wasm = std::path::Path::new(text).extension().is_some_and(|extension| extension == "wasm");
        Ok(if is_wasm { Self::Wasm(text.into()) } else { Self::Folder(text.into()) })
    }
}

macro_rules! read_from_text {
    ($($name:ty)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

read_from_text!(BridgeDoors Log Listen Address NodeRole Label Slow Failing AppRoute Plugin);

/// Which pages may open a WebSocket: `"same"`, `"any"` or a list of origins.
#[derive(Debug, Clone)]
pub struct AllowedOrigins(pub Origins);

impl<'de> Deserialize<'de> for AllowedOrigins {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = AllowedOrigins;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"same\", \"any\" or a list of origins such as [\"https://example.org\"]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                match text {
                    "same" => Ok(AllowedOrigins(Origins::Same)),
                    "any" => Ok(AllowedOrigins(Origins::Any)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut origins = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    origins.push(text.parse().map_err(de::Error::custom)?);
                }
                Ok(AllowedOrigins(Origins::List(origins)))
            }
        }
        from.deserialize_any(OneOrMany)
    }
}

/// What a plugin reads as settings; numbers and booleans are taken as their text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, SettingValue>);

/// One of a plugin's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingValue {
    /// As it stands in the settings file.
    Text(String),
    /// A secret: what is in this file.
    File(PathBuf),
    /// A secret: what is in this environment variable.
    Env(String),
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of strings, numbers and booleans")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Self::Value, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((key, value)) = table.next_entry::<String, SettingValue>()? {
                    all.insert(key, value);
                }
                Ok(Settings(all))
            }
        }
        from.deserialize_map(Table)
    }
}

impl<'de> Deserialize<'de> for SettingValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = SettingValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string, a number or a boolean (a plugin's settings are flat), or for a secret { file = \"PATH\" } \
                     or { env = \"NAME\" }",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SettingValue, E> {
                Ok(SettingValue::Text(text.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<SettingValue, E> {
                Ok(SettingValue::Text(number.to_string()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<SettingValue, E> {
                Ok(SettingValue::Text(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<SettingValue, E> {
                Ok(SettingValue::Text(number.to_string()))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<SettingValue, E> {
                Ok(SettingValue::Text(truth.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<SettingValue, A::Error> {
                let wrong = || de::Error::custom("write one of { file = \"PATH\" } and { env = \"NAME\" }");
                let value = match table.next_entry::<String, String>()? {
                    Some((key, path)) if key == "file" => SettingValue::File(path.into()),
                    Some((key, name)) if key == "env" => SettingValue::Env(name),
                    _ => return Err(wrong()),
                };
                match table.next_key::<String>()? {
                    None => Ok(value),
                    Some(_) => Err(wrong()),
                }
            }
        }
        from.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_protocol_has_its_scheme() {
        for protocol in [Protocol::Ws, Protocol::Text, Protocol::Frame, Protocol::Tcp] {
            let text = format!("{}://127.0.0.1:7272", scheme(protocol));
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.protocol, listen.to_string()), (protocol, text));
        }
        assert_eq!("ws://[::1]:0/".parse::<Listen>().unwrap().address, "[::1]:0".parse().unwrap());
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        for (text, says) in [
            ("127.0.0.1:7272", "names no protocol"),
            ("http://127.0.0.1:7272", "write ws://"),
            ("wss://127.0.0.1:7272", "TLS proxy"),
            ("udp://127.0.0.1:7272", "`udp` is not a protocol"),
            ("ws://localhost:7272", "not a host name"),
            ("ws://127.0.0.1", "IP:PORT"),
            ("ws://127.0.0.1:70000", "IP:PORT"),
        ] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_plugin_is_a_digest_a_file_or_a_folder() {
        let digest = tidegate_base::Digest::of(b"x");
        assert_eq!(format!("sha256:{digest}").parse(), Ok(Plugin::Digest(digest)));
        assert_eq!("a/b.wasm".parse(), Ok(Plugin::Wasm("a/b.wasm".into())));
        assert_eq!("a/b".parse(), Ok(Plugin::Folder("a/b".into())));
        assert!("sha256:12".parse::<Plugin>().unwrap_err().contains("64"));
        assert!("".parse::<Plugin>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_value_panic(text in ".{0,60}") {
            let _ = (text.parse::<Listen>(), text.parse::<Plugin>(), text.parse::<Label>());
            let _ = (text.parse::<Slow>(), text.parse::<NodeRole>(), text.parse::<Millis>());
            let _ = (text.parse::<Failing>(), text.parse::<AppRoute>());
        }

        #[test]
        fn numbers_keep_within_their_range(number: i64) {
            let read = number.to_string().parse::<Within<10, 1000>>().map(Within::get);
            prop_assert_eq!(read.ok(), u64::try_from(number).ok().filter(|n| (10..=1000).contains(n)));
        }
    }
}
