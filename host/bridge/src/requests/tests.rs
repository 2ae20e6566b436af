use tidegate_base::GatewayId;

use super::*;
use crate::doors::Places;
use crate::packet::tests::packed;

const GATEWAY: GatewayId = GatewayId::new(0x7f00_0001_0b54);
const SCALAR: u8 = 1;

fn place() -> Option<Place> {
    let mut places = Places::new("127.0.0.0/8:2900".parse().unwrap(), &[2900]);
    places.list(&[GATEWAY]);
    places.at("127.0.0.1:2900".parse().unwrap())
}

fn client(connection: u32) -> ClientId {
    ClientId { gateway: GATEWAY, connection }
}

fn packet(bytes: &[u8]) -> Packet<'_> {
    Packet::split(bytes, 1 << 20).unwrap().unwrap().0
}

/// What a packet comes to, told as its debug text, since it borrows from the packet.
fn told(command: u8, flag: u8, ext: &str, body: &[u8]) -> Result<String, Refusal> {
    let bytes = packed(command, 5, flag, ext.as_bytes(), body);
    read(&packet(&bytes), place()).map(|request| format!("{request:?}"))
}

fn commands(expected: Vec<Command<'_>>) -> Result<String, Refusal> {
    Ok(format!("{:?}", Request::Commands(expected)))
}

fn asked(query: Query, form: Form) -> Result<String, Refusal> {
    Ok(format!("{:?}", Request::Ask(Question { query: Some(query), form })))
}

fn text(payload: &[u8]) -> Message<'_> {
    Message { kind: MessageKind::Text, payload }
}

fn names(all: &[&str]) -> Vec<Cow<'static, str>> {
    all.iter().map(|name| Cow::Owned((*name).to_owned())).collect()
}

