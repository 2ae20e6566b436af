//! Clients that keep sending while something happens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tidegate_harness::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// So often each sends.
const PACE: Duration = Duration::from_millis(5);

/// The end of what a client sends: it is said again until it is answered, as it may be lost too.
const END: &str = "ticks end";

/// Clients that keep sending.
pub(super) struct Traffic {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Heard>>,
}

/// What became of one client.
pub(super) struct Heard {
    client: Client,
    /// Where it was before it began: the worker and its slot.
    pub place: String,
    /// How many messages it has sent: `m0`, `m1` and so on.
    pub sent: usize,
    /// What came back.
    pub answers: Vec<String>,
}

impl Traffic {
    /// So many clients, which are there and in their slots when this returns: in each of so many slots one at least.
    pub async fn start(at: SocketAddr, clients: usize, slots: usize) -> Self {
        let (stop, _) = watch::channel(false);
        let (mut tasks, mut places) = (Vec::new(), BTreeSet::new());
        while tasks.len() < clients {
            let mut client = Client::connect(at).await;
            client.send("where").await;
            let answer = client.text().await;
            let (_, place) = answer.split_once(" where ").expect("a place");
            // The last ones are for slots that have none yet.
            if !places.insert(place.to_owned()) && clients - tasks.len() <= slots - places.len() {
                client.close().await;
                continue;
            }
            let heard = Heard { client, place: place.to_owned(), sent: 0, answers: Vec::new() };
            tasks.push(tokio::spawn(heard.go_on(stop.subscribe())));
        }
        Self { stop, tasks }
    }

    /// They stop when everything that comes back has come back.
    pub async fn stop(self) -> Vec<Heard> {
        self.stop.send(true).expect("they listen");
        let mut all = Vec::new();
        for task in self.tasks {
            all.push(task.await.expect("it was never disconnected"));
        }
        all
    }
}

impl Heard {
    async fn go_on(mut self, mut stop: watch::Receiver<bool>) -> Self {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = *stop.borrow_and_update();
            tokio::select! {
                _ = stop.changed(), if !stopping => {}
                _ = pace.tick() => {
                    let text = if stopping { END.to_owned() } else { format!("m{}", self.sent) };
                    self.client.send(text).await;
                    self.sent += usize::from(!stopping);
                }
                answer = self.client.text() => match answer.contains(END) {
                    true => return self,
                    false => self.answers.push(answer),
                }
            }
        }
    }

    /// Every message was answered once, in order, by these versions one after the other.
    pub fn is_whole(&self, versions: &[&str]) -> bool {
        let numbered = self.answers.iter().enumerate();
        let in_order = numbered.clone().all(|(n, answer)| answer.split(' ').nth(1) == Some(&format!("m{n}")));
        let mut words: Vec<&str> =
            self.answers.iter().filter_map(|answer| answer.split(' ').next()).collect();
        words.dedup();
        in_order && self.answers.len() == self.sent && words == versions
    }

    /// The answer to one more text. Answers to the end that was said more than once may come before it.
    pub async fn says(&mut self, text: &str, answer: &str) {
        self.client.send(text).await;
        loop {
            let heard = self.client.text().await;
            if !heard.contains(END) {
                return assert_eq!(heard, answer);
            }
        }
    }

    /// What got no answer.
    pub fn lost(&self) -> usize {
        self.sent - self.answers.len()
    }
}
