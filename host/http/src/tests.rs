//! Servers on loopback, and those who ask them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;
use crate::dial::{DialError, Place, dial};

const LIMITS: Connections = Connections { max: 8, head_within: Duration::from_secs(60), life: None };
const LONG: Duration = Duration::from_secs(60);

fn start(router: Router, limits: Connections, tls: Option<Tls>) -> (SocketAddr, Running) {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tls.map(|tls| (tls, Arc::from(&b"{\"title\":\"by TLS\"}"[..])));
    let (running, serving) = serve(listener, Server { router, limits, tls }, || ());
    tokio::spawn(serving);
    (address, running)
}

/// A router that says hello at `/`, and one whose answer at `/slow` is there when it is let go.
fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

fn slow(entered: oneshot::Sender<()>, go: oneshot::Receiver<()>) -> Router {
    let once = Arc::new(Mutex::new(Some((entered, go))));
    hello().route(
        "/slow",
        get(move || async move {
            let taken = once.lock().unwrap().take();
            if let Some((entered, go)) = taken {
                entered.send(()).unwrap();
                let _ = go.await;
            }
            "at last"
        }),
    )
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Everything up to the end of the connection.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn hears(stream: &mut TcpStream, text: &str) {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "it ended before it said {text}");
    }
}

#[tokio::test]
async fn at_the_end_what_is_asked_is_answered_and_nothing_else() {
    let (entered, has_entered) = oneshot::channel();
    let (go, gone) = oneshot::channel();
    let (address, running) = start(slow(entered, gone), LIMITS, None);
    let mut idle = TcpStream::connect(address).await.unwrap();
    ask(&mut idle, "/").await;
    hears(&mut idle, "hello").await;
    let silent = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    ask(&mut busy, "/slow").await;
    has_entered.await.unwrap();

    let ends = tokio::spawn({
        let running = running.clone();
        async move { running.stop(LONG).await }
    });
    // Who has nothing under way is let go of at once.
    assert_eq!((rest(idle).await, rest(silent).await), (String::new(), String::new()));
    assert!(TcpStream::connect(address).await.is_err(), "nobody is let in any more");
    assert!(!ends.is_finished(), "it waits for the answer");
    go.send(()).unwrap();
    let answer = rest(busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("at last"), "{answer}");
    assert!(ends.await.unwrap(), "all were answered");
}

#[tokio::test]
async fn an_end_does_not_wait_for_ever() {
    let (entered, has_entered) = oneshot::channel();
    let (_go, gone) = oneshot::channel();
    let (address, running) = start(slow(entered, gone), LIMITS, None);
    let mut busy = TcpStream::connect(address).await.unwrap();
    ask(&mut busy, "/slow").await;
    has_entered.await.unwrap();
    assert!(!running.stop(Duration::from_millis(20)).await);
}

/// A certificate for this name, in files of this folder, which are replaced; it is its own authority.
fn certify(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

/// What is answered by TLS at `/`, by whoever is trusted by this file.
async fn asked_by_tls(address: SocketAddr, authority: &Path) -> Result<String, DialError> {
    let place = Place::parse(&format!("https://localhost:{}", address.port())).unwrap();
    let authority = authority.to_owned();
    let asking = move || {
        let mut stream = dial(&place, Some(&authority), LONG)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    tokio::task::spawn_blocking(asking).await.unwrap()
}

#[tokio::test]
async fn by_tls_it_answers_whoever_trusts_its_certificate_and_a_renewed_one_is_shown_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certify(folder.path(), "localhost");
    let tls = Tls::load(&cert, &key).unwrap();
    let (address, _running) = start(hello(), LIMITS, Some(tls.clone()));
    let answer = asked_by_tls(address, &cert).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello"), "{answer}");

    let old = folder.path().join("old.pem");
    std::fs::copy(&cert, &old).unwrap();
    certify(folder.path(), "localhost");
    assert!(asked_by_tls(address, &old).await.is_ok(), "it was not told yet");
    tls.reload().unwrap();
    assert!(asked_by_tls(address, &cert).await.is_ok());
    let error = asked_by_tls(address, &old).await.unwrap_err().to_string();
    assert!(error.contains("--ca"), "{error}");

    std::fs::write(&key, "nothing").unwrap();
    assert_eq!(tls.reload().unwrap_err().file, TlsFile::Key);
    assert!(asked_by_tls(address, &cert).await.is_ok(), "what was shown is shown");

    certify(folder.path(), "elsewhere.example");
    tls.reload().unwrap();
    let error = asked_by_tls(address, &cert).await.unwrap_err().to_string();
    assert!(error.contains("not for localhost") && error.contains("--api"), "{error}");
}

#[tokio::test]
async fn who_speaks_plain_http_to_tls_is_told_and_who_says_nothing_loses_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certify(folder.path(), "localhost");
    let limits = Connections { max: 1, head_within: Duration::from_millis(50), ..LIMITS };
    let (address, _running) = start(hello(), limits, Some(Tls::load(&cert, &key).unwrap()));
    // It holds the only place, until its time is up.
    let silent = TcpStream::connect(address).await.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    ask(&mut plain, "/").await;
    let answer = rest(plain).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("{\"title\":\"by TLS\"}"), "{answer}");
    assert_eq!(rest(silent).await, "");
    // And the other way round.
    let (address, _plain) = start(hello(), LIMITS, None);
    let error = asked_by_tls(address, &cert).await.unwrap_err().to_string();
    assert!(error.contains("speaks no TLS"), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certify(folder.path(), "localhost");
    assert!(Tls::load(&cert, &key).is_ok());
    let other = tempfile::tempdir().unwrap();
    let (_, foreign) = certify(other.path(), "localhost");
    let gone = folder.path().join("gone.pem");
    let cases = [
        (&gone, &key, TlsFile::Cert, "cannot be read"),
        (&cert, &gone, TlsFile::Key, "cannot be read"),
        (&key, &key, TlsFile::Cert, "no certificate"),
        (&cert, &cert, TlsFile::Key, "no private key"),
        (&cert, &foreign, TlsFile::Key, "is not the key of"),
    ];
    for (cert, key, file, says) in cases {
        let error = Tls::load(cert, key).unwrap_err();
        assert!(error.file == file && error.to_string().contains(says), "{error}");
    }
    let none = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n";
    std::fs::write(&cert, none).unwrap();
    let error = Tls::load(&cert, &key).unwrap_err();
    assert!(error.file == TlsFile::Cert && error.reason.contains("has to be PEM"), "{error}");
}

#[test]
fn a_place_is_a_scheme_and_an_authority() {
    let place = |url: &str| Place::parse(url).map(|place| (place.tls, place.authority));
    assert_eq!(place("http://127.0.0.1:7480/"), Some((false, "127.0.0.1:7480".into())));
    assert_eq!(place("https://push.example.com"), Some((true, "push.example.com".into())));
    for wrong in
        ["127.0.0.1:7480", "ftp://x", "http://", "http://x/y", "http://x?", "http://a@b", "http://a b"]
    {
        assert_eq!(place(wrong), None, "{wrong}");
    }
}
