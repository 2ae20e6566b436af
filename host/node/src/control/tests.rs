use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_register::deployer::Deployer;
use tidegate_register::questions::Asker;
use tidegate_wire::report::Outcome;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::UnixStream as Connection;

use super::*;
use crate::testing::{Fake, Folder};

struct Answers(Result<Arc<Fake>, Refusal>);

impl Host for Answers {
    fn nodes(&self) -> Response {
        Response::Nodes(Vec::new())
    }

    fn status(&self) -> Response {
        Response::Error("busy".into())
    }

    fn asker(&self) -> Result<Asker, Refusal> {
        Err(Refusal::Unavailable { reason: "nobody to ask".into() })
    }

    fn deployer(&self) -> Result<Arc<dyn Deployer>, Refusal> {
        self.0.clone().map(|fake| fake as Arc<dyn Deployer>)
    }
}

fn no_deployer() -> Answers {
    Answers(Err(Refusal::Unavailable { reason: "not here".into() }))
}

fn app() -> AppName {
    AppName::new("chat").unwrap()
}

fn serve(folder: &Folder, host: impl Host) {
    tokio::spawn(ControlSocket::bind(folder.path()).unwrap().serve(host));
}

async fn ask_in(folder: &Path, request: Request) -> Result<Response, AskError> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || ask(&folder, request)).await.unwrap()
}

/// With a module behind the question; the answer and how many news came before it.
async fn deploy(folder: &Folder, module: &Bytes, announced: u64, digest: Digest) -> (Response, usize) {
    let (bytes, by) = (Some(announced), Some("ann".to_owned()));
    let request =
        Request::Deploy { app: app(), bytes, digest: Some(digest), canary: None, note: String::new(), by };
    let (folder, module) = (folder.path().to_owned(), module.clone());
    let talk = move || {
        let mut news = 0;
        (converse(&folder, &request, &module, &mut |_| news += 1).unwrap(), news)
    };
    tokio::task::spawn_blocking(talk).await.unwrap()
}

#[tokio::test]
async fn questions_are_answered_in_folders_with_short_and_long_names() {
    let folder = Folder::new();
    let long = folder.path().join("x".repeat(200));
    std::fs::create_dir(&long).unwrap();
    for path in [folder.path(), &long] {
        let task = tokio::spawn(ControlSocket::bind(path).unwrap().serve(no_deployer()));
        assert_eq!(std::fs::metadata(path.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ask_in(path, Request::Nodes).await.unwrap(), Response::Nodes(Vec::new()));
        let error = ask_in(path, Request::Status).await.unwrap_err().to_string();
        assert!(error.contains("busy"), "{error}");
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(!path.join(SOCKET).exists());
        let error = ask_in(path, Request::Nodes).await.unwrap_err().to_string();
        assert!(error.contains("no node runs"), "{error}");
    }
}

#[tokio::test]
async fn what_a_killed_node_left_behind_is_replaced() {
    let folder = Folder::new();
    let left = std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET)).unwrap();
    drop(left);
    assert!(matches!(ask_in(folder.path(), Request::Nodes).await, Err(AskError::NotRunning { .. })));
    let _socket = ControlSocket::bind(folder.path()).unwrap();
}

#[tokio::test]
async fn nonsense_is_answered_and_an_endless_line_is_cut() {
    let folder = Folder::new();
    serve(&folder, no_deployer());
    let talk = async |bytes: &[u8]| {
        let mut connection = Connection::connect(folder.path().join(SOCKET)).await.unwrap();
        connection.write_all(bytes).await.unwrap();
        let mut line = String::new();
        tokio::io::BufReader::new(connection).read_line(&mut line).await.unwrap();
        line
    };
    let endless = [b'x'; QUESTION_BYTES_MAX as usize];
    for bytes in [
        &b"hello\n"[..],
        b"{\"request\":\"stop\"}\n",
        b"{\"request\":\"cancel\",\"app\":\"A\"}\n",
        b"\xff\xfe{}\n",
        &endless,
    ] {
        let line = talk(bytes).await;
        assert!(line.starts_with("{\"error\"") || line.is_empty(), "{line}");
    }
    assert_eq!(talk(b"{\"request\":\"nodes\"}\n").await, "{\"nodes\":[]}\n");
}

