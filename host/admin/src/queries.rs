//! From what a body asks to a query, and from its answer to JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_base::{Answer, Audience, ClientFields, ClientId, ClientInfo, Query};
use tidegate_push::Answered;

use crate::body::{Field, Of, OfGroups, Online, Select};
use crate::problem::Problem;
use crate::reply::{MissingPart, missing, parse};
use crate::verb::Verb;

/// What is asked, and what its answer is called.
#[derive(Debug)]
pub(crate) struct Question {
    pub query: Query,
    form: Form,
}

/// The form of an answer.
#[derive(Debug)]
enum Form {
    Count,
    Counts(Vec<String>),
    Clients,
    Names(&'static str),
    Infos(ClientFields),
    OnlineClients(Vec<ClientId>),
    OnlineUids(Vec<String>),
    Session,
}

/// An answer in JSON; just one of the first five is there.
#[derive(Debug, Default, Serialize)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Clients>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    online: Option<BTreeMap<String, bool>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Info>,
    /// Why a gateway did not answer, if it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    missing: Vec<MissingPart>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Clients {
    Ids(Vec<String>),
    Infos(Vec<Info>),
}

/// A client; what was not asked for is left out.
#[derive(Debug, Serialize)]
struct Info {
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Option<Box<RawValue>>>,
}

impl Question {
    /// What a body asks.
    pub fn read(verb: Verb, body: &[u8]) -> Result<Option<Self>, Problem> {
        let of = || parse::<Of<'_>>(body).map(|of| of.of.audience().into_owned());
        let (query, form) = match verb {
            Verb::Count => (Query::CountClients(of()?), Form::Count),
            Verb::CountUids => (Query::CountUids(of()?), Form::Count),
            Verb::Clients => (Query::ListClients(of()?), Form::Clients),
            Verb::Uids => (Query::ListUids(of()?), Form::Names("uids")),
            Verb::Groups => (Query::ListGroups(of()?), Form::Names("groups")),
            Verb::CountByGroup => {
                let groups: Vec<String> = parse::<OfGroups<'_>>(body)?.group.owned();
                let asked = groups.iter().cloned().map(Into::into).collect();
                (Query::CountByGroup(asked), Form::Counts(groups))
            }
            Verb::Select => {
                let select: Select<'_> = parse(body)?;
                let all = select.fields.is_empty();
                let has = |field| all || select.fields.contains(&field);
                let fields = ClientFields {
                    uid: has(Field::Uid),
                    groups: has(Field::Groups),
                    session: has(Field::Session),
                };
                (Query::Select(select.of.audience().into_owned(), fields), Form::Infos(fields))
            }
            Verb::Online => match parse::<Online<'_>>(body)? {
                Online::Clients(clients) => {
                    let clients: Vec<_> = clients.iter().collect();
                    (Query::ListClients(Audience::Clients(clients.clone())), Form::OnlineClients(clients))
                }
                Online::Uids(uids) => {
                    let uids = uids.owned();
                    let asked = uids.iter().cloned().map(Into::into).collect();
                    (Query::ListUids(Audience::Uids(asked)), Form::OnlineUids(uids))
                }
            },
            _ => return Ok(None),
        };
        Ok(Some(Self { query, form }))
    }

    /// What is known of one client.
    pub fn session_of(client: ClientId) -> Self {
        let fields = ClientFields { uid: true, groups: true, session: true };
        Self { query: Query::Select(Audience::Clients(vec![client]), fields), form: Form::Session }
    }

    /// The answer in JSON. None: there is no such client.
    pub fn answer(self, answered: Answered) -> Option<Vec<u8>> {
        let Answered { answer, refused, missing: who } = answered;
        let mut document = Document { refused, missing: missing(who), ..Document::default() };
        match (self.form, answer) {
            (Form::Count, Answer::Count(count)) => document.count = Some(count),
            (Form::Counts(groups), Answer::Counts(counts)) => {
                document.counts = Some(groups.into_iter().zip(counts).collect());
            }
            (Form::Clients, Answer::Clients(clients)) => {
                let clients = clients.iter().map(ToString::to_string).collect();
                document.clients = Some(Clients::Ids(clients));
            }
            (Form::Names("uids"), Answer::Names(names)) => document.uids = Some(names),
            (Form::Names(_), Answer::Names(names)) => document.groups = Some(names),
            (Form::Infos(fields), Answer::Infos(infos)) => {
                let infos = infos.into_iter().map(|info| Info::new(info, fields)).collect();
                document.clients = Some(Clients::Infos(infos));
            }
            (Form::OnlineClients(asked), Answer::Clients(there)) => {
                let there: std::collections::BTreeSet<_> = there.into_iter().collect();
                let online = asked.iter().map(|client| (client.to_string(), there.contains(client)));
                document.online = Some(online.collect());
            }
            (Form::OnlineUids(asked), Answer::Names(there)) => {
                // They come in order.
                let is_there = |uid: &String| there.binary_search(uid).is_ok();
                document.online = Some(asked.into_iter().map(|uid| (uid.clone(), is_there(&uid))).collect());
            }
            (Form::Session, Answer::Infos(infos)) => {
                let fields = ClientFields { uid: true, groups: true, session: true };
                let info = infos.into_iter().next();
                if info.is_none() && document.missing.is_empty() {
                    return None;
                }
                document.client = info.map(|info| Info::new(info, fields));
            }
            // An answer's variant follows from its query.
            _ => {}
        }
        // Plain data into a vector: nothing that can fail.
        Some(serde_json::to_vec(&document).unwrap_or_default())
    }
}

