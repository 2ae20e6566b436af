//! What is sent again: against a server that answers as it is told.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use serde_json::json;
use tidegate_client::{Audience, Deploy, Error, RollBack, Tidegate};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// A server: each step is an answer, or None: it reads the request and hangs up. The heads of what was asked.
async fn script(steps: Vec<Option<String>>) -> (Tidegate, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut steps = steps.into_iter();
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let asked = Arc::clone(&heads);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            while let Some(head) = request(&mut stream).await {
                asked.lock().unwrap().push(head);
                let Some(Some(answer)) = steps.next() else { break };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (Tidegate::new(&format!("http://{address}/under/a/path/"), "tg_x").unwrap(), heads)
}

async fn request(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(lower)
}

fn answer(status: u16, kind: &str, body: &serde_json::Value) -> Option<String> {
    let body = body.to_string();
    Some(format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nRetry-After: 0\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn done() -> Option<String> {
    answer(200, "application/json", &json!({"reached": 1, "missing": []}))
}

fn problem(status: u16, kind: &str) -> Option<String> {
    let document = json!({"type": format!("urn:tidegate:problem:{kind}"), "title": "T", "status": status, "detail": "D"});
    answer(status, "application/problem+json", &document)
}

fn keys(heads: &Mutex<Vec<String>>) -> Vec<String> {
    let heads = heads.lock().unwrap();
    let key = |head: &String| Some(head.split("idempotency-key: ").nth(1)?.lines().next()?.to_owned());
    heads.iter().filter_map(key).collect()
}

#[tokio::test]
async fn a_command_whose_answer_is_lost_is_given_again_with_the_same_key() {
    let (tidegate, heads) = script(vec![None, done(), done()]).await;
    let chat = tidegate.app("default", "chat");
    assert_eq!(chat.send(Audience::All, "hello").await.unwrap().reached, 1);
    chat.once("order-66").send(Audience::All, "hello").await.unwrap();
    let keys = keys(&heads);
    assert_eq!((keys.len(), keys[0] == keys[1], &*keys[2]), (3, true, "order-66"));
    assert!(heads.lock().unwrap()[0].starts_with("post /under/a/path/v1/apps/default/chat/send "));
}

#[tokio::test]
async fn what_was_not_done_because_of_load_is_tried_again_and_tries_end() {
    let (tidegate, heads) = script(vec![problem(503, "busy"), problem(429, "too-fast"), done()]).await;
    assert_eq!(tidegate.app("default", "chat").send(Audience::All, "hello").await.unwrap().reached, 1);
    assert_eq!(heads.lock().unwrap().len(), 3);
    let (tidegate, heads) = script(vec![problem(503, "busy"); 9]).await;
    let error = tidegate.app("default", "chat").send(Audience::All, "hello").await.unwrap_err();
    assert_eq!((error.kind(), heads.lock().unwrap().len()), (Some("busy"), 4));
}

#[tokio::test]
async fn what_is_wrong_and_a_merge_whose_answer_is_lost_are_told_and_not_repeated() {
    let (tidegate, heads) = script(vec![problem(422, "invalid"), None]).await;
    let chat = tidegate.app("default", "chat");
    let error = chat.send(Audience::All, "hello").await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (Some("invalid"), "T: D"));
    let error = chat.patch_session("x", json!({})).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { sent: true, .. }), "{error}");
    assert_eq!(heads.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_that_is_not_there_has_done_nothing_and_a_page_is_no_answer() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let tidegate = Tidegate::builder(&format!("http://{gone}"), "tg_x").retries(1).build().unwrap();
    let error = tidegate.app("default", "chat").send(Audience::All, "hello").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { sent: false, .. }), "{error}");
    let (tidegate, _) = script(vec![answer(502, "text/html", &json!("Oops"))]).await;
    let error = tidegate.app("default", "chat").count(Audience::All).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { status: 502, .. }), "{error}");
}

#[tokio::test]
async fn a_deployment_or_an_order_that_was_cut_off_is_told_and_not_repeated() {
    let (tidegate, heads) = script(vec![None; 4]).await;
    let chat = tidegate.app("default", "chat");
    let errors = [
        chat.deploy(vec![0]).await.unwrap_err(),
        chat.deploy_and_leave(1).await.unwrap_err(),
        chat.cancel().await.unwrap_err(),
        chat.delete().await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Unreachable { sent: true, .. }), "{error}");
    }
    assert_eq!(heads.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_deployment_that_has_not_begun_is_tried_again_and_news_that_break_off_are_told() {
    let refused = json!({"type": "urn:tidegate:problem:failed", "title": "T", "status": 500, "detail": "D"});
    let lines = [json!({"news": "started", "text": "S"}), json!({"news": "newer", "text": "N", "x": 1})];
    let last = json!({"news": "refused", "text": "R", "problem": refused});
    let body = |lines: &[serde_json::Value]| {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let length = text.len();
        Some(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"))
    };
    let whole = body(&[lines.as_slice(), &[last]].concat());
    let (tidegate, heads) = script(vec![problem(503, "busy"), whole, body(&lines)]).await;
    let chat = tidegate.app("default", "chat");
    let mut deployment = chat.deploy_and_watch(Deploy::from(vec![0, 255]).note("a b")).await.unwrap();
    for expected in ["started", "newer"] {
        assert_eq!(deployment.next().await.unwrap().unwrap().news, expected);
    }
    assert_eq!(deployment.wait().await.unwrap_err().kind(), Some("failed"));
    let error = chat.roll_back(RollBack::before()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { sent: true, .. }), "{error}");
    let heads = heads.lock().unwrap();
    assert!(
        heads[1].contains("/chat/deployments?wait=progress&note=a%20b ")
            && heads[1].contains("application/wasm")
    );
}
