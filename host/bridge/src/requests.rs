//! From a packet to what it asks of a gateway.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tidegate_base::{Audience, ClientFields, ClientId, Command, Message, MessageKind, Query, limits};

use crate::doors::Place;
use crate::packet::Packet;
use crate::php::{self, Value};
use crate::question::{Fields, Form, Question};

/// What a packet comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// These commands; there is no answer.
    Commands(Vec<Command<'a>>),
    /// A question, whose answer is waited for.
    Ask(Question),
    /// Who it is that speaks.
    Secret(String),
    /// Nothing: it is still there.
    Ping,
}

/// Why a packet comes to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("command {0} is none of GatewayClient's")]
    Unknown(u8),
    #[error("a BusinessWorker cannot join Tidegate: what it does is the plugin's part")]
    Worker,
    #[error("the extension of command {0} is not what it should be: {1}")]
    Ext(u8, &'static str),
    #[error("the uid or group is not UTF-8")]
    Utf8,
    #[error(
        "the message is an array, an object or null, and a client gets text: encode it first, such as with json_encode"
    )]
    NoText,
    #[error("{0}")]
    Session(#[from] php::BadSession),
    #[error("{0}")]
    Command(#[from] tidegate_base::InvalidCommand),
}

impl Refusal {
    /// Whether whoever sent it has no business here.
    pub fn ends(&self) -> bool {
        matches!(self, Self::Unknown(_) | Self::Worker)
    }
}

/// What a packet asks of the gateway at this place. None is there: its clients are nobody.
pub(crate) fn read<'a>(packet: &Packet<'a>, place: Option<Place>) -> Result<Request<'a>, Refusal> {
    let request = match packet.command {
        200 => return Err(Refusal::Worker),
        201 => Request::Ping,
        202 => Request::Secret(json::<Auth>(packet)?.secret_key),
        10 | 11 | 15 | 16 | 23..=26 | 28 | 203 => Request::Ask(question(packet, place)?),
        _ => {
            // Also without a gateway: what is wrong with a command is told all the same.
            let commands = commands(packet, place.unwrap_or(Place::NOWHERE))?;
            commands.iter().try_for_each(Command::check)?;
            Request::Commands(commands)
        }
    };
    if let Request::Ask(Question { query: Some(query), .. }) = &request {
        query.check()?;
    }
    Ok(request)
}

fn commands<'a>(packet: &Packet<'a>, place: Place) -> Result<Vec<Command<'a>>, Refusal> {
    let client = place.client(packet.connection);
    let one = || Audience::Clients(vec![client]);
    Ok(vec![match packet.command {
        5 => Command::SendTo(client, message(packet)?),
        6 => return send_to_all(packet, place),
        7 => Command::Close {
            to: one(),
            except: Vec::new(),
            code: NORMAL,
            reason: Cow::Borrowed(""),
            farewell: farewell(packet)?,
        },
        8 => Command::Destroy { to: one(), except: Vec::new() },
        9 => Command::UpdateSession(client, php::session_to_json(packet.ext)?.into()),
        204 => {
            let empty = packet.ext.is_empty();
            let session = (!empty).then(|| php::session_to_json(packet.ext)).transpose()?;
            Command::SetSession(client, session.map(Into::into))
        }
        12 => Command::Bind(client, name(packet.ext)?.into()),
        // Whichever uid it names: the client's own one goes.
        13 => Command::Unbind(client),
        14 => {
            let uids: Names = json(packet)?;
            Command::Send { to: Audience::Uids(uids.cows()), except: Vec::new(), message: message(packet)? }
        }
        20 => Command::Join(client, name(packet.ext)?.into()),
        21 => Command::Leave(client, name(packet.ext)?.into()),
        27 => Command::Disband(name(packet.ext)?.into()),
        22 => return send_to_groups(packet, place),
        other => return Err(Refusal::Unknown(other)),
    }])
}

fn send_to_all<'a>(packet: &Packet<'a>, place: Place) -> Result<Vec<Command<'a>>, Refusal> {
    let message = message(packet)?;
    let ToAll { connections, exclude } = if packet.ext.is_empty() { ToAll::default() } else { json(packet)? };
    let except: Vec<ClientId> = clients(exclude, place);
    let Some(connections) = connections else {
        return Ok(vec![Command::Send { to: Audience::All, except, message }]);
    };
    let clients = clients(Some(connections), place);
    let chunks = clients.chunks(limits::AUDIENCE_ENTRIES_MAX);
    check_copies(packet, &except, chunks.len())?;
    let send = |to: &[ClientId]| Command::Send {
        to: Audience::Clients(to.to_vec()),
        except: except.clone(),
        message,
    };
    Ok(chunks.map(send).collect())
}