impl Info {
    fn new(info: ClientInfo, fields: ClientFields) -> Self {
        let ClientInfo { client, uid, groups, session } = info;
        // The hub holds nothing but JSON objects.
        let session = session.and_then(|session| RawValue::from_string(session).ok());
        Self {
            client: client.to_string(),
            uid: fields.uid.then_some(uid),
            groups: fields.groups.then_some(groups),
            session: fields.session.then_some(session),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_base::{GatewayId, NodeName};
    use tidegate_push::{Missing, Why};

    use super::*;

    fn answer(verb: Verb, body: &str, answer: Answer) -> String {
        let question = Question::read(verb, body.as_bytes()).unwrap().unwrap();
        let answered = Answered { answer, refused: None, missing: vec![] };
        String::from_utf8(question.answer(answered).unwrap()).unwrap()
    }

    const ID: &str = "00000000000a00000001";

    #[test]
    fn each_question_has_its_answer_in_json() {
        let all = r#"{"of":"all"}"#;
        let id: ClientId = ID.parse().unwrap();
        let names = || Answer::Names(vec!["a".into(), "b".into()]);
        assert_eq!(answer(Verb::Count, all, Answer::Count(3)), r#"{"count":3,"missing":[]}"#);
        assert_eq!(answer(Verb::CountUids, all, Answer::Count(2)), r#"{"count":2,"missing":[]}"#);
        assert_eq!(
            answer(Verb::CountByGroup, r#"{"groups":["b","a"]}"#, Answer::Counts(vec![2, 1])),
            r#"{"counts":{"a":1,"b":2},"missing":[]}"#
        );
        let clients = || Answer::Clients(vec![id]);
        assert_eq!(answer(Verb::Clients, all, clients()), format!(r#"{{"clients":["{ID}"],"missing":[]}}"#));
        assert_eq!(answer(Verb::Uids, all, names()), r#"{"uids":["a","b"],"missing":[]}"#);
        assert_eq!(answer(Verb::Groups, all, names()), r#"{"groups":["a","b"],"missing":[]}"#);
        let online = format!(r#"{{"clients":["{ID}","00000000000a00000002"]}}"#);
        assert_eq!(
            answer(Verb::Online, &online, clients()),
            format!(r#"{{"online":{{"{ID}":true,"00000000000a00000002":false}},"missing":[]}}"#)
        );
        assert_eq!(
            answer(Verb::Online, r#"{"uids":["b","c"]}"#, names()),
            r#"{"online":{"b":true,"c":false},"missing":[]}"#
        );
        let info = ClientInfo {
            client: id,
            uid: None,
            groups: vec!["g".into()],
            session: Some(r#"{"n":1}"#.into()),
        };
        assert_eq!(
            answer(Verb::Select, r#"{"of":"all","fields":["uid","session"]}"#, Answer::Infos(vec![info])),
            format!(r#"{{"clients":[{{"client":"{ID}","uid":null,"session":{{"n":1}}}}],"missing":[]}}"#)
        );
    }

    #[test]
    fn who_did_not_answer_is_named_with_the_reason() {
        let question = Question::session_of(ID.parse().unwrap());
        let missing = |why| Missing { gateway: GatewayId::new(10), name: NodeName::new("g-1").unwrap(), why };
        let answered = |missing| Answered { answer: Answer::Infos(vec![]), refused: None, missing };
        let said = question.answer(answered(vec![missing(Why::NotLinked)])).unwrap();
        assert_eq!(
            String::from_utf8(said).unwrap(),
            r#"{"missing":[{"gateway":"00000000000a","name":"g-1","why":"not-linked"}]}"#
        );
        assert!(Question::session_of(ID.parse().unwrap()).answer(answered(vec![])).is_none());
    }
}
