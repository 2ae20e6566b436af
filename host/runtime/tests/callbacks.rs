//! Every callback and every host function, with a real guest.

mod support;

use std::collections::VecDeque;

use support::{CLIENT, Recorder, addresses, engine, start, text};
use tidegate_base::{
    Answer, Audience, ClientFields, ClientInfo, CloseInfo, CloseReason, Digest, Exports, MessageKind, Query,
    UpgradeDecision, UpgradeRequest,
};
use tidegate_runtime::{Limits, LogLevel, StartInfo, StartReason, StopReason};

#[tokio::test]
async fn every_callback_reaches_the_plugin() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    assert_eq!(plugin.exports().names().count(), 9);
    let info =
        StartInfo { slot: 1, slots: 4, worker: "w-1".to_owned(), version: 3, reason: StartReason::Restart };
    plugin.on_worker_start(&info).await.unwrap();
    plugin.on_connect(CLIENT).await.unwrap();
    plugin.on_timer("tick").await.unwrap();
    let close = CloseInfo {
        reason: CloseReason::GatewayLost,
        uid: Some("u".to_owned()),
        groups: vec!["red".to_owned(), "grün".to_owned()],
        session: None,
    };
    plugin.on_close(CLIENT, &close).await.unwrap();
    plugin.on_worker_stop(StopReason::Swap).await.unwrap();
    let log: Vec<_> = host.log().into_iter().map(|(level, line)| format!("{level:?} {line}")).collect();
    assert_eq!(
        log,
        [
            "Info start 1 of 4 on w-1 v3 StartReason::Restart",
            "Warn timer tick",
            r#"Debug 1250999896491/7 CloseReason::GatewayLost Some("u") ["red", "grün"] None"#,
            "Trace stop StopReason::Swap",
        ]
    );
    assert_eq!(host.record.lock().commands, [r#"Bind(0123456789ab00000007, "somebody")"#, "cancel tick"]);
}

#[tokio::test]
async fn an_upgrade_is_decided_by_the_plugin() {
    let engine = engine();
    let mut plugin = start(&engine, Recorder::default(), Limits::default()).await;
    let pair = |a: &str, b: &str| vec![(a.to_owned(), b.to_owned())];
    let mut request = UpgradeRequest {
        path: "/chat".to_owned(),
        query: pair("room", "a b"),
        headers: pair("origin", "x"),
        cookies: pair("id", "1"),
        protocols: vec!["v2".to_owned(), "v1".to_owned()],
    };
    let accepted = plugin.on_websocket_connect(CLIENT, &request).await.unwrap();
    assert_eq!(accepted, UpgradeDecision::Accept(Some("v2".to_owned())));
    request.path = "/refuse".to_owned();
    let refused = plugin.on_websocket_connect(CLIENT, &request).await.unwrap();
    let reason = r#"[("room", "a b")] [("id", "1")]"#.to_owned();
    assert_eq!(refused, UpgradeDecision::Refuse(403, reason));
}

#[tokio::test]
async fn commands_arrive_in_order_with_what_they_say() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    text(&mut plugin, "commands").await.unwrap();
    plugin.on_message(CLIENT, MessageKind::Binary, &[255, 0]).await.unwrap();
    let id = "0123456789ab00000007";
    let expected = [
        format!(
            r#"Send {{ to: Groups(["red", "grün"]), except: [{id}], message: Message {{ kind: Text, payload: [104, 101, 108, 108, 111] }} }}"#
        ),
        "Send { to: All, except: [], message: Message { kind: Raw, payload: [0, 1, 2] } }".to_owned(),
        format!(
            r#"Close {{ to: Uids(["u"]), except: [{id}], code: 3000, reason: "because", farewell: Some(Message {{ kind: Text, payload: [98, 121, 101] }}) }}"#
        ),
        r#"Close { to: All, except: [], code: 1000, reason: "", farewell: None }"#.to_owned(),
        format!("Destroy {{ to: Clients([{id}, {id}]), except: [] }}"),
        format!(r#"Bind({id}, "me")"#),
        format!("Unbind({id})"),
        format!(r#"Join({id}, "red")"#),
        format!(r#"Leave({id}, "red")"#),
        r#"Disband("red")"#.to_owned(),
        format!(r#"SetSession({id}, Some("{{}}"))"#),
        format!("SetSession({id}, None)"),
        format!(r#"UpdateSession({id}, "{{\"a\":1}}")"#),
        "timer tick 1s Some(20ms)".to_owned(),
        "cancel tick".to_owned(),
        format!("SendTo({id}, Message {{ kind: Binary, payload: [255, 0] }})"),
    ];
    assert_eq!(host.record.lock().commands, expected);
}

#[tokio::test]
async fn every_query_gets_its_answer_and_who_is_missing() {
    let (engine, host) = (engine(), Recorder::default());
    let info = ClientInfo { client: CLIENT, uid: None, groups: vec![], session: Some("{}".to_owned()) };
    let names = Answer::Names(vec!["x".to_owned(), "y".to_owned()]);
    host.record.lock().answers = VecDeque::from([
        Answer::Count(3),
        Answer::Count(2),
        Answer::Clients(vec![CLIENT]),
        names.clone(),
        names,
        Answer::Infos(vec![info]),
        Answer::Counts(vec![5, 6]),
    ]);
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    text(&mut plugin, "queries").await.unwrap();
    let sent = host.sent().remove(0);
    for part in [
        "Counted { value: 3, missing: [9] }",
        "Counted { value: 2, missing: [9] }",
        "value: [ClientId { gateway: 1250999896491, connection: 7 }], missing: [9]",
        r#"value: ["x", "y"], missing: [9]"#,
        r#"uid: None, groups: [], session: Some("{}")"#,
        "value: [5, 6], missing: [9]",
    ] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    let fields = ClientFields { uid: true, groups: false, session: true };
    assert_eq!(
        host.record.lock().queries,
        [
            Query::CountClients(Audience::All),
            Query::CountUids(Audience::Uids(vec!["a".into()])),
            Query::ListClients(Audience::Clients(vec![CLIENT])),
            Query::ListUids(Audience::Groups(vec!["g".into()])),
            Query::ListGroups(Audience::All),
            Query::Select(Audience::All, fields),
            Query::CountByGroup(vec!["g".into(), "h".into()]),
        ]
    );
}

#[tokio::test]
async fn an_answer_of_another_kind_is_the_hosts_fault() {
    let (engine, host) = (engine(), Recorder::default());
    host.record.lock().answers.push_back(Answer::Names(vec![]));
    let mut plugin = start(&engine, host, Limits::default()).await;
    let fault = text(&mut plugin, "count").await.unwrap_err();
    assert_eq!(fault.label(), "host");
    assert!(!plugin.is_usable());
}

#[tokio::test]
async fn the_turn_knows_its_client_and_the_app_its_settings() {
    let (engine, mut host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    text(&mut plugin, "context").await.unwrap();
    assert_eq!(host.sent(), ["None None"]);
    host.addresses = Some(addresses());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    text(&mut plugin, "context").await.unwrap();
    let sent = host.sent().remove(0);
    for part in ["192.0.2.1:1234", "[::1]:80", r#"protocol: "ws""#, r#"{\"a\":1}"#] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    text(&mut plugin, "settings colour").await.unwrap();
    text(&mut plugin, "settings other").await.unwrap();
    let all = r#"[("colour", "red"), ("size", "3")]"#;
    assert_eq!(host.sent(), [format!(r#"Some("red") {all}"#), format!("None {all}")]);
}

#[tokio::test]
async fn broken_rules_fail_the_turn_and_the_instance_lives_on() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    let long_key = format!("timer {}", "k".repeat(256));
    for (message, reason) in [
        ("crowd".to_owned(), "at most 65536 entries, this one has 65537"),
        (long_key, "1 to 255 bytes, this one has 256"),
        ("fail for a reason".to_owned(), "for a reason"),
        ("fail ".to_owned() + &"é".repeat(4000), "ééé"),
    ] {
        text(&mut plugin, &message).await.unwrap();
        let failures = host.failures();
        assert!(failures.len() == 1 && failures[0].contains(reason), "{failures:?}");
        assert!(failures[0].len() <= 4096);
    }
    text(&mut plugin, "echo still here").await.unwrap();
    assert_eq!(host.sent(), ["still here"]);
}

#[tokio::test]
async fn what_a_plugin_prints_is_logged_line_by_line() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    text(&mut plugin, "print hello").await.unwrap();
    text(&mut plugin, "shout help").await.unwrap();
    text(&mut plugin, "print-part one ").await.unwrap();
    text(&mut plugin, "print line").await.unwrap();
    let line = |level, text: &str| (level, text.to_owned());
    let expected =
        [line(LogLevel::Info, "hello"), line(LogLevel::Warn, "help"), line(LogLevel::Info, "one line")];
    assert_eq!(host.log(), expected);
    text(&mut plugin, "flood").await.unwrap();
    let log = host.log();
    assert!(log.len() < 1000 && log.last().unwrap().1.contains("lines were lost"));
}

#[tokio::test]
async fn a_plugin_sees_no_environment_and_no_files() {
    let (engine, host) = (engine(), Recorder::default());
    let mut plugin = start(&engine, host.clone(), Limits::default()).await;
    text(&mut plugin, "environment").await.unwrap();
    assert_eq!(host.sent(), ["[] true"]);
}

#[tokio::test]
async fn modules_are_shared_and_named_by_their_digest() {
    let engine = engine();
    let modules = tidegate_runtime::Modules::new(engine, tidegate_runtime::Compiler::InProcess, None);
    let a = modules.load(support::guest()).unwrap();
    assert_eq!(a.digest(), Digest::of(support::guest()));
    assert!(a.exports().has(Exports::MESSAGE) && a.exports().has(Exports::WORKER_STOP));
    let error = modules.load(b"\0asm\x01\0\0\0").unwrap_err().to_string();
    assert!(error.contains("not a component"), "{error}");
}
