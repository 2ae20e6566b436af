//! A hostile app beside a quiet one of another tenant, on the same gateway and the same worker. Whatever the hostile
//! plugin does, its own clients get a clear outcome, the log names the limit that it broke, and each message of the
//! quiet app's clients is answered.

mod floods;
mod modules;
mod node;
mod swaps;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_harness::{Client, Cluster, ClusterBuilder, complaints, eventually, held};
use tidegate_worker::{AppStatus, WorkerApp};
use tokio::task::JoinHandle;

/// Clients of the quiet app.
const QUIET_CLIENTS: usize = 2;
/// Answers that each of them gets before it is said that they go on.
const GOES_ON: u64 = 25;

/// A cluster with a hostile app and a quiet one that is in use.
pub struct Siege {
    pub cluster: Cluster,
    case: &'static str,
    quiet: Quiet,
}

impl Siege {
    /// With the defaults of an app.
    pub async fn of(case: &'static str) -> Self {
        Self::with(case, |_| {}).await
    }

    /// With other settings of the hostile app on the worker. The quiet one keeps the defaults.
    pub async fn with(case: &'static str, change: impl Fn(&mut WorkerApp) + 'static) -> Self {
        Self::built(case, change, |cluster| cluster).await
    }

    /// With other settings of the cluster as well.
    pub async fn built(
        case: &'static str,
        change: impl Fn(&mut WorkerApp) + 'static,
        build: impl FnOnce(ClusterBuilder) -> ClusterBuilder,
    ) -> Self {
        let quiet = held("callbacks");
        let settle = move |app: &mut WorkerApp| match app.name.tenant() {
            "quiet" => app.module = Some(quiet.clone()),
            _ => change(app),
        };
        let names = [format!("rogue/{case}"), format!("quiet/{case}")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let cluster = build(Cluster::of("hostile").apps(&names).app(settle)).start().await;
        let quiet = Quiet::start(cluster.listener(0, 1, 0)).await;
        Self { cluster, case, quiet }
    }

    /// A client of the hostile app.
    pub async fn client(&self) -> Client {
        Client::connect(self.cluster.listener(0, 0, 0)).await
    }

    /// How the hostile app does.
    pub fn status(&self) -> AppStatus {
        self.status_of("rogue")
    }

    /// Something in the log about the hostile app has all these words.
    pub async fn complains(&self, words: &[&str]) {
        let app = format!("rogue/{}", self.case);
        eventually("a complaint", || complaints(&app).into_iter().next()).await;
        // What was said last is said before the next event is handled, which whoever asks has seen.
        let said = complaints(&app);
        let has_all = |line: &String| words.iter().all(|word| line.contains(word));
        assert!(said.iter().any(has_all), "nothing with {words:?} is said of {app}, but: {said:#?}");
    }

    /// How many complaints about the hostile app have this word.
    pub fn complaints(&self, word: &str) -> usize {
        complaints(&format!("rogue/{}", self.case)).iter().filter(|line| line.contains(word)).count()
    }

    /// Waits until each quiet client has had some more answers.
    pub async fn goes_on(&self) {
        self.quiet.goes_on().await;
    }

    /// The quiet clients have had every answer, and nobody has complained about their app. Stops everything.
    pub async fn end(self) {
        self.quiet.goes_on().await;
        let connected = self.status_of("quiet");
        self.quiet.end().await;
        assert_eq!((connected.restarts, connected.failed), (0, 0), "{connected:?}");
        assert_eq!(complaints(&format!("quiet/{}", self.case)), Vec::<String>::new());
        self.cluster.stop().await;
    }

    fn status_of(&self, tenant: &str) -> AppStatus {
        let all = self.cluster.workers[0].as_ref().expect("a worker").worker.status();
        all.into_iter().find(|app| app.name.tenant() == tenant).expect("the app")
    }
}

/// Clients that say something again and again, and wait for each answer.
pub struct Quiet {
    stop: Arc<AtomicBool>,
    answered: Vec<Arc<AtomicU64>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Quiet {
    /// Of the `callbacks` plugin.
    pub async fn start(address: std::net::SocketAddr) -> Self {
        let mut quiet = Self { stop: Arc::default(), answered: Vec::new(), tasks: Vec::new() };
        for _ in 0..QUIET_CLIENTS {
            let client = Client::of_callbacks(address).await;
            let answered: Arc<AtomicU64> = Arc::default();
            quiet.answered.push(answered.clone());
            quiet.tasks.push(tokio::spawn(talk(client, answered, quiet.stop.clone())));
        }
        quiet.goes_on().await;
        quiet
    }

    /// Waits until each has had some more answers.
    pub async fn goes_on(&self) {
        for (task, answered) in self.tasks.iter().zip(&self.answered) {
            let before = answered.load(Ordering::Relaxed);
            let more =
                || (answered.load(Ordering::Relaxed) >= before + GOES_ON || task.is_finished()).then_some(());
            eventually("more answers for a quiet client", more).await;
        }
    }

    /// Each message was answered, and nobody was disconnected.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a quiet client that has all its answers");
        }
    }
}

async fn talk(mut client: Client, answered: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    // Not as fast as it can: that would be an attack of its own.
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let text = format!("quiet {}", answered.load(Ordering::Relaxed));
        client.send(text.clone()).await;
        assert_eq!(client.text().await, text);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    client.close().await;
}

/// Says something to which this is the answer.
async fn says(client: &mut Client, text: &str, answer: &str) {
    client.send(text).await;
    assert_eq!(client.text().await, answer);
}
