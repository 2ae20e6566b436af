//! Commands, which an app gives one by one or as a batch.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{Audience, Message, Name};

/// A command. An [`App`](crate::App) has a method for each, which gives it at once; several go together as a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    verb: &'static str,
    body: Map<String, Value>,
}

impl Command {
    /// Sends a message to an audience.
    pub fn send(to: Audience, message: impl Into<Message>) -> Self {
        let mut command = Self::of("send").with("to", to);
        // One field, named as the kind of message.
        if let Ok(Value::Object(fields)) = serde_json::to_value(message.into()) {
            command.body.extend(fields);
        }
        command
    }

    /// Closes an audience; see [`code`](Self::code), [`reason`](Self::reason) and [`farewell`](Self::farewell).
    pub fn close(to: Audience) -> Self {
        Self::of("close").with("to", to)
    }

    /// Drops the connections of an audience, without what waits to be sent to it.
    pub fn destroy(to: Audience) -> Self {
        Self::of("destroy").with("to", to)
    }

    /// Binds a client to a uid, in place of the one that it had.
    pub fn bind(client: &str, uid: impl Into<Name>) -> Self {
        Self::of("bind").with("client", client).with("uid", uid.into())
    }

    /// Takes the uid of a client away.
    pub fn unbind(client: &str) -> Self {
        Self::of("unbind").with("client", client)
    }

    /// Puts a client into groups.
    pub fn join<N: Into<Name>>(client: &str, groups: impl IntoIterator<Item = N>) -> Self {
        Self::of("join").with("client", client).with("group", names(groups))
    }

    /// Takes a client out of groups.
    pub fn leave<N: Into<Name>>(client: &str, groups: impl IntoIterator<Item = N>) -> Self {
        Self::of("leave").with("client", client).with("group", names(groups))
    }

    /// Takes everybody out of groups.
    pub fn disband<N: Into<Name>>(groups: impl IntoIterator<Item = N>) -> Self {
        Self::of("disband").with("group", names(groups))
    }

    /// Replaces the session of a client; it must be a JSON object.
    pub fn set_session(client: &str, session: impl Into<Value>) -> Self {
        Self::of("set-session").with("client", client).with("session", session.into())
    }

    /// Merges into the session of a client; it must be a JSON object.
    pub fn update_session(client: &str, session: impl Into<Value>) -> Self {
        Self::of("update-session").with("client", client).with("session", session.into())
    }

    /// Removes the session of a client.
    pub fn clear_session(client: &str) -> Self {
        Self::of("clear-session").with("client", client)
    }

    /// Not these clients. For what has an audience: the others are refused with it.
    pub fn except<I: Into<String>>(self, clients: impl IntoIterator<Item = I>) -> Self {
        let clients: Vec<String> = clients.into_iter().map(Into::into).collect();
        self.with("except", clients)
    }

    /// The code that is closed with: 1000, or 3000 to 4999.
    pub fn code(self, code: u16) -> Self {
        self.with("code", code)
    }

    /// Why is closed.
    pub fn reason(self, reason: &str) -> Self {
        self.with("reason", reason)
    }

    /// A last message before the close.
    pub fn farewell(self, message: impl Into<Message>) -> Self {
        self.with("farewell", message.into())
    }

    pub(crate) fn verb(&self) -> &'static str {
        self.verb
    }

    pub(crate) fn into_body(self) -> Value {
        Value::Object(self.body)
    }

    fn of(verb: &'static str) -> Self {
        Self { verb, body: Map::new() }
    }

    fn with(mut self, field: &str, value: impl Serialize) -> Self {
        // Texts, numbers and lists of them: nothing that can fail.
        self.body.insert(field.to_owned(), serde_json::to_value(value).unwrap_or_default());
        self
    }
}

/// As in a batch.
impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.verb, &self.body)])
    }
}

pub(crate) fn names<N: Into<Name>>(names: impl IntoIterator<Item = N>) -> Vec<Name> {
    names.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, to_value};

    #[test]
    fn commands_have_the_form_of_the_api() {
        let send = Command::send(Audience::All, "hi").except(["x"]);
        assert_eq!(to_value(&send).unwrap(), json!({"send": {"to": "all", "text": "hi", "except": ["x"]}}));
        let close = Command::close(Audience::uid("ann")).code(4001).reason("kicked").farewell("bye");
        let body =
            json!({"to": {"uids": ["ann"]}, "code": 4001, "reason": "kicked", "farewell": {"text": "bye"}});
        assert_eq!((close.verb(), close.into_body()), ("close", body));
        let join = Command::join("x", ["a", "b"]);
        assert_eq!(to_value(&join).unwrap(), json!({"join": {"client": "x", "group": ["a", "b"]}}));
    }
}
