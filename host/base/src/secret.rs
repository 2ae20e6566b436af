//! What a plugin reads as its settings, some of which nobody else should see.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that is never shown: not by `Debug`, and there is no `Display`. It is serialized as it is, for who needs it
/// (the store, workers); for everybody else there is [`Setting::hide`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Box<str>);

impl Secret {
    /// A secret.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for who must have it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The value of one of an app's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// Anybody who may see the app may see it.
    Plain(String),
    /// Only the plugin may see it.
    Secret(Secret),
    /// A secret that is not told.
    Hidden,
}

impl Setting {
    /// What the plugin reads. None: it is not told.
    pub fn expose(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Secret(secret) => Some(secret.expose()),
            Self::Hidden => None,
        }
    }

    /// The same for anybody's eyes.
    #[must_use]
    pub fn hide(self) -> Self {
        match self {
            Self::Secret(_) => Self::Hidden,
            open => open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown_and_what_is_hidden_is_not_there() {
        let setting = Setting::Secret(Secret::new("hunter2"));
        assert_eq!(setting.expose(), Some("hunter2"));
        assert!(!format!("{setting:?} {setting:#?}").contains("hunter2"));
        let hidden = setting.hide();
        assert_eq!(hidden.expose(), None);
        assert!(!serde_json::to_string(&hidden).unwrap().contains("hunter2"));
    }

    #[test]
    fn who_needs_a_secret_gets_it_over_the_wire() {
        let setting = Setting::Secret(Secret::new("é\"\n"));
        let text = serde_json::to_string(&setting).unwrap();
        assert_eq!(serde_json::from_str::<Setting>(&text).unwrap(), setting);
        assert_eq!(Setting::Plain("x".into()).hide().expose(), Some("x"));
    }
}