#[test]
fn every_command_of_gatewayclient_is_understood() {
    let one = || Audience::Clients(vec![client(5)]);
    let send = |to, except, payload| Command::Send { to, except, message: text(payload) };
    let close =
        |farewell| Command::Close { to: one(), except: vec![], code: 1000, reason: "".into(), farewell };
    let groups = |group: &str| Audience::Groups(names(&[group]));
    let cases = [
        (told(5, SCALAR, "", b"hi"), vec![Command::SendTo(client(5), text(b"hi"))]),
        (told(6, SCALAR, "", b"hi"), vec![send(Audience::All, vec![], b"hi")]),
        (
            told(6, SCALAR, r#"{"connections":{"5":5,"9":9}}"#, b"hi"),
            vec![send(Audience::Clients(vec![client(5), client(9)]), vec![], b"hi")],
        ),
        (told(6, SCALAR, r#"{"connections":[]}"#, b"hi"), vec![]),
        (told(6, SCALAR, r#"{"exclude":{"1":1}}"#, b"hi"), vec![send(Audience::All, vec![client(1)], b"hi")]),
        (told(7, SCALAR, "", b"bye"), vec![close(Some(text(b"bye")))]),
        (told(7, 0, "", b"N;"), vec![close(None)]),
        (told(7, SCALAR, "", b""), vec![close(None)]),
        (told(8, 0, "", b""), vec![Command::Destroy { to: one(), except: vec![] }]),
        (
            told(9, 0, "a:1:{s:1:\"a\";a:1:{i:0;i:1;}}", b""),
            vec![Command::UpdateSession(client(5), r#"{"a":[1]}"#.into())],
        ),
        (told(204, 0, "a:0:{}", b""), vec![Command::SetSession(client(5), Some("{}".into()))]),
        (told(204, 0, "", b""), vec![Command::SetSession(client(5), None)]),
        (told(12, 0, "ann", b""), vec![Command::Bind(client(5), "ann".into())]),
        (told(13, 0, "whoever", b""), vec![Command::Unbind(client(5))]),
        (
            told(14, SCALAR, r#"["ann",7]"#, b"hi"),
            vec![send(Audience::Uids(names(&["ann", "7"])), vec![], b"hi")],
        ),
        (told(20, 0, "room", b""), vec![Command::Join(client(5), "room".into())]),
        (told(21, 0, "room", b""), vec![Command::Leave(client(5), "room".into())]),
        (told(27, 0, "room", b""), vec![Command::Disband("room".into())]),
        (
            told(22, SCALAR, r#"{"group":["a",7],"exclude":{"1":1}}"#, b"hi"),
            vec![send(groups("a"), vec![client(1)], b"hi"), send(groups("7"), vec![client(1)], b"hi")],
        ),
        (
            told(22, SCALAR, r#"{"group":["a"],"exclude":null}"#, b"hi"),
            vec![send(groups("a"), vec![], b"hi")],
        ),
    ];
    for (told, expected) in cases {
        assert_eq!(told, commands(expected));
    }
}

#[test]
fn every_question_of_gatewayclient_is_understood() {
    let session = ClientFields { uid: false, groups: false, session: true };
    let one = || Audience::Clients(vec![client(5)]);
    let group = || Audience::Groups(names(&["room"]));
    let owned = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let by_uid = ClientFields { uid: true, groups: false, session: false };
    let fields = Fields { session: false, uid: true, groups: true };
    let uid_groups = ClientFields { uid: true, groups: true, session: false };
    let select = |of: &str| told(25, 0, &format!(r#"{{"fields":["uid","groups"],"where":{of}}}"#), b"");
    let cases = [
        (told(203, 0, "", b""), Query::Select(one(), session), Form::Session),
        (told(10, 0, "", b""), Query::Select(Audience::All, session), Form::Sessions),
        (told(23, 0, "room", b""), Query::Select(group(), session), Form::Sessions),
        (told(11, 0, "", b""), Query::ListClients(one()), Form::Online),
        (told(15, 0, "ann", b""), Query::ListClients(Audience::Uids(names(&["ann"]))), Form::Numbers),
        (
            told(16, 0, r#"["ann",7]"#, b""),
            Query::Select(Audience::Uids(names(&["ann", "7"])), by_uid),
            Form::ByUid(owned(&["ann", "7"])),
        ),
        (told(24, 0, "", b""), Query::CountClients(Audience::All), Form::Count),
        (told(24, 0, "room", b""), Query::CountClients(group()), Form::Count),
        (told(26, 0, "", b""), Query::ListGroups(Audience::All), Form::Names),
        (
            told(28, 0, r#"["room","b"]"#, b""),
            Query::CountByGroup(names(&["room", "b"])),
            Form::Counts(owned(&["room", "b"])),
        ),
        (select("[]"), Query::Select(Audience::All, uid_groups), Form::Select(fields)),
        (select("null"), Query::Select(Audience::All, uid_groups), Form::Select(fields)),
        (select(r#"{"groups":["room"]}"#), Query::Select(group(), uid_groups), Form::Select(fields)),
        (
            select(r#"{"uid":["ann"]}"#),
            Query::Select(Audience::Uids(names(&["ann"])), uid_groups),
            Form::Select(fields),
        ),
        (select(r#"{"connection_id":{"5":5}}"#), Query::Select(one(), uid_groups), Form::Select(fields)),
    ];
    for (told, query, form) in cases {
        assert_eq!(told, asked(query, form));
    }
}

#[test]
fn an_id_that_a_plugin_told_is_found_by_its_own_gateway_alone() {
    let own = client(9);
    let found = told(15, 0, &format!("client:{own}"), b"");
    assert_eq!(found, asked(Query::ListClients(Audience::Clients(vec![own])), Form::Numbers));
    let nobody = Question { query: None, form: Form::Numbers };
    let elsewhere = told(15, 0, "client:00000000000100000009", b"");
    assert_eq!(elsewhere, Ok(format!("{:?}", Request::Ask(nobody))));
    let uid = told(15, 0, "client:nonsense", b"");
    assert_eq!(uid, asked(Query::ListClients(Audience::Uids(names(&["client:nonsense"]))), Form::Numbers));
}

#[test]
fn messages_are_text_if_they_are_and_bytes_if_not() {
    let kind = |flag: u8, body: &[u8]| {
        let bytes = packed(5, 5, flag, b"", body);
        message(&packet(&bytes)).map(|message| (message.kind, message.payload.to_vec()))
    };
    assert_eq!(kind(1, "é".as_bytes()), Ok((MessageKind::Text, "é".into())));
    assert_eq!(kind(1, b"\xff"), Ok((MessageKind::Binary, vec![0xff])));
    assert_eq!(kind(3, b"\x81\x00"), Ok((MessageKind::Raw, vec![0x81, 0])));
    assert_eq!(kind(0, b"s:2:\"hi\";"), Ok((MessageKind::Text, b"hi".to_vec())));
    assert_eq!(kind(0, b"a:0:{}"), Err(Refusal::NoText));
}

#[test]
fn what_makes_no_sense_is_told() {
    assert_eq!(told(200, 0, "", br#"{"worker_key":"a:1"}"#), Err(Refusal::Worker));
    assert_eq!(told(17, 0, "", b""), Err(Refusal::Unknown(17)));
    assert!(matches!(told(14, SCALAR, "ann", b"hi"), Err(Refusal::Ext(14, _))));
    assert!(matches!(told(12, 0, "", b""), Err(Refusal::Command(_))));
    assert!(matches!(told(12, 0, &"x".repeat(256), b""), Err(Refusal::Command(_))));
    assert!(matches!(told(14, SCALAR, "[\"\"]", b"hi"), Err(Refusal::Command(_))));
    assert!(matches!(told(204, 0, "i:1;", b""), Err(Refusal::Session(_))));
    let two = r#"{"fields":[],"where":{"uid":["a"],"groups":["b"]}}"#;
    assert!(matches!(told(25, 0, two, b""), Err(Refusal::Ext(25, _))));
    let groups = format!("{{\"group\":[{}]}}", vec!["1"; 1001].join(","));
    assert!(matches!(told(22, SCALAR, &groups, b"hi"), Err(Refusal::Ext(22, _))));
}

#[test]
fn more_clients_than_one_command_may_name_are_several_commands() {
    let ids: Vec<String> = (1..=70_000).map(|n| format!("\"{n}\":{n}")).collect();
    let ext = format!("{{\"connections\":{{{}}}}}", ids.join(","));
    let bytes = packed(6, 0, SCALAR, ext.as_bytes(), b"hi");
    let packet = Packet::split(&bytes, 10 << 20).unwrap().unwrap().0;
    let Ok(Request::Commands(commands)) = read(&packet, place()) else { panic!("it is understood") };
    let sizes = commands.iter().map(|command| match command {
        Command::Send { to: Audience::Clients(clients), .. } => clients.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [65_536, 4_464]);
}

#[test]
fn a_list_of_excluded_clients_is_not_copied_for_many_groups() {
    let say = |groups: usize, excluded: u32| {
        let groups: Vec<_> = (0..groups).map(|n| format!("\"g{n}\"")).collect();
        let excluded: Vec<_> = (0..excluded).map(|n| n.to_string()).collect();
        let ext = format!(r#"{{"group":[{}],"exclude":[{}]}}"#, groups.join(","), excluded.join(","));
        told(22, SCALAR, &ext, b"hi").map(drop)
    };
    assert_eq!(say(1000, 1000), Ok(()));
    assert_eq!(say(1, 65_536), Ok(()));
    for (groups, excluded) in [(1000, 1001), (1, 65_537), (16, 65_536)] {
        let error = say(groups, excluded).unwrap_err().to_string();
        assert!(error.contains("excludes too many"), "{error}");
    }
}
