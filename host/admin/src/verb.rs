//! The last parts of the paths, and what each of them is.

/// What can be asked of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Send,
    Close,
    Destroy,
    Bind,
    Unbind,
    Join,
    Leave,
    Disband,
    SetSession,
    UpdateSession,
    ClearSession,
    Batch,
    Count,
    CountUids,
    CountByGroup,
    Clients,
    Uids,
    Groups,
    Select,
    Online,
}

impl Verb {
    pub const ALL: [Self; 20] = [
        Self::Send,
        Self::Close,
        Self::Destroy,
        Self::Bind,
        Self::Unbind,
        Self::Join,
        Self::Leave,
        Self::Disband,
        Self::SetSession,
        Self::UpdateSession,
        Self::ClearSession,
        Self::Batch,
        Self::Count,
        Self::CountUids,
        Self::CountByGroup,
        Self::Clients,
        Self::Uids,
        Self::Groups,
        Self::Select,
        Self::Online,
    ];

    /// The last part of its path.
    pub const fn path(self) -> &'static str {
        self.facts().0
    }

    /// What it does, in a line.
    pub const fn summary(self) -> &'static str {
        self.facts().1
    }

    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.path() == path)
    }

    const fn facts(self) -> (&'static str, &'static str) {
        match self {
            Self::Send => ("send", "Send a message to an audience"),
            Self::Close => ("close", "Say farewell to an audience, and close it"),
            Self::Destroy => ("destroy", "Drop the connections of an audience at once"),
            Self::Bind => ("bind", "Bind clients to a uid"),
            Self::Unbind => ("unbind", "Take the uid of clients away"),
            Self::Join => ("join", "Put clients into groups"),
            Self::Leave => ("leave", "Take clients out of groups"),
            Self::Disband => ("disband", "Take everybody out of groups"),
            Self::SetSession => ("set-session", "Replace the session of clients"),
            Self::UpdateSession => ("update-session", "Merge into the session of clients"),
            Self::ClearSession => ("clear-session", "Remove the session of clients"),
            Self::Batch => ("batch", "Several commands, in order"),
            Self::Count => ("count", "How many clients an audience has"),
            Self::CountUids => ("count-uids", "How many uids the clients of an audience have"),
            Self::CountByGroup => ("count-by-group", "How many clients each group has"),
            Self::Clients => ("clients", "The clients of an audience"),
            Self::Uids => ("uids", "The uids of the clients of an audience"),
            Self::Groups => ("groups", "The groups of the clients of an audience"),
            Self::Select => ("select", "Uid, groups and session of each client of an audience"),
            Self::Online => ("online", "Which clients, or uids, are there"),
        }
    }

    /// A body that it takes.
    pub const fn example(self) -> &'static str {
        match self {
            Self::Send => r#"{"to": {"groups": ["room-1"]}, "text": "hello"}"#,
            Self::Close => {
                r#"{"to": {"uids": ["ann"]}, "code": 4001, "reason": "kicked", "farewell": {"text": "bye"}}"#
            }
            Self::Destroy => r#"{"to": {"clients": ["a1b2c3d4e5f600000001"]}}"#,
            Self::Bind => r#"{"client": "a1b2c3d4e5f600000001", "uid": "ann"}"#,
            Self::Unbind | Self::ClearSession => r#"{"client": "a1b2c3d4e5f600000001"}"#,
            Self::Join | Self::Leave => r#"{"client": "a1b2c3d4e5f600000001", "group": "room-1"}"#,
            Self::Disband => r#"{"group": "room-1"}"#,
            Self::SetSession | Self::UpdateSession => {
                r#"{"client": "a1b2c3d4e5f600000001", "session": {"name": "Ann"}}"#
            }
            Self::Batch => {
                r#"{"commands": [{"join": {"client": "a1b2c3d4e5f600000001", "group": "room-1"}}, {"send": {"to": "all", "text": "hello"}}]}"#
            }
            Self::Count | Self::CountUids | Self::Clients | Self::Uids | Self::Groups => {
                r#"{"of": {"groups": ["room-1"]}}"#
            }
            Self::CountByGroup => r#"{"groups": ["room-1", "room-2"]}"#,
            Self::Select => r#"{"of": "all", "fields": ["uid", "groups", "session"]}"#,
            Self::Online => r#"{"uids": ["ann", "bob"]}"#,
        }
    }

    /// Whether it changes something. The others ask.
    pub fn is_command(self) -> bool {
        Self::ALL.iter().position(|verb| *verb == self)
            <= Self::ALL.iter().position(|verb| *verb == Self::Batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_a_path_of_its_own() {
        for verb in Verb::ALL {
            assert_eq!(Verb::from_path(verb.path()), Some(verb));
        }
        assert_eq!(Verb::from_path("sned"), None);
        let commands = Verb::ALL.into_iter().filter(|verb| verb.is_command()).count();
        assert_eq!((commands, Verb::Count.is_command()), (12, false));
    }
}
