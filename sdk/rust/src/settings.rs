//! The app's settings: the strings of `[app.settings]` in the node's configuration.

use crate::host;

/// One setting.
#[must_use]
pub fn get(key: &str) -> Option<String> {
    host::setting(key)
}

/// All of them in order of key.
#[must_use]
pub fn all() -> Vec<(String, String)> {
    host::settings()
}
