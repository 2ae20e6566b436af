//! What can be said to, and asked of, one app.

use std::collections::BTreeMap;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command::names;
use crate::http::{Asked, Tidegate, escaped, random};
use crate::{Audience, Command, Error, Message, Name};

/// An app. Made by [`Tidegate::app`]; costs nothing. Every method fails as [`Error`] tells.
#[derive(Debug, Clone)]
pub struct App {
    pub(crate) tidegate: Tidegate,
    pub(crate) path: String,
    key: Option<String>,
}

/// Why a gateway is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Why {
    /// There is no link to it now; it is not applied there.
    NotLinked,
    /// It owes too many answers; it is not applied there.
    Busy,
    /// It does not answer this; it is not applied there.
    Refused,
    /// The link ended before it answered; it may be applied there.
    Lost,
    /// It did not answer in time; it may be applied there.
    Late,
    /// A reason that is newer than this crate.
    #[serde(other)]
    Other,
}

/// A gateway that did not say that it has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Missing {
    /// The first 12 digits of its clients' ids.
    pub gateway: String,
    /// Its name in the cluster.
    pub name: String,
    /// Why.
    pub why: Why,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reached {
    /// How many clients it is about.
    pub reached: u64,
    /// Gateways that did not say that they have it; the others have it.
    pub missing: Vec<Missing>,
}

/// What became of one command of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// How many clients it is about.
    Reached(u64),
    /// Why a gateway refused it.
    Refused(String),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Effects {
    /// One for each command, in order.
    pub results: Vec<Effect>,
    /// Gateways that did not say that they have it; the others have it.
    pub missing: Vec<Missing>,
}

/// What the gateways that answered know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Gateways that did not answer: what they know is not in `value`.
    pub missing: Vec<Missing>,
    /// Why a gateway did not answer, if one said so.
    pub refused: Option<String>,
}

/// What is asked of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// Whom it is bound to.
    Uid,
    /// Its groups.
    Groups,
    /// Its session.
    Session,
}

/// A client. What was not asked for is None, as what it does not have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Its id, 20 hex digits.
    pub client: String,
    /// Whom it is bound to.
    #[serde(default)]
    pub uid: Option<String>,
    /// Its groups, in no order.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Its session, a JSON object.
    #[serde(default)]
    pub session: Option<Value>,
}

/// An answer as it comes: one of the values is there.
#[derive(Debug, Deserialize)]
struct Document {
    count: Option<u64>,
    counts: Option<BTreeMap<String, u64>>,
    clients: Option<Value>,
    uids: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    online: Option<BTreeMap<String, bool>>,
    client: Option<ClientInfo>,
    refused: Option<String>,
    missing: Vec<Missing>,
}

impl App {
    pub(crate) fn new(tidegate: Tidegate, path: String) -> Self {
        Self { tidegate, path, key: None }
    }

    /// The same app, for one command with this idempotency key: whoever gives the same command with the same key within ten
    /// minutes, in whatever process, gets the first answer, and nothing is done twice.
    #[must_use]
    pub fn once(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// Gives a command.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn give(&self, command: Command) -> Result<Reached, Error> {
        let verb = command.verb();
        self.push(verb, command.into_body()).await
    }