#[tokio::test]
async fn a_module_is_deployed_and_its_news_come_before_the_report() {
    let folder = Folder::new();
    let fake = Arc::new(Fake::default());
    serve(&folder, Answers(Ok(Arc::clone(&fake))));
    for module in [&b""[..], b"module", &vec![7; 3 << 20]] {
        let module = Bytes::copy_from_slice(module);
        let digest = Digest::of(&module);
        let (answer, news) = deploy(&folder, &module, module.len() as u64, digest).await;
        let Response::Deployed(report) = answer else { panic!("{answer:?}") };
        assert_eq!((report.version.digest, report.outcome, news), (digest, Outcome::Committed, 1));
        let order = fake.orders.lock().pop().unwrap();
        assert!(order.starts_with(&format!("deploy {} bytes by ann (uid ", module.len())), "{order}");
    }
}

#[tokio::test]
async fn apps_histories_rollbacks_and_cancels_are_answered() {
    let folder = Folder::new();
    serve(&folder, Answers(Ok(Arc::default())));
    let ask = async |request| ask_in(folder.path(), request).await.unwrap();
    assert!(matches!(ask(Request::Apps).await, Response::Apps(apps) if apps.len() == 1));
    let history = ask(Request::History { app: app(), limit: 3 }).await;
    assert!(matches!(history, Response::History(entries) if entries.len() == 3));
    let back = |to| Request::Rollback { app: app(), to, note: "worse".into(), by: None };
    let Response::Deployed(report) = ask(back(None)).await else { panic!("no report") };
    assert_eq!(report.outcome, Outcome::RolledBack { reason: "worse".into() });
    let refused = Response::Refused(Refusal::UnknownVersion { app: app(), number: 9 });
    assert_eq!(ask(back(Some(9))).await, refused);
    assert_eq!(ask(Request::Cancel { app: app(), by: None }).await, Response::Cancelled);
}

#[tokio::test]
async fn a_module_that_is_not_what_was_announced_is_refused() {
    let folder = Folder::new();
    let fake = Arc::new(Fake::default());
    serve(&folder, Answers(Ok(Arc::clone(&fake))));
    let module = Bytes::from_static(b"module");
    let (answer, _) = deploy(&folder, &module, 6, Digest::of(b"other")).await;
    assert!(matches!(answer, Response::Refused(Refusal::Transfer { .. })), "{answer:?}");
    let (answer, _) = deploy(&folder, &vec![0; 1 << 20].into(), 33 << 20, Digest::of(b"")).await;
    assert!(matches!(answer, Response::Refused(Refusal::BadModule { .. })), "{answer:?}");

    let folder_path = folder.path().to_owned();
    let cut_short = move || {
        let mut stream = std::os::unix::net::UnixStream::connect(folder_path.join(SOCKET)).unwrap();
        stream.write_all(b"{\"request\":\"deploy\",\"app\":\"chat\",\"bytes\":6}\nmod").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    let answer = tokio::task::spawn_blocking(cut_short).await.unwrap();
    assert!(answer.contains("3 of 6 bytes came"), "{answer}");
    assert!(fake.orders.lock().is_empty());
}

#[tokio::test]
async fn a_deployment_is_refused_where_nothing_is_deployed_and_the_next_question_is_answered() {
    let folder = Folder::new();
    serve(&folder, no_deployer());
    let mut connection = Connection::connect(folder.path().join(SOCKET)).await.unwrap();
    let questions = b"{\"request\":\"deploy\",\"app\":\"chat\",\"bytes\":6}\nmodule{\"request\":\"nodes\"}\n";
    connection.write_all(questions).await.unwrap();
    let mut lines = tokio::io::BufReader::new(connection).lines();
    assert_eq!(
        lines.next_line().await.unwrap().unwrap(),
        "{\"refused\":{\"unavailable\":{\"reason\":\"not here\"}}}"
    );
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "{\"nodes\":[]}");
}
