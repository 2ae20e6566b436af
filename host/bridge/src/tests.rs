//! A bridge over real sockets, with a backend that tests play.

use std::net::SocketAddrV4;
use std::time::Duration;

use tidegate_base::{Answer, AppName, ClientId, Command, Query, Secret};
use tidegate_push::{Answered, Missing, Outcome, PushError, Pushed, Why};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::packet::tests::packed;

const A: GatewayId = GatewayId::new(0x7f0a_0b0c_0000);
const B: GatewayId = GatewayId::new(0x7f0a_0b0d_0000);
const DEADLINE: Duration = Duration::from_secs(10);

/// Tells what was pushed, and answers that client 7 of each gateway is there; gateway B is never in time.
struct Played(mpsc::Sender<(GatewayId, String)>);

impl Backend for Played {
    fn push<'a>(
        &'a self,
        gateway: GatewayId,
        _: &'a AppName,
        commands: &'a [Command<'a>],
    ) -> Later<'a, Result<Pushed, PushError>> {
        Box::pin(async move {
            for command in commands {
                self.0.send((gateway, format!("{command:?}"))).await.unwrap();
            }
            Ok(Pushed { outcomes: vec![Outcome::Reached(1); commands.len()], missing: vec![] })
        })
    }

    fn ask<'a>(
        &'a self,
        gateway: GatewayId,
        _: &'a AppName,
        query: &'a Query,
    ) -> Later<'a, Result<Answered, PushError>> {
        Box::pin(async move {
            let name = tidegate_base::NodeName::new("b").unwrap();
            let late = Missing { gateway, name, why: Why::Late };
            let answer = match query {
                Query::CountClients(_) => Answer::Count(1),
                _ => Answer::Clients(vec![ClientId { gateway, connection: 7 }]),
            };
            let missing = if gateway == B { vec![late] } else { vec![] };
            Ok(Answered { answer, refused: None, missing })
        })
    }
}

fn bridge(doors: &str) -> (Bridge, mpsc::Receiver<(GatewayId, String)>) {
    let (tx, rx) = mpsc::channel(100);
    let app = AppName::new("chat").unwrap();
    let register = "127.0.0.1:0".parse().unwrap();
    let settings = BridgeSettings::new(app, register, doors.parse().unwrap(), Secret::new("key"));
    let (bridge, serving) = Bridge::bind(settings, Arc::new(Played(tx))).unwrap();
    tokio::spawn(serving);
    (bridge, rx)
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it comes in time")
}

/// A connection to the Register that has said the secret.
async fn registered(bridge: &Bridge) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(bridge.register()).await.unwrap();
    stream.write_all(b"{\"event\":\"worker_connect\",\"secret_key\":\"key\"}\n").await.unwrap();
    BufReader::new(stream)
}

async fn addresses(stream: &mut BufReader<TcpStream>) -> Vec<SocketAddrV4> {
    let mut line = String::new();
    within(stream.read_line(&mut line)).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["event"], "broadcast_addresses");
    told["addresses"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().parse().unwrap()).collect()
}

fn secret(key: &str) -> Vec<u8> {
    packed(202, 0, 1, b"", format!("{{\"secret_key\":\"{key}\"}}").as_bytes())
}

async fn sent(to: SocketAddrV4, packets: &[Vec<u8>]) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&packets.concat()).await.unwrap();
    stream
}

