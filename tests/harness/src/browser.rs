use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::{DEADLINE, eventually};

/// A headless Chromium with a profile of its own, driven by its debugging protocol. Killed when this is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    port: u16,
    _profile: tempfile::TempDir,
}

/// A window.
#[derive(Debug)]
pub struct Page {
    stream: WebSocketStream<TcpStream>,
    number: u64,
}

impl Browser {
    /// Starts Chromium. None, with a line that says so, if there is none and `TIDEGATE_REQUIRE_BROWSER` is not 1.
    pub async fn start() -> Option<Self> {
        let Some(program) = find() else {
            let required = std::env::var("TIDEGATE_REQUIRE_BROWSER").is_ok_and(|v| v == "1");
            assert!(!required, "TIDEGATE_REQUIRE_BROWSER=1, but there is no chromium on the PATH");
            println!("skipped: no chromium on the PATH");
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        let child = Command::new(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--window-size=900,700",
                "--remote-debugging-port=0",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium starts");
        let file = profile.path().join("DevToolsActivePort");
        let port = eventually("chromium says its port", || {
            std::fs::read_to_string(&file).ok()?.lines().next()?.parse().ok()
        })
        .await;
        Some(Self { child, port, _profile: profile })
    }

    /// Opens a window.
    pub async fn open(&self, url: &str) -> Page {
        let target = self.http("PUT", &format!("/json/new?{url}")).await;
        let socket = target["webSocketDebuggerUrl"].as_str().expect("a window").to_owned();
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await.expect("chromium listens");
        let (stream, _) = client_async(socket, tcp).await.expect("chromium speaks");
        Page { stream, number: 0 }
    }

    async fn http(&self, method: &str, path: &str) -> Value {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).await.expect("chromium listens");
        let host = format!("127.0.0.1:{}", self.port);
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.expect("chromium reads");
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        // It keeps the connection open whatever it was asked, so the JSON is read until it is whole.
        let value = async {
            loop {
                let n = tcp.read(&mut chunk).await.expect("chromium answers");
                answer.extend_from_slice(&chunk[..n]);
                let text = String::from_utf8_lossy(&answer);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(value) = body.and_then(|body| serde_json::from_str(body).ok()) {
                    return value;
                }
                assert!(n > 0, "chromium answered {text}");
            }
        };
        tokio::time::timeout(DEADLINE, value).await.expect("an answer of chromium")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page {
    /// The value of an expression.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.command("Runtime.evaluate", parameters).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str) {
        let until = Instant::now() + DEADLINE;
        // While the page loads there is no document to ask.
        let holds =
            format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
        while self.evaluate(&holds).await != json!(true) {
            if Instant::now() > until {
                let text = self.evaluate("document.body.innerText").await;
                panic!("it never held: {expression}; the page says {text}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Saves a picture of the window.
    pub async fn screenshot(&mut self, file: &Path) {
        use base64::Engine;
        let result = self.command("Page.captureScreenshot", json!({})).await;
        let data = result["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(data).expect("base64");
        std::fs::write(file, bytes).expect("a file");
    }

    async fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let number = self.number;
        let command = json!({"id": number, "method": method, "params": parameters});
        self.stream.send(Message::Text(command.to_string().into())).await.expect("chromium reads");
        loop {
            let next =
                tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("an answer of chromium");
            let Some(Ok(Message::Text(text))) = next else { panic!("chromium went away: {next:?}") };
            let mut answer: Value = serde_json::from_str(&text).expect("JSON");
            if answer["id"] == number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
        }
    }
}

fn find() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).flat_map(|folder| names.map(|n| folder.join(n))).find(|file| file.is_file())
}
