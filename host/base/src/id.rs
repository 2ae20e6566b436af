use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A gateway's number: 48 bits, drawn afresh at each start, so an id of an earlier start never means anybody again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GatewayId(u64);

impl GatewayId {
    /// How many bits a gateway id has.
    pub const BITS: u32 = 48;

    /// Takes the low 48 bits of `raw`.
    pub const fn new(raw: u64) -> Self {
        Self(raw & ((1 << Self::BITS) - 1))
    }

    /// The number, below 2^48.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl fmt::Debug for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A connected client: the gateway that holds it and the number of its connection there.
///
/// Shown as 20 lower-case hex digits: 12 for the gateway, 8 for the connection. Whoever holds an id can reach the
/// gateway without a look-up. It is a name and not a credential: every use checks the app.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId {
    /// The gateway that holds the connection.
    pub gateway: GatewayId,
    /// The connection's number on that gateway, from 1.
    pub connection: u32,
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08x}", self.gateway, self.connection)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClientId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != 20 || !text.bytes().all(hex) {
            return Err(InvalidId);
        }
        let (gateway, connection) = text.split_at(12);
        Ok(Self {
            gateway: GatewayId::new(u64::from_str_radix(gateway, 16).map_err(|_| InvalidId)?),
            connection: u32::from_str_radix(connection, 16).map_err(|_| InvalidId)?,
        })
    }
}

/// The text is not a client id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a client id has 20 lower-case hex digits")]
pub struct InvalidId;

/// An app's full name, `tenant/app`. Everything that a plugin can name lives inside one app.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(Box<str>);

impl AppName {
    /// The tenant of apps that name none.
    pub const DEFAULT_TENANT: &str = "default";

    /// An app of the default tenant (`chat`) or of a named one (`acme/chat`).
    ///
    /// # Errors
    /// Each part has 1 to 63 characters of `a-z`, `0-9` and `-`, and starts with a letter.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let (tenant, app) = name.split_once('/').unwrap_or((Self::DEFAULT_TENANT, name));
        check_label(tenant)?;
        check_label(app)?;
        Ok(Self(format!("{tenant}/{app}").into()))
    }

    /// `tenant/app`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        self.0.split_once('/').map_or("", |(tenant, _)| tenant)
    }

    /// The tenant, as a label.
    pub fn tenant_label(&self) -> Label {
        Label(self.tenant().into())
    }

    /// The app without its tenant.
    pub fn app(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, app)| app)
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AppName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.0.into()
    }
}

/// One label: the name of a tenant, or what a worker is marked with.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

impl Label {
    /// Checks a label.
    ///
    /// # Errors
    /// 1 to 63 characters of `a-z`, `0-9` and `-`, starting with a letter.
    pub fn new(label: &str) -> Result<Self, InvalidName> {
        check_label(label)?;
        Ok(Self(label.into()))
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Label {
    type Error = InvalidName;

    fn try_from(label: String) -> Result<Self, InvalidName> {
        Self::new(&label)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

/// A node's name: one label, unique in its cluster.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Box<str>);

impl NodeName {
    /// Checks a name.
    ///
    /// # Errors
    /// 1 to 63 characters of `a-z`, `0-9` and `-`, starting with a letter.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        check_label(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a label: every worker has its own.
    pub fn to_label(&self) -> Label {
        Label(self.0.clone())
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::new(&name)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.into()
    }
}

/// What a node, or the holder of a certificate, is in its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Knows who is in the cluster.
    Register,
    /// Holds clients.
    Gateway,
    /// Runs plugins.
    Worker,
    /// A person or program that steers the cluster.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Register, Self::Gateway, Self::Worker, Self::Operator];

    /// The name in certificates, settings and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| InvalidRole(text.chars().take(80).collect()))
    }
}

/// The text is not a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: use register, gateway, worker or operator")]
pub struct InvalidRole(String);

/// A name breaks the rule for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1 to 63 of a-z, 0-9 and -, starting with a letter")]
pub struct InvalidName(String);

fn check_label(label: &str) -> Result<(), InvalidName> {
    let fits = (1..=63).contains(&label.len())
        && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && label.starts_with(|c: char| c.is_ascii_lowercase());
    if fits { Ok(()) } else { Err(InvalidName(label.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_client_id_survives_its_text(gateway: u64, connection: u32) {
            let id = ClientId { gateway: GatewayId::new(gateway), connection };
            prop_assert_eq!(id.to_string().parse::<ClientId>(), Ok(id));
            prop_assert_eq!(id.to_string().len(), 20);
        }
    }

    #[test]
    fn upper_case_short_and_foreign_texts_are_no_client_ids() {
        for text in [
            "",
            "0123456789abcdef0123ff",
            "0123456789ABCDEF0123",
            "0123456789abcdef012 ",
            "+123456789abcdef0123",
        ] {
            assert_eq!(text.parse::<ClientId>(), Err(InvalidId), "{text}");
        }
    }

    #[test]
    fn app_names_get_the_default_tenant() {
        let app = AppName::new("chat").unwrap();
        assert_eq!((app.as_str(), app.tenant(), app.app()), ("default/chat", "default", "chat"));
        let of_acme = AppName::new("acme/chat").unwrap();
        assert_eq!((of_acme.tenant(), of_acme.tenant_label()), ("acme", Label::new("acme").unwrap()));
        for bad in ["", "/", "a/b/c", "Chat", "1chat", "a_b", "chat/"] {
            assert!(AppName::new(bad).is_err(), "{bad}");
        }
    }
}
