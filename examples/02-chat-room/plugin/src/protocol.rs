//! The messages, and what may be in them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tidegate::ClientId;

const NAME_CHARS_MAX: usize = 24;
const ROOM_CHARS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 2_000;

/// What a client asks for.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum FromClient {
    Join { name: String, room: Option<String> },
    Say { text: String },
    Rename { name: String },
    Room { room: String },
    Who,
}

/// What a client is told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ToClient<'a> {
    Welcome { id: ClientId, rooms: BTreeSet<String> },
    Joined { id: ClientId, name: &'a str, room: &'a str },
    Left { id: ClientId, name: &'a str, room: &'a str },
    Renamed { id: ClientId, name: &'a str, old: &'a str, room: &'a str },
    Said { id: ClientId, name: &'a str, text: &'a str, time: u64 },
    Who { room: &'a str, members: Vec<Member> },
    Error { message: String },
}

/// One of those who are in a room.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) id: ClientId,
}

/// What was wrong with a request, for people to read.
#[derive(Debug, PartialEq)]
pub(crate) struct Complaint(pub(crate) String);

pub(crate) fn name(name: &str) -> Result<String, Complaint> {
    word("A name", name, NAME_CHARS_MAX)
}

pub(crate) fn room(room: &str) -> Result<String, Complaint> {
    word("A room", room, ROOM_CHARS_MAX)
}

pub(crate) fn text(text: &str) -> Result<String, Complaint> {
    within("A message", text, TEXT_CHARS_MAX)
}

fn word(what: &str, text: &str, max: usize) -> Result<String, Complaint> {
    let text = within(what, text, max)?;
    if text.chars().any(char::is_control) {
        return Err(Complaint(format!("{what} has no control characters.")));
    }
    Ok(text)
}

fn within(what: &str, text: &str, max: usize) -> Result<String, Complaint> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > max {
        return Err(Complaint(format!("{what} has 1 to {max} characters.")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_trimmed_and_bounded() {
        assert_eq!(name("  Ann "), Ok("Ann".into()));
        assert_eq!(name(&"é".repeat(24)), Ok("é".repeat(24)));
        assert_eq!(name(&"x".repeat(25)), Err(Complaint("A name has 1 to 24 characters.".into())));
        assert_eq!(room(" \n "), Err(Complaint("A room has 1 to 32 characters.".into())));
        assert_eq!(room("a\u{7}b"), Err(Complaint("A room has no control characters.".into())));
        assert_eq!(text("two\nlines"), Ok("two\nlines".into()));
    }
}