    /// Gives several commands in one request, in order; the server takes 1,000 unless it is set otherwise. One that a gateway
    /// refuses does not keep the others from being applied.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn batch(&self, commands: impl IntoIterator<Item = Command>) -> Result<Effects, Error> {
        let commands: Vec<Command> = commands.into_iter().collect();
        self.push("batch", json!({ "commands": commands })).await
    }

    /// Sends a message to an audience.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send(&self, to: Audience, message: impl Into<Message>) -> Result<Reached, Error> {
        self.give(Command::send(to, message)).await
    }

    /// Closes an audience with a code (1000, or 3000 to 4999) and a reason; with [`Command::farewell`] by [`give`](Self::give).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn close(&self, to: Audience, code: u16, reason: &str) -> Result<Reached, Error> {
        self.give(Command::close(to).code(code).reason(reason)).await
    }

    /// Drops the connections of an audience.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn destroy(&self, to: Audience) -> Result<Reached, Error> {
        self.give(Command::destroy(to)).await
    }

    /// Binds a client to a uid.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bind(&self, client: &str, uid: impl Into<Name>) -> Result<Reached, Error> {
        self.give(Command::bind(client, uid)).await
    }

    /// Puts a client into a group; into several by [`Command::join`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join(&self, client: &str, group: impl Into<Name>) -> Result<Reached, Error> {
        self.give(Command::join(client, [group])).await
    }

    /// Takes a client out of a group; out of several by [`Command::leave`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn leave(&self, client: &str, group: impl Into<Name>) -> Result<Reached, Error> {
        self.give(Command::leave(client, [group])).await
    }

    /// A client's uid, groups and session; None: it is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn client(&self, client: &str) -> Result<Answer<Option<ClientInfo>>, Error> {
        let asked = self.session(Method::GET, client, None, true);
        match self.tidegate.ask::<Document>(asked).await {
            Ok(document) => Ok(document.answer(|document| document.client.take())),
            Err(error) if error.kind() == Some("no-such-path") => {
                Ok(Answer { value: None, missing: Vec::new(), refused: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces a client's session; it must be a JSON object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_session(&self, client: &str, session: impl Into<Value>) -> Result<Reached, Error> {
        self.tidegate.ask(self.session(Method::PUT, client, Some(session.into()), true)).await
    }

    /// Merges into a client's session. It is not tried again when its answer is lost: the session may be another by then.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch_session(&self, client: &str, session: impl Into<Value>) -> Result<Reached, Error> {
        self.tidegate.ask(self.session(Method::PATCH, client, Some(session.into()), false)).await
    }

    /// Removes a client's session.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_session(&self, client: &str) -> Result<Reached, Error> {
        self.tidegate.ask(self.session(Method::DELETE, client, None, true)).await
    }

    /// How many clients an audience has.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn count(&self, of: Audience) -> Result<Answer<u64>, Error> {
        self.ask("count", json!({ "of": of }), |document| document.count.take()).await
    }

    /// How many uids the clients of an audience have.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn count_uids(&self, of: Audience) -> Result<Answer<u64>, Error> {
        self.ask("count-uids", json!({ "of": of }), |document| document.count.take()).await
    }

    /// How many clients each of these groups has.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn count_by_group<N: Into<Name>>(
        &self,
        groups: impl IntoIterator<Item = N>,
    ) -> Result<Answer<BTreeMap<String, u64>>, Error> {
        let body = json!({ "groups": names(groups) });
        self.ask("count-by-group", body, |document| document.counts.take()).await
    }

    /// The ids of the clients of an audience.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn clients(&self, of: Audience) -> Result<Answer<Vec<String>>, Error> {
        self.ask("clients", json!({ "of": of }), Document::clients).await
    }

    /// The uids of the clients of an audience, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn uids(&self, of: Audience) -> Result<Answer<Vec<String>>, Error> {
        self.ask("uids", json!({ "of": of }), |document| document.uids.take()).await
    }

    /// The groups of the clients of an audience, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn groups(&self, of: Audience) -> Result<Answer<Vec<String>>, Error> {
        self.ask("groups", json!({ "of": of }), |document| document.groups.take()).await
    }

    /// Each client of an audience with these fields; with none of them named all.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn select(&self, of: Audience, fields: &[Field]) -> Result<Answer<Vec<ClientInfo>>, Error> {
        self.ask("select", json!({ "of": of, "fields": fields }), Document::clients).await
    }

    /// Which of these clients are there.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn online_clients<I: Into<String>>(
        &self,
        clients: impl IntoIterator<Item = I>,
    ) -> Result<Answer<BTreeMap<String, bool>>, Error> {
        let clients: Vec<String> = clients.into_iter().map(Into::into).collect();
        self.ask("online", json!({ "clients": clients }), |document| document.online.take()).await
    }

    /// Which of these uids have a client.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn online_uids<N: Into<Name>>(
        &self,
        uids: impl IntoIterator<Item = N>,
    ) -> Result<Answer<BTreeMap<String, bool>>, Error> {
        self.ask("online", json!({ "uids": names(uids) }), |document| document.online.take()).await
    }

    async fn push<T: serde::de::DeserializeOwned>(&self, verb: &str, body: Value) -> Result<T, Error> {
        // A key of its own for each command makes it safe to try again.
        let key = self.key.clone().unwrap_or_else(|| format!("{:032x}", u128::from_be_bytes(random())));
        let path = format!("{}/{verb}", self.path);
        self.tidegate
            .ask(Asked { method: Method::POST, path, body: Some(body), key: Some(key), harmless: true })
            .await
    }

    async fn ask<T>(
        &self,
        verb: &str,
        body: Value,
        value: impl FnOnce(&mut Document) -> Option<T>,
    ) -> Result<Answer<T>, Error> {
        let path = format!("{}/{verb}", self.path);
        let asked = Asked { method: Method::POST, path, body: Some(body), key: None, harmless: true };
        let Answer { value, missing, refused } = self.tidegate.ask::<Document>(asked).await?.answer(value);
        let other =
            || Error::Unexpected { status: 200, text: format!("an answer to `{verb}` without its value") };
        Ok(Answer { value: value.ok_or_else(other)?, missing, refused })
    }

    fn session(&self, method: Method, client: &str, body: Option<Value>, harmless: bool) -> Asked {
        let path = format!("{}/sessions/{}", self.path, escaped(client));
        Asked { method, path, body, key: None, harmless }
    }
}

impl Document {
    fn answer<T>(mut self, value: impl FnOnce(&mut Self) -> T) -> Answer<T> {
        Answer { value: value(&mut self), missing: self.missing, refused: self.refused }
    }

    fn clients<T: serde::de::DeserializeOwned>(&mut self) -> Option<T> {
        serde_json::from_value(self.clients.take()?).ok()
    }
}
