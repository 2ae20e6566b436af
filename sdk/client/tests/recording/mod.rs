//! What a client asks for, to be held against the description of the API.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

/// Hands on what clients say to a server, and remembers it: the bytes of each connection.
pub struct Recorder {
    pub address: String,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Of the server at `http://HOST:PORT`.
    pub async fn start(server: &str) -> Self {
        let server = server.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let said = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let all = Arc::clone(&said);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
                tokio::spawn(hand_on(from_client, to_server, Arc::clone(&all)));
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        Self { address, said }
    }

    /// The operations that were asked for, as the description calls them.
    pub fn asked(&self) -> BTreeSet<(String, String)> {
        let said = self.said.lock().unwrap();
        let of_one = |bytes: &Vec<u8>| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let lines = text.lines().filter_map(|line| line.strip_suffix(" HTTP/1.1"));
            // The body before it has no end of a line.
            let asked = lines.filter_map(|line| line.rsplit_once(' '));
            let asked = asked.filter_map(|(before, path)| {
                let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
                Some((*methods.iter().find(|method| before.ends_with(**method))?, path))
            });
            asked.map(operation).collect::<Vec<_>>()
        };
        said.iter().flat_map(of_one).collect()
    }
}

async fn hand_on(
    mut from: OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    all: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let index = {
        let mut all = all.lock().unwrap();
        all.push(Vec::new());
        all.len() - 1
    };
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        all.lock().unwrap()[index].extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

fn operation((method, path): (&str, &str)) -> (String, String) {
    let path = path.split('?').next().unwrap();
    let mut parts: Vec<&str> = path.split('/').collect();
    let named: &[&str] = match parts.get(2) {
        Some(&"apps") => &["{tenant}", "{app}"],
        Some(&"tenants") => &["{tenant}"],
        _ => &[],
    };
    for (part, name) in parts.iter_mut().skip(3).zip(named) {
        *part = name;
    }
    for (noun, name) in [("sessions", "{client}"), ("versions", "{number}")] {
        if parts.len() == 7 && parts[5] == noun {
            parts[6] = name;
        }
    }
    (method.to_lowercase(), parts.join("/"))
}

/// The operations of a description that are for who pushes, or all others.
pub fn described(document: &Value, pushes: bool) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let schema = &operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
            let answer = schema.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
            let is_push = ["Reached", "Results", "Answer"].contains(&answer);
            if is_push == pushes && ["get", "put", "post", "patch", "delete"].contains(&&**method) {
                found.insert((method.clone(), path.clone()));
            }
        }
    }
    found
}
