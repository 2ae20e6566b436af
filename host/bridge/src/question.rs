//! Questions, and their answers as PHP wants them.

use std::collections::BTreeMap;

use tidegate_base::{Answer, ClientInfo, Query};

use crate::doors::Place;
use crate::php::{Writer, session_to_php};

/// What is asked, and the form of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// None: nobody needs to be asked, there is nothing.
    pub query: Option<Query>,
    pub form: Form,
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// One client's session; null: it is not there.
    Session,
    /// Number => session, serialized in itself.
    Sessions,
    /// 1 or 0.
    Online,
    /// A list of numbers.
    Numbers,
    /// Uid => list of numbers.
    ByUid(Vec<String>),
    /// A number.
    Count,
    /// A list of names.
    Names,
    /// Group => how many.
    Counts(Vec<String>),
    /// Number => field => value.
    Select(Fields),
}

/// Which fields were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fields {
    pub session: bool,
    pub uid: bool,
    pub groups: bool,
}

impl Form {
    /// What PHP unserializes, of what a gateway answered. None: nobody was there to ask.
    pub fn serialize(&self, place: Option<Place>, answer: Option<&Answer>) -> Vec<u8> {
        let mut out = Writer::default();
        let number = |client| i64::from(place.map_or(0, |place: Place| place.number(client)));
        let clients = match answer {
            Some(Answer::Clients(clients)) => clients.as_slice(),
            _ => &[],
        };
        let infos = match answer {
            Some(Answer::Infos(infos)) => infos.as_slice(),
            _ => &[],
        };
        match self {
            Self::Session => match infos.first() {
                None => out.null(),
                // It is serialized already.
                Some(info) => return session(info).unwrap_or_else(|| b"a:0:{}".to_vec()),
            },
            Self::Sessions => out.array(infos.len(), |out| {
                for info in infos {
                    out.int(number(info.client));
                    out.text(&session(info).unwrap_or_default());
                }
            }),
            Self::Online => out.int(i64::from(!clients.is_empty())),
            Self::Numbers => out.list(clients, |out, client| out.int(number(*client))),
            Self::ByUid(uids) => by_uid(&mut out, uids, infos, number),
            Self::Count => match answer {
                Some(Answer::Count(count)) => out.int(i64::try_from(*count).unwrap_or(i64::MAX)),
                _ => out.int(0),
            },
            Self::Names => match answer {
                Some(Answer::Names(names)) => out.list(names, |out, name| out.key(name)),
                _ => out.array(0, |_| {}),
            },
            Self::Counts(groups) => {
                let counts = match answer {
                    Some(Answer::Counts(counts)) => counts.as_slice(),
                    _ => &[],
                };
                let counts = counts.iter().copied().chain(std::iter::repeat(0));
                let by_group: BTreeMap<_, _> = groups.iter().zip(counts).collect();
                out.array(by_group.len(), |out| {
                    for (group, count) in by_group {
                        out.key(group);
                        out.int(i64::try_from(count).unwrap_or(i64::MAX));
                    }
                });
            }
            Self::Select(fields) => out.array(infos.len(), |out| {
                for info in infos {
                    out.int(number(info.client));
                    select(out, *fields, info);
                }
            }),
        }
        out.into_bytes()
    }
}

/// Every uid that was asked for, also those of nobody.
fn by_uid(
    out: &mut Writer,
    uids: &[String],
    infos: &[ClientInfo],
    number: impl Fn(tidegate_base::ClientId) -> i64,
) {
    let mut by_uid: BTreeMap<&str, Vec<i64>> = uids.iter().map(|uid| (uid.as_str(), Vec::new())).collect();
    for info in infos {
        if let Some(numbers) = info.uid.as_deref().and_then(|uid| by_uid.get_mut(uid)) {
            numbers.push(number(info.client));
        }
    }
    out.array(by_uid.len(), |out| {
        for (uid, numbers) in &by_uid {
            out.key(uid);
            out.list(numbers, |out, number| out.int(*number));
        }
    });
}

fn select(out: &mut Writer, fields: Fields, info: &ClientInfo) {
    let count = [fields.session, fields.uid, fields.groups].into_iter().filter(|asked| *asked).count();
    out.array(count, |out| {
        if fields.session {
            out.text(b"session");
            out.text(&session(info).unwrap_or_default());
        }
        if fields.uid {
            out.text(b"uid");
            match &info.uid {
                Some(uid) => out.text(uid.as_bytes()),
                None => out.null(),
            }
        }
        if fields.groups {
            out.text(b"groups");
            out.array(info.groups.len(), |out| {
                for group in &info.groups {
                    out.key(group);
                    out.text(group.as_bytes());
                }
            });
        }
    });
}

