use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::DEADLINE;

/// A WebSocket client. It knows the protocol of the `callbacks` fixture: calls and their answers.
#[derive(Debug)]
pub struct Client {
    stream: WebSocketStream<TcpStream>,
    /// What came while something else was waited for.
    aside: VecDeque<Value>,
    tag: u64,
    id: String,
    response: Response,
}

impl Client {
    /// Connects to `/`.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, "/", &[]).await.unwrap_or_else(|e| panic!("{address}: {e}"))
    }

    /// Connects with a path and headers.
    pub async fn connect_to(
        address: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Self::upgrade(tcp, request).await
    }

    /// Connects to a `callbacks` plugin with little room for what comes: the gateway soon notices if it is not read.
    pub async fn of_callbacks_with_little_room(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let tcp = socket.connect(address).await.expect("a listener");
        let request = format!("ws://{address}/").into_client_request().expect("a request");
        let client = Self::upgrade(tcp, request).await.expect("an upgrade");
        client.learn_id().await
    }

    async fn upgrade(tcp: TcpStream, request: Request) -> Result<Self, Error> {
        let (stream, response) = tokio::time::timeout(DEADLINE, client_async(request, tcp))
            .await
            .expect("an answer to the upgrade")?;
        Ok(Self { stream, aside: VecDeque::new(), tag: 0, id: String::new(), response })
    }

    /// Connects to a `callbacks` plugin and learns the client's id from its own connect event.
    pub async fn of_callbacks(address: SocketAddr) -> Self {
        Self::connect(address).await.learn_id().await
    }

    /// As [`of_callbacks`](Self::of_callbacks), by a port that apps share, with this host and path.
    pub async fn of_callbacks_at(address: SocketAddr, host: &str, path: &str) -> Self {
        let client = Self::connect_to(address, path, &[("host", host)]).await;
        client.unwrap_or_else(|error| panic!("{host}{path}: {error}")).learn_id().await
    }

    async fn learn_id(mut self) -> Self {
        let event = self.json().await;
        assert_eq!(event["event"], "connect", "{event}");
        self.id = event["client"].as_str().expect("an id").into();
        self
    }

    /// The client's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The answer to the upgrade.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// Sends a text.
    pub async fn send(&mut self, text: impl Into<String>) {
        self.send_message(Message::Text(text.into().into())).await;
    }

    /// Sends any message.
    pub async fn send_message(&mut self, message: Message) {
        self.stream.send(message).await.expect("a connection that takes messages");
    }

    /// Queues a text without flushing it.
    pub async fn feed(&mut self, text: impl Into<String>) {
        self.stream.feed(Message::Text(text.into().into())).await.expect("a connection that takes messages");
    }

    /// Flushes what was queued.
    pub async fn flush(&mut self) {
        self.stream.flush().await.expect("a connection that takes messages");
    }

    /// The next text or binary message, or the close frame.
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a message");
            match next.unwrap_or(Err(Error::ConnectionClosed))? {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return Ok(message),
            }
        }
    }

    /// The next message, as text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Ok(Message::Text(text)) => text.to_string(),
            other => panic!("a text was expected, not {other:?}"),
        }
    }

    /// The next JSON message that was not looked at, in order.
    pub async fn json(&mut self) -> Value {
        match self.aside.pop_front() {
            Some(value) => value,
            None => self.json_from_wire().await,
        }
    }

    /// The next JSON message for which `wanted` holds; others are kept.
    pub async fn json_where(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.aside.iter().position(&wanted) {
            return self.aside.remove(at).expect("it is there");
        }
        loop {
            let value = self.json_from_wire().await;
            if wanted(&value) {
                return value;
            }
            self.aside.push_back(value);
        }
    }

    /// The next event of this name.
    pub async fn event(&mut self, name: &str) -> Value {
        self.json_where(|v| v["event"] == name).await
    }

    /// Makes a call and returns its whole answer.
    pub async fn ask(&mut self, call: &str, mut arguments: Value) -> Value {
        self.tag += 1;
        let tag = self.tag;
        let fields = arguments.as_object_mut().expect("arguments are an object");
        fields.insert("call".into(), call.into());
        fields.insert("tag".into(), tag.into());
        self.send(arguments.to_string()).await;
        self.json_where(|v| v["tag"] == tag && v.get("ok").is_some()).await
    }

    /// Makes a call that must go well and returns its value.
    pub async fn call(&mut self, call: &str, arguments: Value) -> Value {
        let mut answer = self.ask(call, arguments).await;
        assert_eq!(answer["ok"], true, "{call}: {answer}");
        answer["value"].take()
    }

    /// Sends a call whose answer nobody waits for.
    pub async fn tell(&mut self, call: &str, mut arguments: Value) {
        let fields = arguments.as_object_mut().expect("arguments are an object");
        fields.insert("call".into(), call.into());
        fields.insert("quiet".into(), true.into());
        self.send(arguments.to_string()).await;
    }

    /// Everything that was sent to this client before now has come: an echo of its own shows it. Returns what came, and
    /// what was set aside, in order.
    pub async fn drain(&mut self) -> Vec<Value> {
        self.tag += 1;
        let mark = format!("drain {}", self.tag);
        self.send(mark.clone()).await;
        let mut seen: Vec<Value> = self.aside.drain(..).collect();
        loop {
            match self.next().await {
                Ok(Message::Text(text)) if text.as_str() == mark => return seen,
                Ok(Message::Text(text)) => {
                    seen.push(serde_json::from_str(&text).unwrap_or_else(|_| json!(text.as_str())))
                }
                Ok(other) => seen.push(json!({ "other": format!("{other:?}") })),
                Err(error) => panic!("the connection ended: {error}"),
            }
        }
    }

    /// The close frame's code and reason, or none if the connection just ended. Everything before it is dropped.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match self.next().await {
                Ok(Message::Close(frame)) => return frame.map(|f| (f.code.into(), f.reason.to_string())),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends bytes that need not be WebSocket.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.expect("a connection that takes bytes");
    }

    /// The address that the gateway sees.
    pub fn address(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("an address")
    }

    /// Ends the connection without a word.
    pub fn drop_connection(self) {
        drop(self.stream);
    }

    /// Breaks the connection: the gateway gets a reset.
    pub fn reset(self) {
        self.stream.get_ref().set_zero_linger().expect("a socket");
    }

    /// Closes properly.
    pub async fn close(mut self) {
        // The other side may have closed already.
        let _ = self.stream.close(None).await;
        let _ = self.closed().await;
    }

    async fn json_from_wire(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|_| json!(text))
    }
}

/// A plain TCP client.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.expect("a listener") }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("a connection that takes bytes");
    }

    /// Sends bytes, or as many of them as the other side takes before it ends the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.expect("a connection that can be shut");
    }

    /// Exactly so many bytes.
    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = tokio::time::timeout(DEADLINE, self.stream.read_exact(&mut bytes)).await.expect("bytes");
        read.expect("bytes before the end");
        bytes
    }

    /// Everything until `end` is there, `end` included.
    pub async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end) {
            bytes.extend(self.take(1).await);
        }
        bytes
    }

    /// Everything until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset ends it as well.
        let _ = tokio::time::timeout(DEADLINE, self.stream.read_to_end(&mut bytes)).await.expect("an end");
        bytes
    }
}
