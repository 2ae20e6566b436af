//! Tokens of the HTTP API: what they look like, and what they let their holder do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{AppName, Digest, InvalidName, Label, Secret};

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenRole {
    /// Speak to the clients of apps, and ask about them.
    Push,
    /// Deploy versions of apps.
    Deploy,
    /// All of it.
    Admin,
}

impl TokenRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Push, Self::Deploy, Self::Admin];

    /// The name in requests and settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    /// Whether a token of this role may do what needs that one.
    pub fn allows(self, needed: Self) -> bool {
        self == needed || self == Self::Admin
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenRole {
    type Err = InvalidTokenRole;

    fn from_str(text: &str) -> Result<Self, InvalidTokenRole> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| InvalidTokenRole(text.chars().take(80).collect()))
    }
}

/// The text is no role of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the role of a token: it is push, deploy or admin")]
pub struct InvalidTokenRole(String);

/// Whose apps a token is for. In texts and in JSON: the tenant's name, or `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TokenTenant {
    /// Those of every tenant, also of tenants to come: it is an operator's.
    Every,
    /// Those of this one.
    One(Label),
}

impl TokenTenant {
    /// Whether it stands for this tenant too.
    pub fn covers(&self, tenant: &str) -> bool {
        match self {
            Self::Every => true,
            Self::One(own) => own.as_str() == tenant,
        }
    }

    /// Whether it is just this tenant.
    pub fn is(&self, tenant: &Label) -> bool {
        matches!(self, Self::One(own) if own == tenant)
    }
}

impl From<Label> for TokenTenant {
    fn from(tenant: Label) -> Self {
        Self::One(tenant)
    }
}

impl FromStr for TokenTenant {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "*" => Ok(Self::Every),
            name => Label::new(name).map(Self::One),
        }
    }
}

impl TryFrom<String> for TokenTenant {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<TokenTenant> for String {
    fn from(tenant: TokenTenant) -> Self {
        tenant.to_string()
    }
}

impl fmt::Display for TokenTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::One(tenant) => tenant.fmt(f),
        }
    }
}

/// A token as everybody may see it: without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name: 12 hex digits, the beginning of the digest of its secret.
    pub id: String,
    /// Whose apps it is for.
    pub tenant: TokenTenant,
    /// What it is for.
    pub role: TokenRole,
    /// The apps that it is for, all of the tenant; empty: every app of the tenant, those to come too.
    pub apps: Vec<AppName>,
    /// What its maker wrote beside it; at most [`TOKEN_NOTE_BYTES_MAX`].
    pub note: String,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenWish {
    /// Whose apps it is for.
    pub tenant: TokenTenant,
    /// What it is for.
    pub role: TokenRole,
    /// As [`Token::apps`].
    pub apps: Vec<AppName>,
    /// As [`Token::note`].
    pub note: String,
}

/// A token that was just made, with its secret, which nobody can tell later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// The token.
    pub token: Token,
    /// What its holder sends.
    pub secret: Secret,
}

/// Longest note beside a token, in bytes.
pub const TOKEN_NOTE_BYTES_MAX: usize = 256;
/// Most apps that a token may name.
pub const TOKEN_APPS_MAX: usize = 256;
/// Longest secret that is looked at, in bytes; ours are shorter.
pub const TOKEN_BYTES_MAX: usize = 256;

/// Why a token does not allow something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// Its role is another one.
    #[error(
        "this token is for {has}, this needs one for {needs}: make one with `tidegate tokens create {} --role {needs}`",
        for_shell(tenant)
    )]
    Role {
        /// What it is for.
        has: TokenRole,
        /// What is needed.
        needs: TokenRole,
        /// Whose it is.
        tenant: TokenTenant,
    },
    /// It is of one tenant, and this is for operators.
    #[error(
        "this is for the operators of all tenants, and this token is of {0}: make one with `tidegate tokens create '*' --role \
         admin`"
    )]
    Operator(TokenTenant),
    /// It is not of this tenant. The text does not tell whether there is such a tenant.
    #[error("this token is not for tenant {0}: check its name, or use one of its tokens")]
    Tenant(String),
    /// The app is not one of its apps. The text does not tell whether there is such an app.
    #[error("this token is not for the app {0}: check its name, or use a token of its tenant")]
    App(AppName),
}

impl Token {
    /// Whether the app is one of its apps.
    pub fn is_for(&self, app: &AppName) -> bool {
        self.tenant.covers(app.tenant()) && (self.apps.is_empty() || self.apps.contains(app))
    }

    /// Whether its holder may do what needs this role to this tenant.
    ///
    /// # Errors
    /// Why not, and how to mend it.
    pub fn check_tenant(&self, needs: TokenRole, tenant: &str) -> Result<(), NotAllowed> {
        match self.tenant.covers(tenant) {
            true => self.check_role(needs),
            false => Err(NotAllowed::Tenant(tenant.chars().take(80).collect())),
        }
    }

