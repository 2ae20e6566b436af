//! Against a real cluster. It is named by the environment: TIDEGATE_API, TIDEGATE_TOKEN, TIDEGATE_APP, and TIDEGATE_WS with the
//! addresses of two gateways, whose app tells each client its id;
//! TIDEGATE_CA with a file if its API speaks TLS. The repository's own tests start one and run this.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod recording;

use std::collections::BTreeMap;

use futures_util::StreamExt;
use recording::{Recorder, described};
use serde_json::{Value, json};
use tidegate_client::{Audience, Command, Effect, Error, Field, Message, Reached, Tidegate};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

struct World {
    api: String,
    token: String,
    app: String,
    websockets: Vec<String>,
}

/// A client of the app under test.
struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    id: String,
}

/// Who vouches for the API, if it speaks TLS.
fn authority() -> Option<Vec<u8>> {
    std::env::var_os("TIDEGATE_CA").map(|path| std::fs::read(path).unwrap())
}

impl World {
    fn find() -> Option<Self> {
        let Ok(websockets) = std::env::var("TIDEGATE_WS") else {
            println!("skipped: TIDEGATE_WS does not name a cluster");
            return None;
        };
        let of = |name: &str| std::env::var(name).expect(name);
        let websockets = websockets.split(',').map(str::to_owned).collect();
        Some(Self {
            api: of("TIDEGATE_API"),
            token: of("TIDEGATE_TOKEN"),
            app: of("TIDEGATE_APP"),
            websockets,
        })
    }

    fn tidegate(&self, token: &str) -> Tidegate {
        let mut builder = Tidegate::builder(&self.api, token);
        if let Some(authority) = authority() {
            builder = builder.authorities(&authority).unwrap();
        }
        builder.build().unwrap()
    }

    async fn clients(&self) -> (Client, Client) {
        (Client::connect(&self.websockets[0]).await, Client::connect(&self.websockets[1]).await)
    }
}

impl Client {
    async fn connect(url: &str) -> Self {
        let (stream, _) = connect_async(url).await.unwrap();
        let mut client = Self { stream, id: String::new() };
        let hello: Value = serde_json::from_str(&client.text().await).unwrap();
        assert_eq!(hello["event"], "connect");
        client.id = hello["client"].as_str().unwrap().to_owned();
        client
    }

    async fn next(&mut self) -> Frame {
        self.stream.next().await.unwrap().unwrap()
    }

    async fn text(&mut self) -> String {
        self.next().await.into_text().unwrap().to_string()
    }
}

/// What it reached, if no gateway is missing.
fn reached(done: Result<Reached, Error>) -> u64 {
    let done = done.unwrap();
    assert_eq!(done.missing, []);
    done.reached
}