/// Each of several commands has a copy of the list of those that it is not for.
fn check_copies(packet: &Packet<'_>, except: &[ClientId], commands: usize) -> Result<(), Refusal> {
    if except.len() > limits::AUDIENCE_ENTRIES_MAX || except.len().saturating_mul(commands) > EXCLUDED_MAX {
        let why = "it excludes too many clients, or from too many groups at once: exclude fewer, or name fewer groups";
        return Err(Refusal::Ext(packet.command, why));
    }
    Ok(())
}

/// A client of two of the groups gets two copies, as ever.
fn send_to_groups<'a>(packet: &Packet<'a>, place: Place) -> Result<Vec<Command<'a>>, Refusal> {
    let ToGroups { group, exclude } = json(packet)?;
    if group.0.len() > GROUPS_MAX {
        return Err(Refusal::Ext(packet.command, "it names more than 1,000 groups"));
    }
    let message = message(packet)?;
    let except = clients(exclude, place);
    check_copies(packet, &except, group.0.len())?;
    let send = |group: String| Command::Send {
        to: Audience::Groups(vec![group.into()]),
        except: except.clone(),
        message,
    };
    Ok(group.0.into_iter().map(send).collect())
}

fn question(packet: &Packet<'_>, place: Option<Place>) -> Result<Question, Refusal> {
    let session = ClientFields { uid: false, groups: false, session: true };
    let one = || Audience::Clients(place.iter().map(|place| place.client(packet.connection)).collect());
    let group = || Ok::<_, Refusal>(Audience::Groups(vec![name(packet.ext)?.to_owned().into()]));
    let (query, form) = match packet.command {
        203 => (Query::Select(one(), session), Form::Session),
        10 => (Query::Select(Audience::All, session), Form::Sessions),
        23 => (Query::Select(group()?, session), Form::Sessions),
        11 => (Query::ListClients(one()), Form::Online),
        15 => return clients_of_uid(name(packet.ext)?, place),
        16 => {
            let uids: Names = json(packet)?;
            let by_uid = ClientFields { uid: true, groups: false, session: false };
            (Query::Select(Audience::Uids(uids.cows()), by_uid), Form::ByUid(uids.0))
        }
        24 if packet.ext.is_empty() => (Query::CountClients(Audience::All), Form::Count),
        24 => (Query::CountClients(group()?), Form::Count),
        26 => (Query::ListGroups(Audience::All), Form::Names),
        28 => {
            let groups: Names = json(packet)?;
            (Query::CountByGroup(groups.cows()), Form::Counts(groups.0))
        }
        _ => return select(packet, place),
    };
    Ok(Question { query: Some(query), form })
}

/// Besides uids: `client:` and an id as plugins know it, which every client may have been told. Its gateway alone knows it.
fn clients_of_uid(uid: &str, place: Option<Place>) -> Result<Question, Refusal> {
    let id = uid.strip_prefix(CLIENT_PREFIX).and_then(|id| id.parse::<ClientId>().ok());
    let query = match id {
        None => Some(Query::ListClients(Audience::Uids(vec![uid.to_owned().into()]))),
        Some(id) if place.is_some_and(|place| place.gateway == id.gateway) => {
            Some(Query::ListClients(Audience::Clients(vec![id])))
        }
        Some(_) => None,
    };
    Ok(Question { query, form: Form::Numbers })
}

fn select(packet: &Packet<'_>, place: Option<Place>) -> Result<Question, Refusal> {
    let Select { fields, selected } = json(packet)?;
    let Where { groups, uid, connection_id } = selected.unwrap_or_default();
    let has = |field: &str| fields.iter().any(|known| known == field);
    let fields = Fields { session: has("session"), uid: has("uid"), groups: has("groups") };
    let of = match (groups, uid, connection_id) {
        (None, None, None) => Audience::All,
        (Some(groups), None, None) => Audience::Groups(groups.cows()),
        (None, Some(uids), None) => Audience::Uids(uids.cows()),
        (None, None, Some(numbers)) => {
            Audience::Clients(place.map_or_else(Vec::new, |place| clients(Some(numbers), place)))
        }
        _ => return Err(Refusal::Ext(packet.command, "it has more than one condition")),
    };
    let asked = ClientFields { uid: fields.uid, groups: fields.groups, session: fields.session };
    Ok(Question { query: Some(Query::Select(of, asked)), form: Form::Select(fields) })
}