async fn answer(stream: &mut TcpStream) -> String {
    let length = within(stream.read_u32()).await.unwrap();
    let mut bytes = vec![0; length as usize];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Reads until the end, which there is also when a connection is reset.
async fn ended(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

#[tokio::test]
async fn the_register_tells_where_gateways_are_as_they_come_and_go() {
    let (bridge, _rx) = bridge("127.0.0.0/8:0");
    let mut stream = registered(&bridge).await;
    assert_eq!(addresses(&mut stream).await, []);
    bridge.list(&[A, B]);
    let port = bridge.ports()[0];
    let both = ["127.10.11.12", "127.10.11.13"].map(|ip| SocketAddrV4::new(ip.parse().unwrap(), port));
    assert_eq!(addresses(&mut stream).await, both);
    bridge.list(&[A, B]);
    bridge.list(&[B]);
    assert_eq!(addresses(&mut stream).await, both[1..]);
}

#[tokio::test]
async fn a_wrong_secret_ends_a_connection_in_silence_and_nonsense_is_told() {
    let (bridge, mut rx) = bridge("127.0.0.0/8:0");
    bridge.list(&[A]);
    let mut stream = TcpStream::connect(bridge.register()).await.unwrap();
    stream.write_all(b"{\"event\":\"worker_connect\",\"secret_key\":\"kez\"}\n").await.unwrap();
    assert_eq!(ended(&mut stream).await, b"");
    let mut stream = TcpStream::connect(bridge.register()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    assert!(ended(&mut stream).await.starts_with(b"this is no request"));
    let gateway = addresses(&mut registered(&bridge).await).await[0];
    let spam = packed(6, 0, 1, b"", b"spam");
    assert_eq!(ended(&mut sent(gateway, std::slice::from_ref(&spam)).await).await, b"");
    assert_eq!(ended(&mut sent(gateway, &[secret("kez"), spam]).await).await, b"");
    drop(sent(gateway, &[secret("key"), packed(27, 0, 0, b"end", b"")]).await);
    assert!(within(rx.recv()).await.unwrap().1.contains("end"), "nothing came before it");
}

#[tokio::test]
async fn each_address_is_one_gateway_and_commands_are_given_although_the_caller_has_gone() {
    let (bridge, mut rx) = bridge("127.0.0.0/8:0");
    bridge.list(&[A, B]);
    let gateways = addresses(&mut registered(&bridge).await).await;
    for (gateway, id) in gateways.iter().zip([A, B]) {
        drop(
            sent(*gateway, &[secret("key"), packed(20, 7, 0, b"g", b""), packed(5, 7, 1, b"", b"hi")]).await,
        );
        for part in ["Join", "SendTo"] {
            let (to, command) = within(rx.recv()).await.unwrap();
            assert!(
                to == id && command.starts_with(part) && command.contains(&format!("{id}00000007")),
                "{command}"
            );
        }
    }
}

#[tokio::test]
async fn questions_are_answered_in_order_and_a_gateway_that_is_late_ends_the_connection() {
    let (bridge, _rx) = bridge("127.0.0.0/8:0");
    bridge.list(&[A, B]);
    let gateways = addresses(&mut registered(&bridge).await).await;
    let questions = [secret("key"), packed(24, 0, 0, b"", b""), packed(15, 0, 0, b"ann", b"")];
    let mut stream = sent(gateways[0], &questions).await;
    assert_eq!(answer(&mut stream).await, "i:1;");
    assert_eq!(answer(&mut stream).await, "a:1:{i:0;i:7;}");
    stream.write_all(&packed(11, 7, 0, b"", b"")).await.unwrap();
    assert_eq!(answer(&mut stream).await, "i:1;");
    assert_eq!(ended(&mut sent(gateways[1], &questions).await).await, b"");
    // A gateway that is not there any more has nobody.
    bridge.list(&[B]);
    stream.write_all(&packed(11, 7, 0, b"", b"")).await.unwrap();
    assert_eq!(answer(&mut stream).await, "i:0;");
}

#[tokio::test]
async fn ports_of_one_address_are_gateways_too() {
    let (bridge, mut rx) = bridge("127.0.0.1:0");
    bridge.list(&[A]);
    let gateways = addresses(&mut registered(&bridge).await).await;
    assert_eq!(gateways, [SocketAddrV4::new(Ipv4Addr::LOCALHOST, bridge.ports()[0])]);
    let mut stream = sent(gateways[0], &[secret("key"), packed(15, 0, 0, b"ann", b"")]).await;
    let told = answer(&mut stream).await;
    let number = told.strip_prefix("a:1:{i:0;i:").unwrap().strip_suffix(";}").unwrap().parse().unwrap();
    stream.write_all(&packed(12, number, 0, b"ann", b"")).await.unwrap();
    assert_eq!(within(rx.recv()).await.unwrap(), (A, format!("Bind({A}00000007, \"ann\")")));
}