#[tokio::test]
async fn every_operation_does_what_it_says_on_two_gateways() {
    let Some(world) = World::find() else { return };
    // What is said by TLS cannot be recorded.
    let recorder = match authority() {
        Some(_) => None,
        None => Some(Recorder::start(&world.api).await),
    };
    let tidegate = match &recorder {
        Some(recorder) => Tidegate::new(&recorder.address, &world.token).unwrap(),
        None => world.tidegate(&world.token),
    };
    let app = tidegate.app("default", &world.app);
    let (mut ann, mut bob) = world.clients().await;
    let (a, b) = (ann.id.clone(), bob.id.clone());
    let both = || Audience::clients([&a, &b].map(String::as_str));

    assert_eq!(reached(app.send(both(), "to both").await), 2);
    assert_eq!((ann.text().await, bob.text().await), ("to both".into(), "to both".into()));
    assert_eq!(reached(app.give(Command::send(both(), "but ann \u{e9}").except([&*a])).await), 1);
    assert_eq!(bob.text().await, "but ann \u{e9}");
    assert_eq!(reached(app.send(Audience::client(&*a), vec![0, 255]).await), 1);
    assert_eq!(ann.next().await, Frame::binary(vec![0, 255]));
    assert_eq!(reached(app.send(Audience::client(&*a), Message::Raw(b"\x81\x02hi".to_vec())).await), 1);
    assert_eq!(ann.text().await, "hi");
    assert_eq!(reached(app.bind(&a, "ann").await), 1);
    assert_eq!(reached(app.bind(&b, 7_u64).await), 1);
    for client in [&a, &b] {
        assert_eq!(reached(app.give(Command::join(client, ["rs-room", "rs-1"])).await), 1);
    }
    assert_eq!(reached(app.send(Audience::groups(["rs-room", "rs-1"]), "room").await), 2);
    assert_eq!(reached(app.send(Audience::uids(["ann", "7"]), "uids").await), 2);
    for client in [&mut ann, &mut bob] {
        assert_eq!((client.text().await, client.text().await), ("room".into(), "uids".into()));
    }
    assert_eq!(reached(app.leave(&b, "rs-1").await), 1);

    assert_eq!(app.count(Audience::group("rs-room")).await.unwrap().value, 2);
    assert_eq!(app.count_uids(both()).await.unwrap().value, 2);
    let counts = app.count_by_group(["rs-room", "rs-1", "none"]).await.unwrap();
    let expected = [("none", 0), ("rs-1", 1), ("rs-room", 2)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!((counts.value, counts.missing, counts.refused), (BTreeMap::from(expected), vec![], None));
    assert_eq!(app.clients(Audience::group("rs-1")).await.unwrap().value, [&*a]);
    assert_eq!(app.uids(both()).await.unwrap().value, ["7", "ann"]);
    assert_eq!(app.groups(Audience::client(&*a)).await.unwrap().value, ["rs-1", "rs-room"]);
    let online = app.online_uids(["ann", "eve"]).await.unwrap().value;
    assert_eq!(online, BTreeMap::from([("ann".to_owned(), true), ("eve".to_owned(), false)]));
    let gone = "00000000000000000001";
    let online = app.online_clients([&*b, gone]).await.unwrap().value;
    assert_eq!((online[&b], online[gone]), (true, false));
    let found = app.select(Audience::uid("ann"), &[Field::Uid]).await.unwrap().value;
    assert_eq!(
        (&*found[0].client, found[0].uid.as_deref(), &found[0].groups, found.len()),
        (&*a, Some("ann"), &None, 1)
    );

    assert_eq!(reached(app.put_session(&a, json!({"n": 1, "deep": {"x": 1}})).await), 1);
    assert_eq!(reached(app.patch_session(&a, json!({"deep": {"y": 2}})).await), 1);
    let session = |client: Option<tidegate_client::ClientInfo>| client.unwrap().session;
    let read = app.client(&a).await.unwrap().value;
    assert_eq!(session(read), Some(json!({"n": 1, "deep": {"x": 1, "y": 2}})));
    assert_eq!(reached(app.delete_session(&a).await), 1);
    assert_eq!(reached(app.give(Command::set_session(&a, json!({"n": 2}))).await), 1);
    assert_eq!(reached(app.give(Command::update_session(&a, json!({"m": 3}))).await), 1);
    assert_eq!(session(app.client(&a).await.unwrap().value), Some(json!({"n": 2, "m": 3})));
    assert_eq!(reached(app.give(Command::clear_session(&a)).await), 1);
    assert_eq!(app.client(gone).await.unwrap().value, None);

    let commands = [
        Command::unbind(&b),
        Command::join(&b, ["rs-late"]),
        Command::send(Audience::group("rs-late"), "first"),
        Command::disband(["rs-late"]),
        Command::set_session(&b, json!([])),
        Command::send(both(), "second"),
    ];
    let done = app.batch(commands).await.unwrap();
    assert_eq!(done.results[..4], [1, 1, 1, 1].map(Effect::Reached));
    assert!(matches!(done.results[4..], [Effect::Refused(_), Effect::Reached(2)]), "{done:?}");
    assert_eq!(done.missing, []);
    assert_eq!((bob.text().await, bob.text().await), ("first".into(), "second".into()));
    assert_eq!(ann.text().await, "second");
    assert_eq!(reached(app.give(Command::unbind(&b)).await), 1);
    assert_eq!(reached(app.give(Command::disband(["none"])).await), 0);

    let close = Command::close(Audience::client(&*a)).code(4001).reason("kicked").farewell("bye");
    assert_eq!(reached(app.give(close).await), 1);
    assert_eq!(ann.text().await, "bye");
    let Frame::Close(Some(frame)) = ann.next().await else { panic!("a close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "kicked"));
    assert_eq!(reached(app.destroy(Audience::client(&*b)).await), 1);
    assert!(!matches!(bob.stream.next().await, Some(Ok(_))));
    assert_eq!(reached(app.close(both(), 4000, "nobody").await), 0);

    let pushes = described(&tidegate.openapi().await.unwrap(), true);
    assert!(pushes.len() >= 24, "{pushes:?}");
    let Some(recorder) = recorder else { return };
    let asked = recorder.asked();
    assert_eq!(pushes.difference(&asked).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

#[tokio::test]
async fn problems_are_told_and_a_key_stands_for_one_command() {
    let Some(world) = World::find() else { return };
    let tidegate = world.tidegate(&world.token);
    let app = tidegate.app("default", &world.app);
    let (mut ann, _bob) = world.clients().await;
    let to = || Audience::client(&*ann.id);
    let key = format!("rs-{}", ann.id);
    for _ in 0..2 {
        assert_eq!(reached(app.once(&key).send(to(), "once").await), 1);
    }
    let kind = |error: Error| error.kind().map(str::to_owned).unwrap_or_default();
    assert_eq!(kind(app.once(&key).send(to(), "another").await.unwrap_err()), "key-reused");
    assert_eq!(kind(app.put_session(&ann.id, json!([])).await.unwrap_err()), "refused");
    assert_eq!(kind(tidegate.app("default", "none").count(Audience::All).await.unwrap_err()), "no-such-app");
    assert_eq!(kind(tidegate.app("acme", "x").count(Audience::All).await.unwrap_err()), "forbidden");
    let stranger = world.tidegate("tg_nonsense").app("default", &world.app);
    assert_eq!(kind(stranger.count(Audience::All).await.unwrap_err()), "unauthorized");
    app.send(to(), "twice").await.unwrap();
    assert_eq!((ann.text().await, ann.text().await), ("once".into(), "twice".into()));
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_not_talked_to() {
    let Some(world) = World::find() else { return };
    assert!(Tidegate::builder(&world.api, &world.token).authorities(b"nothing").is_err());
    if authority().is_none() {
        // It speaks plain HTTP: nobody vouches for it.
        return;
    }
    let tidegate = Tidegate::builder(&world.api, &world.token).retries(0).build().unwrap();
    let error = tidegate.openapi().await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}