/// What a client gets. Bytes that are no text go as binary: a browser would end a connection on a text that is none.
fn message<'a>(packet: &Packet<'a>) -> Result<Message<'a>, Refusal> {
    let payload = if packet.is_scalar { packet.body } else { scalar(packet.body)? };
    let kind = match () {
        () if packet.is_raw => MessageKind::Raw,
        () if std::str::from_utf8(payload).is_ok() => MessageKind::Text,
        () => MessageKind::Binary,
    };
    Ok(Message { kind, payload })
}

fn scalar(body: &[u8]) -> Result<&[u8], Refusal> {
    match php::read(body) {
        Ok(Value::Text(Cow::Borrowed(text))) => Ok(text),
        _ => Err(Refusal::NoText),
    }
}

fn farewell<'a>(packet: &Packet<'a>) -> Result<Option<Message<'a>>, Refusal> {
    let none = packet.body.is_empty() || (!packet.is_scalar && packet.body == b"N;");
    if none { Ok(None) } else { message(packet).map(Some) }
}

fn name(bytes: &[u8]) -> Result<&str, Refusal> {
    let name = std::str::from_utf8(bytes).map_err(|_| Refusal::Utf8)?;
    tidegate_base::check_name(name)?;
    Ok(name)
}

fn clients(numbers: Option<Numbers>, place: Place) -> Vec<ClientId> {
    numbers.map(|numbers| numbers.0).into_iter().flatten().map(|number| place.client(number)).collect()
}

fn json<'de, T: Deserialize<'de>>(packet: &Packet<'de>) -> Result<T, Refusal> {
    let bytes = if packet.command == 202 { packet.body } else { packet.ext };
    serde_json::from_slice(bytes).map_err(|_| Refusal::Ext(packet.command, "it is no such JSON"))
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    secret_key: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ToAll {
    connections: Option<Numbers>,
    exclude: Option<Numbers>,
}

#[derive(Deserialize)]
struct ToGroups {
    group: Names,
    #[serde(default)]
    exclude: Option<Numbers>,
}

#[derive(Deserialize)]
struct Select {
    #[serde(default)]
    fields: Vec<String>,
    /// No condition is an empty list in PHP's JSON, which a struct of defaults is read from too.
    #[serde(default, rename = "where")]
    selected: Option<Where>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Where {
    groups: Option<Names>,
    uid: Option<Names>,
    connection_id: Option<Numbers>,
}

/// Numbers of connections: the values of an object or of a list, since PHP writes an array as either.
struct Numbers(Vec<u32>);

/// Uids or groups: texts or whole numbers, in a list or as the values of an object, or a single one.
struct Names(Vec<String>);

impl Names {
    fn cows(&self) -> Vec<Cow<'static, str>> {
        self.0.iter().cloned().map(Cow::Owned).collect()
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Items(numbers) = Items::<u32>::deserialize(from)?;
        Ok(Self(numbers))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Items(names) = Items::<Name>::deserialize(from)?;
        Ok(Self(names.into_iter().map(|Name(name)| name).collect()))
    }
}

/// The values of a PHP array in JSON.
struct Items<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Items<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Items<T>, A::Error> {
                let mut items = Vec::new();
                while let Some((_, item)) = object.next_entry::<IgnoredAny, T>()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        from.deserialize_any(Either(std::marker::PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(from = "EitherName")]
struct Name(String);

#[derive(Deserialize)]
#[serde(untagged)]
enum EitherName {
    Text(String),
    Number(i64),
}

impl From<EitherName> for Name {
    fn from(name: EitherName) -> Self {
        match name {
            EitherName::Text(text) => Self(text),
            EitherName::Number(number) => Self(number.to_string()),
        }
    }
}

/// What stands before an id of a plugin where a uid is asked for.
pub(crate) const CLIENT_PREFIX: &str = "client:";
const NORMAL: u16 = 1000;
/// Most groups of one message: it is a command for each.
const GROUPS_MAX: usize = 1000;
/// Most clients that all commands of one message exclude, together: 16 MB.
const EXCLUDED_MAX: usize = 1_000_000;

#[cfg(test)]
mod tests;
