//! The end that answers.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_base::Digest;
use tidegate_register::deployer::{DeployOrder, Deployer, Job, ModuleRef, Next, RollbackOrder};
use tidegate_register::questions::Asker;
use tidegate_register::requests::BEAT;
use tidegate_wire::request::{BadModule, HISTORY_LIMIT_MAX, Incoming, MODULE_BYTES_MAX, Refusal};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval_at, timeout};

use super::{QUESTION_BYTES_MAX, Request, Response, SOCKET, STEP_MAX, ShortPath};

/// Who answers.
pub(crate) trait Host: Send + Sync + 'static {
    /// To [`Request::Nodes`].
    fn nodes(&self) -> Response;

    /// To [`Request::Status`].
    fn status(&self) -> Response;

    /// Who asks nodes here.
    fn asker(&self) -> Result<Asker, Refusal>;

    /// Who deploys here.
    fn deployer(&self) -> Result<Arc<dyn Deployer>, Refusal>;
}

/// The socket, bound.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Binds it in a folder that this process holds; what a killed process left behind is replaced. Within a runtime.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&ShortPath::of(data_dir)?.path)?;
        // The folder is private, so nobody else got in before this.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers for ever.
    pub async fn serve(self, host: impl Host) {
        let host = Arc::new(host);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((connection, _)) => {
                    let host = Arc::clone(&host);
                    tokio::spawn(async move {
                        if let Err(error) = Conversation::new(connection).go_on(&*host).await {
                            tracing::debug!(%error, "a control connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket does not accept");
                    // Out of descriptors, most likely: it passes.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One connection: question, answer, question.
struct Conversation {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// Whose process is at the other end.
    user: Option<u32>,
}

impl Conversation {
    fn new(connection: UnixStream) -> Self {
        let user = connection.peer_cred().ok().map(|credentials| credentials.uid());
        let (read, write) = connection.into_split();
        Self { read: BufReader::new(read), write, user }
    }

    async fn go_on(mut self, host: &impl Host) -> io::Result<()> {
        loop {
            let mut line = String::new();
            let mut limited = (&mut self.read).take(QUESTION_BYTES_MAX);
            let length = timeout(STEP_MAX, limited.read_line(&mut line)).await??;
            if length == 0 {
                return Ok(());
            }
            let readable = match serde_json::from_str(&line) {
                Ok(request) => self.answer(host, request).await?,
                Err(error) => {
                    let hint = "ask, for instance, {\"request\":\"nodes\"} or {\"request\":\"status\"}";
                    self.say(&Response::Error(format!("{error}; {hint}"))).await?;
                    true
                }
            };
            if !readable || !line.ends_with('\n') {
                // There is no telling where the next question begins.
                return Ok(());
            }
        }
    }

    /// Answers; says whether the next question follows right behind this one.
    async fn answer(&mut self, host: &impl Host, request: Request) -> io::Result<bool> {
        let asked = Instant::now();
        let (module, readable) = match &request {
            Request::Deploy { bytes, digest, .. } => self.take(*bytes, *digest).await?,
            _ => (Err(Refusal::Broken { reason: "it has no module".into() }), true),
        };
        let last = match self.done(host, request, module, asked).await {
            Ok(response) => response,
            Err(Stop::Refused(refusal)) => Response::Refused(refusal),
            Err(Stop::Gone(error)) => return Err(error),
        };
        self.say(&last).await?;
        Ok(readable)
    }

    async fn done(
        &mut self,
        host: &impl Host,
        request: Request,
        module: Result<ModuleRef, Refusal>,
        asked: Instant,
    ) -> Result<Response, Stop> {
        Ok(match request {
            Request::Nodes => host.nodes(),
            Request::Status => host.status(),
            Request::Ask { question, of } => {
                let asker = host.asker()?;
                Response::Answers(self.beating(asker.ask(question, of)).await?)
            }
            Request::Apps => Response::Apps(self.beating(host.deployer()?.apps()).await?),
            Request::History { app, limit } => {
                let limit = usize::try_from(limit.min(HISTORY_LIMIT_MAX)).unwrap_or_default();
                Response::History(self.beating(host.deployer()?.history(app, limit)).await?)
            }
            Request::Deploy { app, canary, note, by, .. } => {
                let order = DeployOrder { app, module: module?, canary, note, by: self.by(by), asked };
                self.follow(Job::deploy(host.deployer()?, order)).await?
            }
            Request::Rollback { app, to, note, by } => {
                let order = RollbackOrder { app, to, note, by: self.by(by), asked };
                self.follow(Job::rollback(host.deployer()?, order)).await?
            }
            Request::Tenants => Response::Tenants(self.beating(host.deployer()?.tenants()).await?),
            Request::Manage { order, by } => {
                let by = self.by(by);
                Response::Managed(Box::new(self.beating(host.deployer()?.manage(order, by)).await?))
            }
            Request::Tokens { tenant } => {
                Response::Tokens(self.beating(host.deployer()?.tokens(tenant)).await?)
            }
            Request::CreateToken { wish, by } => {
                let by = self.by(by);
                Response::NewToken(Box::new(self.beating(host.deployer()?.create_token(wish, by)).await?))
            }
            Request::RevokeToken { id, by } => {
                let by = self.by(by);
                Response::Tokens(vec![self.beating(host.deployer()?.revoke_token(id, by)).await?])
            }
            Request::Cancel { app, by } => {
                let by = self.by(by);
                self.beating(host.deployer()?.cancel(app, by)).await?;
                Response::Cancelled
            }
        })
    }

    /// The module of a deployment, and whether it has been read to its end.
    async fn take(
        &mut self,
        bytes: Option<u64>,
        digest: Option<Digest>,
    ) -> io::Result<(Result<ModuleRef, Refusal>, bool)> {
        let Some(bytes) = bytes else {
            let missing = || Refusal::Broken { reason: "it names neither bytes nor a digest".into() };
            return Ok((digest.map(ModuleRef::Digest).ok_or_else(missing), true));
        };
        if bytes > MODULE_BYTES_MAX {
            return Ok((Err(refusal(&BadModule::TooLarge { bytes, max: MODULE_BYTES_MAX })), false));
        }
        let mut module = Vec::new();
        let mut rest = (&mut self.read).take(bytes);
        while timeout(STEP_MAX, rest.read_buf(&mut module)).await?? > 0 {}
        let (got, expected) = (module.len(), usize::try_from(bytes).unwrap_or(usize::MAX));
        if got < expected {
            return Ok((Err(refusal(&BadModule::Truncated { got, expected })), false));
        }
        let Some(digest) = digest else { return Ok((Ok(ModuleRef::Bytes(module.into())), true)) };
        let check = move || -> Result<Bytes, BadModule> {
            let mut incoming = Incoming::new(digest, bytes, MODULE_BYTES_MAX)?;
            incoming.push(&module);
            incoming.finish()
        };
        Ok(match tokio::task::spawn_blocking(check).await {
            Ok(checked) => (checked.map(ModuleRef::Bytes).map_err(|error| refusal(&error)), true),
            Err(error) => (Err(Refusal::Internal { reason: error.to_string() }), true),
        })
    }

    /// Tells how a deployment gets on. It does so without this as well.
    async fn follow(&mut self, mut job: Job) -> Result<Response, Stop> {
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                biased;
                next = job.next() => match next {
                    Next::News(news) => self.say(&Response::News(news)).await?,
                    Next::Ended(ended) => return Ok(Response::Deployed(Box::new((*ended)?))),
                },
                _ = beat.tick() => self.say(&Response::Waiting).await?,
            }
        }
    }

    /// Waits, and lets the other end know that it goes on.
    async fn beating<T>(&mut self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Stop> {
        let mut work = std::pin::pin!(work);
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done?),
                _ = beat.tick() => self.say(&Response::Waiting).await?,
            }
        }
    }

    async fn say(&mut self, response: &Response) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(response)?;
        bytes.push(b'\n');
        timeout(STEP_MAX, self.write.write_all(&bytes)).await?
    }

    /// Who asks: what they call themselves, and whose process it really is.
    fn by(&self, name: Option<String>) -> String {
        match (name, self.user) {
            (Some(name), Some(user)) => format!("{name} (uid {user})"),
            (Some(name), None) => name,
            (None, Some(user)) => format!("uid {user}"),
            (None, None) => "somebody on the node's machine".to_owned(),
        }
    }
}

/// Why a request has another answer than it should, or none.
enum Stop {
    Refused(Refusal),
    Gone(io::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

fn refusal(error: &BadModule) -> Refusal {
    let reason = error.to_string();
    match error {
        BadModule::TooLarge { .. } => Refusal::BadModule { reason },
        BadModule::Truncated { .. } | BadModule::WrongDigest { .. } => Refusal::Transfer { reason },
    }
}

const CONNECTIONS_MAX: usize = 16;