    /// Whether its holder may do what concerns all tenants.
    ///
    /// # Errors
    /// Why not, and how to mend it.
    pub fn check_operator(&self) -> Result<(), NotAllowed> {
        match self.tenant {
            TokenTenant::Every => self.check_role(TokenRole::Admin),
            TokenTenant::One(_) => Err(NotAllowed::Operator(self.tenant.clone())),
        }
    }

    /// Whether its holder may do what needs this role.
    ///
    /// # Errors
    /// Why not, and how to mend it.
    pub fn check_role(&self, needs: TokenRole) -> Result<(), NotAllowed> {
        match self.role.allows(needs) {
            true => Ok(()),
            false => Err(NotAllowed::Role { has: self.role, needs, tenant: self.tenant.clone() }),
        }
    }

    /// Whether its holder may do what needs this role, to this app.
    ///
    /// # Errors
    /// Why not, and how to mend it.
    pub fn check(&self, needs: TokenRole, app: &AppName) -> Result<(), NotAllowed> {
        match self.is_for(app) {
            true => self.check_role(needs),
            false => Err(NotAllowed::App(app.clone())),
        }
    }
}

/// As it is typed.
fn for_shell(tenant: &TokenTenant) -> &str {
    match tenant {
        TokenTenant::Every => "'*'",
        TokenTenant::One(tenant) => tenant.as_str(),
    }
}

/// The secret of a new token: `tg_` and 64 hex digits.
pub fn token_secret(random: [u8; 32]) -> Secret {
    Secret::new(format!("tg_{}", Digest::from_bytes(random)))
}

/// The name of the token with this digest of its secret.
pub fn token_id(digest: &Digest) -> String {
    digest.to_string().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(role: TokenRole, apps: &[&str]) -> Token {
        Token {
            id: "0".into(),
            tenant: "acme".parse().unwrap(),
            role,
            apps: apps.iter().map(|app| AppName::new(app).unwrap()).collect(),
            note: String::new(),
            created_ms: 0,
        }
    }

    #[test]
    fn a_token_is_for_its_role_its_tenant_and_its_apps() {
        let app = |name| AppName::new(name).unwrap();
        let of_all = token(TokenRole::Push, &[]);
        assert_eq!(of_all.check(TokenRole::Push, &app("acme/chat")), Ok(()));
        assert_eq!(
            of_all.check(TokenRole::Push, &app("other/chat")),
            Err(NotAllowed::App(app("other/chat")))
        );
        assert!(matches!(of_all.check(TokenRole::Deploy, &app("acme/chat")), Err(NotAllowed::Role { .. })));
        let of_one = token(TokenRole::Admin, &["acme/chat"]);
        assert_eq!(of_one.check(TokenRole::Deploy, &app("acme/chat")), Ok(()));
        assert_eq!(of_one.check(TokenRole::Push, &app("acme/game")), Err(NotAllowed::App(app("acme/game"))));
        // Another tenant's app is not its, whatever it names.
        let strange = token(TokenRole::Admin, &["other/chat"]);
        assert!(strange.check(TokenRole::Push, &app("other/chat")).is_err());
    }

    #[test]
    fn a_token_of_all_tenants_is_an_operators() {
        let every = Token { tenant: TokenTenant::Every, ..token(TokenRole::Admin, &[]) };
        let app = AppName::new("other/chat").unwrap();
        assert_eq!((every.check(TokenRole::Push, &app), every.check_operator()), (Ok(()), Ok(())));
        assert_eq!(every.check_tenant(TokenRole::Admin, "acme"), Ok(()));
        let pushes = Token { role: TokenRole::Push, ..every.clone() };
        assert!(pushes.check_operator().is_err() && pushes.check(TokenRole::Push, &app).is_ok());
        let of_one = token(TokenRole::Admin, &[]);
        assert!(of_one.check_operator().unwrap_err().to_string().contains("create '*' --role admin"));
        assert_eq!(of_one.check_tenant(TokenRole::Admin, "acme"), Ok(()));
        assert_eq!(of_one.check_tenant(TokenRole::Admin, "x"), Err(NotAllowed::Tenant("x".into())));
        for text in ["*", "acme"] {
            let json = format!("\"{text}\"");
            let tenant: TokenTenant = serde_json::from_str(&json).unwrap();
            assert_eq!(
                (tenant.to_string(), serde_json::to_string(&tenant).unwrap()),
                (text.to_owned(), json)
            );
        }
        assert!("**".parse::<TokenTenant>().is_err());
    }

    #[test]
    fn a_secret_is_shown_to_nobody_and_names_its_token() {
        let secret = token_secret([7; 32]);
        assert_eq!(secret.expose().len(), 67);
        assert!(!format!("{secret:?}").contains("07"));
        assert_eq!(token_id(&Digest::of(secret.expose().as_bytes())).len(), 12);
        assert_eq!("push".parse(), Ok(TokenRole::Push));
        assert!("root".parse::<TokenRole>().unwrap_err().to_string().contains("push, deploy or admin"));
    }
}