/// A session, serialized; none: the client has none.
fn session(info: &ClientInfo) -> Option<Vec<u8>> {
    info.session.as_deref().and_then(session_to_php)
}

#[cfg(test)]
mod tests {
    use tidegate_base::{ClientId, GatewayId};

    use super::*;
    use crate::doors::Places;

    const GATEWAY: GatewayId = GatewayId::new(0x7f00_0001_0b54);

    fn place() -> Option<Place> {
        let mut places = Places::new("127.0.0.0/8:2900".parse().unwrap(), &[2900]);
        places.list(&[GATEWAY]);
        places.at("127.0.0.1:2900".parse().unwrap())
    }

    fn client(connection: u32) -> ClientId {
        ClientId { gateway: GATEWAY, connection }
    }

    fn info(connection: u32, uid: Option<&str>, groups: &[&str], session: Option<&str>) -> ClientInfo {
        ClientInfo {
            client: client(connection),
            uid: uid.map(Into::into),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            session: session.map(Into::into),
        }
    }

    fn told(form: &Form, answer: &Answer) -> String {
        String::from_utf8(form.serialize(place(), Some(answer))).unwrap()
    }

    #[test]
    fn answers_are_what_php_unserializes() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |info: ClientInfo| Answer::Infos(vec![info]);
        let none = Answer::Infos(vec![]);
        assert_eq!(told(&Form::Session, &none), "N;");
        assert_eq!(told(&Form::Session, &of(info(1, None, &[], None))), "a:0:{}");
        assert_eq!(told(&Form::Session, &of(info(1, None, &[], Some("{\"a\":1}")))), "a:1:{s:1:\"a\";i:1;}");
        let two = Answer::Infos(vec![info(1, None, &[], Some("{}")), info(2, None, &[], None)]);
        assert_eq!(told(&Form::Sessions, &two), "a:2:{i:1;s:6:\"a:0:{}\";i:2;s:0:\"\";}");
        assert_eq!(told(&Form::Online, &Answer::Clients(vec![client(3)])), "i:1;");
        assert_eq!(told(&Form::Online, &Answer::Clients(vec![])), "i:0;");
        let clients = Answer::Clients(vec![client(5), client(u32::MAX)]);
        assert_eq!(told(&Form::Numbers, &clients), "a:2:{i:0;i:5;i:1;i:4294967295;}");
        let bound = Answer::Infos(vec![info(1, Some("7"), &[], None), info(2, Some("7"), &[], None)]);
        assert_eq!(
            told(&Form::ByUid(names(&["bob", "7"])), &bound),
            "a:2:{i:7;a:2:{i:0;i:1;i:1;i:2;}s:3:\"bob\";a:0:{}}"
        );
        assert_eq!(told(&Form::Count, &Answer::Count(12)), "i:12;");
        assert_eq!(
            told(&Form::Names, &Answer::Names(names(&["9", "room"]))),
            "a:2:{i:0;i:9;i:1;s:4:\"room\";}"
        );
        let counts = Answer::Counts(vec![2, 0]);
        assert_eq!(told(&Form::Counts(names(&["room", "1"])), &counts), "a:2:{i:1;i:0;s:4:\"room\";i:2;}");
        let all = Fields { session: true, uid: true, groups: true };
        assert_eq!(
            told(&Form::Select(all), &of(info(1, None, &["9", "r"], Some("{}")))),
            "a:1:{i:1;a:3:{s:7:\"session\";s:6:\"a:0:{}\";s:3:\"uid\";N;s:6:\"groups\";a:2:{i:9;s:1:\"9\";s:1:\"r\";\
             s:1:\"r\";}}}"
        );
        let uid = Fields { session: false, uid: true, groups: false };
        assert_eq!(
            told(&Form::Select(uid), &of(info(1, Some("a"), &[], None))),
            "a:1:{i:1;a:1:{s:3:\"uid\";s:1:\"a\";}}"
        );
    }

    #[test]
    fn nobody_has_nothing() {
        let forms = [
            (Form::Session, "N;"),
            (Form::Sessions, "a:0:{}"),
            (Form::Online, "i:0;"),
            (Form::Numbers, "a:0:{}"),
            (Form::ByUid(vec!["a".into()]), "a:1:{s:1:\"a\";a:0:{}}"),
            (Form::Count, "i:0;"),
            (Form::Names, "a:0:{}"),
            (Form::Counts(vec!["g".into()]), "a:1:{s:1:\"g\";i:0;}"),
            (Form::Select(Fields { session: true, uid: true, groups: true }), "a:0:{}"),
        ];
        for (form, expected) in forms {
            assert_eq!(String::from_utf8(form.serialize(None, None)).unwrap(), expected, "{form:?}");
        }
    }
}
